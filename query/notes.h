/* query/notes.h: PromQL's annotations: warnings and infos with the position of a node. Deduplicated by the text
 * without position; the lowest position stays. Threads: one at a time; workers keep their own and merge in series order. */
#ifndef QUIPU_QUERY_NOTES_H
#define QUIPU_QUERY_NOTES_H

#include "base/arena.h"
#include "base/bytes.h"

enum note_kind { NOTE_WARNING, NOTE_INFO };

struct note {
    struct str text; /* without prefix and position */
    uint32_t pos;    /* byte offset into the query */
    bool has_pos;
    bool promql; /* "PromQL warning: " goes in front */
    enum note_kind kind;
    struct note *next;
};
struct notes {
    struct arena *arena;
    struct note *first, **last;
    size_t n, n_warnings, n_infos;
};

#define NOTES_SHOWN_MAX 10 /* of each kind, then "3 more warning annotations omitted" */
#define NOTES_KEPT_MAX 10000

void notes_init(struct notes *notes, struct arena *arena);
/* PromQL's: prefix and " (line:col)" are added when printed. Lack of memory drops the note. */
void notes_add(struct notes *notes, enum note_kind kind, uint32_t pos, const char *fmt, ...)
    PRINTF_LIKE(4, 5);
/* Storage's and the API's: printed as it is. */
void notes_add_plain(struct notes *notes, enum note_kind kind, const char *fmt, ...)
    PRINTF_LIKE(3, 4);
void notes_merge(struct notes *into, const struct notes *from);
/* By position and text: the order of a query's notes does not depend on who worked when. */
void notes_sort(struct notes *notes);
/* The i-th text of a kind as the API shows it (with prefix, position, and the omitted line last); p NULL at
 * the end. `query` is the text that positions point into. */
struct str notes_text(const struct notes *notes, enum note_kind kind, size_t i, struct str query,
                      struct arena *arena);

#endif
