/* tests/storage/bench_family.c: what families of buckets and columns of native histograms take, and how fast they are.
 * bench_family [samples a chunk] [families]: request latencies in 12 buckets, 60 requests between two samples; times
 * are per bucket sample, best of a few rounds, data in the cache. */
#include <time.h>

#include "tests/storage/gen_histograms.h"

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

/* ---- native histograms ---- */

struct histograms {
    struct samples in, out;
    struct arena arena, out_arena;
    struct buf chunk;
    enum chunk_encoding encoding;
};

static void encode_histograms(struct histograms *h, size_t n_chunk)
{
    struct err err;
    double best = INFINITY, bytes = 0;
    for (int round = 0; round < ROUNDS; round++) {
        double start = now_ns();
        bytes = 0;
        for (size_t from = 0; from < h->in.n; from += n_chunk) {
            buf_reset(&h->chunk);
            CHECK_OK(chunk_encode_as(h->encoding, &h->in, from, n_chunk, &h->chunk, &err), &err);
            bytes += (double)h->chunk.len;
        }
        best = fmin(best, now_ns() - start);
    }
    printf("%8.1f bytes, encode %8.1f ns", bytes / (double)h->in.n, best / (double)h->in.n);
}

/* The last chunk, again and again. */
static void decode_histograms(struct histograms *h, size_t n_chunk)
{
    struct err err;
    double best = INFINITY;
    for (int round = 0; round < 20 * ROUNDS; round++) {
        arena_reset(&h->out_arena);
        samples_reset(&h->out);
        double start = now_ns();
        CHECK_OK(chunk_decode(buf_bytes(&h->chunk), INT64_MIN, INT64_MAX, &h->out, &err), &err);
        best = fmin(best, now_ns() - start);
    }
    printf(", decode %8.1f ns\n", best / (double)n_chunk);
}

static void bench_histograms(size_t n, size_t n_chunks)
{
    static const struct {
        const char *what;
        enum gen_histogram_kind kind;
    } kinds[] = {{"latencies", GEN_HISTOGRAM_LATENCIES},
                 {"custom bounds", GEN_HISTOGRAM_CUSTOM},
                 {"rates (floats)", GEN_HISTOGRAM_FLOATS},
                 {"gauge", GEN_HISTOGRAM_GAUGE}};
    static const enum chunk_encoding encodings[] = {CHUNK_HISTOGRAMS, CHUNK_HISTOGRAM_COLUMNS};
    for (size_t k = 0; k < COUNT_OF(kinds); k++) {
        struct rng rng;
        struct histograms h;
        rng_seed(&rng, 1);
        arena_init(&h.arena, MEM_BASE, 0);
        arena_init(&h.out_arena, MEM_BASE, 0);
        samples_init(&h.in, MEM_BASE, &h.arena);
        samples_init(&h.out, MEM_BASE, &h.out_arena);
        buf_init(&h.chunk, MEM_BASE);
        gen_histogram_bell(&rng, &h.in, n * n_chunks, kinds[k].kind, 60);
        printf("%s, %zu samples a chunk, the last with %u buckets, per histogram\n", kinds[k].what,
               n, h.in.h[h.in.n - 1]->n_pos);
        for (size_t e = 0; e < COUNT_OF(encodings); e++) {
            h.encoding = encodings[e];
            printf("  %-18s", chunk_encoding_name(h.encoding));
            encode_histograms(&h, n);
            decode_histograms(&h, n);
        }
        buf_release(&h.chunk);
        samples_release(&h.in);
        samples_release(&h.out);
        arena_release(&h.arena);
        arena_release(&h.out_arena);
    }
}

int main(int argc, char **argv)
{
    size_t n = argc > 1 ? strtoul(argv[1], NULL, 10) : 480;
    size_t n_families = argc > 2 ? strtoul(argv[2], NULL, 10) : 50;
    if (n == 0 || n_families == 0) return 1;
    bench_families(n, n_families);
    bench_histograms(n, 20);
    return 0;
}
