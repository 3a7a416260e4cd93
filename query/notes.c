/* query/notes.c: annotations of a query. Few and often the same: a list with a linear search is enough, as the texts
 * of one query differ by metric name at most. */
#include "query/notes.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "query/parser.h"

#define NOTE_TEXT_BYTES 1024

void notes_init(struct notes *notes, struct arena *arena)
{
    *notes = (struct notes){.arena = arena};
}

static struct note *find(const struct notes *notes, enum note_kind kind, struct str text)
{
    for (struct note *n = notes->first; n; n = n->next)
        if (n->kind == kind && str_eq(n->text, text)) return n;
    return NULL;
}

static void append(struct notes *notes, const struct note *what)
{
    struct note *same = find(notes, what->kind, what->text);
    if (same && what->pos < same->pos) same->pos = what->pos;
    if (same || notes->n >= NOTES_KEPT_MAX) return;
    struct note *note = ARENA_NEW(notes->arena, struct note);
    struct str text = arena_str(notes->arena, what->text);
    if (!note || !text.p) return;
    *note = *what;
    note->text = text;
    note->next = NULL;
    /* `last` is NULL while empty, so that an empty struct may be copied. */
    if (notes->first)
        *notes->last = note;
    else
        notes->first = note;
    notes->last = &note->next;
    notes->n++;
    if (note->kind == NOTE_WARNING)
        notes->n_warnings++;
    else
        notes->n_infos++;
}

static struct str format(char *buf, size_t size, const char *fmt, va_list args)
{
    int n = vsnprintf(buf, size, fmt, args);
    ASSERT(n >= 0);
    size_t len = MIN_OF((size_t)n, size - 1);
    /* Cut where a character starts. */
    if ((size_t)n >= size)
        while (len && ((unsigned char)buf[len] & 0xc0) == 0x80) len--;
    return (struct str){buf, len};
}

void notes_add(struct notes *notes, enum note_kind kind, uint32_t pos, const char *fmt, ...)
{
    char buf[NOTE_TEXT_BYTES];
    va_list args;
    va_start(args, fmt);
    struct str text = format(buf, sizeof(buf), fmt, args);
    va_end(args);
    append(notes,
           &(struct note){.text = text, .pos = pos, .has_pos = true, .promql = true, .kind = kind});
}

void notes_add_plain(struct notes *notes, enum note_kind kind, const char *fmt, ...)
{
    char buf[NOTE_TEXT_BYTES];
    va_list args;
    va_start(args, fmt);
    struct str text = format(buf, sizeof(buf), fmt, args);
    va_end(args);
    append(notes, &(struct note){.text = text, .kind = kind});
}

void notes_merge(struct notes *into, const struct notes *from)
{
    for (const struct note *n = from->first; n; n = n->next) append(into, n);
}

static int compare(const void *a, const void *b)
{
    const struct note *x = *(struct note *const *)a, *y = *(struct note *const *)b;
    if (x->pos != y->pos) return x->pos < y->pos ? -1 : 1;
    if (x->kind != y->kind) return x->kind < y->kind ? -1 : 1;
    return str_cmp(x->text, y->text);
}

void notes_sort(struct notes *notes)
{
    if (notes->n < 2) return;
    struct note **all = ARENA_ARRAY(notes->arena, struct note *, notes->n);
    if (!all) return; /* as they came, then */
    size_t n = 0;
    for (struct note *note = notes->first; note; note = note->next) all[n++] = note;
    qsort(all, n, sizeof(struct note *), compare);
    for (size_t i = 0; i < n; i++) all[i]->next = i + 1 < n ? all[i + 1] : NULL;
    notes->first = all[0];
    notes->last = &all[n - 1]->next;
}

static struct str shown(const struct note *note, struct str query, struct arena *arena)
{
    struct buf place;
    buf_init(&place, MEM_QUERY);
    if (note->has_pos) position_print(query, note->pos, &place);
    struct str at = str_from_bytes(buf_bytes(&place));
    struct str text = arena_printf(arena, "%s%.*s%s%.*s%s",
                                   !note->promql                ? ""
                                   : note->kind == NOTE_WARNING ? "PromQL warning: "
                                                                : "PromQL info: ",
                                   STR_ARG(note->text), note->has_pos ? " (" : "", STR_ARG(at),
                                   note->has_pos ? ")" : "");
    buf_release(&place);
    return text;
}

struct str notes_text(const struct notes *notes, enum note_kind kind, size_t i, struct str query,
                      struct arena *arena)
{
    size_t n = kind == NOTE_WARNING ? notes->n_warnings : notes->n_infos;
    if (i > NOTES_SHOWN_MAX || i >= n) return (struct str){NULL, 0};
    if (i == NOTES_SHOWN_MAX)
        return arena_printf(arena, "%zu more %s annotations omitted", n - NOTES_SHOWN_MAX,
                            kind == NOTE_WARNING ? "warning" : "info");
    for (const struct note *note = notes->first; note; note = note->next)
        if (note->kind == kind && i-- == 0) return shown(note, query, arena);
    return (struct str){NULL, 0};
}
