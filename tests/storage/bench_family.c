/* tests/storage/bench_family.c: what families of buckets and columns of native histograms take, and how fast they are.
 * bench_family [samples a chunk] [families]: request latencies in 12 buckets, 60 requests between two samples; times
 * are per bucket sample, best of a few rounds, data in the cache. */
#include <time.h>

#include "tests/storage/gen_family.h"

#define ROUNDS 7
#define MEMBERS 12

static double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

struct bench {
    struct gen_family *family;
    struct buf *chunk;
    size_t n_families, n;
    double *out;
};

typedef void bench_fn(struct bench *b, size_t i);

/* Best time for one family's bucket samples, in ns each. */
static double measure(struct bench *b, bench_fn *fn, double per)
{
    double best = INFINITY;
    for (int round = 0; round < ROUNDS; round++) {
        double start = now_ns();
        for (size_t i = 0; i < b->n_families; i++) fn(b, i);
        best = fmin(best, now_ns() - start);
    }
    return best / (per * (double)b->n * (double)b->n_families);
}

static void encode(struct bench *b, size_t i, enum effort effort)
{
    buf_reset(&b->chunk[i]);
    CHECK(family_encode(&b->chunk[i], &b->family[i].in, effort, 0));
}

static void encode_fast(struct bench *b, size_t i)
{
    encode(b, i, EFFORT_FAST);
}

static void encode_small(struct bench *b, size_t i)
{
    encode(b, i, EFFORT_SMALL);
}

static void decode_member(struct bench *b, size_t i, unsigned k)
{
    struct err err;
    CHECK_OK(family_decode(buf_bytes(&b->chunk[i]), b->n, k, b->out, &err), &err);
}

static void decode_total(struct bench *b, size_t i)
{
    decode_member(b, i, FAMILY_COUNT);
}

static void decode_middle(struct bench *b, size_t i)
{
    decode_member(b, i, MEMBERS / 2);
}

static void decode_all(struct bench *b, size_t i)
{
    struct err err;
    CHECK_OK(family_decode_all(buf_bytes(&b->chunk[i]), b->n, b->out, &err), &err);
}

static void decode_increments(struct bench *b, size_t i)
{
    struct err err;
    int64_t *out = (int64_t *)(void *)b->out;
    CHECK_OK(family_decode_increments(buf_bytes(&b->chunk[i]), b->n, out, &err), &err);
}

static double bits(const struct bench *b)
{
    double bytes = 0;
    for (size_t i = 0; i < b->n_families; i++) bytes += (double)b->chunk[i].len;
    return 8 * bytes / (double)(MEMBERS * b->n * b->n_families);
}

static double single_bits(const struct bench *b)
{
    double bytes = 0;
    int64_t *delta = malloc(b->n * sizeof(*delta));
    CHECK(delta != NULL);
    for (size_t f = 0; f < b->n_families; f++) {
        for (size_t k = 0; k < MEMBERS; k++) {
            const double *v = b->family[f].in.v[k];
            for (size_t i = 1; i < b->n; i++) delta[i - 1] = (int64_t)v[i] - (int64_t)v[i - 1];
            bytes += 6 + (double)intcol_size(delta, b->n - 1, EFFORT_SMALL);
        }
    }
    free(delta);
    return 8 * bytes / (double)(MEMBERS * b->n * b->n_families);
}

static void bench_families(size_t n, size_t n_families)
{
    struct rng rng;
    struct bench b = {.n_families = n_families, .n = n};
    rng_seed(&rng, 1);
    b.family = calloc(n_families, sizeof(*b.family));
    b.chunk = calloc(n_families, sizeof(*b.chunk));
    b.out = calloc(MEMBERS * n, sizeof(*b.out));
    CHECK(b.family && b.chunk && b.out);
    for (size_t i = 0; i < n_families; i++) {
        gen_family_init(&b.family[i], MEMBERS, n);
        gen_family_latencies(&rng, &b.family[i], 60);
        b.family[i].in.count = b.family[i].rows[MEMBERS - 1];
        buf_init(&b.chunk[i], MEM_BASE);
    }
    printf("families of %d, %zu samples a chunk\n", MEMBERS, n);
    printf("  single series          %6.2f bits\n", single_bits(&b));
    double ns = measure(&b, encode_fast, MEMBERS);
    printf("  encode, fast           %6.2f bits %7.2f ns\n", bits(&b), ns);
    ns = measure(&b, encode_small, MEMBERS);
    printf("  encode, small          %6.2f bits %7.2f ns\n", bits(&b), ns);
    printf("  increments of all      %20.2f ns\n", measure(&b, decode_increments, MEMBERS));
    printf("  all, cumulative        %20.2f ns\n", measure(&b, decode_all, MEMBERS));
    printf("  _count alone           %20.2f ns\n", measure(&b, decode_total, 1));
    printf("  a middle bucket alone  %20.2f ns\n", measure(&b, decode_middle, 1));
    for (size_t i = 0; i < n_families; i++) {
        gen_family_release(&b.family[i]);
        buf_release(&b.chunk[i]);
    }
    free(b.family);
    free(b.chunk);
    free(b.out);
}

int main(int argc, char **argv)
{
    size_t n = argc > 1 ? strtoul(argv[1], NULL, 10) : 480;
    size_t n_families = argc > 2 ? strtoul(argv[2], NULL, 10) : 50;
    if (n == 0 || n_families == 0) return 1;
    bench_families(n, n_families);
    return 0;
}
