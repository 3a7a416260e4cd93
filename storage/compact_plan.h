/* storage/compact_plan.h: which blocks of a tenant are merged next. Pure functions of the list of blocks and the time.
 *
 * Time is cut into cells: the newest part into cells of 2 h (level 1), days that are over into days (level 2), and what
 * lies further back into cells of 3 to 24 days (level 3) as long as a tenth of the retention allows them. A cell is
 * closed when it ended so long ago that all that is to be flushed of it has been. Cells are aligned at the epoch
 * and each size divides the next, so that a block within a cell stays within one cell as cells grow.
 *
 * What is done, the first that applies:
 *   - blocks of the head that do not fit into one cell (old samples, flushed together) are merged and cut at cells;
 *   - of the blocks within a cell, four of about one size (eight in an open cell) become one: what is
 *     written again and again stays logarithmic in the size of the cell;
 *   - a closed cell becomes one block when no block has come for a while; the longer, the less there is to gain: a few
 *     late samples do not cause a large block to be written again each time.
 *
 * Order. Of overlapping blocks the one with the higher sequence wins a timestamp, and what comes of a merge has one
 * sequence, the highest of its sources. So a block that overlaps a source and lies between it and the highest in sequence
 * must be a source, too: each job is closed under that rule, or is not done. */
#ifndef QUIPU_STORAGE_COMPACT_PLAN_H
#define QUIPU_STORAGE_COMPACT_PLAN_H

#include "storage/block.h"

#define COMPACT_LEVEL_MAX 3
#define COMPACT_SOURCES_MAX 64 /* open files and page tables of one merge */

struct compact_limits {
    int64_t margin_ms;  /* after its end a cell is open for so long */
    int64_t quiet_ms;   /* without a new block, then a closed cell is merged whatever it holds */
    uint64_t bytes_max; /* of a block that is made, as far as its sources tell; 0: none */
};
/* 45 min, 15 min, 32 GiB */
struct compact_limits compact_limits_default(void);

struct compact_when {
    int64_t now_ms;
    int64_t retention_ms; /* 0: for ever */
    bool eager;           /* now: nothing waits for more of its like */
    uint32_t
        level; /* cells up to this level count as closed; 0: those that are. More than there are: all */
    uint64_t sequence_max; /* blocks beyond it are left alone; 0: none is */
};

struct compact_cell {
    int64_t from_ms, to_ms; /* inclusive */
    uint32_t level;         /* of a block that fills it */
    bool closed;
};
/* How time is cut now. */
struct compact_grid {
    int64_t top_ms;                                   /* size of the largest cells */
    int64_t top_end_ms, day_end_ms, two_hours_end_ms; /* up to here cells of that size are closed */
};
struct compact_grid compact_grid_at(const struct compact_when *when,
                                    const struct compact_limits *limits);
struct compact_cell compact_grid_cell(const struct compact_grid *grid, int64_t t_ms);

struct compact_job {
    size_t n;                              /* 0: nothing is to be done */
    uint32_t sources[COMPACT_SOURCES_MAX]; /* places in the list, ascending by sequence */
    uint64_t sequence;                     /* of what is made */
    uint64_t id;                           /* names this set of sources */
    struct compact_grid grid;              /* the sources' samples go to one block for each cell */
};
/* The next job for these blocks, which are in any order. refused: ids of jobs that are not wanted. ERR_NO_MEMORY. */
MUST_USE enum err_code compact_plan(const struct block_info *const *blocks, size_t n,
                                    const struct compact_when *when,
                                    const struct compact_limits *limits, const uint64_t *refused,
                                    size_t n_refused, struct compact_job *job, struct err *err);

#endif
