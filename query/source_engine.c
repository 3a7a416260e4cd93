/* query/source_engine.c: see the header. A source_select is the engine's select under another name. */
#include "query/source_engine.h"

static struct tenant *tenant_of(struct query_source *src)
{
    return ((struct source_engine *)(void *)src)->tenant;
}

static struct engine_select *select_of(struct source_select *sel)
{
    return (struct engine_select *)(void *)sel;
}

static const struct engine_select *select_of_const(const struct source_select *sel)
{
    return (const struct engine_select *)(const void *)sel;
}

static enum err_code op_select(struct query_source *src, const struct matcher *matchers,
                               size_t n_matchers, int64_t mint_ms, int64_t maxt_ms,
                               struct source_select **out, struct err *err)
{
    struct engine_select *sel;
    struct select_bounds bounds = {0};
    if (src->bounds)
        bounds = (struct select_bounds){.series_max = src->bounds->series_max,
                                        .poll = src->bounds->poll,
                                        .ctx = src->bounds->ctx,
                                        .bare = src->bounds->bare};
    enum err_code rc = tenant_select_bounded(tenant_of(src), matchers, n_matchers, mint_ms, maxt_ms,
                                             &bounds, &sel, err);
    *out = (struct source_select *)(void *)sel; /* NULL on failure */
    return rc;
}

static size_t op_count(const struct source_select *sel)
{
    return select_count(select_of_const(sel));
}

static enum err_code op_spell(struct source_select *sel, size_t i, size_t n, struct err *err)
{
    return select_spell(select_of(sel), i, n, err);
}

static enum err_code op_groups(struct source_select *sel, const struct label_names *names,
                               uint32_t *numbers, struct err *err)
{
    return select_groups(select_of(sel), names, numbers, err);
}

static struct labels op_labels(const struct source_select *sel, size_t i)
{
    return select_labels(select_of_const(sel), i);
}

static enum err_code op_read(struct source_select *sel, size_t i, int64_t mint_ms, int64_t maxt_ms,
                             struct samples *out, struct err *err)
{
    size_t n_before = out->n;
    enum err_code rc = select_read(select_of(sel), i, mint_ms, maxt_ms, out, err);
    return rc ? rc : samples_take_start_times(out, n_before, err);
}

static struct select_reader *reader_of(struct source_reader *reader)
{
    return (struct select_reader *)(void *)reader;
}

static enum err_code op_reader_new(struct source_select *sel, struct source_reader **out,
                                   struct err *err)
{
    struct select_reader *reader = NULL;
    enum err_code rc = select_reader_new(select_of(sel), &reader, err);
    *out = (struct source_reader *)(void *)reader;
    return rc;
}

static void op_reader_free(struct source_reader *reader)
{
    select_reader_free(reader_of(reader));
}

static enum err_code op_reader_samples(struct source_reader *reader, size_t i, int64_t mint_ms,
                                       int64_t maxt_ms, struct samples *out, struct err *err)
{
    size_t n_before = out->n;
    enum err_code rc = select_reader_samples(reader_of(reader), i, mint_ms, maxt_ms, out, err);
    return rc ? rc : samples_take_start_times(out, n_before, err);
}

static enum err_code op_reader_floats(struct source_reader *reader, size_t i, int64_t mint_ms,
                                      int64_t maxt_ms, struct float_column *out, bool *plain,
                                      struct err *err)
{
    return select_reader_floats(reader_of(reader), i, mint_ms, maxt_ms, out, plain, err);
}

static enum err_code op_reader_newest(struct source_reader *reader, size_t i, int64_t mint_ms,
                                      int64_t maxt_ms, bool want_value, struct newest_sample *out,
                                      struct err *err)
{
    return select_reader_newest(reader_of(reader), i, mint_ms, maxt_ms, want_value, out, err);
}

static enum err_code op_reader_ends(struct source_reader *reader, size_t i, int64_t mint_ms,
                                    int64_t maxt_ms, bool rises, struct float_column *out,
                                    bool *known, struct err *err)
{
    return select_reader_ends(reader_of(reader), i, mint_ms, maxt_ms, rises, out, known, err);
}

static void op_release(struct source_select *sel)
{
    select_release(select_of(sel));
}

static enum err_code op_estimate(struct query_source *src, const struct matcher *matchers,
                                 size_t n_matchers, int64_t mint_ms, int64_t maxt_ms,
                                 uint64_t *series, uint64_t *samples, struct err *err)
{
    struct tenant_estimate found;
    enum err_code rc =
        tenant_estimate(tenant_of(src), matchers, n_matchers, mint_ms, maxt_ms, &found, err);
    *series = found.series;
    *samples = found.samples;
    return rc;
}

static void op_settle(struct query_source *src, int64_t until_ms, uint64_t *identity,
                      uint64_t *number)
{
    *identity = tenant_identity(tenant_of(src));
    *number = tenant_settle(tenant_of(src), until_ms);
}

static int64_t op_changed_since(struct query_source *src, uint64_t number)
{
    return tenant_changed_since(tenant_of(src), number);
}

static enum err_code op_label_names(struct query_source *src, const struct matcher *matchers,
                                    size_t n_matchers, int64_t mint_ms, int64_t maxt_ms,
                                    const struct label_want *want, struct arena *arena,
                                    struct str **out, size_t *n, bool *truncated, struct err *err)
{
    return tenant_label_names(tenant_of(src), matchers, n_matchers, mint_ms, maxt_ms, want, arena,
                              out, n, truncated, err);
}

static enum err_code op_label_values(struct query_source *src, struct str name,
                                     const struct matcher *matchers, size_t n_matchers,
                                     int64_t mint_ms, int64_t maxt_ms,
                                     const struct label_want *want, struct arena *arena,
                                     struct str **out, size_t *n, bool *truncated, struct err *err)
{
    return tenant_label_values(tenant_of(src), name, matchers, n_matchers, mint_ms, maxt_ms, want,
                               arena, out, n, truncated, err);
}

static enum err_code op_metadata(struct query_source *src, struct str family, struct arena *arena,
                                 struct source_metadata **out, size_t *n, struct err *err)
{
    struct catalog_metadata *items;
    enum err_code rc = tenant_metadata(tenant_of(src), family, arena, &items, n, err);
    if (rc) return rc;
    *out = ARENA_ARRAY(arena, struct source_metadata, *n);
    if (!*out) return arena_fail(arena, err);
    for (size_t i = 0; i < *n; i++)
        (*out)[i] =
            (struct source_metadata){items[i].family, items[i].type, items[i].unit, items[i].help};
    return ERR_OK;
}

static enum err_code op_exemplars(struct query_source *src, const struct matcher_set *sets,
                                  size_t n_sets, int64_t mint_ms, int64_t maxt_ms,
                                  struct arena *arena, struct series_exemplars **out, size_t *n,
                                  struct err *err)
{
    return tenant_exemplars(tenant_of(src), sets, n_sets, mint_ms, maxt_ms, arena, out, n, err);
}

static enum err_code op_warnings(struct query_source *src, int64_t mint_ms, int64_t maxt_ms,
                                 struct arena *arena, struct str **out, size_t *n, struct err *err)
{
    struct engine_damage *missing;
    enum err_code rc = tenant_missing(tenant_of(src), mint_ms, maxt_ms, arena, &missing, n, err);
    if (rc || *n == 0) return rc;
    *out = ARENA_ARRAY(arena, struct str, *n);
    if (!*out) return arena_fail(arena, err);
    for (size_t i = 0; i < *n; i++) {
        (*out)[i] = arena_printf(arena,
                                 "samples are missing: block %s (%lld to %lld) is damaged and left "
                                 "out of this answer",
                                 missing[i].info.ulid.text, (long long)missing[i].info.t_min_ms,
                                 (long long)missing[i].info.t_max_ms);
        if (!(*out)[i].p) return arena_fail(arena, err);
    }
    return ERR_OK;
}

static const struct query_source_ops ops = {.select = op_select,
                                            .count = op_count,
                                            .labels = op_labels,
                                            .read = op_read,
                                            .release = op_release,
                                            .spell = op_spell,
                                            .groups = op_groups,
                                            .reader_new = op_reader_new,
                                            .reader_free = op_reader_free,
                                            .reader_samples = op_reader_samples,
                                            .reader_floats = op_reader_floats,
                                            .estimate = op_estimate,
                                            .settle = op_settle,
                                            .changed_since = op_changed_since,
                                            .reader_newest = op_reader_newest,
                                            .reader_ends = op_reader_ends,
                                            .label_names = op_label_names,
                                            .label_values = op_label_values,
                                            .warnings = op_warnings,
                                            .exemplars = op_exemplars,
                                            .metadata = op_metadata};

void source_engine_init(struct source_engine *src, struct tenant *tenant)
{
    *src = (struct source_engine){.source = {.ops = &ops}, .tenant = tenant};
}
