/* tests/engine/test_limits.c: the largest things that a sender may send must come through a flush and a replay. */
#include "tests/engine/fixture.h"

#define BUCKETS HISTOGRAM_BUCKETS_MAX
#define SAMPLES 70 /* one chunk of them would take more than a page can */

/* Float counts that share no shape of bits: 8 bytes a bucket, both sides. */
struct wide {
    struct histogram h;
    struct histogram_span span[2];
    double counts[2][BUCKETS];
};

static void wide_fill(struct wide *w, int seed)
{
    w->span[0] = w->span[1] = (struct histogram_span){-BUCKETS / 2, BUCKETS};
    w->h = (struct histogram){.schema = 8,
                              .count = 1,
                              .sum = seed + 0.5,
                              .pos_spans = &w->span[0],
                              .neg_spans = &w->span[1],
                              .n_pos_spans = 1,
                              .n_neg_spans = 1,
                              .pos = w->counts[0],
                              .neg = w->counts[1],
                              .n_pos = BUCKETS,
                              .n_neg = BUCKETS};
    for (int i = 0; i < BUCKETS; i++) {
        w->counts[0][i] = i + seed / 128.0 + 0.1;
        w->counts[1][i] = i * 3 + seed / 64.0 + 0.3;
    }
}

static void write_wide(struct fixture *f, struct tenant *t, struct wide *w, int i)
{
    struct done done = {0, ERR_OK};
    wide_fill(w, i);
    CHECK_OK(histogram_validate(&w->h, &f->err), &f->err);
    tenant_write_begin(t);
    struct series *s = fixture_series(f, t, 1);
    int64_t t_ms = NOW_MS - (SAMPLES - i) * INT64_C(1000);
    struct histogram *h = &w->h;
    struct write_batch b = {.n_histograms = 1, .h_series = &s, .h_t_ms = &t_ms, .h = &h};
    struct write_result result;
    CHECK_OK(tenant_write(t, &b, note_done, &done, &result, &f->err), &f->err);
    tenant_write_end(t);
    CHECK_OK(engine_commit(f->engine, &f->err), &f->err);
    CHECK(done.n == 1);
    CHECK_OK(done.rc, &f->err);
}

static void check_wide(struct fixture *f, struct tenant *t, struct wide *w)
{
    struct engine_select *sel;
    CHECK_OK(tenant_select(t, NULL, 0, 0, INT64_MAX, &sel, &f->err), &f->err);
    CHECK(select_count(sel) == 1);
    for (int i = 0; i < SAMPLES; i++) {
        struct arena arena;
        struct samples s;
        int64_t t_ms = NOW_MS - (SAMPLES - i) * INT64_C(1000);
        arena_init(&arena, MEM_QUERY, 0);
        samples_init(&s, MEM_QUERY, &arena);
        CHECK_OK(select_read(sel, 0, t_ms, t_ms, &s, &f->err), &f->err);
        wide_fill(w, i);
        CHECK(s.n == 1);
        CHECK(histogram_same_bits(s.h[0], &w->h));
        samples_release(&s);
        arena_release(&arena);
    }
    select_release(sel);
}

/* The chunks of a block are bounded by bytes, too: else a head with such samples could never be flushed, and a
 * replay that must flush would end the start. */
static void test_wide_histograms(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    struct wide *w = mem_calloc(MEM_BASE, 1, sizeof(*w));
    struct tenant *t = fixture_tenant(&f, "default");
    for (int i = 0; i < SAMPLES; i++) write_wide(&f, t, w, i);
    CHECK_OK(engine_flush(f.engine, NULL, &f.err), &f.err);
    check_wide(&f, t, w);
    fixture_reopen(&f, false);
    check_wide(&f, fixture_tenant(&f, "default"), w);
    mem_free(w);
    fixture_close(&f);
}

/* Families of a tenant are bounded: a sender that makes up names must not fill memory and catalog. */
static void test_many_families(void **state)
{
    (void)state;
    enum { FAMILIES = 50000, BATCH = 1000 };
    struct fixture f;
    fixture_open(&f);
    struct tenant *t = fixture_tenant(&f, "default");
    struct arena arena;
    struct catalog_metadata *found, items[BATCH];
    size_t n;
    arena_init(&arena, MEM_QUERY, 0);
    for (int from = 0; from < FAMILIES + BATCH; from += BATCH) {
        for (int i = 0; i < BATCH; i++)
            items[i] = (struct catalog_metadata){arena_printf(&arena, "family_%d", from + i),
                                                 STR("counter"), STR(""), STR("before")};
        CHECK_OK(tenant_put_metadata(t, items, BATCH, &f.err), &f.err);
    }
    items[0] = (struct catalog_metadata){STR("family_7"), STR("gauge"), STR(""), STR("after")};
    CHECK_OK(tenant_put_metadata(t, items, 1, &f.err), &f.err);
    CHECK_OK(tenant_metadata(t, STR(""), &arena, &found, &n, &f.err), &f.err);
    CHECK(n == FAMILIES);
    CHECK_OK(tenant_metadata(t, STR("family_7"), &arena, &found, &n, &f.err), &f.err);
    CHECK(n == 1 && str_eq(found[0].help, STR("after")));
    arena_release(&arena);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_wide_histograms),
                                       cmocka_unit_test(test_many_families)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
