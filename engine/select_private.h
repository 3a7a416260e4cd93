/* engine/select_private.h: what select.c, select_join.c (which series there are), select_group.c and
 * select_read.c (their samples) share. */
#ifndef QUIPU_ENGINE_SELECT_PRIVATE_H
#define QUIPU_ENGINE_SELECT_PRIVATE_H

#include "engine/engine_private.h"
#include "storage/label_reader.h"

struct series_ref {
    struct series_ref *next; /* of a later block */
    uint32_t block;          /* index in the view */
    uint32_t id;             /* there */
};
struct select_item {
    struct label *labels;
    uint32_t n_labels;
    _Atomic bool
        spelled;         /* labels are written: release in spell_head(), acquire in item_labels() */
    struct series *head; /* NULL: no samples in the head */
    struct series_ref *first, *last;
};
struct hidden {
    struct compact_range *ranges; /* of one item, within the select's time */
    size_t n;
};
struct engine_select {
    struct tenant *tenant;
    struct view *view;
    struct arena arena;  /* labels of blocks, refs */
    struct label *space; /* for labels of the head; untouched until spelled */
    struct lock lock;    /* rank LOCK_TENANT_GATE; guards the spelling */
    struct select_item *items;
    size_t n;
    int64_t mint_ms, maxt_ms;
    struct select_bounds bounds;
    struct hidden *hidden;         /* by item, in the arena; NULL: nothing is */
    struct family_cache *families; /* of all readers; NULL: single members are read */
    /* Labels of blocks; one thread's, as are select_spell and select_groups. */
    struct symbols symbols;
    struct label_reader **readers; /* by block; NULL: there are no symbols yet */
};

#define SELECT_SERIES_PER_POLL 1024
/* Called for each series that is found, n so far. */
MUST_USE enum err_code select_check_bounds(const struct engine_select *sel, size_t n,
                                           struct err *err);
/* Joins what blocks have to the items of the head. */
MUST_USE enum err_code select_join_blocks(struct engine_select *sel, const struct matcher *matchers,
                                          size_t n_matchers, struct err *err);
/* Writes the labels of an item that is in blocks alone. */
MUST_USE enum err_code select_spell_block_item(struct engine_select *sel, struct select_item *item,
                                               struct err *err);
/* Makes sel->symbols and sel->readers, if they are not there. */
MUST_USE enum err_code select_want_tables(struct engine_select *sel, struct err *err);
void select_tables_release(struct engine_select *sel);

/* Samples of all versions, also those that are deleted. `blocks` NULL: by block_read. */
MUST_USE enum err_code select_read_versions(const struct engine_select *sel,
                                            const struct select_item *item,
                                            struct column_reader *blocks, int64_t mint_ms,
                                            int64_t maxt_ms, struct samples *out, struct err *err);

#endif
