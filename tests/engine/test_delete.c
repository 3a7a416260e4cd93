/* tests/engine/test_delete.c: what is deleted is gone from every answer, whatever happens to head, blocks and log
 * meanwhile, and nothing else is; a tenant that is deleted never returns. */
#include <pthread.h>
#include <unistd.h>

#include "engine/tenant.h"
#include "tests/engine/fixture.h"

#define HOUR INT64_C(3600000)
#define MINUTE INT64_C(60000)

/* ---- regular expressions for tests: "abc.*" ---- */

struct prefix_re {
    char text[32];
    size_t len;
};

static bool prefix_match(const void *re, struct str text)
{
    const struct prefix_re *p = re;
    return text.len >= p->len && memcmp(text.p, p->text, p->len) == 0;
}

static enum err_code prefix_compile(struct matcher *m, void **owned, struct err *err)
{
    if (!str_has_suffix(m->value, STR(".*")) ||
        m->value.len > sizeof(((struct prefix_re *)0)->text))
        return err_set(err, ERR_INVALID, "not for this test: %.*s", STR_ARG(m->value));
    struct prefix_re *p = mem_calloc(MEM_BASE, 1, sizeof(*p));
    CHECK(p != NULL);
    p->len = m->value.len - 2;
    memcpy(p->text, m->value.p, p->len);
    m->re = *owned = p;
    m->re_match = prefix_match;
    m->n_literals = 0;
    m->prefix = STR("");
    return ERR_OK;
}

static void prefix_free(void *owned)
{
    mem_free(owned);
}

static void delete_init(struct fixture *f)
{
    fixture_init(f);
    f->config.regex = (struct engine_regex){prefix_compile, prefix_free};
}

static void delete_open(struct fixture *f)
{
    delete_init(f);
    CHECK_OK(engine_open(&f->env, &f->config, &f->engine, &f->err), &f->err);
}

/* ---- small helpers ---- */

static struct matcher eq(const char *name, const char *value)
{
    return (struct matcher){.op = MATCH_EQ, .name = str_of(name), .value = str_of(value)};
}

static void delete_one(struct fixture *f, struct tenant *t, struct matcher m, int64_t mint_ms,
                       int64_t maxt_ms)
{
    struct matcher_set set = {&m, 1};
    CHECK_OK(tenant_delete(t, &set, 1, mint_ms, maxt_ms, &f->err), &f->err);
}

static void flush(struct fixture *f)
{
    CHECK_OK(engine_flush(f->engine, NULL, &f->err), &f->err);
}

static struct engine_clean_report clean(struct fixture *f, struct tenant *t)
{
    struct engine_clean_report report;
    CHECK_OK(engine_clean_tombstones(f->engine, t, &report, &f->err), &f->err);
    return report;
}

struct count {
    size_t series, samples;
};
static struct count count_all(struct fixture *f, struct tenant *t)
{
    struct engine_select *sel;
    struct samples s;
    struct count n = {0};
    CHECK_OK(tenant_select(t, NULL, 0, INT64_MIN, INT64_MAX, &sel, &f->err), &f->err);
    n.series = select_count(sel);
    samples_init(&s, MEM_QUERY, NULL);
    for (size_t i = 0; i < n.series; i++) {
        samples_reset(&s);
        CHECK_OK(select_read(sel, i, INT64_MIN, INT64_MAX, &s, &f->err), &f->err);
        n.samples += s.n;
    }
    samples_release(&s);
    select_release(sel);
    return n;
}

static size_t count_values(struct fixture *f, struct tenant *t, const char *name)
{
    struct label_want want = {.search = STR("")};
    struct arena arena;
    struct str *items;
    size_t n;
    bool truncated;
    arena_init(&arena, MEM_QUERY, 0);
    CHECK_OK(tenant_label_values(t, str_of(name), NULL, 0, INT64_MIN, INT64_MAX, &want, &arena,
                                 &items, &n, &truncated, &f->err),
             &f->err);
    arena_release(&arena);
    return n;
}

static uint64_t block_bytes(struct tenant *t)
{
    struct tenant_stats stats;
    tenant_stats(t, &stats);
    return stats.block_bytes;
}

/* ---- series ---- */

static void test_gone_at_once(void **state)
{
    (void)state;
    struct fixture f;
    delete_open(&f);
    struct tenant *t = fixture_tenant(&f, "default");
    for (int i = 1; i <= 3; i++)
        for (int k = 0; k < 10; k++) write_one(&f, t, i, NOW_MS - k * MINUTE, k);
    flush(&f);
    for (int i = 1; i <= 3; i++) write_one(&f, t, i, NOW_MS - 20 * MINUTE, 1); /* late */
    delete_one(&f, t, eq("i", "2"), INT64_MIN, INT64_MAX);
    struct count n = count_all(&f, t);
    CHECK_U64(n.series, 2);
    CHECK_U64(n.samples, 22);
    CHECK_U64(count_values(&f, t, "i"), 2);
    write_one(&f, t, 2, NOW_MS - 5 * MINUTE, 5); /* late, of the deleted time */
    CHECK_U64(count_all(&f, t).samples, 22);
    CHECK_U64(count_values(&f, t, "i"), 2);
    /* What comes after the delete is new. */
    clock_fake_advance(&f.clock, MINUTE);
    write_one(&f, t, 2, NOW_MS + 1, 6);
    CHECK_U64(count_all(&f, t).samples, 23);
    CHECK_U64(count_values(&f, t, "i"), 3);
    for (int i = 0; i < 2; i++) {
        fixture_reopen(&f, i == 1);
        t = fixture_tenant(&f, "default");
        CHECK_U64(count_all(&f, t).samples, 23);
        CHECK_U64(count_values(&f, t, "i"), 3);
    }
    fixture_close(&f);
}

static void test_part_of_the_time(void **state)
{
    (void)state;
    struct fixture f;
    delete_open(&f);
    struct tenant *t = fixture_tenant(&f, "default");
    for (int k = 0; k < 100; k++) write_one(&f, t, 1, NOW_MS - k * MINUTE, k);
    struct matcher m = eq("i", "1");
    struct matcher_set sets[] = {{&m, 1},
                                 {NULL, 0}}; /* the second has the first's series as well */
    struct tenant_delete_preview preview;
    CHECK_OK(tenant_delete_preview(t, sets, 2, NOW_MS - 60 * MINUTE, NOW_MS - 40 * MINUTE, &preview,
                                   &f.err),
             &f.err);
    CHECK_U64(preview.series, 1);
    CHECK_U64(preview.samples, 21);
    CHECK_U64(count_all(&f, t).samples, 100);
    CHECK_OK(tenant_delete(t, sets, 2, NOW_MS - 60 * MINUTE, NOW_MS - 40 * MINUTE, &f.err), &f.err);
    CHECK_U64(count_all(&f, t).samples, 79);
    /* A select within the hole has no series. */
    struct engine_select *sel;
    CHECK_OK(tenant_select(t, NULL, 0, NOW_MS - 50 * MINUTE, NOW_MS - 45 * MINUTE, &sel, &f.err),
             &f.err);
    CHECK_U64(select_count(sel), 0);
    select_release(sel);
    flush(&f);
    CHECK_U64(count_all(&f, t).samples, 79);
    CHECK_U64(clean(&f, t).tombstones, 2);
    CHECK_U64(count_all(&f, t).samples, 79);
    write_one(&f, t, 1, NOW_MS - 50 * MINUTE, 1); /* may be imported anew */
    CHECK_U64(count_all(&f, t).samples, 80);
    fixture_close(&f);
}

/* Empty ranges, repeated deletes. */
static void test_no_ops(void **state)
{
    (void)state;
    struct fixture f;
    struct tombstone_stats stats;
    delete_open(&f);
    struct tenant *t = fixture_tenant(&f, "default");
    write_one(&f, t, 1, NOW_MS, 1);
    delete_one(&f, t, eq("i", "1"), 5, 4);
    delete_one(&f, t, eq("i", "1"), NOW_MS + 1, INT64_MAX); /* nothing is later than now */
    tenant_tombstone_stats(t, &stats);
    CHECK_U64(stats.tombstones, 0);
    CHECK_U64(count_all(&f, t).samples, 1);
    delete_one(&f, t, eq("i", "2"), 0, 100);
    delete_one(&f, t, eq("i", "2"), 0, 100);
    delete_one(&f, t, eq("i", "2"), 10, 20);
    tenant_tombstone_stats(t, &stats);
    CHECK_U64(stats.tombstones, 1);
    CHECK_U64(clean(&f, NULL).tombstones, 1);
    CHECK_U64(clean(&f, NULL).tombstones, 0);
    static struct matcher_set sets[10001]; /* one more than are kept */
    CHECK_ERR(tenant_delete(t, sets, COUNT_OF(sets), 0, 100, &f.err), ERR_LIMIT);
    tenant_tombstone_stats(t, &stats);
    CHECK_U64(stats.tombstones, 0);
    fixture_close(&f);
}

static void test_bytes_are_freed(void **state)
{
    (void)state;
    struct fixture f;
    struct tombstone_stats stats;
    delete_open(&f);
    struct tenant *t = fixture_tenant(&f, "default");
    for (int i = 1; i <= 20; i++)
        for (int k = 0; k < 20; k++) write_one(&f, t, i, NOW_MS - k * MINUTE - 6 * HOUR, i * k);
    flush(&f);
    for (int i = 1; i <= 20; i++) write_one(&f, t, i, NOW_MS - i, i);
    flush(&f);
    uint64_t before = block_bytes(t);
    struct matcher re = {.op = MATCH_RE, .name = STR("i"), .value = STR("1.*")};
    delete_one(&f, t, re, INT64_MIN, NOW_MS - HOUR);
    CHECK_U64(count_all(&f, t).samples, 9 * 20 + 20);
    CHECK_OK(engine_step(f.engine, &f.err), &f.err); /* finds, and waits */
    tenant_tombstone_stats(t, &stats);
    CHECK_U64(stats.blocks_pending, 2);
    CHECK(stats.bytes_pending > 0 && stats.bytes_pending < before);
    for (int i = 0; i < 4; i++) {
        clock_fake_advance(&f.clock, 10 * MINUTE);
        CHECK_OK(engine_step(f.engine, &f.err), &f.err);
    }
    tenant_tombstone_stats(t, &stats);
    CHECK_U64(stats.blocks_pending, 0);
    CHECK_U64(stats.tombstones, 1);
    CHECK(block_bytes(t) < before);
    CHECK_U64(count_all(&f, t).samples, 9 * 20 + 20);
    struct tenant_stats tenant;
    tenant_stats(t, &tenant);
    CHECK_U64(tenant.block_samples, 9 * 20 + 20);
    CHECK_U64(clean(&f, t).blocks, 0);
    fixture_close(&f);
}

/* A clock that is years ahead when something is deleted does not delete what comes when it is right again. */
static void test_clock_ahead(void **state)
{
    (void)state;
    struct fixture f;
    delete_open(&f);
    struct tenant *t = fixture_tenant(&f, "default");
    write_one(&f, t, 1, NOW_MS - HOUR, 1);
    write_one(&f, t, 1, NOW_MS - 1, 1);
    f.clock.wall_ms += 20000 * HOUR;
    delete_one(&f, t, eq("i", "1"), INT64_MIN, INT64_MAX);
    CHECK_U64(count_all(&f, t).series, 0);
    f.clock.wall_ms = NOW_MS + HOUR;
    write_one(&f, t, 1, NOW_MS + HOUR, 2);
    CHECK_U64(count_all(&f, t).samples, 1);
    fixture_close(&f);
}

static bool find_block(void *ctx, const char *name, bool is_dir)
{
    (void)is_dir;
    if (str_has_suffix(str_of(name), STR(".block"))) snprintf(ctx, 64, "%s", name);
    return true;
}

/* A block that is missing now may be back one day: what is deleted of it is not forgotten. */
static void test_left_out_block(void **state)
{
    (void)state;
    struct fixture f;
    struct engine_clean_report report;
    char name[64] = "", dir[300], path[400], away[400];
    delete_open(&f);
    struct tenant *t = fixture_tenant(&f, "default");
    write_one(&f, t, 1, NOW_MS - HOUR, 1);
    write_one(&f, t, 2, NOW_MS - HOUR, 2);
    CHECK_OK(engine_close(f.engine, true, &f.err), &f.err);
    snprintf(dir, sizeof(dir), "%s/tenants/default/blocks", f.dir);
    CHECK_OK(io_list(f.env.io, dir, find_block, name, &f.err), &f.err);
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    snprintf(away, sizeof(away), "%s/away", f.dir);
    CHECK(name[0] && rename(path, away) == 0);
    CHECK_OK(engine_open(&f.env, &f.config, &f.engine, &f.err), &f.err);
    t = fixture_tenant(&f, "default");
    CHECK_U64(count_all(&f, t).series, 0);
    delete_one(&f, t, eq("i", "1"), INT64_MIN, INT64_MAX);
    CHECK_ERR(engine_clean_tombstones(f.engine, t, &report, &f.err), ERR_CORRUPT);
    CHECK_OK(engine_close(f.engine, false, &f.err), &f.err);
    CHECK(rename(away, path) == 0);
    CHECK_OK(engine_open(&f.env, &f.config, &f.engine, &f.err), &f.err);
    t = fixture_tenant(&f, "default");
    CHECK_U64(count_all(&f, t).series, 1);
    CHECK_U64(clean(&f, t).blocks, 1);
    CHECK_U64(count_all(&f, t).series, 1);
    fixture_close(&f);
}

/* A program without regular expressions must not open what it cannot hide. */
static void test_without_regex(void **state)
{
    (void)state;
    struct fixture f;
    delete_open(&f);
    struct tenant *t = fixture_tenant(&f, "default");
    write_one(&f, t, 1, NOW_MS, 1);
    struct matcher re = {.op = MATCH_NRE, .name = STR("i"), .value = STR("7.*")};
    delete_one(&f, t, re, INT64_MIN, INT64_MAX);
    CHECK_U64(count_all(&f, t).series, 0);
    CHECK_OK(engine_close(f.engine, false, &f.err), &f.err);
    struct engine_regex regex = f.config.regex;
    f.config.regex = (struct engine_regex){NULL, NULL};
    CHECK_ERR(engine_open(&f.env, &f.config, &f.engine, &f.err), ERR_UNSUPPORTED);
    f.config.regex = regex;
    CHECK_OK(engine_open(&f.env, &f.config, &f.engine, &f.err), &f.err);
    CHECK_U64(count_all(&f, fixture_tenant(&f, "default")).series, 0);
    fixture_close(&f);
}

static void test_retention_forgets(void **state)
{
    (void)state;
    struct fixture f;
    struct tombstone_stats stats;
    delete_init(&f);
    f.config.retention_ms = 24 * HOUR;
    CHECK_OK(engine_open(&f.env, &f.config, &f.engine, &f.err), &f.err);
    struct tenant *t = fixture_tenant(&f, "default");
    write_one(&f, t, 1, NOW_MS - HOUR, 1);
    write_one(&f, t, 2, NOW_MS - HOUR, 1);
    delete_one(&f, t, eq("i", "1"), INT64_MIN, INT64_MAX);
    flush(&f);
    for (int i = 0; i < 20; i++) {
        clock_fake_advance(&f.clock, HOUR);
        CHECK_OK(engine_step(f.engine, &f.err), &f.err);
    }
    tenant_tombstone_stats(t, &stats);
    CHECK_U64(stats.tombstones, 1);
    for (int i = 0; i < 8; i++) {
        clock_fake_advance(&f.clock, HOUR);
        CHECK_OK(engine_step(f.engine, &f.err), &f.err);
    }
    tenant_tombstone_stats(t, &stats);
    CHECK_U64(stats.tombstones, 0);
    CHECK_U64(count_all(&f, t).series, 0);
    fixture_close(&f);
}

/* ---- any order of anything, against a model ---- */

#define SERIES 12
#define CELLS 2400
#define BASE_MS (NOW_MS - 30 * HOUR)

struct model_delete {
    int kind;
    char value[8];
    int64_t mint_ms, maxt_ms;
};
struct model {
    bool there[SERIES][CELLS];
    double v[SERIES][CELLS];
    struct model_delete deletes[64];
    size_t n_deletes;
};

static void labels_of(int i, char name[8], char host[8])
{
    snprintf(name, 8, "m%d", i % 3);
    snprintf(host, 8, "%d", i);
}

static bool kind_matches(const struct model_delete *d, int i)
{
    char name[8], host[8];
    labels_of(i, name, host);
    switch (d->kind) {
    case 0: return strcmp(host, d->value) == 0;
    case 1: return strcmp(name, d->value) == 0;
    case 2: return strcmp(host, d->value) != 0;
    case 3: return strncmp(host, d->value, strlen(d->value) - 2) == 0;
    default: return true;
    }
}

static int64_t cell_ms(int k)
{
    return BASE_MS + k * MINUTE;
}

static bool visible(const struct model *m, int i, int k)
{
    if (!m->there[i][k]) return false;
    for (size_t d = 0; d < m->n_deletes; d++)
        if (cell_ms(k) >= m->deletes[d].mint_ms && cell_ms(k) <= m->deletes[d].maxt_ms &&
            kind_matches(&m->deletes[d], i))
            return false;
    return true;
}

static struct series *model_series_of(struct fixture *f, struct tenant *t, int i)
{
    char name[8], host[8];
    struct series *s;
    labels_of(i, name, host);
    struct label items[] = {{STR(LABEL_NAME), str_of(name)}, {STR("host"), str_of(host)}};
    CHECK_OK(
        tenant_add_series(t, (struct labels){items, 2}, 0, bytes_of(NULL, 0), NULL, &s, &f->err),
        &f->err);
    return s;
}

static int newest_cell(struct fixture *f)
{
    return (int)((f->clock.wall_ms - BASE_MS) / MINUTE);
}

static void op_write(struct fixture *f, struct tenant *t, struct model *m, struct rng *rng)
{
    struct series *series[40];
    int64_t t_ms[40];
    double v[40];
    struct done done = {0, ERR_OK};
    struct write_batch b = {.series = series, .t_ms = t_ms, .v = v};
    struct write_result result;
    int newest = newest_cell(f);
    int base = rng_chance(rng, 0.6) ? newest : (int)rng_below(rng, (uint64_t)newest + 1);
    tenant_write_begin(t);
    for (b.n = 0; b.n < 40; b.n++) {
        int i = (int)rng_below(rng, SERIES), k = base - (int)rng_below(rng, 30);
        k = MAX_OF(k, 0);
        series[b.n] = model_series_of(f, t, i);
        t_ms[b.n] = cell_ms(k);
        m->v[i][k] = v[b.n] = (double)rng_below(rng, 1000);
        m->there[i][k] = true;
    }
    CHECK_OK(tenant_write(t, &b, note_done, &done, &result, &f->err), &f->err);
    tenant_write_end(t);
    CHECK_OK(engine_commit(f->engine, &f->err), &f->err);
    CHECK_OK(done.rc, &f->err);
}

static void op_delete(struct fixture *f, struct tenant *t, struct model *m, struct rng *rng)
{
    if (m->n_deletes == COUNT_OF(m->deletes)) return;
    struct model_delete *d = &m->deletes[m->n_deletes++];
    d->kind = (int)rng_below(rng, rng_chance(rng, 0.1) ? 5 : 4);
    snprintf(d->value, sizeof(d->value), d->kind == 1 ? "m%d" : "%d",
             (int)rng_below(rng, d->kind == 1 ? 3 : SERIES));
    if (d->kind == 3) snprintf(d->value, sizeof(d->value), "1.*");
    int64_t a = cell_ms((int)rng_below(rng, (uint64_t)newest_cell(f) + 10));
    d->mint_ms = rng_chance(rng, 0.3) ? INT64_MIN : a - rng_below(rng, 2);
    d->maxt_ms = rng_chance(rng, 0.3) ? INT64_MAX : a + (int64_t)rng_below(rng, 600) * MINUTE;
    if (d->kind == 2) d->maxt_ms = MIN_OF(d->maxt_ms, a + HOUR);
    struct matcher matcher = {.op = d->kind == 2   ? MATCH_NEQ
                                    : d->kind == 3 ? MATCH_RE
                                                   : MATCH_EQ,
                              .name = d->kind == 1 ? STR(LABEL_NAME) : STR("host"),
                              .value = str_of(d->value)};
    struct matcher_set set = {&matcher, d->kind < 4};
    int64_t until_ms = tenant_delete_until(t);
    CHECK(until_ms <= f->clock.wall_ms);
    CHECK_OK(tenant_delete(t, &set, 1, d->mint_ms, d->maxt_ms, &f->err), &f->err);
    d->maxt_ms = MIN_OF(d->maxt_ms, until_ms);
}

static void op_clean(struct fixture *f, struct tenant *t, struct model *m)
{
    (void)clean(f, t);
    for (int i = 0; i < SERIES; i++)
        for (int k = 0; k < CELLS; k++) m->there[i][k] = visible(m, i, k);
    m->n_deletes = 0;
}

static int series_number(struct labels labels)
{
    char host[8] = {0};
    struct str text = labels_get(labels, STR("host"));
    CHECK(text.len > 0 && text.len < sizeof(host));
    memcpy(host, text.p, text.len);
    return atoi(host);
}

static void check_samples(const struct model *m, int i, const struct samples *s, int64_t mint_ms,
                          int64_t maxt_ms)
{
    size_t n = 0;
    for (int k = 0; k < CELLS; k++) {
        if (cell_ms(k) < mint_ms || cell_ms(k) > maxt_ms || !visible(m, i, k)) continue;
        CHECK(n < s->n);
        CHECK_I64(s->t_ms[n], cell_ms(k));
        CHECK_SAME_DOUBLE(s->v[n], m->v[i][k]);
        n++;
    }
    CHECK_U64(s->n, n);
}

static bool any_visible(const struct model *m, int i, int64_t mint_ms, int64_t maxt_ms)
{
    for (int k = 0; k < CELLS; k++)
        if (cell_ms(k) >= mint_ms && cell_ms(k) <= maxt_ms && visible(m, i, k)) return true;
    return false;
}

static void check_select(struct fixture *f, struct tenant *t, const struct model *m,
                         int64_t mint_ms, int64_t maxt_ms)
{
    struct engine_select *sel;
    struct samples s;
    bool seen[SERIES] = {false}, whole = mint_ms == INT64_MIN && maxt_ms == INT64_MAX;
    CHECK_OK(tenant_select(t, NULL, 0, mint_ms, maxt_ms, &sel, &f->err), &f->err);
    samples_init(&s, MEM_QUERY, NULL);
    struct select_reader *reader;
    CHECK_OK(select_reader_new(sel, &reader, &f->err), &f->err);
    for (size_t k = 0; k < select_count(sel); k++) {
        int i = series_number(select_labels(sel, k));
        CHECK(!seen[i]);
        seen[i] = true;
        samples_reset(&s);
        CHECK_OK(select_read(sel, k, mint_ms, maxt_ms, &s, &f->err), &f->err);
        check_samples(m, i, &s, mint_ms, maxt_ms);
        if (whole) CHECK(s.n > 0);
        struct float_column column;
        bool plain;
        CHECK_OK(select_reader_floats(reader, k, mint_ms, maxt_ms, &column, &plain, &f->err),
                 &f->err);
        if (!plain) continue;
        CHECK_U64(column.n, s.n);
        if (s.n) CHECK(memcmp(column.t_ms, s.t_ms, s.n * sizeof(*s.t_ms)) == 0);
        if (s.n) CHECK(memcmp(column.v, s.v, s.n * sizeof(*s.v)) == 0);
    }
    select_reader_free(reader);
    for (int i = 0; i < SERIES; i++) CHECK(seen[i] || !any_visible(m, i, mint_ms, maxt_ms));
    samples_release(&s);
    select_release(sel);
}

static bool list_has(const struct str *items, size_t n, const char *text)
{
    for (size_t i = 0; i < n; i++)
        if (str_eq(items[i], str_of(text))) return true;
    return false;
}

/* Of a label, exactly the values of series that have samples. matched: of one metric. */
static void check_values(struct fixture *f, struct tenant *t, const struct model *m,
                         const char *label, bool matched)
{
    struct label_want want = {.search = STR("")};
    struct matcher by_name = eq(LABEL_NAME, "m1");
    struct arena arena;
    struct str *items;
    size_t n, n_want = 0;
    bool truncated, is_name = strcmp(label, LABEL_NAME) == 0;
    arena_init(&arena, MEM_QUERY, 0);
    CHECK_OK(tenant_label_values(t, str_of(label), &by_name, matched, INT64_MIN, INT64_MAX, &want,
                                 &arena, &items, &n, &truncated, &f->err),
             &f->err);
    bool counted[SERIES] = {false};
    for (int i = 0; i < SERIES; i++) {
        char name[8], host[8];
        labels_of(i, name, host);
        if (matched && strcmp(name, "m1") != 0) continue;
        if (!any_visible(m, i, INT64_MIN, INT64_MAX)) continue;
        if (!list_has(items, n, is_name ? name : host))
            test_fail(__FILE__, __LINE__, "%s of series %d is missing", label, i);
        if (is_name && counted[i % 3]) continue;
        counted[is_name ? i % 3 : i] = true;
        n_want++;
    }
    CHECK_U64(n, n_want);
    CHECK_OK(tenant_label_names(t, &by_name, matched, INT64_MIN, INT64_MAX, &want, &arena, &items,
                                &n, &truncated, &f->err),
             &f->err);
    CHECK_U64(n, n_want ? 2 : 0);
    arena_release(&arena);
}

static void op_check(struct fixture *f, struct tenant *t, const struct model *m, struct rng *rng)
{
    check_select(f, t, m, INT64_MIN, INT64_MAX);
    int64_t a = cell_ms((int)rng_below(rng, CELLS));
    check_select(f, t, m, a, a + (int64_t)rng_below(rng, 300) * MINUTE);
    check_values(f, t, m, "host", rng_chance(rng, 0.5));
    check_values(f, t, m, LABEL_NAME, false);
}

static void op_compact(struct fixture *f, struct tenant *t, struct rng *rng)
{
    struct engine_compact_options options = {.level = (uint32_t)rng_below(rng, 4)};
    struct engine_compact_report report;
    CHECK_OK(engine_compact(f->engine, t, &options, &report, &f->err), &f->err);
}

static void model_run(struct rng *rng)
{
    static struct model m;
    struct fixture f;
    m = (struct model){.n_deletes = 0};
    delete_open(&f);
    struct tenant *t = fixture_tenant(&f, "default");
    for (int i = 0; i < 120; i++) {
        uint64_t dice = rng_below(rng, 100);
        if (dice < 40)
            op_write(&f, t, &m, rng);
        else if (dice < 52)
            op_delete(&f, t, &m, rng);
        else if (dice < 62)
            flush(&f);
        else if (dice < 68)
            op_compact(&f, t, rng);
        else if (dice < 73) {
            fixture_reopen(&f, rng_chance(rng, 0.5));
            t = fixture_tenant(&f, "default");
        } else if (dice < 77)
            op_clean(&f, t, &m);
        else if (dice < 87) {
            if (newest_cell(&f) < CELLS - 40)
                clock_fake_advance(&f.clock, (int64_t)rng_below(rng, 20) * MINUTE);
            CHECK_OK(engine_step(f.engine, &f.err), &f.err);
        } else
            op_check(&f, t, &m, rng);
    }
    op_check(&f, t, &m, rng);
    op_clean(&f, t, &m);
    op_check(&f, t, &m, rng);
    fixture_reopen(&f, false);
    op_check(&f, fixture_tenant(&f, "default"), &m, rng);
    fixture_close(&f);
}

static void test_model(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 25)
    {
        model_run(&rng);
    }
}

/* ---- tenants ---- */

static struct tenant_delete_report delete_tenant(struct fixture *f, const char *name)
{
    struct tenant_delete_report report;
    CHECK_OK(engine_delete_tenant(f->engine, str_of(name), &report, &f->err), &f->err);
    return report;
}

static bool dir_is_there(struct fixture *f, const char *tenant)
{
    char path[512];
    snprintf(path, sizeof(path), "%s/tenants/%s", f->dir, tenant);
    return io_exists(f->env.io, path);
}

static void test_tenant_is_gone(void **state)
{
    (void)state;
    struct fixture f;
    struct tenant *t;
    delete_open(&f);
    t = fixture_tenant(&f, "a");
    struct tenant *b = fixture_tenant(&f, "b");
    write_one(&f, b, 1, NOW_MS, 1);
    for (int i = 1; i <= 5; i++) write_one(&f, t, i, NOW_MS, i);
    flush(&f);
    for (int i = 1; i <= 6; i++) write_one(&f, t, i, NOW_MS - 1, i);
    CHECK(dir_is_there(&f, "a"));
    struct tenant_delete_report r = delete_tenant(&f, "a");
    CHECK_U64(r.series, 6);
    CHECK_U64(r.samples, 11);
    CHECK_U64(r.blocks, 1);
    CHECK(r.bytes > 0);
    CHECK(!dir_is_there(&f, "a"));
    CHECK_ERR(engine_tenant(f.engine, STR("a"), false, &t, &f.err), ERR_NOT_FOUND);
    CHECK_ERR(engine_delete_tenant(f.engine, STR("a"), &r, &f.err), ERR_NOT_FOUND);
    for (int i = 0; i < 2; i++) {
        fixture_reopen(&f, false); /* the log has its records */
        CHECK_ERR(engine_tenant(f.engine, STR("a"), false, &t, &f.err), ERR_NOT_FOUND);
        CHECK_U64(count_all(&f, fixture_tenant(&f, "b")).samples, 1);
    }
    t = fixture_tenant(&f, "a");
    CHECK_U64(count_all(&f, t).series, 0);
    write_one(&f, t, 3, NOW_MS, 7);
    fixture_reopen(&f, true);
    t = fixture_tenant(&f, "a");
    CHECK_U64(count_all(&f, t).samples, 1);
    CHECK_U64(count_values(&f, t, "i"), 1);
    fixture_close(&f);
}

/* A reader keeps what it has; a writer that was under way is refused; the name is free at once. */
static void test_tenant_in_use(void **state)
{
    (void)state;
    struct fixture f;
    struct engine_select *sel;
    struct samples s;
    delete_open(&f);
    struct tenant *old = fixture_tenant(&f, "a");
    write_one(&f, old, 1, NOW_MS, 1);
    flush(&f);
    write_one(&f, old, 1, NOW_MS - 1, 1);
    write_one(&f, old, 2, NOW_MS - 1, 1);
    CHECK_OK(tenant_select(old, NULL, 0, INT64_MIN, INT64_MAX, &sel, &f.err), &f.err);
    (void)delete_tenant(&f, "a");
    CHECK_U64(select_count(sel), 2);
    for (int i = 0; i < 3; i++) CHECK_OK(engine_step(f.engine, &f.err), &f.err);
    samples_init(&s, MEM_QUERY, NULL);
    CHECK_OK(select_read(sel, 0, INT64_MIN, INT64_MAX, &s, &f.err), &f.err);
    CHECK_U64(s.n, 2);
    CHECK_STR(labels_get(select_labels(sel, 1), STR("i")), "2");
    samples_release(&s);
    int64_t t_ms = NOW_MS;
    double v = 5;
    struct done done = {0, ERR_OK};
    struct series *series = NULL;
    struct label items[] = {{STR(LABEL_NAME), STR("m")}};
    struct write_batch b = {.n = 1, .series = &series, .t_ms = &t_ms, .v = &v};
    struct write_result result;
    tenant_write_begin(old);
    CHECK_ERR(tenant_add_series(old, (struct labels){items, 1}, 0, bytes_of(NULL, 0), NULL, &series,
                                &f.err),
              ERR_SHUTDOWN);
    CHECK_ERR(tenant_write(old, &b, note_done, &done, &result, &f.err), ERR_SHUTDOWN);
    tenant_write_end(old);
    CHECK(done.n == 0);
    struct matcher m = eq("i", "1");
    struct matcher_set set = {&m, 1};
    CHECK_ERR(tenant_delete(old, &set, 1, 0, NOW_MS, &f.err), ERR_SHUTDOWN);
    struct tenant *t = fixture_tenant(&f, "a");
    CHECK(t != old);
    write_one(&f, t, 9, NOW_MS, 1);
    flush(&f);
    select_release(sel);
    for (int i = 0; i < 3; i++) CHECK_OK(engine_step(f.engine, &f.err), &f.err);
    CHECK_U64(count_all(&f, t).samples, 1);
    struct tenant_stats stats;
    tenant_stats(old, &stats);
    CHECK_U64(stats.series_active, 0);
    CHECK_U64(stats.head_samples, 0);
    CHECK_U64(stats.blocks, 0);
    fixture_reopen(&f, false);
    CHECK_U64(count_all(&f, fixture_tenant(&f, "a")).samples, 1);
    (void)delete_tenant(&f, "a");
    CHECK(!dir_is_there(&f, "a"));
    fixture_close(&f);
}

struct listed {
    char name[64]; /* the last one */
    int n;
};
static bool note_file(void *ctx, const char *name, bool is_dir)
{
    struct listed *l = ctx;
    l->n += !is_dir;
    if (!is_dir) snprintf(l->name, sizeof(l->name), "%s", name);
    return true;
}

static struct listed list_files(struct fixture *f, const char *dir)
{
    struct listed l = {.n = 0};
    CHECK_OK(io_list(f->env.io, dir, note_file, &l, &f->err), &f->err);
    return l;
}

/* A crash comes between the transaction and the end of the files; has_heir: the name is in use again by then. */
static void orphans(bool has_heir)
{
    struct fixture f;
    char blocks[300], kept[300], hindrance[300], from[400], to[400];
    delete_open(&f);
    struct tenant *t = fixture_tenant(&f, "a");
    write_one(&f, t, 1, NOW_MS, 1);
    flush(&f);
    snprintf(blocks, sizeof(blocks), "%s/tenants/a/blocks", f.dir);
    snprintf(hindrance, sizeof(hindrance), "%s/tenants/a/x", f.dir);
    snprintf(kept, sizeof(kept), "%s/kept", f.dir);
    CHECK(rename(blocks, kept) == 0);
    CHECK_OK(io_mkdir(f.env.io, hindrance, &f.err), &f.err);
    (void)delete_tenant(&f, "a");
    CHECK_OK(io_rmdir(f.env.io, hindrance, &f.err), &f.err);
    if (has_heir) {
        write_one(&f, fixture_tenant(&f, "a"), 2, NOW_MS, 1);
        flush(&f);
    }
    CHECK_OK(engine_close(f.engine, false, &f.err), &f.err);
    CHECK_OK(io_mkdir_all(f.env.io, blocks, &f.err), &f.err);
    struct listed l = list_files(&f, kept);
    CHECK(l.n == 1);
    snprintf(from, sizeof(from), "%s/%s", kept, l.name);
    snprintf(to, sizeof(to), "%s/%s", blocks, l.name);
    CHECK(rename(from, to) == 0);
    CHECK_OK(engine_open(&f.env, &f.config, &f.engine, &f.err), &f.err);
    CHECK(!io_exists(f.env.io, to));
    CHECK(dir_is_there(&f, "a") == has_heir);
    if (has_heir) CHECK(list_files(&f, blocks).n == 1);
    CHECK_U64(count_all(&f, fixture_tenant(&f, "a")).samples, has_heir);
    fixture_close(&f);
}

static void test_orphans(void **state)
{
    (void)state;
    orphans(false);
    orphans(true);
}

/* ---- all at once ---- */

#define ROUNDS 80
#define THREAD_SERIES 4

struct threads {
    struct fixture f;
    struct tenant *t;
    int64_t begin_ms;
    _Atomic int written; /* rounds */
    _Atomic bool over;
    /* A delete that covers it was begun, or was answered. */
    _Atomic bool begun[THREAD_SERIES][ROUNDS], gone[THREAD_SERIES][ROUNDS];
    _Atomic int n_deletes, n_cleans, n_tenants;
};

static int64_t round_ms(const struct threads *x, int i)
{
    return x->begin_ms + i * 30 * MINUTE;
}

static void *deleter(void *arg)
{
    struct threads *x = arg;
    struct rng rng;
    struct err err;
    rng_seed(&rng, 7);
    while (!atomic_load(&x->over)) {
        int known = atomic_load(&x->written);
        if (known < 5) continue;
        int k = (int)rng_below(&rng, THREAD_SERIES), a = (int)rng_below(&rng, (uint64_t)known);
        int b = MIN_OF(a + 2, known - 1);
        char text[8];
        snprintf(text, sizeof(text), "%d", k);
        struct matcher m = eq("i", text);
        struct matcher_set set = {&m, 1};
        for (int i = a; i <= b; i++) atomic_store(&x->begun[k][i], true);
        CHECK_OK(tenant_delete(x->t, &set, 1, round_ms(x, a), round_ms(x, b), &err), &err);
        for (int i = a; i <= b; i++) atomic_store(&x->gone[k][i], true);
        atomic_fetch_add(&x->n_deletes, 1);
        usleep(3000);
    }
    return NULL;
}

static void *cleaner(void *arg)
{
    struct threads *x = arg;
    struct err err;
    for (uint32_t i = 0; !atomic_load(&x->over); i++) {
        struct engine_compact_options options = {.level = i % 4};
        struct engine_compact_report compacted;
        struct engine_clean_report report;
        CHECK_OK(engine_clean_tombstones(x->f.engine, i % 2 ? x->t : NULL, &report, &err), &err);
        atomic_fetch_add(&x->n_cleans, report.tombstones > 0);
        CHECK_OK(engine_compact(x->f.engine, x->t, &options, &compacted, &err), &err);
        usleep(20000);
    }
    return NULL;
}

static void check_rounds(struct threads *x, int k, const struct samples *s, int known,
                         const bool gone[ROUNDS])
{
    size_t at = 0;
    for (int i = 0; i < known; i++) {
        while (at < s->n && s->t_ms[at] < round_ms(x, i)) at++;
        bool there = at < s->n && s->t_ms[at] == round_ms(x, i);
        if (there) CHECK(!gone[i] && s->v[at] == (double)i);
        if (!there) CHECK(atomic_load(&x->begun[k][i]));
    }
}

static void *reader(void *arg)
{
    struct threads *x = arg;
    struct err err;
    bool gone[THREAD_SERIES][ROUNDS];
    while (!atomic_load(&x->over)) {
        struct engine_select *sel;
        int known = atomic_load(&x->written);
        for (int k = 0; k < THREAD_SERIES; k++)
            for (int i = 0; i < ROUNDS; i++) gone[k][i] = atomic_load(&x->gone[k][i]);
        CHECK_OK(tenant_select(x->t, NULL, 0, INT64_MIN, INT64_MAX, &sel, &err), &err);
        for (size_t i = 0; i < select_count(sel); i++) {
            struct samples s;
            int k = labels_get(select_labels(sel, i), STR("i")).p[0] - '0';
            samples_init(&s, MEM_QUERY, NULL);
            CHECK_OK(select_read(sel, i, INT64_MIN, INT64_MAX, &s, &err), &err);
            check_rounds(x, k, &s, known, gone[k]);
            samples_release(&s);
        }
        select_release(sel);
    }
    return NULL;
}

/* Tenants of one name that come and go; each sees its own sample alone. */
static void *remover(void *arg)
{
    struct threads *x = arg;
    struct err err;
    for (int n = 0; !atomic_load(&x->over); n++) {
        struct tenant *t;
        struct series *s;
        struct label items[] = {{STR(LABEL_NAME), STR("m")}};
        struct write_result result;
        struct engine_select *sel;
        struct tenant_delete_report report;
        int64_t t_ms = x->begin_ms;
        double v = n;
        CHECK_OK(engine_tenant(x->f.engine, STR("x"), true, &t, &err), &err);
        tenant_write_begin(t);
        CHECK_OK(
            tenant_add_series(t, (struct labels){items, 1}, 0, bytes_of(NULL, 0), NULL, &s, &err),
            &err);
        struct write_batch b = {.n = 1, .series = &s, .t_ms = &t_ms, .v = &v};
        CHECK_OK(tenant_write(t, &b, NULL, NULL, &result, &err), &err);
        tenant_write_end(t);
        if (n % 2) CHECK_OK(engine_flush(x->f.engine, t, &err), &err);
        CHECK_OK(tenant_select(t, NULL, 0, INT64_MIN, INT64_MAX, &sel, &err), &err);
        CHECK_OK(engine_delete_tenant(x->f.engine, STR("x"), &report, &err), &err);
        CHECK_U64(report.series, 1);
        struct samples samples;
        samples_init(&samples, MEM_QUERY, NULL);
        CHECK_OK(select_read(sel, 0, INT64_MIN, INT64_MAX, &samples, &err), &err);
        CHECK(samples.n == 1 && samples.v[0] == v);
        samples_release(&samples);
        select_release(sel);
        atomic_fetch_add(&x->n_tenants, 1);
        usleep(5000);
    }
    return NULL;
}

static void write_round(struct threads *x, int i)
{
    struct done done = {0, ERR_OK};
    struct series *series[THREAD_SERIES];
    int64_t t_ms[THREAD_SERIES];
    double v[THREAD_SERIES];
    tenant_write_begin(x->t);
    for (int k = 0; k < THREAD_SERIES; k++) {
        series[k] = fixture_series(&x->f, x->t, k);
        t_ms[k] = round_ms(x, i);
        v[k] = i;
    }
    struct write_batch b = {.n = THREAD_SERIES, .series = series, .t_ms = t_ms, .v = v};
    struct write_result result;
    CHECK_OK(tenant_write(x->t, &b, note_done, &done, &result, &x->f.err), &x->f.err);
    tenant_write_end(x->t);
    CHECK_OK(engine_commit(x->f.engine, &x->f.err), &x->f.err);
    atomic_store(&x->written, i + 1);
    if (i % 4 == 3) CHECK_OK(engine_flush(x->f.engine, x->t, &x->f.err), &x->f.err);
}

static void test_threads(void **state)
{
    (void)state;
    static struct threads x;
    void *(*const mains[])(void *) = {deleter, cleaner, reader, remover};
    pthread_t threads[COUNT_OF(mains)];
    memset(&x, 0, sizeof(x));
    delete_init(&x.f);
    x.f.env.clock = clock_system();
    x.f.env.threads = true;
    x.f.config.delete_rest_ms = 0;
    CHECK_OK(engine_open(&x.f.env, &x.f.config, &x.f.engine, &x.f.err), &x.f.err);
    x.t = fixture_tenant(&x.f, "default");
    x.begin_ms = clock_wall_ms(clock_system()) - ROUNDS * HOUR;
    for (size_t i = 0; i < COUNT_OF(mains); i++)
        CHECK(pthread_create(&threads[i], NULL, mains[i], &x) == 0);
    for (int i = 0; i < ROUNDS; i++) write_round(&x, i);
    while (!atomic_load(&x.n_deletes) || !atomic_load(&x.n_cleans) || !atomic_load(&x.n_tenants))
        usleep(1000);
    atomic_store(&x.over, true);
    for (size_t i = 0; i < COUNT_OF(mains); i++) CHECK(pthread_join(threads[i], NULL) == 0);
    fixture_close(&x.f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gone_at_once),  cmocka_unit_test(test_part_of_the_time),
        cmocka_unit_test(test_no_ops),        cmocka_unit_test(test_bytes_are_freed),
        cmocka_unit_test(test_without_regex), cmocka_unit_test(test_retention_forgets),
        cmocka_unit_test(test_model),         cmocka_unit_test(test_tenant_is_gone),
        cmocka_unit_test(test_tenant_in_use), cmocka_unit_test(test_orphans),
        cmocka_unit_test(test_threads),       cmocka_unit_test(test_left_out_block),
        cmocka_unit_test(test_clock_ahead),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
