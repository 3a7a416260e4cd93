/* engine/select_read.c: the samples of a select's series, from head and blocks as one. */
#include "engine/select_private.h"

static enum err_code read_place(const struct engine_select *sel, const struct series_ref *ref,
                                struct column_reader *blocks, int64_t mint_ms, int64_t maxt_ms,
                                struct samples *out, struct err *err)
{
    struct block *block = sel->view->blocks[ref->block];
    struct column_place place = {ref->block, ref->id};
    enum err_code rc = blocks ? column_reader_samples(blocks, place, mint_ms, maxt_ms, out, err)
                              : block_read(block, ref->id, mint_ms, maxt_ms, out, err);
    if (UNLIKELY(rc)) tenant_note_damage(sel->tenant, block_info(block), err);
    return rc;
}

static enum err_code read_block(const struct engine_select *sel, const struct series_ref *ref,
                                struct column_reader *blocks, int64_t mint_ms, int64_t maxt_ms,
                                struct samples *out, struct err *err)
{
    const struct block_info *info = block_info(sel->view->blocks[ref->block]);
    if (info->t_min_ms > maxt_ms || info->t_max_ms < mint_ms) return ERR_OK;
    if (out->n == 0 || out->t_ms[out->n - 1] < MAX_OF(mint_ms, info->t_min_ms))
        return read_place(sel, ref, blocks, mint_ms, maxt_ms, out, err);
    struct samples newer;
    samples_init(&newer, out->owner, out->arena);
    enum err_code rc = read_place(sel, ref, blocks, mint_ms, maxt_ms, &newer, err);
    if (!rc) rc = samples_merge(out, &newer, err);
    samples_release(&newer);
    return rc;
}

enum err_code select_read_versions(const struct engine_select *sel, const struct select_item *item,
                                   struct column_reader *blocks, int64_t mint_ms, int64_t maxt_ms,
                                   struct samples *out, struct err *err)
{
    enum err_code rc = ERR_OK;
    for (const struct series_ref *ref = item->first; !rc && ref; ref = ref->next)
        rc = read_block(sel, ref, blocks, mint_ms, maxt_ms, out, err);
    if (!rc && item->head)
        rc = head_read(tenant_stripe(sel->tenant, item->head), item->head, sel->view->flushed_gen,
                       UINT32_MAX, mint_ms, maxt_ms, out, err);
    return rc;
}

/* Is some of the series deleted? Then what is known of chunks says nothing, and samples are cut. */
static bool is_cut(const struct engine_select *sel, size_t i)
{
    return sel->hidden && sel->hidden[i].n;
}

/* Into `out`, which is empty. What is hidden is known within the select's time only. */
static enum err_code read_visible(const struct engine_select *sel, size_t i,
                                  struct column_reader *blocks, int64_t mint_ms, int64_t maxt_ms,
                                  struct samples *out, struct err *err)
{
    bool cuts = is_cut(sel, i);
    if (cuts) {
        mint_ms = MAX_OF(mint_ms, sel->mint_ms);
        maxt_ms = MIN_OF(maxt_ms, sel->maxt_ms);
    }
    if (mint_ms > maxt_ms) return ERR_OK;
    enum err_code rc =
        select_read_versions(sel, &sel->items[i], blocks, mint_ms, maxt_ms, out, err);
    if (!rc && cuts) ranges_cut(out, sel->hidden[i].ranges, sel->hidden[i].n);
    return rc;
}

static enum err_code read_series(const struct engine_select *sel, size_t i,
                                 struct column_reader *blocks, int64_t mint_ms, int64_t maxt_ms,
                                 struct samples *out, struct err *err)
{
    ASSERT(i < sel->n);
    enum err_code rc = pressure_check(&sel->tenant->engine->pressure, PRESSURE_QUERIES, err);
    if (rc) return rc;
    if (out->n == 0) return read_visible(sel, i, blocks, mint_ms, maxt_ms, out, err);
    /* Versions are merged among themselves only. */
    struct samples own;
    samples_init(&own, out->owner, out->arena);
    rc = read_visible(sel, i, blocks, mint_ms, maxt_ms, &own, err);
    if (!rc && own.st_ms) rc = samples_want_start_times(out, err);
    for (size_t k = 0; !rc && k < own.n; k++) {
        rc = samples_push(out, own.t_ms[k], own.v[k], own.h ? own.h[k] : NULL, err);
        if (!rc && own.st_ms) out->st_ms[out->n - 1] = own.st_ms[k];
    }
    samples_release(&own);
    return rc;
}

enum err_code select_read(struct engine_select *sel, size_t i, int64_t mint_ms, int64_t maxt_ms,
                          struct samples *out, struct err *err)
{
    return read_series(sel, i, NULL, mint_ms, maxt_ms, out, err);
}

/* ---- series after series ---- */

struct select_reader {
    struct engine_select *sel;
    struct column_reader *blocks;
    struct column_place *places; /* of the series at hand, by time */
    unsigned n_reads;
};

/* Looking at the clock for each series would cost as much as a short one. */
#define READS_PER_CHECK 16
static enum err_code reader_check(struct select_reader *r, struct err *err)
{
    if (r->n_reads++ % READS_PER_CHECK) return ERR_OK;
    return pressure_check(&r->sel->tenant->engine->pressure, PRESSURE_QUERIES, err);
}

enum err_code select_reader_new(struct engine_select *sel, struct select_reader **out,
                                struct err *err)
{
    struct select_reader *r = mem_calloc(MEM_QUERY, 1, sizeof(*r));
    size_t n = sel->view->n_blocks;
    if (r) r->places = mem_calloc(MEM_QUERY, n, sizeof(*r->places));
    enum err_code rc = ERR_OK;
    if (!r || !r->places)
        rc = err_set(err, ERR_NO_MEMORY, "no memory to read series");
    else
        rc = column_reader_new(sel->view->blocks, n, sel->families, &r->blocks, err);
    if (rc) {
        select_reader_free(r);
        return rc;
    }
    r->sel = sel;
    *out = r;
    return ERR_OK;
}

void select_reader_free(struct select_reader *r)
{
    if (!r) return;
    column_reader_free(r->blocks);
    mem_free(r->places);
    mem_free(r);
}

enum err_code select_reader_samples(struct select_reader *r, size_t i, int64_t mint_ms,
                                    int64_t maxt_ms, struct samples *out, struct err *err)
{
    return read_series(r->sel, i, r->blocks, mint_ms, maxt_ms, out, err);
}

/* Where the series has chunks, by the times of the blocks; they are few. */
static size_t find_places(struct select_reader *r, const struct select_item *item, int64_t mint_ms,
                          int64_t maxt_ms)
{
    struct block *const *blocks = r->sel->view->blocks;
    size_t n = 0;
    for (const struct series_ref *ref = item->first; ref; ref = ref->next) {
        const struct block_info *info = block_info(blocks[ref->block]);
        if (info->t_min_ms > maxt_ms || info->t_max_ms < mint_ms) continue;
        size_t at = n++;
        for (; at && block_info(blocks[r->places[at - 1].block])->t_min_ms > info->t_min_ms; at--)
            r->places[at] = r->places[at - 1];
        r->places[at] = (struct column_place){ref->block, ref->id};
    }
    return n;
}

enum err_code select_reader_floats(struct select_reader *r, size_t i, int64_t mint_ms,
                                   int64_t maxt_ms, struct float_column *out, bool *plain,
                                   struct err *err)
{
    const struct engine_select *sel = r->sel;
    ASSERT(i < sel->n);
    const struct select_item *item = &sel->items[i];
    *plain = !item->head && !is_cut(sel, i);
    if (!*plain) return ERR_OK;
    enum err_code rc = reader_check(r, err);
    if (rc) return rc;
    size_t n = find_places(r, item, mint_ms, maxt_ms);
    rc = column_reader_floats(r->blocks, r->places, n, mint_ms, maxt_ms, out, plain, err);
    if (UNLIKELY(rc)) tenant_note_named(sel->tenant, sel->view->blocks, sel->view->n_blocks, err);
    return rc;
}

enum err_code select_reader_newest(struct select_reader *r, size_t i, int64_t mint_ms,
                                   int64_t maxt_ms, bool want_value, struct newest_sample *out,
                                   struct err *err)
{
    const struct engine_select *sel = r->sel;
    ASSERT(i < sel->n);
    const struct select_item *item = &sel->items[i];
    *out = (struct newest_sample){0};
    if (item->head || is_cut(sel, i)) return ERR_OK;
    enum err_code rc = reader_check(r, err);
    if (rc) return rc;
    size_t n = find_places(r, item, mint_ms, maxt_ms);
    rc = column_reader_newest(r->blocks, r->places, n, mint_ms, maxt_ms, want_value, out, err);
    if (UNLIKELY(rc)) tenant_note_named(sel->tenant, sel->view->blocks, sel->view->n_blocks, err);
    return rc;
}

enum err_code select_reader_ends(struct select_reader *r, size_t i, int64_t mint_ms,
                                 int64_t maxt_ms, bool rises, struct float_column *out, bool *known,
                                 struct err *err)
{
    const struct engine_select *sel = r->sel;
    ASSERT(i < sel->n);
    const struct select_item *item = &sel->items[i];
    *known = !item->head && !is_cut(sel, i);
    if (!*known) return ERR_OK;
    enum err_code rc = reader_check(r, err);
    if (rc) return rc;
    size_t n = find_places(r, item, mint_ms, maxt_ms);
    rc = column_reader_ends(r->blocks, r->places, n, mint_ms, maxt_ms, rises, out, known, err);
    if (UNLIKELY(rc)) tenant_note_named(sel->tenant, sel->view->blocks, sel->view->n_blocks, err);
    return rc;
}
