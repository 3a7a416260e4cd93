/* tests/engine/bench_engine.c: what a sample costs between its bytes and the log's queue, and what a series takes.
 * bench_engine [series] [rounds] [samples a request]: scrapes of series with eleven labels, as remote write 1.0 sends
 * them, values of slow counters. The fsyncs are left out (WAL_SYNC_OFF). */
#include <time.h>

#include "tests/engine/fixture.h"

#define SELECTS 20

static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

struct input {
    struct buf bytes; /* the label sets as sent, one after another */
    size_t *off;      /* n + 1 */
    size_t n;
};

static void put_field(struct buf *b, uint8_t tag, struct str s)
{
    buf_u8(b, tag);
    buf_str(b, s);
}

/* remote write 1.0: repeated Label { 1: name, 2: value } */
static void put_label(struct buf *b, const char *name, const char *value)
{
    struct buf label;
    buf_init(&label, MEM_BASE);
    put_field(&label, 0x0a, str_of(name));
    put_field(&label, 0x12, str_of(value));
    put_field(b, 0x0a, str_from_bytes(buf_bytes(&label)));
    buf_release(&label);
}

static const char *const label_names[] = {"__name__", "cluster", "code",   "instance",
                                          "job",      "le",      "method", "pod",
                                          "region",   "route",   "version"};

static void label_values(size_t i, char v[11][48])
{
    size_t pod = i / 120, k = i % 120; /* a target's 120 series come together */
    snprintf(v[0], 48, k < 96 ? "http_request_duration_seconds_bucket" : "http_requests_total");
    snprintf(v[1], 48, "prod-eu-1");
    snprintf(v[2], 48, "%zu", (size_t)200 + k % 3 * 100);
    snprintf(v[3], 48, "10.%zu.%zu.7:9090", pod / 250, pod % 250);
    snprintf(v[4], 48, "checkout");
    snprintf(v[5], 48, "%g", 0.005 * (double)(1 << k % 12));
    snprintf(v[6], 48, k % 2 ? "GET" : "POST");
    snprintf(v[7], 48, "checkout-6d4f9-%05zu", pod);
    snprintf(v[8], 48, "eu-west-%zu", pod % 3);
    snprintf(v[9], 48, "/api/v1/route/%zu", k / 12);
    snprintf(v[10], 48, "v1.24.%zu", pod % 5);
}

static void input_make(struct input *in, size_t n)
{
    buf_init(&in->bytes, MEM_BASE);
    in->off = mem_calloc(MEM_BASE, n + 1, sizeof(size_t));
    in->n = n;
    for (size_t i = 0; i < n; i++) {
        char v[11][48];
        label_values(i, v);
        in->off[i] = in->bytes.len;
        for (size_t k = 0; k < 11; k++) put_label(&in->bytes, label_names[k], v[k]);
    }
    in->off[n] = in->bytes.len;
}

static struct series *series_new(struct fixture *f, struct tenant *t, size_t i, uint64_t hash,
                                 struct bytes sent, struct series *hint)
{
    char v[11][48];
    struct label items[11];
    struct series *s;
    label_values(i, v);
    for (size_t k = 0; k < 11; k++) items[k] = (struct label){str_of(label_names[k]), str_of(v[k])};
    CHECK_OK(tenant_add_series(t, (struct labels){items, 11}, hash, sent, hint, &s, &f->err),
             &f->err);
    return s;
}

struct times {
    double find, write, n;
};

static void scrape(struct fixture *f, struct tenant *t, const struct input *in, size_t per_request,
                   int round, struct times *times)
{
    struct series **series = mem_calloc(MEM_BASE, per_request, sizeof(*series));
    int64_t *t_ms = mem_calloc(MEM_BASE, per_request, sizeof(*t_ms));
    double *v = mem_calloc(MEM_BASE, per_request, sizeof(*v));
    for (size_t from = 0; from < in->n; from += per_request) {
        size_t n = MIN_OF(per_request, in->n - from);
        for (size_t i = 0; i < n; i++) {
            size_t k = from + i;
            t_ms[i] = NOW_MS - 3600000 + round * 15000 + (int64_t)(k / 120 * 37 % 15000);
            v[i] = (double)((uint64_t)round * (1 + k * 2654435761u % 40) + k % 1000);
        }
        /* The bytes come from the decoder, so they are in the cache. */
        size_t start = in->off[from], end = in->off[from + n];
        uint8_t *body = mem_alloc(MEM_BASE, end - start);
        memcpy(body, in->bytes.p + start, end - start);
        double a = cpu_seconds();
        tenant_write_begin(t);
        struct series_walk walk = {0};
        for (size_t i = 0; i < n; i++) {
            size_t k = from + i, label_bytes;
            struct bytes sent = bytes_of(body + in->off[k] - start, in->off[k + 1] - in->off[k]);
            struct series *s = tenant_find_next(t, &walk, sent, &label_bytes);
            if (!s || label_bytes != sent.len) {
                uint64_t hash = hash_xxh3(sent.p, sent.len);
                s = tenant_find_series(t, hash, sent, walk.last);
                if (!s) s = series_new(f, t, k, hash, sent, walk.last);
                walk.last = s;
                walk.n = 0;
            }
            series[i] = s;
        }
        double b = cpu_seconds();
        struct write_batch batch = {.n = n, .series = series, .t_ms = t_ms, .v = v};
        struct write_result result;
        CHECK_OK(tenant_write(t, &batch, NULL, NULL, &result, &f->err), &f->err);
        tenant_write_end(t);
        double c = cpu_seconds();
        times->find += b - a;
        times->write += c - b;
        times->n += (double)n;
        mem_free(body);
        CHECK_OK(engine_commit(f->engine, &f->err), &f->err);
    }
    mem_free(series);
    mem_free(t_ms);
    mem_free(v);
}

static void show(const char *what, const struct times *t)
{
    printf("%-14s find %6.1f ns/sample, write %6.1f ns/sample, together %.1f\n", what,
           t->find / t->n * 1e9, t->write / t->n * 1e9, (t->find + t->write) / t->n * 1e9);
}

int main(int argc, char **argv)
{
    size_t n = argc > 1 ? strtoul(argv[1], NULL, 0) : 100000;
    int rounds = argc > 2 ? atoi(argv[2]) : 60;
    size_t per_request = argc > 3 ? strtoul(argv[3], NULL, 0) : 2000;
    struct fixture f;
    struct input in;
    fixture_init(&f);
    f.config.wal_sync = WAL_SYNC_OFF;
    f.config.head_bytes_max = (size_t)4 << 30;
    CHECK_OK(engine_open(&f.env, &f.config, &f.engine, &f.err), &f.err);
    struct tenant *t = fixture_tenant(&f, "default");
    input_make(&in, n);
    printf("%zu series of %.0f label bytes, %d rounds, %zu samples a request\n", n,
           (double)in.bytes.len / (double)n, rounds, per_request);
    struct times first = {0}, second = {0}, rest = {0};
    scrape(&f, t, &in, per_request, 0, &first);
    size_t registry = mem_bytes(MEM_REGISTRY);
    struct tenant_stats stats;
    tenant_stats(t, &stats);
    printf("a series takes %.0f bytes in the registry; with its first sample %.0f in the head\n",
           (double)registry / (double)n, (double)stats.head_bytes / (double)n);
    scrape(&f, t, &in, per_request, 1, &second);
    for (int r = 2; r < rounds; r++) scrape(&f, t, &in, per_request, r, &rest);
    show("new series", &first);
    show("second round", &second);
    show("known series", &rest);
    tenant_stats(t, &stats);
    printf("head: %.2f bytes a sample (%.0f a series), %.1f MB; registry %.1f MB\n",
           (double)stats.head_bytes / (double)stats.head_samples,
           (double)stats.head_bytes / (double)n, (double)stats.head_bytes / 1e6,
           (double)mem_bytes(MEM_REGISTRY) / 1e6);
    struct engine_select *sel = NULL;
    struct matcher m = {
        .op = MATCH_EQ, .name = STR(LABEL_NAME), .value = STR("http_requests_total")};
    double a = cpu_seconds();
    for (int i = 0; i < SELECTS; i++) {
        select_release(sel);
        CHECK_OK(tenant_select(t, &m, 1, INT64_MIN, INT64_MAX, &sel, &f.err), &f.err);
    }
    double b = cpu_seconds();
    size_t n_selected = select_count(sel), n_read = 0;
    struct samples s;
    samples_init(&s, MEM_QUERY, NULL);
    for (size_t i = 0; i < n_selected; i++) {
        samples_reset(&s);
        CHECK_OK(select_read(sel, i, INT64_MIN, INT64_MAX, &s, &f.err), &f.err);
        n_read += s.n;
    }
    double c = cpu_seconds();
    printf("select of %zu series %.2f ms, reading %.1f ns/sample\n", n_selected,
           (b - a) / SELECTS * 1e3, (c - b) / (double)n_read * 1e9);
    samples_release(&s);
    select_release(sel);
    a = cpu_seconds();
    CHECK_OK(engine_close(f.engine, false, &f.err), &f.err);
    b = cpu_seconds();
    CHECK_OK(engine_open(&f.env, &f.config, &f.engine, &f.err), &f.err);
    c = cpu_seconds();
    double n_samples = (double)n * rounds;
    printf("close %.0f ms, replay %.0f ms, %.1f ns/sample\n", (b - a) * 1e3, (c - b) * 1e3,
           (c - b) / n_samples * 1e9);
    a = cpu_seconds();
    CHECK_OK(engine_flush(f.engine, NULL, &f.err), &f.err);
    b = cpu_seconds();
    t = fixture_tenant(&f, "default");
    tenant_stats(t, &stats);
    printf("flush %.1f ns/sample, %.2f bytes a sample on disk\n", (b - a) / n_samples * 1e9,
           (double)stats.block_bytes / n_samples);
    fixture_close(&f);
    buf_release(&in.bytes);
    mem_free(in.off);
    return 0;
}
