/* tests/storage/bench_encodings.c: bits and nanoseconds a value of value chunks and time columns, over data of the kinds
 * that a fleet of services has.
 * bench_encodings [part of a kind's name]: best of some rounds of processor time, data in the cache. "hint": EFFORT_FAST,
 * knowing the chunk before; "fast": the same without; "small": EFFORT_SMALL. */
#include <math.h>
#include <time.h>

#include "storage/chunk.h"
#include "storage/times.h"
#include "tests/quipu_test.h"

#define ROUNDS 25
#define REPEATS 50       /* of what is too short to time */
#define VALUES_ALL 65536 /* half a megabyte */

static double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* ---- Data ---- */

/* Poisson by its normal approximation, which is near enough for widths. */
static double count_about(struct rng *rng, double mean)
{
    return fmax(0, rint(mean + sqrt(mean) * rng_normal(rng)));
}

/* The load of a day, by the sample's place in it: 15 s apart. */
static double load(size_t i)
{
    return 1 + 0.8 * sin((double)i * 2 * 3.14159265358979 / 5760);
}

static double next_bucket(struct rng *rng, size_t i, double before)
{
    return before + count_about(rng, 40 * load(i));
}

static double next_status(struct rng *rng, size_t i, double before)
{
    return before + count_about(rng, 3 * load(i));
}

static double next_cpu(struct rng *rng, size_t i, double before)
{
    (void)i;
    double k = rint(before * 100) + 15 * (double)rng_below(rng, 100);
    return k / 100;
}

static double next_pages(struct rng *rng, size_t i, double before)
{
    (void)i;
    return before + 4096 * rint(300 * rng_normal(rng));
}

static double next_seldom(struct rng *rng, size_t i, double before)
{
    (void)i;
    return rng_chance(rng, 0.01) ? (double)rng_below(rng, 40) : before;
}

static double next_walk(struct rng *rng, size_t i, double before)
{
    (void)i;
    return before + rng_normal(rng);
}

static double next_latency_sum(struct rng *rng, size_t i, double before)
{
    return before + fabs(40 * load(i) * 0.05 * (1 + 0.2 * rng_normal(rng)));
}

static double next_tick_sum(struct rng *rng, size_t i, double before)
{
    (void)i;
    return before + (double)rng_below(rng, 30) / 100;
}

static double next_noise(struct rng *rng, size_t i, double before)
{
    (void)i;
    (void)before;
    return rint(100000 * (2 + rng_normal(rng))) / 1e9;
}

static double next_constant(struct rng *rng, size_t i, double before)
{
    (void)rng;
    (void)i;
    return before;
}

struct kind {
    const char *name;
    double (*next)(struct rng *rng, size_t i, double before);
};
static const struct kind kinds[] = {
    {"bucket", next_bucket},           {"status counter", next_status},
    {"cpu, two decimals", next_cpu},   {"pages of 4,096", next_pages},
    {"seldom changes", next_seldom},   {"mantissa walk", next_walk},
    {"latency sum", next_latency_sum}, {"sum of hundredths", next_tick_sum},
    {"nine decimals", next_noise},     {"constant", next_constant},
};

/* ---- Measuring ---- */

struct bench {
    double *v, *out;
    int64_t *t_ms;
    size_t n, n_chunks; /* values in a chunk; how many of them */
    struct buf all;
    struct bytes *chunks;
    struct err err;
};

static void encode_all(struct bench *b, enum effort effort, bool hinted)
{
    struct values_hint hint = {0};
    size_t *ends = (size_t *)(void *)b->out;
    buf_reset(&b->all);
    for (size_t i = 0; i < b->n_chunks; i++) {
        values_encode(&b->all, b->v + i * b->n, b->n, effort, hinted ? &hint : NULL);
        ends[i] = b->all.len;
    }
    for (size_t i = 0, at = 0; i < b->n_chunks; at = ends[i++])
        b->chunks[i] = bytes_of(b->all.p + at, ends[i] - at);
}

static double encode_ns(struct bench *b, enum effort effort, bool hinted)
{
    double best = INFINITY;
    for (int round = 0; round < (effort == EFFORT_SMALL ? 3 : ROUNDS); round++) {
        double start = now_ns();
        encode_all(b, effort, hinted);
        best = fmin(best, now_ns() - start);
    }
    return best / (double)(b->n * b->n_chunks);
}

static double decode_ns(struct bench *b)
{
    double best = INFINITY;
    for (int round = 0; round < ROUNDS; round++) {
        double start = now_ns();
        for (size_t i = 0; i < b->n_chunks; i++)
            CHECK_OK(values_decode(b->chunks[i], b->n, b->out + i * b->n, &b->err), &b->err);
        best = fmin(best, now_ns() - start);
    }
    CHECK(memcmp(b->out, b->v, b->n * b->n_chunks * sizeof(double)) == 0);
    return best / (double)(b->n * b->n_chunks);
}

static double bits(const struct bench *b)
{
    return (double)b->all.len * 8 / (double)(b->n * b->n_chunks);
}

static void run_kind(struct bench *b, const struct kind *kind)
{
    struct rng rng;
    rng_seed(&rng, 1);
    double v = kind->next == next_walk || kind->next == next_latency_sum ? 1000.3 : 1000;
    for (size_t i = 0; i < b->n * b->n_chunks; i++) b->v[i] = v = kind->next(&rng, i, v);
    double small = encode_ns(b, EFFORT_SMALL, true), small_decode = decode_ns(b),
           small_bits = bits(b);
    double fast = encode_ns(b, EFFORT_FAST, false), hint = encode_ns(b, EFFORT_FAST, true);
    double decode = decode_ns(b);
    printf("%-18s %5zu  %8.2f %7.1f %7.1f %7.2f  %8.2f %7.1f %7.2f  %s\n", kind->name, b->n,
           bits(b), hint, fast, decode, small_bits, small, small_decode,
           values_kind_name(b->chunks[0]));
}

/* ---- Times, and whole chunks with them ---- */

static void run_times(struct bench *b, const char *name, double late, int64_t jitter_ms)
{
    struct rng rng;
    struct buf column;
    rng_seed(&rng, 2);
    buf_init(&column, MEM_BASE);
    for (size_t i = 0; i < b->n; i++) {
        b->t_ms[i] = INT64_C(1700000000000) + (int64_t)i * 15000;
        if (rng_chance(&rng, late)) b->t_ms[i] += (int64_t)rng_below(&rng, (uint64_t)jitter_ms);
    }
    double ns[2], size[2], decode = INFINITY;
    for (int effort = EFFORT_FAST; effort <= EFFORT_SMALL; effort++) {
        ns[effort] = INFINITY;
        for (int round = 0; round < ROUNDS; round++) {
            double start = now_ns();
            for (int i = 0; i < REPEATS; i++) {
                buf_reset(&column);
                times_encode_as(&column, b->t_ms, b->n, (enum effort)effort);
            }
            ns[effort] = fmin(ns[effort], now_ns() - start);
        }
        size[effort] = (double)column.len;
    }
    for (int round = 0; round < ROUNDS; round++) {
        double start = now_ns();
        for (int i = 0; i < REPEATS; i++)
            CHECK_OK(times_decode(buf_bytes(&column), (int64_t *)(void *)b->out, b->n, &b->err),
                     &b->err);
        decode = fmin(decode, now_ns() - start);
    }
    double n = (double)b->n;
    printf("%-18s %5zu  %8.2f %7s %7.1f %7s  %8.2f %7.1f %7.2f\n", name, b->n, size[0] * 8 / n, "",
           ns[0] / n / REPEATS, "", size[1] * 8 / n, ns[1] / n / REPEATS, decode / n / REPEATS);
    buf_release(&column);
}

static void run_length(struct bench *b, size_t n, const char *filter)
{
    b->n = n;
    b->n_chunks = VALUES_ALL / n;
    for (size_t i = 0; i < COUNT_OF(kinds); i++)
        if (strstr(kinds[i].name, filter)) run_kind(b, &kinds[i]);
    if (strstr("times", filter)) {
        run_times(b, "times, regular", 0, 1);
        run_times(b, "times, 5 % late", 0.05, 8);
        run_times(b, "times, all jitter", 1, 4);
    }
}

int main(int argc, char **argv)
{
    struct bench b = {.v = malloc(VALUES_ALL * sizeof(double)),
                      .out = malloc(VALUES_ALL * sizeof(double)),
                      .t_ms = malloc(VALUES_ALL * sizeof(int64_t)),
                      .chunks = malloc(VALUES_ALL * sizeof(struct bytes))};
    CHECK(b.v && b.out && b.t_ms && b.chunks);
    buf_init(&b.all, MEM_BASE);
    static const size_t lengths[] = {120, 240, 1024};
    printf("%-18s %5s  %32s  %24s\n", "", "", "EFFORT_FAST", "EFFORT_SMALL");
    printf("%-18s %5s  %8s %7s %7s %7s  %8s %7s %7s\n", "kind", "L", "bits", "hint ns", "fast ns",
           "decode", "bits", "enc ns", "decode");
    for (size_t i = 0; i < COUNT_OF(lengths); i++)
        run_length(&b, lengths[i], argc > 1 ? argv[1] : "");
    buf_release(&b.all);
    free(b.v);
    free(b.out);
    free(b.t_ms);
    free(b.chunks);
    return 0;
}
