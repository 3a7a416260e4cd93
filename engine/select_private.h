/* engine/select_private.h: what select.c (which series there are) and select_read.c (their samples) share. */
#ifndef QUIPU_ENGINE_SELECT_PRIVATE_H
#define QUIPU_ENGINE_SELECT_PRIVATE_H

#include "engine/engine_private.h"

struct series_ref {
    struct series_ref *next; /* of a later block */
    uint32_t block;          /* index in the view */
    uint32_t id;             /* there */
};
struct select_item {
    struct label *labels;
    uint32_t n_labels;
    _Atomic bool spelled; /* labels are written: release in spell(), acquire in select_labels() */
    struct series *head;  /* NULL: no samples in the head */
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
    size_t n, cap;
    int64_t mint_ms, maxt_ms;
    struct select_bounds bounds;
    struct hidden *hidden;         /* by item, in the arena; NULL: nothing is */
    struct family_cache *families; /* of all readers; NULL: single members are read */
};

/* Samples of all versions, also those that are deleted. `blocks` NULL: by block_read. */
MUST_USE enum err_code select_read_versions(const struct engine_select *sel,
                                            const struct select_item *item,
                                            struct column_reader *blocks, int64_t mint_ms,
                                            int64_t maxt_ms, struct samples *out, struct err *err);

#endif
