/* engine/compact_rehearse.c: what a compaction would do, by the planner alone: of what a merge makes, number and bounds
 * are guessed from the bounds of its sources, and its size is theirs. */
#include <inttypes.h>
#include <stdio.h>

#include "engine/engine_private.h"

#define CELLS_MAX 4096

struct rehearsal {
    struct block_info *blocks;
    size_t n, cap;
    uint64_t n_made;
    int64_t now_ms;
    struct compact_cell *cells; /* of the job */
    size_t n_cells, cells_cap;
};

static enum err_code add_block(struct rehearsal *r, const struct block_info *info, struct err *err)
{
    void *items = r->blocks;
    enum err_code rc = mem_grow(MEM_STORAGE, &items, &r->cap, r->n + 1, sizeof(*r->blocks), err);
    r->blocks = items;
    if (!rc) r->blocks[r->n++] = *info;
    return rc;
}

static enum err_code add_cell(struct rehearsal *r, const struct compact_cell *cell, struct err *err)
{
    for (size_t i = 0; i < r->n_cells; i++)
        if (r->cells[i].from_ms == cell->from_ms) return ERR_OK;
    void *items = r->cells;
    enum err_code rc =
        mem_grow(MEM_STORAGE, &items, &r->cells_cap, r->n_cells + 1, sizeof(*r->cells), err);
    r->cells = items;
    if (!rc) r->cells[r->n_cells++] = *cell;
    return rc;
}

static enum err_code add_cells(struct rehearsal *r, const struct compact_grid *grid,
                               const struct block_info *source, struct err *err)
{
    for (int64_t t_ms = source->t_min_ms;;) {
        struct compact_cell cell = compact_grid_cell(grid, t_ms);
        enum err_code rc = add_cell(r, &cell, err);
        if (rc || cell.to_ms >= source->t_max_ms || r->n_cells >= CELLS_MAX) return rc;
        t_ms = cell.to_ms + 1;
    }
}

/* Puts what the job makes in the place of its sources. */
static enum err_code play(struct rehearsal *r, const struct compact_job *job,
                          struct engine_compact_report *report, struct err *err)
{
    struct block_info made = {.sequence = job->sequence,
                              .created_ms = r->now_ms,
                              .t_min_ms = INT64_MAX,
                              .t_max_ms = INT64_MIN};
    enum err_code rc = ERR_OK;
    r->n_cells = 0;
    for (size_t i = 0; !rc && i < job->n; i++) {
        struct block_info *source = &r->blocks[job->sources[i]];
        made.file_bytes += source->file_bytes;
        made.n_samples += source->n_samples;
        made.n_series = MAX_OF(made.n_series, source->n_series);
        made.t_min_ms = MIN_OF(made.t_min_ms, source->t_min_ms);
        made.t_max_ms = MAX_OF(made.t_max_ms, source->t_max_ms);
        rc = add_cells(r, &job->grid, source, err);
        source->n_samples = 0; /* is gone */
    }
    if (rc) return rc;
    report->jobs++;
    report->samples += made.n_samples;
    report->bytes_read += made.file_bytes;
    report->bytes_written += made.file_bytes;
    size_t kept = 0;
    for (size_t i = 0; i < r->n; i++)
        if (r->blocks[i].n_samples) r->blocks[kept++] = r->blocks[i];
    r->n = kept;
    for (size_t i = 0; !rc && i < r->n_cells; i++) {
        struct block_info part = made;
        part.level = r->cells[i].level;
        part.t_min_ms = MAX_OF(made.t_min_ms, r->cells[i].from_ms);
        part.t_max_ms = MIN_OF(made.t_max_ms, r->cells[i].to_ms);
        part.file_bytes /= r->n_cells;
        part.n_samples = made.n_samples / r->n_cells + 1;
        snprintf(part.ulid.text, sizeof(part.ulid.text), "%026" PRIu64, ++r->n_made);
        rc = add_block(r, &part, err);
    }
    return rc;
}

static enum err_code play_all(struct rehearsal *r, const struct compact_when *when,
                              const struct compact_limits *limits,
                              struct engine_compact_report *report, struct err *err)
{
    struct compact_job job;
    for (;;) {
        const struct block_info **infos =
            mem_calloc(MEM_STORAGE, MAX_OF(r->n, (size_t)1), sizeof(*infos));
        if (!infos) return err_set(err, ERR_NO_MEMORY, "no memory to plan");
        for (size_t i = 0; i < r->n; i++) infos[i] = &r->blocks[i];
        enum err_code rc = compact_plan(infos, r->n, when, limits, NULL, 0, &job, err);
        mem_free(infos);
        if (!rc && job.n) rc = play(r, &job, report, err);
        if (rc || job.n == 0) return rc;
    }
}

enum err_code compact_rehearse(struct tenant *t, const struct compact_when *when,
                               const struct compact_limits *limits,
                               struct engine_compact_report *report, struct err *err)
{
    struct rehearsal r = {.now_ms = when->now_ms};
    struct view *view = views_take(&t->views);
    enum err_code rc = ERR_OK;
    for (size_t i = 0; !rc && i < view->n_blocks; i++)
        rc = add_block(&r, block_info(view->blocks[i]), err);
    views_give(&t->views, view);
    if (!rc) rc = play_all(&r, when, limits, report, err);
    report->blocks_after += r.n;
    for (size_t i = 0; i < r.n; i++) report->bytes_after += r.blocks[i].file_bytes;
    mem_free(r.blocks);
    mem_free(r.cells);
    return rc;
}
