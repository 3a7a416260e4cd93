/* tests/storage/test_family.c: families of buckets give back every bit, by member and as a whole; what cannot be one
 * is refused, what is cut or wrong is corrupt.
 * tests/golden/family_v1.chunk and what is in it, family_v1.txt, are read for ever. They are written anew only by
 * `QUIPU_GOLDEN=write test_family`, when version 1 itself was wrong and has not been released; the corpus of
 * fuzz_family too. */
#include "tests/storage/gen_family.h"

#define GOLDEN_CHUNK "../golden/family_v1.chunk"
#define GOLDEN_TEXT "../golden/family_v1.txt"
#define CORPUS "../fuzz/corpus/family"

/* ---- random families ---- */

/* One bucket's own increase. */
static double gen_increase(struct rng *rng, unsigned kind)
{
    switch (kind) {
    case 0: return 0;
    case 1: return (double)rng_below(rng, 20);
    case 2: return rng_chance(rng, 0.05) ? (double)rng_below(rng, 1000000) : 0;
    case 3: return (double)(rng_u64(rng) >> (24 + rng_below(rng, 40)));
    default: return 1;
    }
}

static void gen_buckets(struct rng *rng, struct gen_family *f)
{
    size_t m = f->in.n_members, n = f->in.n;
    double *own = calloc(m, sizeof(double));
    CHECK(own != NULL);
    bool races = rng_chance(rng, 0.3);
    double reset = rng_chance(rng, 0.4) ? 0.01 : 0;
    for (size_t k = 0; k < m; k++) own[k] = (double)rng_below(rng, 100);
    for (size_t i = 0; i < n; i++) {
        if (rng_chance(rng, reset)) memset(own, 0, m * sizeof(double));
        double x = 0;
        for (size_t k = 0; k < m; k++) {
            x += own[k] += gen_increase(rng, (unsigned)(k * 2654435761u >> 7) % 5);
            /* Scraped while requests came in: a member lags or runs ahead. */
            double off = races && rng_chance(rng, 0.1) ? (double)rng_below(rng, 9) - 4 : 0;
            f->values[k * n + i] = fmod(x + off, 0x1p53);
        }
    }
    free(own);
}

/* Whole numbers of any size and sign. */
static void gen_wild(struct rng *rng, struct gen_family *f)
{
    for (size_t i = 0; i < f->in.n_members * f->in.n; i++) {
        double v = (double)(rng_u64(rng) >> (11 + rng_below(rng, 53)));
        f->values[i] = v && rng_chance(rng, 0.5) ? -v : v;
    }
}

static void gen_markers(struct rng *rng, struct gen_family *f)
{
    size_t n = f->in.n, kind = rng_below(rng, 5);
    if (n <= 2 || kind == 0) return; /* at least one sample stays */
    if (kind <= 2) gen_family_stale(f, n - 1);
    if (kind == 2) gen_family_stale(f, n - 2);
    if (kind == 3) gen_family_stale(f, 0);
    for (size_t i = 1; kind == 4 && i < n; i++)
        if (rng_chance(rng, 0.1)) gen_family_stale(f, i);
}

static void gen_any_family(struct rng *rng, struct gen_family *f)
{
    size_t m = 2 + rng_below(rng, rng_chance(rng, 0.1) ? 253 : 16);
    size_t n = 1 + rng_below(rng, rng_chance(rng, 0.2) ? 2000 : 300);
    gen_family_init(f, m, m > 20 ? 1 + n % 200 : n);
    if (rng_chance(rng, 0.15))
        gen_wild(rng, f);
    else
        gen_buckets(rng, f);
    gen_markers(rng, f);
    if (rng_chance(rng, 0.5)) f->in.count = f->rows[m - 1];
}

/* ---- reading ---- */

/* A copy of its own, so that ASan sees a byte too far. */
static struct bytes exact_copy(struct bytes b)
{
    uint8_t *p = malloc(b.len ? b.len : 1);
    CHECK(p != NULL);
    if (b.len) memcpy(p, b.p, b.len);
    return bytes_of(p, b.len);
}

static void check_row(const double *got, const double *expected, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t a, b;
        memcpy(&a, &got[i], 8);
        memcpy(&b, &expected[i], 8);
        CHECK_U64(a, b);
    }
}

static bool is_marker(const double *v)
{
    uint64_t bits;
    memcpy(&bits, v, 8);
    return bits == STALE_NAN_BITS;
}

/* Sums over members and samples give the values back; the increments at a marker are 0. */
static void check_increments(const struct family_input *in, struct bytes chunk)
{
    struct err err;
    size_t m = in->n_members, n = in->n;
    int64_t *d = malloc(m * n * sizeof(*d));
    CHECK(d != NULL);
    CHECK_OK(family_decode_increments(chunk, n, d, &err), &err);
    for (size_t k = 0; k < m; k++) {
        int64_t x = 0;
        for (size_t i = 0; i < n; i++) {
            if (k) d[k * n + i] += d[(k - 1) * n + i];
            x += d[k * n + i];
            if (is_marker(&in->v[k][i])) {
                CHECK_I64(i ? d[k * n + i] : 0, 0);
                continue;
            }
            CHECK_SAME_DOUBLE((double)x, in->v[k][i]);
        }
    }
    free(d);
}

static void check_reads(const struct family_input *in, struct bytes bytes)
{
    struct err err;
    struct bytes chunk = exact_copy(bytes);
    size_t m = in->n_members, n = in->n, n_members;
    bool has_count;
    double *all = malloc(m * n * sizeof(*all)), *one = malloc(n * sizeof(*one));
    CHECK(all && one);
    CHECK_OK(family_peek(chunk, &n_members, &has_count, &err), &err);
    CHECK_U64(n_members, m);
    CHECK(has_count == (in->count != NULL));
    CHECK_OK(family_decode_all(chunk, n, all, &err), &err);
    for (size_t k = 0; k < m; k++) {
        check_row(all + k * n, in->v[k], n);
        CHECK_OK(family_decode(chunk, n, (unsigned)k, one, &err), &err);
        check_row(one, in->v[k], n);
    }
    enum err_code rc = family_decode(chunk, n, FAMILY_COUNT, one, &err);
    if (in->count) {
        CHECK_OK(rc, &err);
        check_row(one, in->count, n);
    } else {
        CHECK_ERR(rc, ERR_CORRUPT);
    }
    if (m < FAMILY_MEMBERS_MAX)
        CHECK_ERR(family_decode(chunk, n, (unsigned)m, one, &err), ERR_CORRUPT);
    check_increments(in, chunk);
    free(all);
    free(one);
    free((void *)chunk.p);
}

static void test_roundtrip(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 600)
    {
        struct gen_family f;
        struct buf out;
        gen_any_family(&rng, &f);
        buf_init(&out, MEM_BASE);
        buf_put(&out, "before", 6);
        enum effort effort = rng_chance(&rng, 0.5) ? EFFORT_FAST : EFFORT_SMALL;
        CHECK(family_encode(&out, &f.in, effort, 0));
        CHECK(memcmp(out.p, "before", 6) == 0);
        check_reads(&f.in, bytes_of(out.p + 6, out.len - 6));
        buf_release(&out);
        gen_family_release(&f);
    }
}

/* ---- what is no family ---- */

static bool encodes(const struct family_input *in, size_t single_bytes)
{
    struct buf out;
    buf_init(&out, MEM_BASE);
    buf_put(&out, "before", 6);
    bool done = family_encode(&out, in, EFFORT_FAST, single_bytes);
    CHECK(done ? out.len > 6 : out.len == 6);
    CHECK(memcmp(out.p, "before", 6) == 0);
    buf_release(&out);
    return done;
}

static void test_refused(void **state)
{
    (void)state;
    static const uint64_t bad[] = {
        UINT64_C(0x8000000000000000), /* -0 */
        UINT64_C(0x3fe0000000000000), /* 0.5 */
        UINT64_C(0x4340000000000000), /* 2^53 */
        UINT64_C(0xc340000000000000), /* -2^53 */
        UINT64_C(0x7ff0000000000000), UINT64_C(0xfff0000000000000),
        UINT64_C(0x7ff8000000000001), STALE_NAN_BITS, /* in one member alone */
    };
    struct rng rng;
    PROPERTY_LOOP(&rng, 200)
    {
        struct gen_family f;
        size_t m = 2 + rng_below(&rng, 10), n = 1 + rng_below(&rng, 200);
        gen_family_init(&f, m, n);
        gen_buckets(&rng, &f);
        if (n > 2 && rng_chance(&rng, 0.3)) gen_family_stale(&f, n - 1);
        CHECK(encodes(&f.in, 0));
        double *at = &f.values[rng_below(&rng, m * n)], was;
        memcpy(&was, at, 8);
        memcpy(at, &bad[rng_below(&rng, COUNT_OF(bad))], 8);
        if (memcmp(at, &was, 8) != 0) CHECK(!encodes(&f.in, 0));
        memcpy(at, &was, 8);
        double *count = malloc(n * sizeof(double));
        CHECK(count != NULL);
        memcpy(count, f.rows[m - 1], n * sizeof(double));
        f.in.count = count;
        CHECK(encodes(&f.in, 0));
        count[rng_below(&rng, n)] += 1;
        if (memcmp(count, f.rows[m - 1], n * sizeof(double)) != 0) CHECK(!encodes(&f.in, 0));
        free(count);
        gen_family_release(&f);
    }
}

static void test_only_markers(void **state)
{
    (void)state;
    struct gen_family f;
    gen_family_init(&f, 3, 4);
    for (size_t i = 0; i < 3; i++) gen_family_stale(&f, i);
    CHECK(encodes(&f.in, 0)); /* the first value is the last sample's */
    gen_family_stale(&f, 3);
    CHECK(!encodes(&f.in, 0));
    gen_family_release(&f);
}

/* ---- sizes ---- */

static size_t single_bytes(const struct family_input *in)
{
    int64_t *delta = malloc(in->n * sizeof(*delta));
    CHECK(delta != NULL);
    size_t size = 0;
    for (size_t k = 0; k < in->n_members; k++) {
        for (size_t i = 1; i < in->n; i++)
            delta[i - 1] = (int64_t)in->v[k][i] - (int64_t)in->v[k][i - 1];
        size += 6 + intcol_size(delta, in->n - 1, EFFORT_SMALL);
    }
    free(delta);
    return size;
}

static void test_size(void **state)
{
    (void)state;
    struct rng rng;
    test_rng(&rng);
    for (size_t n = 120; n <= 960; n *= 2) {
        size_t single = 0, family = 0;
        for (int i = 0; i < 10; i++) {
            struct gen_family f;
            struct buf out;
            gen_family_init(&f, 12, n);
            gen_family_latencies(&rng, &f, 60);
            size_t alone = single_bytes(&f.in);
            buf_init(&out, MEM_BASE);
            CHECK(family_encode(&out, &f.in, EFFORT_SMALL, alone));
            CHECK(!encodes(&f.in, out.len / 2)); /* had single chunks been that small */
            single += alone;
            family += out.len;
            buf_release(&out);
            gen_family_release(&f);
        }
        CHECK(family < single * 48 / 100);
    }
}

/* Buckets that never count take a few bytes each. */
static void test_empty_buckets(void **state)
{
    (void)state;
    struct gen_family f;
    struct buf out;
    gen_family_init(&f, 100, 480);
    buf_init(&out, MEM_BASE);
    CHECK(family_encode(&out, &f.in, EFFORT_FAST, 0));
    CHECK(out.len < 100 * 6);
    buf_release(&out);
    gen_family_release(&f);
}

/* ---- hostile bytes ---- */

/* All readers agree on whether the bytes are a family, and if so on what is in it. */
static enum err_code try_all(struct bytes bytes, size_t m, size_t n)
{
    struct err err;
    struct bytes chunk = exact_copy(bytes);
    double *all = malloc(FAMILY_MEMBERS_MAX * n * sizeof(*all)), *one = malloc(n * sizeof(*one));
    CHECK(all && one);
    enum err_code rc = family_decode_all(chunk, n, all, &err);
    CHECK(rc == ERR_OK || rc == ERR_CORRUPT);
    for (size_t k = 0; k < m; k++) {
        enum err_code one_rc = family_decode(chunk, n, (unsigned)k, one, &err);
        CHECK(one_rc == ERR_OK || one_rc == ERR_CORRUPT);
        if (rc) continue; /* a column that is not needed may be the bad one */
        size_t n_members;
        bool has_count;
        CHECK_OK(family_peek(chunk, &n_members, &has_count, &err), &err);
        CHECK(k < n_members ? one_rc == ERR_OK : one_rc == ERR_CORRUPT);
        if (!one_rc) check_row(one, all + k * n, n);
    }
    rc = family_decode_increments(chunk, n, (int64_t *)(void *)all, &err) ? ERR_CORRUPT : rc;
    free(all);
    free(one);
    free((void *)chunk.p);
    return rc;
}

static void test_every_prefix_is_refused(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 40)
    {
        struct gen_family f;
        struct buf out;
        gen_family_init(&f, 2 + rng_below(&rng, 6), 1 + rng_below(&rng, 300));
        gen_buckets(&rng, &f);
        if (f.in.n > 2) gen_family_stale(&f, f.in.n - 1);
        buf_init(&out, MEM_BASE);
        CHECK(family_encode(&out, &f.in, EFFORT_FAST, 0));
        CHECK_ERR(try_all(buf_bytes(&out), f.in.n_members, f.in.n), ERR_OK);
        struct err err;
        double *one = malloc(f.in.n * sizeof(*one));
        CHECK(one != NULL);
        for (size_t len = 0; len < out.len; len++) {
            CHECK_ERR(try_all(bytes_of(out.p, len), 1, f.in.n), ERR_CORRUPT);
            CHECK_ERR(family_decode(bytes_of(out.p, len), f.in.n, 1, one, &err), ERR_CORRUPT);
        }
        buf_u8(&out, 0); /* and one byte too many */
        CHECK_ERR(try_all(buf_bytes(&out), 1, f.in.n), ERR_CORRUPT);
        free(one);
        buf_release(&out);
        gen_family_release(&f);
    }
}

static void test_damage(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 150)
    {
        struct gen_family f;
        struct buf out;
        gen_family_init(&f, 2 + rng_below(&rng, 8), 1 + rng_below(&rng, 300));
        gen_buckets(&rng, &f);
        gen_markers(&rng, &f);
        buf_init(&out, MEM_BASE);
        if (family_encode(&out, &f.in, EFFORT_SMALL, 0)) {
            for (int k = 0; k < 60; k++) {
                size_t at =
                    rng_below(&rng, rng_chance(&rng, 0.5) ? MIN_OF(out.len, (size_t)40) : out.len);
                uint8_t was = out.p[at];
                out.p[at] ^= (uint8_t)(1 + rng_below(&rng, 255));
                (void)try_all(buf_bytes(&out), 3, f.in.n); /* what it says does not matter */
                out.p[at] = was;
            }
            (void)try_all(buf_bytes(&out), 3, f.in.n + 1); /* another n than it was made with */
            test_fill(&rng, out.p + 4, out.len - 4);
            (void)try_all(buf_bytes(&out), 3, f.in.n);
        }
        buf_release(&out);
        gen_family_release(&f);
    }
}

static void test_hostile(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        uint8_t bytes[12];
        size_t len, n;
        enum err_code rc;
    } cases[] = {
        {"fine", {4, 2, 0, 0, 0, 0, 2, 4}, 8, 1, ERR_OK},
        {"another tag", {5, 2, 0, 0, 0, 0, 2, 4}, 8, 1, ERR_CORRUPT},
        {"one member", {4, 1, 0, 0, 0, 2}, 6, 1, ERR_CORRUPT},
        {"255 members", {4, 255, 0, 0, 0, 2}, 6, 1, ERR_CORRUPT},
        {"254 members without bytes", {4, 254, 0, 0, 0, 2}, 6, 1, ERR_CORRUPT},
        {"the dropped one is none", {4, 2, 2, 0, 0, 0, 2, 4}, 8, 1, ERR_CORRUPT},
        {"an unknown flag", {4, 2, 0, 4, 0, 0, 2, 4}, 8, 1, ERR_CORRUPT},
        {"a column longer than the chunk", {4, 2, 0, 0, 0, 1, 2, 4}, 8, 1, ERR_CORRUPT},
        {"a byte left over", {4, 2, 0, 0, 0, 0, 2, 4, 0}, 9, 1, ERR_CORRUPT},
        {"a column longer than its numbers", {4, 2, 0, 0, 1, 0, 2, 4, 0}, 9, 1, ERR_CORRUPT},
        {"no number of markers", {4, 2, 0, 2, 0, 0, 2, 4}, 8, 1, ERR_CORRUPT},
        {"no markers at all", {4, 2, 0, 2, 0, 0, 2, 4, 0}, 9, 1, ERR_CORRUPT},
        {"a marker", {4, 2, 0, 2, 0, 0, 2, 4, 1, 0}, 10, 1, ERR_OK},
        {"a marker beyond the end", {4, 2, 0, 2, 0, 0, 2, 4, 1, 1}, 10, 1, ERR_CORRUPT},
        {"two markers at one sample", {4, 2, 0, 2, 0, 0, 2, 4, 2, 0, 0}, 11, 1, ERR_CORRUPT},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        enum err_code rc = try_all(bytes_of(cases[i].bytes, cases[i].len), 2, cases[i].n);
        if (rc != cases[i].rc) fprintf(stderr, "%s\n", cases[i].what);
        CHECK_ERR(rc, cases[i].rc);
    }
}

/* ---- golden ---- */

#define GOLDEN_MEMBERS 5
#define GOLDEN_SAMPLES 300

/* Load with a reset, a bucket that never counts, one scrape that raced, the series gone for a while and at the end. */
static void make_golden(struct gen_family *f)
{
    static const double step[GOLDEN_MEMBERS] = {3, 40, 0, 2, 1};
    double own[GOLDEN_MEMBERS] = {100, 2000, 0, 7, 1};
    gen_family_init(f, GOLDEN_MEMBERS, GOLDEN_SAMPLES);
    for (size_t i = 0; i < GOLDEN_SAMPLES; i++) {
        double x = 0;
        if (i == 210) memset(own, 0, sizeof(own));
        for (size_t k = 0; k < GOLDEN_MEMBERS; k++) {
            own[k] += floor(step[k] * (double)(1 + (i * 7 + k * 5) % 11) / 4);
            f->values[k * GOLDEN_SAMPLES + i] = x += own[k];
        }
    }
    f->values[1 * GOLDEN_SAMPLES + 50] += 200; /* more than the member above it */
    gen_family_stale(f, 208);
    gen_family_stale(f, 209);
    gen_family_stale(f, GOLDEN_SAMPLES - 1);
    f->in.count = f->rows[GOLDEN_MEMBERS - 1];
}

static void write_file(const char *path, struct bytes b)
{
    FILE *file = fopen(path, "wb");
    CHECK(file != NULL);
    CHECK_U64(fwrite(b.p, 1, b.len, file), b.len);
    CHECK(fclose(file) == 0);
}

static void read_file(const char *path, struct buf *out)
{
    FILE *file = fopen(path, "rb");
    CHECK(file != NULL);
    uint8_t chunk[4096];
    for (size_t n; (n = fread(chunk, 1, sizeof(chunk), file)) > 0;) buf_put(out, chunk, n);
    CHECK(fclose(file) == 0);
}

/* One line a sample: the values of all members, in their bits where they are no numbers. */
static void print_values(struct buf *out, const double *v)
{
    for (size_t i = 0; i < GOLDEN_SAMPLES; i++) {
        for (size_t k = 0; k < GOLDEN_MEMBERS; k++) {
            const double *at = &v[k * GOLDEN_SAMPLES + i];
            uint64_t bits;
            memcpy(&bits, at, 8);
            if (k) buf_u8(out, ' ');
            if (is_marker(at))
                buf_printf(out, "%016" PRIx64, bits);
            else
                buf_printf(out, "%.0f", *at);
        }
        buf_u8(out, '\n');
    }
}

/* Small families behind the two bytes of n that fuzz_family takes in front. */
static void write_corpus(struct bytes golden)
{
    struct rng rng;
    struct buf b;
    char path[256];
    rng_seed(&rng, 1);
    buf_init(&b, MEM_BASE);
    buf_u16(&b, GOLDEN_SAMPLES);
    buf_put(&b, golden.p, golden.len);
    write_file(CORPUS "/golden", buf_bytes(&b));
    for (int i = 0; i < 16; i++) {
        struct gen_family f;
        gen_family_init(&f, 2 + rng_below(&rng, 6), 1 + rng_below(&rng, 200));
        if (i % 4 == 3)
            gen_wild(&rng, &f);
        else
            gen_buckets(&rng, &f);
        gen_markers(&rng, &f);
        if (i % 2) f.in.count = f.rows[f.in.n_members - 1];
        buf_reset(&b);
        buf_u16(&b, (uint16_t)f.in.n);
        snprintf(path, sizeof(path), CORPUS "/family_%d", i);
        if (family_encode(&b, &f.in, i % 3 ? EFFORT_FAST : EFFORT_SMALL, 0) && b.len < 4096)
            write_file(path, buf_bytes(&b));
        gen_family_release(&f);
    }
    buf_release(&b);
}

static void write_golden(void)
{
    struct gen_family f;
    struct buf b;
    buf_init(&b, MEM_BASE);
    make_golden(&f);
    CHECK(family_encode(&b, &f.in, EFFORT_SMALL, 0));
    write_file(GOLDEN_CHUNK, buf_bytes(&b));
    write_corpus(buf_bytes(&b));
    buf_reset(&b);
    print_values(&b, f.values);
    write_file(GOLDEN_TEXT, buf_bytes(&b));
    buf_release(&b);
    gen_family_release(&f);
}

static void test_golden_chunk_is_read(void **state)
{
    (void)state;
    const char *mode = getenv("QUIPU_GOLDEN");
    if (mode && strcmp(mode, "write") == 0) write_golden();
    struct gen_family f;
    struct buf chunk, text, expected;
    buf_init(&chunk, MEM_BASE);
    buf_init(&text, MEM_BASE);
    buf_init(&expected, MEM_BASE);
    read_file(GOLDEN_CHUNK, &chunk);
    read_file(GOLDEN_TEXT, &expected);
    make_golden(&f);
    check_reads(&f.in, buf_bytes(&chunk));
    print_values(&text, f.values);
    CHECK_BYTES(buf_bytes(&text), buf_bytes(&expected));
    buf_release(&chunk);
    buf_release(&text);
    buf_release(&expected);
    gen_family_release(&f);
}

/* Allocations that fail: no chunk, and nothing is lost. */
static size_t allocs_left;
static bool fail_alloc(void *ctx, size_t size)
{
    (void)ctx;
    (void)size;
    return allocs_left-- == 0;
}

static void test_no_memory(void **state)
{
    (void)state;
    struct gen_family f;
    struct buf out;
    struct err err;
    double one[200];
    struct rng rng;
    test_rng(&rng);
    gen_family_init(&f, 4, 200);
    gen_buckets(&rng, &f);
    buf_init(&out, MEM_BASE);
    bool done = false;
    for (size_t k = 0; !done && k < 50; k++) {
        size_t bytes = mem_bytes(MEM_STORAGE);
        allocs_left = k;
        mem_set_fail_hook(fail_alloc, NULL);
        done = family_encode(&out, &f.in, EFFORT_SMALL, 0) && !out.failed;
        mem_set_fail_hook(NULL, NULL);
        CHECK_U64(mem_bytes(MEM_STORAGE), bytes);
        if (!done) CHECK_U64(out.len, 0);
        if (!done) buf_reset(&out);
    }
    CHECK(done);
    allocs_left = 0; /* reading takes none */
    mem_set_fail_hook(fail_alloc, NULL);
    for (unsigned k = 0; k < 4; k++)
        CHECK_OK(family_decode(buf_bytes(&out), 200, k, one, &err), &err);
    mem_set_fail_hook(NULL, NULL);
    buf_release(&out);
    gen_family_release(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_roundtrip),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_only_markers),
        cmocka_unit_test(test_size),
        cmocka_unit_test(test_empty_buckets),
        cmocka_unit_test(test_every_prefix_is_refused),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_golden_chunk_is_read),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
