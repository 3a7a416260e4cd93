/* tests/storage/test_column_reader.c: columns in place, and labels as numbers, against block_read and block_labels. */
#include "storage/column_reader.h"

#include <math.h>

#include "storage/family.h"
#include "storage/label_reader.h"
#include "tests/storage/gen_block.h"

enum { FAMILIES = 12, MEMBERS = 5, SAMPLES = 300, BLOCKS = 2 };

struct fixture {
    struct test_env e;
    struct page_cache *cache;
    struct gen_set set; /* odd series of the first block */
    struct block *blocks[BLOCKS + 1];
    struct err err;
    size_t n_newest, n_ends; /* known without samples */
};

static struct block *open_block(struct fixture *f, struct block_writer *w, struct ulid ulid)
{
    struct block_info info;
    struct block *block;
    char path[512];
    CHECK_OK(block_writer_finish(w, &info, &f->err), &f->err);
    block_writer_close(w);
    snprintf(path, sizeof(path), "%s/%s.block", f->e.dir, ulid.text);
    CHECK_OK(block_open(&f->e.env, path, f->cache, &block, &f->err), &f->err);
    return block;
}

/* Families of three targets, from sample `first` on. */
static struct block *families_block(struct fixture *f, struct rng *rng, size_t first)
{
    struct block_info info = {.incarnation = 1, .sequence = first + 1, .level = 2};
    ulid_make(&info.ulid, 1000 + (int64_t)first, rng);
    struct block_writer *w;
    CHECK_OK(block_writer_open(&f->e.env, f->e.dir, &info, &w, &f->err), &f->err);
    uint32_t ids[FAMILIES][MEMBERS];
    for (int k = 0; k < FAMILIES; k++) {
        for (int m = 0; m < MEMBERS; m++) {
            char a[16], le[16];
            snprintf(a, sizeof(a), "%04d", k);
            snprintf(le, sizeof(le), "%d", m);
            struct label labels[] = {
                {STR("__name__"), STR("x_bucket")}, {STR("a"), str_of(a)}, {STR("le"), str_of(le)}};
            CHECK_OK(block_writer_series(w, (struct labels){labels, 3}, &ids[k][m], &f->err),
                     &f->err);
        }
    }
    for (int k = 0; k < FAMILIES; k++) {
        int64_t t_ms[SAMPLES];
        double v[MEMBERS][SAMPLES];
        const double *columns[MEMBERS];
        double sums[MEMBERS] = {0};
        for (int i = 0; i < SAMPLES; i++) {
            t_ms[i] = ((int64_t)first + i) * 15000 + k % 3 * 1000;
            double add = 0;
            for (int m = 0; m < MEMBERS; m++) {
                add += (double)rng_below(rng, 9);
                v[m][i] = sums[m] += add;
                if (k == 7 && i == 40) v[m][i] = double_from_bits(STALE_NAN_BITS);
            }
        }
        for (int m = 0; m < MEMBERS; m++) columns[m] = v[m];
        struct block_family family = {.ids = ids[k],
                                      .n_members = MEMBERS,
                                      .count_id = BLOCK_NO_SERIES,
                                      .t_ms = t_ms,
                                      .v = columns,
                                      .n = SAMPLES};
        CHECK_OK(block_writer_family(w, &family, &f->err), &f->err);
    }
    return open_block(f, w, info.ulid);
}

static void fixture_init(struct fixture *f, struct rng *rng)
{
    char path[512];
    f->n_newest = f->n_ends = 0;
    test_env_init(&f->e);
    CHECK_OK(page_cache_new(&f->e.env, 256 << 10, &f->cache, &f->err), &f->err);
    for (size_t i = 0; i < BLOCKS; i++) f->blocks[i] = families_block(f, rng, i * (SAMPLES + 10));
    gen_set_init(&f->set, rng, 300, 300);
    (void)gen_write_block(&f->e, rng, &f->set, path, sizeof(path));
    CHECK_OK(block_open(&f->e.env, path, f->cache, &f->blocks[BLOCKS], &f->err), &f->err);
}

static void fixture_release(struct fixture *f)
{
    for (size_t i = 0; i <= BLOCKS; i++) block_unref(f->blocks[i]);
    gen_set_release(&f->set);
    page_cache_free(f->cache);
    test_env_release(&f->e);
}

static void check_read(struct fixture *f, struct column_reader *r,
                       const struct column_place *places, size_t n_places, int64_t mint_ms,
                       int64_t maxt_ms, bool *plain)
{
    struct samples want, got;
    struct arena arena;
    struct float_column column;
    arena_init(&arena, MEM_BASE, 0);
    samples_init(&want, MEM_BASE, &arena);
    samples_init(&got, MEM_BASE, &arena);
    for (size_t i = 0; i < n_places; i++) {
        CHECK_OK(
            block_read(f->blocks[places[i].block], places[i].id, mint_ms, maxt_ms, &want, &f->err),
            &f->err);
        CHECK_OK(column_reader_samples(r, places[i], mint_ms, maxt_ms, &got, &f->err), &f->err);
    }
    check_same_samples(&got, &want, 0, want.n);
    CHECK_OK(column_reader_floats(r, places, n_places, mint_ms, maxt_ms, &column, plain, &f->err),
             &f->err);
    if (*plain) {
        CHECK(!want.h && !want.st_ms);
        CHECK_U64(column.n, want.n);
        if (want.n) {
            CHECK(memcmp(column.t_ms, want.t_ms, want.n * 8) == 0);
            CHECK(memcmp(column.v, want.v, want.n * 8) == 0);
        }
    }
    for (int k = 0; k < 2; k++) {
        struct float_column ends;
        bool known;
        CHECK_OK(
            column_reader_ends(r, places, n_places, mint_ms, maxt_ms, k, &ends, &known, &f->err),
            &f->err);
        if (!known) continue;
        f->n_ends++;
        CHECK_U64(ends.n, want.n);
        if (!want.n) continue;
        CHECK(!want.h && memcmp(ends.t_ms, want.t_ms, want.n * 8) == 0);
        CHECK_SAME_DOUBLE(ends.v[0], want.v[0]);
        CHECK_SAME_DOUBLE(ends.v[want.n - 1], want.v[want.n - 1]);
        for (size_t i = 0; i < want.n; i++)
            CHECK(!isnan(want.v[i]) && !(k && i && want.v[i] < want.v[i - 1]));
    }
    for (int k = 0; k < 2; k++) {
        struct newest_sample newest;
        CHECK_OK(column_reader_newest(r, places, n_places, mint_ms, maxt_ms, k, &newest, &f->err),
                 &f->err);
        if (!newest.known) continue;
        CHECK(newest.found == (want.n > 0));
        if (!want.n) continue;
        CHECK(!is_stale_nan(want.v[want.n - 1]) && !(want.h && want.h[want.n - 1]));
        CHECK(newest.t_ms == want.t_ms[want.n - 1]);
        if (k) CHECK_SAME_DOUBLE(newest.v, want.v[want.n - 1]);
        f->n_newest++;
    }
    samples_release(&want);
    samples_release(&got);
    arena_release(&arena);
}

static void test_columns(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 6)
    {
        struct fixture f;
        fixture_init(&f, &rng);
        /* Room for all families, for one at a time, none. */
        struct family_cache *families =
            rng_chance(&rng, 0.3) ? NULL
                                  : family_cache_new(rng_chance(&rng, 0.5) ? 1 << 20 : 13000);
        struct column_reader *r;
        CHECK_OK(column_reader_new(f.blocks, BLOCKS + 1, families, &r, &f.err), &f.err);
        size_t n_plain = 0;
        bool plain;
        for (size_t i = 0; i < 600; i++) {
            int64_t mint_ms = rng_chance(&rng, 0.5) ? 0 : (int64_t)rng_below(&rng, 700) * 15000;
            int64_t maxt_ms =
                rng_chance(&rng, 0.5) ? INT64_MAX : (int64_t)rng_below(&rng, 700) * 15000;
            uint32_t id = (uint32_t)(rng_chance(&rng, 0.7) ? i : rng_below(&rng, 100000)) %
                          (FAMILIES * MEMBERS);
            struct column_place places[BLOCKS] = {{0, id}, {1, id}};
            check_read(&f, r, places, BLOCKS, mint_ms, maxt_ms, &plain);
            CHECK(plain);
            check_read(&f, r, places + rng_below(&rng, BLOCKS), 1, mint_ms, maxt_ms, &plain);
            CHECK(plain);
            struct column_place odd = {BLOCKS, (uint32_t)rng_below(&rng, f.set.n)};
            check_read(&f, r, &odd, 1, mint_ms, maxt_ms, &plain);
            n_plain += plain;
        }
        CHECK(n_plain > 0);
        CHECK(f.n_newest > 100);
        CHECK(f.n_ends > 100);
        /* Times that go back are not for columns. */
        struct column_place back[BLOCKS] = {{1, 3}, {0, 3}};
        struct float_column column;
        CHECK_OK(column_reader_floats(r, back, BLOCKS, 0, INT64_MAX, &column, &plain, &f.err),
                 &f.err);
        CHECK(!plain);
        column_reader_free(r);
        family_cache_free(families);
        fixture_release(&f);
    }
}

/* Series that share times have the same number, others have not. */
static void test_shared_times(void **state)
{
    (void)state;
    struct rng rng;
    rng_seed(&rng, 1);
    struct fixture f;
    fixture_init(&f, &rng);
    struct column_reader *r;
    CHECK_OK(column_reader_new(f.blocks, 1, NULL, &r, &f.err), &f.err);
    uint64_t ids[3] = {0};
    for (uint32_t id = 0; id < FAMILIES * MEMBERS; id++) {
        struct column_place place = {0, id};
        struct float_column column;
        bool plain;
        CHECK_OK(column_reader_floats(r, &place, 1, 0, INT64_MAX, &column, &plain, &f.err), &f.err);
        uint64_t *known = &ids[id / MEMBERS % 3];
        CHECK(column.times_id != 0 && (*known == 0 || *known == column.times_id));
        *known = column.times_id;
    }
    CHECK(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2]);
    column_reader_free(r);
    fixture_release(&f);
}

static void check_labels(struct fixture *f, struct label_reader *r, const struct symbols *symbols,
                         const struct label_names *names, uint32_t id)
{
    struct arena arena;
    struct labels want;
    const uint32_t *pairs;
    size_t n, n_kept = 0;
    arena_init(&arena, MEM_BASE, 0);
    CHECK_OK(block_labels(f->blocks[BLOCKS], id, &arena, &want, &f->err), &f->err);
    CHECK_OK(label_reader_series(r, id, &pairs, &n, &f->err), &f->err);
    for (size_t i = 0; i < want.n; i++) {
        if (!label_names_keep(names, want.items[i].name)) continue;
        CHECK(n_kept < n);
        CHECK(str_eq(symbols_name(symbols, pairs[n_kept]), want.items[i].name));
        CHECK(str_eq(symbols_value(symbols, pairs[n_kept]), want.items[i].value));
        n_kept++;
    }
    CHECK_U64(n, n_kept);
    arena_release(&arena);
}

static void test_labels(void **state)
{
    (void)state;
    const struct str LISTED[] = {STR("instance"), STR("le"), STR("zz")};
    const struct label_names NAMES[] = {
        {NULL, 0, false}, {LISTED, 3, true}, {LISTED, 3, false}, {NULL, 0, true}};
    struct rng rng;
    PROPERTY_LOOP(&rng, 4)
    {
        struct fixture f;
        fixture_init(&f, &rng);
        for (size_t k = 0; k < COUNT_OF(NAMES); k++) {
            struct symbols symbols;
            struct label_reader *r;
            symbols_init(&symbols);
            CHECK_OK(label_reader_new(f.blocks[BLOCKS], &symbols, &NAMES[k], &r, &f.err), &f.err);
            for (uint32_t i = 0; i < 2 * f.set.n; i++) {
                uint32_t id = i < f.set.n ? i : (uint32_t)rng_below(&rng, f.set.n);
                check_labels(&f, r, &symbols, &NAMES[k], id);
            }
            label_reader_free(r);
            symbols_release(&symbols);
        }
        fixture_release(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_columns),
                                       cmocka_unit_test(test_shared_times),
                                       cmocka_unit_test(test_labels)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
