/* tests/storage/test_block_times.c: runs of times that are found or added, against the runs themselves. */
#include "storage/block_times.h"

#include "storage/times.h"
#include "tests/storage/gen.h"

#define TIMES_N 4000

/* The n times at a place, by way of the chain. */
static void read_place(const struct block_times *x, struct time_place p, size_t n, int64_t *out)
{
    struct err err;
    static int64_t column[TIMES_N];
    for (size_t done = 0; done < n;) {
        CHECK(p.column != NO_COLUMN);
        const struct time_column *c = &x->columns[p.column];
        CHECK(c->n <= TIMES_N && p.start < c->n);
        CHECK_OK(times_decode(bytes_of(x->bytes.p + c->off, c->len), column, c->n, &err), &err);
        size_t len = MIN_OF(n - done, c->n - p.start);
        memcpy(out + done, column + p.start, len * sizeof(*out));
        done += len;
        p = (struct time_place){c->next, 0};
    }
}

struct scrapes {
    int64_t t[TIMES_N];
    size_t n;
};

static void gen_scrapes(struct rng *rng, struct scrapes *s, size_t n)
{
    unsigned kind = (unsigned)rng_below(rng, 4);
    int64_t at = INT64_C(1700000000000) + (int64_t)rng_below(rng, 1000000000);
    for (s->n = 0; s->n < n; s->n++, at += (int64_t)gen_step_ms(rng, kind)) s->t[s->n] = at;
}

/* Part of the scrapes, here and there one left out. */
static size_t gen_run(struct rng *rng, const struct scrapes *s, int64_t *t)
{
    size_t from = rng_chance(rng, 0.5) ? 0 : rng_below(rng, s->n);
    size_t len = 1 + rng_below(rng, s->n - from), n = 0;
    double gaps = rng_chance(rng, 0.6) ? 0 : rng_chance(rng, 0.5) ? 0.002 : 0.2;
    for (size_t i = 0; i < len; i++)
        if (!rng_chance(rng, gaps)) t[n++] = s->t[from + i];
    return n;
}

/* As a writer does it: the run in pieces, each placed. Returns the number of pieces. */
static size_t place_run(struct rng *rng, struct block_times *x, const int64_t *t, size_t n)
{
    struct err err;
    static int64_t got[TIMES_N];
    uint32_t after = NO_COLUMN;
    size_t n_pieces = 0;
    for (size_t from = 0, len; from < n; from += len) {
        struct time_place p;
        size_t most = 1 + rng_below(rng, 700);
        most = MIN_OF(most, n - from);
        size_t n_min = rng_chance(rng, 0.5) ? 64 : SIZE_MAX;
        CHECK_OK(block_times_place(x, t + from, most, n_min, after, &p, &len, &err), &err);
        CHECK(len >= 1 && len <= most);
        CHECK(len == most || len >= n_min);
        n_pieces++;
        after = block_times_end(x, p, len);
        if (p.column == NO_COLUMN) continue;
        read_place(x, p, len, got);
        CHECK(memcmp(got, t + from, len * sizeof(*got)) == 0);
        CHECK(block_times_left(x, p) >= 1);
    }
    return n_pieces;
}

static void check_chains(const struct block_times *x)
{
    for (uint32_t i = 0; i < x->n_columns; i++) {
        const struct time_column *c = &x->columns[i];
        if (c->next != NO_COLUMN) CHECK_U64(x->columns[c->next].before, i);
        if (c->before != NO_COLUMN) CHECK_U64(x->columns[c->before].next, i);
        CHECK(c->n >= 1 && c->n <= x->column_n);
        uint32_t steps = 0; /* chains end */
        for (uint32_t k = i; k != NO_COLUMN; k = x->columns[k].next) CHECK(steps++ < x->n_columns);
    }
}

static void test_places_hold_the_times(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 150)
    {
        static struct scrapes s[3];
        static int64_t t[TIMES_N];
        struct block_times x;
        block_times_init(&x, 1 + rng_below(&rng, 600),
                         rng_chance(&rng, 0.8) ? 1 << 20 : rng_below(&rng, 5000));
        size_t n_targets = 1 + rng_below(&rng, 3);
        for (size_t i = 0; i < n_targets; i++)
            gen_scrapes(&rng, &s[i], 1 + rng_below(&rng, TIMES_N));
        for (int k = 0; k < 20; k++) {
            size_t n = gen_run(&rng, &s[rng_below(&rng, n_targets)], t);
            place_run(&rng, &x, t, n);
        }
        check_chains(&x);
        block_times_release(&x);
    }
}

/* Parts of one target's times, the longest not first: no time is there twice, whatever comes when. */
static void test_parts_are_never_stored_twice(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 60)
    {
        struct err err;
        static struct scrapes s;
        struct block_times x;
        block_times_init(&x, 500, 1 << 20);
        gen_scrapes(&rng, &s, 2000);
        size_t lo = s.n, hi = 0;
        for (int k = 0; k < 12; k++) {
            /* All hold the middle, so that there is always something in common. */
            size_t from = rng_below(&rng, 900), end = 1100 + rng_below(&rng, 900), n_placed;
            struct time_place p;
            CHECK_OK(block_times_place(&x, s.t + from, end - from, SIZE_MAX, NO_COLUMN, &p,
                                       &n_placed, &err),
                     &err);
            CHECK_U64(n_placed, end - from);
            lo = MIN_OF(lo, from);
            hi = MAX_OF(hi, end);
            size_t n = 0;
            for (size_t i = 0; i < x.n_columns; i++) n += x.columns[i].n;
            CHECK_U64(n, hi - lo);
        }
        check_chains(&x);
        block_times_release(&x);
    }
}

/* A scrape is missing in the middle: the run is cut there, twice, and nothing is added. */
static void test_gaps_cut(void **state)
{
    (void)state;
    struct rng rng;
    test_rng(&rng);
    struct err err;
    static struct scrapes s;
    struct block_times x;
    struct time_place p;
    size_t n;
    block_times_init(&x, 2000, 1 << 20);
    gen_scrapes(&rng, &s, 1000);
    CHECK_OK(block_times_place(&x, s.t, 1000, 64, NO_COLUMN, &p, &n, &err), &err);
    memmove(s.t + 600, s.t + 601, 399 * sizeof(*s.t));
    CHECK_OK(block_times_place(&x, s.t, 999, 64, NO_COLUMN, &p, &n, &err), &err);
    CHECK_U64(n, 600);
    CHECK(p.column == 0 && p.start == 0);
    CHECK_OK(block_times_place(&x, s.t + 600, 399, 64, NO_COLUMN, &p, &n, &err), &err);
    CHECK_U64(n, 399);
    CHECK(p.column == 0 && p.start == 601);
    CHECK_U64(x.n_columns, 1);
    CHECK_OK(block_times_place(&x, s.t, 999, SIZE_MAX, NO_COLUMN, &p, &n, &err), &err);
    CHECK_U64(n, 999); /* a run that cannot be cut has a column of its own */
    CHECK_U64(x.n_columns, 2);
    block_times_release(&x);
}

/* Without room nothing new is taken, and what is there is still found. */
static void test_past_the_limit(void **state)
{
    (void)state;
    struct rng rng;
    test_rng(&rng);
    struct err err;
    static struct scrapes s, other;
    struct block_times x;
    struct time_place p;
    size_t n;
    block_times_init(&x, 1000, 10);
    gen_scrapes(&rng, &s, 500);
    gen_scrapes(&rng, &other, 500);
    CHECK_OK(block_times_place(&x, s.t, 500, 64, NO_COLUMN, &p, &n, &err), &err);
    CHECK(p.column == 0 && n == 500);
    CHECK_OK(block_times_place(&x, other.t, 500, 64, NO_COLUMN, &p, &n, &err), &err);
    CHECK(p.column == NO_COLUMN && n == 500);
    CHECK_U64(block_times_end(&x, p, n), NO_COLUMN);
    CHECK_OK(block_times_place(&x, s.t + 100, 300, 64, NO_COLUMN, &p, &n, &err), &err);
    CHECK(p.column == 0 && p.start == 100 && n == 300);
    block_times_release(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_places_hold_the_times),
        cmocka_unit_test(test_parts_are_never_stored_twice),
        cmocka_unit_test(test_gaps_cut),
        cmocka_unit_test(test_past_the_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
