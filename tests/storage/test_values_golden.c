/* tests/storage/test_values_golden.c: value chunks and time columns that version 1 wrote are read for ever.
 * tests/golden/values_v1.txt has bytes and what they mean, one of each kind. It is written anew only by `QUIPU_GOLDEN=write
 * test_values_golden`, when the format was wrong and has not been released; the corpus of fuzz_values is made of the same. */
#include <math.h>

#include "storage/samples.h"
#include "storage/times.h"
#include "storage/values.h"
#include "tests/quipu_test.h"

#define GOLDEN "../golden/values_v1.txt"
#define CORPUS "../fuzz/corpus/values"
#define N_MAX 300
#define BYTES_MAX 4096

/* As bits, so that no register makes a NaN quiet. */
static void put_bits(double *v, uint64_t bits)
{
    memcpy(v, &bits, sizeof(bits));
}

/* ---- What is in it ---- */

/* Every so often far away on either side: exceptions by place in one frame, by bitmap in the other; then a run. */
static double framed(size_t i)
{
    if (i >= 256) return 0;
    bool out = i < 128 ? i % 20 == 3 : i % 5 == 3;
    return out ? (double)(i % 2 ? 70000 + i : -70000.0 - (double)i) : (double)(i * 7 % 16);
}

static double make(const char *kind, size_t i)
{
    double d = (double)i;
    if (!strcmp(kind, "constant-integer")) return -1234567;
    if (!strcmp(kind, "constant-bits")) return -0.0;
    if (!strcmp(kind, "values")) return (double)(i * 37 % 23) / 100;
    if (!strcmp(kind, "deltas")) return 3 * ((i < 12 ? 1000 : 0) + 3 * d + (double)(i * 5 % 7));
    if (!strcmp(kind, "second-deltas")) return d * d * d / 4;
    if (!strcmp(kind, "product")) return (d * 999 + 7) * 1e-6;
    if (!strcmp(kind, "thousandths")) return (123457 + d * 1009) / 1e3 / 1e3;
    if (!strcmp(kind, "nanoseconds")) return (1234567 + d * 1013) / 1e3 / 1e3 / 1e3;
    if (!strcmp(kind, "ordered-deltas")) return 1000 + sqrt(d) * (i % 3 ? 1 : -1) + d;
    if (!strcmp(kind, "ordered-values")) return 1 + fmod(d * 0.6180339887498949, 1);
    if (!strcmp(kind, "ordered-wide"))
        return double_from_bits(UINT64_C(0x9E3779B97F4A7C15) * (i + 1) * (i + 3) >> 4);
    if (!strcmp(kind, "raw"))
        return double_from_bits(UINT64_C(0x9E3779B97F4A7C15) * (i + 1) * (i + 3));
    if (!strcmp(kind, "framed")) return framed(i);
    return 0;
}

struct golden {
    const char *kind;
    const char *expected; /* values_kind_name; NULL: times */
    size_t n;
    size_t odd; /* where a special value goes, 0: nowhere */
};
static const struct golden golden[] = {
    {"constant-integer", "constant", 10, 0},
    {"constant-bits", "constant", 10, 0},
    {"values", "integers", 20, 0},
    {"deltas", "integers", 20, 15},
    {"second-deltas", "integers", 20, 0},
    {"product", "integers", 20, 0},
    {"thousandths", "integers", 20, 0},
    {"nanoseconds", "integers", 20, 0},
    {"running-sum", "running sum", 20, 7},
    {"ordered-deltas", "ordered bits", 20, 11},
    {"ordered-values", "ordered bits", 40, 0},
    {"ordered-wide", "ordered bits", 40, 0},
    {"raw", "raw", 10, 0},
    {"framed", "integers", N_MAX, 0},
    {"time-deltas", NULL, 40, 0},
    {"time-grid", NULL, 40, 0},
};

static void make_values(const struct golden *g, double *v)
{
    double sum = 0.1;
    for (size_t i = 0; i < g->n; i++) {
        sum += (double)(i * 13 % 29) / 100;
        v[i] = !strcmp(g->kind, "running-sum") ? sum : make(g->kind, i);
    }
    if (g->odd) put_bits(v + g->odd, STALE_NAN_BITS);
}

static void make_times(const struct golden *g, int64_t *t_ms)
{
    int64_t t = INT64_C(1700000000000);
    for (size_t i = 0; i < g->n; i++) {
        t += 15000 + (int64_t)(i * 7 % 3);
        t_ms[i] = !strcmp(g->kind, "time-grid")
                      ? INT64_C(1700000000000) + (int64_t)i * 15000 + (i % 9 == 4 ? 12 : 0)
                      : t;
    }
}

/* ---- Writing ---- */

/* What fuzz_values reads: u8 what to do, u16 n, then bytes. */
static void write_input(const char *name, uint8_t what, size_t n, struct bytes b)
{
    char path[256];
    snprintf(path, sizeof(path), CORPUS "/%s", name);
    FILE *f = fopen(path, "wb");
    CHECK(f != NULL);
    uint8_t head[3] = {what, (uint8_t)n, (uint8_t)(n >> 8)};
    CHECK(fwrite(head, 1, sizeof(head), f) == sizeof(head));
    CHECK(fwrite(b.p, 1, b.len, f) == b.len);
    CHECK(fclose(f) == 0);
}

/* The chunk or column; of some also what it is made of, to encode; and one column of integers, behind its chunk's head. */
static void write_corpus(const struct golden *g, struct bytes b, const double *v)
{
    char name[64];
    write_input(g->kind, g->expected ? 0 : 2, g->n, b);
    snprintf(name, sizeof(name), "encode-%s", g->kind);
    if (g->n == 20) write_input(name, 3, g->n, bytes_of(v, g->n * sizeof(*v)));
    if (!g->expected) write_input(name, 4, g->n, bytes_of(v, g->n * sizeof(*v)));
    if (!strcmp(g->kind, "framed")) write_input("integers", 1, g->n, bytes_of(b.p + 3, b.len - 3));
}

static void write_one(FILE *f, const struct golden *g)
{
    struct buf b;
    double v[N_MAX];
    int64_t *t_ms = (int64_t *)(void *)v;
    buf_init(&b, MEM_BASE);
    if (g->expected) {
        make_values(g, v);
        values_encode(&b, v, g->n, EFFORT_SMALL, NULL);
        CHECK(strcmp(values_kind_name(buf_bytes(&b)), g->expected) == 0);
    } else {
        make_times(g, t_ms);
        times_encode(&b, t_ms, g->n);
    }
    fprintf(f, "%s %s %zu\n", g->expected ? "values" : "times", g->kind, g->n);
    for (size_t i = 0; i < b.len; i++) fprintf(f, "%02x", b.p[i]);
    for (size_t i = 0; i < g->n; i++) {
        uint64_t bits;
        memcpy(&bits, v + i, sizeof(bits));
        fprintf(f, "%s%016" PRIx64, i % 6 ? " " : "\n", bits);
    }
    fprintf(f, "\n");
    write_corpus(g, buf_bytes(&b), v);
    buf_release(&b);
}

/* ---- Reading ---- */

static size_t read_hex(FILE *f, uint8_t *out, size_t max)
{
    char text[2 * BYTES_MAX + 1];
    CHECK(fscanf(f, "%8192s", text) == 1);
    size_t n = strlen(text) / 2;
    CHECK(n <= max);
    for (size_t i = 0; i < n; i++) {
        unsigned byte;
        CHECK(sscanf(text + 2 * i, "%2x", &byte) == 1);
        out[i] = (uint8_t)byte;
    }
    return n;
}

static bool check_one(FILE *f)
{
    struct err err;
    char what[16], kind[32];
    size_t n;
    uint8_t bytes[BYTES_MAX];
    double v[N_MAX];
    if (fscanf(f, "%15s %31s %zu", what, kind, &n) != 3) return false;
    CHECK(n <= N_MAX);
    struct bytes b = bytes_of(bytes, read_hex(f, bytes, sizeof(bytes)));
    if (strcmp(what, "values") == 0)
        CHECK_OK(values_decode(b, n, v, &err), &err);
    else
        CHECK_OK(times_decode(b, (int64_t *)(void *)v, n, &err), &err);
    for (size_t i = 0; i < n; i++) {
        uint64_t expected, got;
        CHECK(fscanf(f, "%16" SCNx64, &expected) == 1);
        memcpy(&got, v + i, sizeof(got));
        if (got != expected)
            test_fail(__FILE__, __LINE__, "%s: value %zu is %016" PRIx64 ", not %016" PRIx64, kind,
                      i, got, expected);
    }
    return true;
}

static void test_golden_is_read(void **state)
{
    (void)state;
    FILE *f = fopen(GOLDEN, "r");
    CHECK(f != NULL);
    size_t n = 0;
    while (check_one(f)) n++;
    CHECK_U64(n, COUNT_OF(golden));
    fclose(f);
}

int main(void)
{
    const char *golden_env = getenv("QUIPU_GOLDEN");
    if (golden_env && strcmp(golden_env, "write") == 0) {
        FILE *f = fopen(GOLDEN, "w");
        CHECK(f != NULL);
        for (size_t i = 0; i < COUNT_OF(golden); i++) write_one(f, &golden[i]);
        CHECK(fclose(f) == 0);
        return 0;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_golden_is_read)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
