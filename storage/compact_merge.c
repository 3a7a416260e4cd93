/* storage/compact_merge.c: see the header. For each cell of time that has samples: the labels of all sources are merged
 * and declared; then unit after unit (a series, or those of one classic histogram), slice after slice of time, the
 * versions of all sources are read, merged and written. */
#include "storage/compact_merge.h"

#include <inttypes.h>
#include <stdio.h>

#include "storage/compact_family.h"
#include "storage/compact_series.h"

/* Large, as each slice ends with a chunk that is not full. */
#define SLICE_SAMPLES (256 << 10)
#define HISTOGRAM_SAMPLES 128 /* a histogram takes the memory of so many floats, more or less */
#define BINS 512
#define CELLS_MAX 4096

struct unit {
    size_t n;
    uint32_t series[COMPACT_FAMILY_MAX];
    bool is_family; /* series are in the order of block_family, with _count behind if has_count */
    bool has_count;
};

struct merge {
    const struct compact_merge *c;
    struct compact_cell *cells; /* those that have samples, perhaps */
    size_t n_cells, cells_cap;
    uint64_t n_total, n_read; /* samples of the sources, of all cells */
    double slice_samples;

    struct compact_cell cell; /* at work */
    struct block_writer *writer;
    struct compact_series series;
    struct compact_families families;
    uint64_t n_written; /* samples, in this cell */

    struct samples columns[COMPACT_FAMILY_MAX]; /* a unit's slice */
    struct samples version;
    struct arena histograms; /* of the slice */
    struct arena labels;
    struct compact_stats *stats;
};

/* ---- reading ---- */

static enum err_code read_version(struct merge *m, size_t source, uint32_t id, int64_t from_ms,
                                  int64_t to_ms, struct samples *out, struct err *err)
{
    struct block *block = m->c->sources[source];
    const struct block_info *info = block_info(block);
    size_t n_before = out->n;
    if (info->t_min_ms > to_ms || info->t_max_ms < from_ms) return ERR_OK;
    enum err_code rc;
    if (out->n == 0 || out->t_ms[out->n - 1] < MAX_OF(from_ms, info->t_min_ms)) {
        rc = block_read(block, id, from_ms, to_ms, out, err);
        m->n_read += out->n - n_before;
        return rc;
    }
    samples_reset(&m->version);
    rc = block_read(block, id, from_ms, to_ms, &m->version, err);
    if (!rc) rc = samples_merge(out, &m->version, err);
    if (rc) return rc;
    m->n_read += m->version.n;
    m->stats->n_duplicates += n_before + m->version.n - out->n;
    return ERR_OK;
}

static enum err_code series_labels(struct merge *m, uint32_t series, struct labels *labels,
                                   struct err *err)
{
    uint32_t id = 0;
    size_t source = 0;
    while (!compact_series_find(&m->series, source, series, &id)) {
        source++;
        ASSERT(source < m->c->n_sources);
    }
    return block_labels(m->c->sources[source], id, &m->labels, labels, err);
}

/* Takes the samples of [from, to] out. */
static void cut_range(struct samples *s, const struct compact_range *range)
{
    size_t to = 0;
    for (size_t i = 0; i < s->n; i++) {
        if (s->t_ms[i] >= range->from_ms && s->t_ms[i] <= range->to_ms) continue;
        samples_move(s, to++, i);
    }
    s->n = to;
}

static enum err_code drop_ranges(struct merge *m, uint32_t series, struct samples *s,
                                 struct err *err)
{
    struct labels labels;
    struct compact_range *ranges = NULL;
    size_t n = 0;
    arena_reset(&m->labels);
    enum err_code rc = series_labels(m, series, &labels, err);
    if (!rc) rc = m->c->drop(m->c->drop_ctx, labels, &m->labels, &ranges, &n, err);
    for (size_t i = 0; !rc && i < n; i++) cut_range(s, &ranges[i]);
    return rc;
}

static enum err_code read_series(struct merge *m, uint32_t series, int64_t from_ms, int64_t to_ms,
                                 struct samples *out, struct err *err)
{
    enum err_code rc = ERR_OK;
    samples_reset(out);
    for (size_t i = 0; !rc && i < m->c->n_sources; i++) {
        uint32_t id;
        if (compact_series_find(&m->series, i, series, &id))
            rc = read_version(m, i, id, from_ms, to_ms, out, err);
    }
    if (!rc && m->c->drop && out->n) rc = drop_ranges(m, series, out, err);
    return rc;
}

/* ---- writing a slice ---- */

static enum err_code write_series(struct merge *m, uint32_t series, const struct samples *s,
                                  struct err *err)
{
    if (s->n == 0) return ERR_OK;
    m->n_written += s->n;
    return block_writer_samples(m->writer, series, s, 0, s->n, err);
}

static bool is_plain(const struct samples *s)
{
    for (size_t i = 0; s->h && i < s->n; i++)
        if (s->h[i]) return false;
    for (size_t i = 0; s->st_ms && i < s->n; i++)
        if (s->st_ms[i]) return false;
    return true;
}

static bool same_times(const struct samples *a, const struct samples *b)
{
    return a->n == b->n && memcmp(a->t_ms, b->t_ms, a->n * sizeof(*a->t_ms)) == 0;
}

/* Those members that have the times of the last bucket go together, the others by themselves. */
static enum err_code write_family(struct merge *m, const struct unit *u, struct err *err)
{
    size_t n_buckets = u->n - u->has_count;
    const struct samples *last = &m->columns[n_buckets - 1];
    uint32_t ids[FAMILY_MEMBERS_MAX];
    const double *v[FAMILY_MEMBERS_MAX];
    bool together[COMPACT_FAMILY_MAX] = {false};
    struct block_family f = {
        .ids = ids, .count_id = BLOCK_NO_SERIES, .t_ms = last->t_ms, .v = v, .n = last->n};
    for (size_t i = 0; i < u->n && last->n && is_plain(last); i++) {
        const struct samples *s = &m->columns[i];
        together[i] = same_times(s, last) && is_plain(s);
        if (!together[i]) continue;
        if (i < n_buckets) {
            ids[f.n_members] = u->series[i];
            v[f.n_members++] = s->v;
        } else {
            f.count_id = u->series[i];
            f.count = s->v;
        }
    }
    enum err_code rc = ERR_OK;
    bool is_family = f.n_members >= FAMILY_MEMBERS_MIN;
    if (is_family) {
        m->n_written += (f.n_members + (f.count != NULL)) * f.n;
        rc = block_writer_family(m->writer, &f, err);
    }
    for (size_t i = 0; !rc && i < u->n; i++)
        if (!is_family || !together[i]) rc = write_series(m, u->series[i], &m->columns[i], err);
    return rc;
}

static enum err_code write_slice(struct merge *m, const struct unit *u, int64_t from_ms,
                                 int64_t to_ms, struct err *err)
{
    enum err_code rc = ERR_OK;
    arena_reset(&m->histograms);
    for (size_t i = 0; !rc && i < u->n; i++)
        rc = read_series(m, u->series[i], from_ms, to_ms, &m->columns[i], err);
    if (rc) return rc;
    if (u->is_family) return write_family(m, u, err);
    for (size_t i = 0; !rc && i < u->n; i++)
        rc = write_series(m, u->series[i], &m->columns[i], err);
    return rc;
}

/* ---- slicing ---- */

/* What the sources hold of a unit within [from, to], in samples, by their chunks' statistics. */
struct weights {
    int64_t from_ms, to_ms;
    double total;
    int64_t first_ms, last_ms; /* of chunks, within the range */
    double *bins;              /* NULL: only the total */
    int64_t bin_ms;
};

static enum err_code add_weight(void *ctx, const struct chunk_meta *meta, struct err *err)
{
    struct weights *w = ctx;
    (void)err;
    int64_t a = MAX_OF(meta->t_min_ms, w->from_ms), b = MIN_OF(meta->t_max_ms, w->to_ms);
    if (a > b) return ERR_OK;
    double weight = (double)meta->n * (meta->has_histograms ? HISTOGRAM_SAMPLES : 1);
    double per_ms = weight / ((double)meta->t_max_ms - (double)meta->t_min_ms + 1);
    w->first_ms = MIN_OF(w->first_ms, a);
    w->last_ms = MAX_OF(w->last_ms, b);
    if (!w->bins) {
        w->total += per_ms * ((double)b - (double)a + 1);
        return ERR_OK;
    }
    for (int64_t bin = (a - w->from_ms) / w->bin_ms, end = (b - w->from_ms) / w->bin_ms; bin <= end;
         bin++) {
        int64_t bin_from = w->from_ms + bin * w->bin_ms;
        double lo = (double)MAX_OF(a, bin_from), hi = (double)MIN_OF(b, bin_from + w->bin_ms - 1);
        w->bins[bin] += per_ms * (hi - lo + 1);
    }
    return ERR_OK;
}

static enum err_code weigh(struct merge *m, const struct unit *u, struct weights *w,
                           struct err *err)
{
    enum err_code rc = ERR_OK;
    w->first_ms = INT64_MAX;
    w->last_ms = INT64_MIN;
    for (size_t i = 0; i < u->n; i++) {
        for (size_t k = 0; !rc && k < m->c->n_sources; k++) {
            uint32_t id;
            if (compact_series_find(&m->series, k, u->series[i], &id))
                rc = block_metas(m->c->sources[k], id, w->from_ms, w->to_ms, add_weight, w, err);
        }
    }
    return rc;
}

static enum err_code write_range(struct merge *m, const struct unit *u, int64_t from_ms,
                                 int64_t to_ms, struct err *err);

/* Neighbouring bins go into one slice as long as they fit; one that is too heavy is cut further. */
static enum err_code write_bins(struct merge *m, const struct unit *u, const struct weights *w,
                                struct err *err)
{
    int64_t slice_ms = w->from_ms; /* where the slice begins */
    double weight = 0;
    for (int64_t bin = 0; bin < BINS; bin++) {
        int64_t bin_from = w->from_ms + bin * w->bin_ms;
        if (bin_from > w->to_ms) break;
        int64_t bin_to = MIN_OF(bin_from + w->bin_ms - 1, w->to_ms);
        bool heavy = w->bins[bin] > m->slice_samples && w->bin_ms > 1;
        enum err_code rc = ERR_OK;
        if (weight > 0 && (heavy || weight + w->bins[bin] > m->slice_samples)) {
            rc = write_slice(m, u, slice_ms, bin_from - 1, err);
            weight = 0;
        }
        if (weight == 0) slice_ms = bin_from;
        if (!rc && heavy)
            rc = write_range(m, u, bin_from, bin_to, err);
        else
            weight += w->bins[bin];
        if (rc) return rc;
    }
    return weight > 0 ? write_slice(m, u, slice_ms, w->to_ms, err) : ERR_OK;
}

static enum err_code write_range(struct merge *m, const struct unit *u, int64_t from_ms,
                                 int64_t to_ms, struct err *err)
{
    struct weights w = {.from_ms = from_ms, .to_ms = to_ms};
    enum err_code rc = weigh(m, u, &w, err);
    if (rc || w.total <= 0) return rc;
    if (w.total <= m->slice_samples) return write_slice(m, u, from_ms, to_ms, err);
    double bins[BINS] = {0};
    w.from_ms = w.first_ms;
    w.to_ms = w.last_ms;
    w.bin_ms = (w.to_ms - w.from_ms) / BINS + 1;
    w.bins = bins;
    rc = weigh(m, u, &w, err);
    return rc ? rc : write_bins(m, u, &w, err);
}

/* ---- units ---- */

static enum err_code pause_merge(struct merge *m, struct err *err)
{
    if (!m->c->pause) return ERR_OK;
    return m->c->pause(m->c->pause_ctx, m->n_total ? (double)m->n_read / (double)m->n_total : 1,
                       err);
}

static enum err_code write_unit(struct merge *m, const struct unit *u, struct err *err)
{
    enum err_code rc = write_range(m, u, m->cell.from_ms, m->cell.to_ms, err);
    return rc ? rc : pause_merge(m, err);
}

static enum err_code write_candidates(struct merge *m, const struct compact_family *family,
                                      struct err *err)
{
    const struct compact_family_key *keys = m->families.keys + family->first;
    struct labels labels[COMPACT_FAMILY_MAX];
    struct compact_order order;
    struct unit u = {.n = family->n};
    enum err_code rc = ERR_OK;
    arena_reset(&m->labels);
    for (size_t i = 0; !rc && i < family->n; i++)
        rc = series_labels(m, keys[i].series, &labels[i], err);
    if (rc) return rc;
    if (compact_family_order(labels, family->n, &order)) {
        u.is_family = true;
        u.has_count = order.has_count;
        for (size_t i = 0; i < u.n; i++) u.series[i] = keys[order.places[i]].series;
        return write_unit(m, &u, err);
    }
    for (size_t i = 0; !rc && i < family->n; i++) {
        u.n = 1;
        u.series[0] = keys[i].series;
        rc = write_unit(m, &u, err);
    }
    return rc;
}

static enum err_code write_units(struct merge *m, struct err *err)
{
    const struct compact_families *f = &m->families;
    enum err_code rc = ERR_OK;
    size_t next = 0; /* family */
    for (uint32_t i = 0; !rc && i < m->series.n; i++) {
        if (next < f->n && f->items[next].lowest == i)
            rc = write_candidates(m, &f->items[next++], err);
        else if (!compact_families_has(f, i))
            rc = write_unit(m, &(struct unit){.n = 1, .series = {i}}, err);
    }
    return rc;
}

/* ---- one cell ---- */

static enum err_code declare_series(void *ctx, struct labels labels, struct err *err)
{
    struct merge *m = ctx;
    uint32_t id;
    enum err_code rc = block_writer_series(m->writer, labels, &id, err);
    if (rc) return rc;
    ASSERT(id == m->series.n);
    return compact_families_add(&m->families, id, labels, err);
}

static enum err_code outputs_add(struct compact_outputs *out, const struct block_info *info,
                                 struct err *err)
{
    void *items = out->items;
    enum err_code rc =
        mem_grow(MEM_STORAGE, &items, &out->cap, out->n + 1, sizeof(*out->items), err);
    out->items = items;
    if (!rc) out->items[out->n++] = *info;
    return rc;
}

static enum err_code merge_cell(struct merge *m, struct compact_outputs *out, struct err *err)
{
    const struct compact_merge *c = m->c;
    int64_t now_ms = clock_wall_ms(c->env->clock);
    struct block_info info = {.incarnation = c->incarnation,
                              .sequence = c->sequence,
                              .level = m->cell.level,
                              .created_ms = now_ms};
    ulid_make(&info.ulid, now_ms, c->rng);
    /* The place first: what is published is remembered. */
    enum err_code rc = outputs_add(out, &info, err);
    if (rc) return rc;
    out->n--;
    m->n_written = 0;
    compact_families_init(&m->families);
    rc = block_writer_open(c->env, c->dir, &info, &m->writer, err);
    if (!rc)
        rc = compact_series_init(&m->series, c->sources, c->n_sources, c->series_max,
                                 declare_series, m, err);
    if (!rc) rc = compact_families_group(&m->families, m->series.n, err);
    if (!rc) rc = write_units(m, err);
    if (!rc && m->n_written) {
        rc = block_writer_finish(m->writer, &info, err);
        /* Also after a failure: the name may be there already. */
        out->items[out->n++] = info;
    }
    block_writer_close(m->writer);
    m->writer = NULL;
    compact_series_release(&m->series);
    compact_families_release(&m->families);
    if (rc) return rc;
    if (m->n_written) ASSERT(info.n_samples == m->n_written);
    m->stats->n_samples += m->n_written;
    if (m->n_written) m->stats->bytes_after += info.file_bytes;
    return ERR_OK;
}

/* ---- which cells ---- */

static enum err_code note_cell(struct merge *m, struct compact_cell cell, struct err *err)
{
    size_t lo = 0, hi = m->n_cells;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (m->cells[mid].from_ms < cell.from_ms)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo < m->n_cells && m->cells[lo].from_ms == cell.from_ms) return ERR_OK;
    if (m->n_cells == CELLS_MAX)
        return err_set(err, ERR_LIMIT, "samples in more than %d cells of time", CELLS_MAX);
    void *cells = m->cells;
    enum err_code rc =
        mem_grow(MEM_STORAGE, &cells, &m->cells_cap, m->n_cells + 1, sizeof(*m->cells), err);
    m->cells = cells;
    if (rc) return rc;
    memmove(m->cells + lo + 1, m->cells + lo, (m->n_cells - lo) * sizeof(*m->cells));
    m->cells[lo] = cell;
    m->n_cells++;
    return ERR_OK;
}

static enum err_code note_span(struct merge *m, int64_t from_ms, int64_t to_ms, struct err *err)
{
    for (int64_t t_ms = from_ms;;) {
        struct compact_cell cell = compact_grid_cell(&m->c->grid, t_ms);
        enum err_code rc = note_cell(m, cell, err);
        if (rc || cell.to_ms >= to_ms) return rc;
        t_ms = cell.to_ms + 1;
    }
}

static enum err_code note_chunk(void *ctx, const struct chunk_meta *meta, struct err *err)
{
    return note_span(ctx, meta->t_min_ms, meta->t_max_ms, err);
}

static enum err_code find_cells(struct merge *m, struct err *err)
{
    enum err_code rc = ERR_OK;
    for (size_t i = 0; !rc && i < m->c->n_sources; i++) {
        struct block *block = m->c->sources[i];
        const struct block_info *info = block_info(block);
        m->n_total += info->n_samples;
        if (compact_grid_cell(&m->c->grid, info->t_min_ms).to_ms >= info->t_max_ms) {
            rc = note_span(m, info->t_min_ms, info->t_max_ms, err);
            continue;
        }
        for (uint32_t id = 0; !rc && id < info->n_series; id++)
            rc = block_metas(block, id, INT64_MIN, INT64_MAX, note_chunk, m, err);
    }
    return rc;
}

/* ---- all of it ---- */

static void remove_outputs(const struct compact_merge *c, struct compact_outputs *out)
{
    for (size_t i = 0; i < out->n; i++) {
        char name[ULID_CHARS + 8], path[IO_PATH_BYTES];
        struct err ignored; /* a stray block costs space until the next start finds it */
        snprintf(name, sizeof(name), "%s.block", out->items[i].ulid.text);
        if (io_path(path, sizeof(path), &ignored, c->dir, name) == ERR_OK)
            err_ignore(io_unlink(c->env->io, path, &ignored));
    }
    out->n = 0;
}

void compact_outputs_release(struct compact_outputs *out)
{
    mem_free(out->items);
    *out = (struct compact_outputs){0};
}

static struct merge *merge_new(const struct compact_merge *c, struct compact_stats *stats)
{
    struct merge *m = mem_calloc(MEM_STORAGE, 1, sizeof(*m));
    if (!m) return NULL;
    m->c = c;
    m->stats = stats;
    m->slice_samples = (double)(c->slice_samples ? c->slice_samples : SLICE_SAMPLES);
    arena_init(&m->histograms, MEM_STORAGE, 0);
    arena_init(&m->labels, MEM_STORAGE, 0);
    for (size_t i = 0; i < COMPACT_FAMILY_MAX; i++)
        samples_init(&m->columns[i], MEM_STORAGE, &m->histograms);
    samples_init(&m->version, MEM_STORAGE, &m->histograms);
    return m;
}

static void merge_free(struct merge *m)
{
    for (size_t i = 0; i < COMPACT_FAMILY_MAX; i++) samples_release(&m->columns[i]);
    samples_release(&m->version);
    arena_release(&m->histograms);
    arena_release(&m->labels);
    mem_free(m->cells);
    mem_free(m);
}

enum err_code compact_merge(const struct compact_merge *c, struct compact_outputs *out,
                            struct compact_stats *stats, struct err *err)
{
    *out = (struct compact_outputs){0};
    *stats = (struct compact_stats){.n_before = c->n_sources};
    for (size_t i = 0; i < c->n_sources; i++) {
        const struct block_info *info = block_info(c->sources[i]);
        stats->bytes_before += info->file_bytes;
        if (i) ASSERT(info->sequence >= block_info(c->sources[i - 1])->sequence);
    }
    struct merge *m = merge_new(c, stats);
    if (!m) return err_set(err, ERR_NO_MEMORY, "no memory to merge blocks");
    enum err_code rc = find_cells(m, err);
    for (size_t i = 0; !rc && i < m->n_cells; i++) {
        m->cell = m->cells[i];
        rc = merge_cell(m, out, err);
    }
    if (rc) remove_outputs(c, out);
    stats->n_after = out->n;
    merge_free(m);
    return rc ? err_context(err, "merging %zu blocks", c->n_sources) : ERR_OK;
}
