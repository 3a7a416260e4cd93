/* tests/sim/test_flips.c: one flipped bit, or one truncation, at a time, in any file of a data directory that holds
 * everything: several tenants, floats, families, histograms, blocks of all levels, a log with samples that are in no block,
 * a catalog with descriptions, its WAL, its snapshots. Then everything is asked for.
 *
 * Each answer must be what it was, or an error or a warning must name the damage: in the answer, or, for what the log has
 * lost, in the lines of the start. Nothing may be wrong or missing without a word. Where the start refuses, a catalog
 * made anew must give back everything. `quipu verify` must find what is damaged before.
 *
 * QUIPU_FLIPS=2000 runs so many instead of the default; QUIPU_SEED repeats one. */
#include <ctype.h>

#include "base/hash.h"
#include "base/metric.h"
#include "engine/engine.h"
#include "engine/rebuild.h"
#include "engine/verify.h"
#include "storage/catalog_snapshot.h"
#include "tests/engine/model.h"
#include "tests/sim/io_sim.h"

#define NOW_MS INT64_C(1767225600000) /* 2026-01-01 */
#define HOUR_MS INT64_C(3600000)
#define ROUNDS 100
#define TENANTS 3
#define SERIES_MAX 400
#define FILES_MAX 100
#define LOG_BYTES 65536

static const char *const tenant_names[TENANTS] = {"default", "Acme.1", "team-b"};

/* ---- a world: disk, engine, what it logged ---- */

struct world {
    struct io_sim *disk;
    struct clock_fake clock;
    struct log log;
    struct rng rng;
    struct env env;
    struct engine_config config;
    struct engine *engine;
    struct err err;
    char lines[LOG_BYTES]; /* of warnings and errors */
    size_t n_line_bytes;
};

static void take_line(void *ctx, const char *line, size_t len)
{
    struct world *w = ctx;
    if (w->n_line_bytes + len + 1 > sizeof(w->lines)) return;
    memcpy(w->lines + w->n_line_bytes, line, len);
    w->n_line_bytes += len;
    w->lines[w->n_line_bytes] = 0;
    if (getenv("QUIPU_TEST_LOG")) fwrite(line, 1, len, stderr);
}

static void world_init(struct world *w, uint64_t seed)
{
    memset(w, 0, sizeof(*w));
    w->disk = io_sim_new(seed);
    clock_fake_init(&w->clock, NOW_MS);
    log_init(&w->log, &w->clock.clock, LOG_WARN);
    w->log.sink = take_line;
    w->log.sink_ctx = w;
    rng_seed(&w->rng, seed);
    w->env = (struct env){.io = io_sim_io(w->disk),
                          .clock = &w->clock.clock,
                          .log = &w->log,
                          .metrics = metrics_new(),
                          .rng = &w->rng};
    CHECK(w->env.metrics != NULL);
    w->config = engine_config_default("/data");
    w->config.wal_segment_bytes = 16384;
    w->config.page_cache_bytes = 1 << 20;
    w->config.compact = false;
}

static void world_release(struct world *w)
{
    if (w->engine) err_ignore(engine_close(w->engine, false, &w->err));
    metrics_free(w->env.metrics);
    io_sim_free(w->disk);
}

/* ---- what is written ---- */

static struct series *add_series(struct world *w, struct tenant *t, const char *name, int i,
                                 const char *le)
{
    char text[32];
    snprintf(text, sizeof(text), "%d", i);
    struct label items[] = {{STR(LABEL_NAME), str_of(name)},
                            {STR("i"), str_of(text)},
                            {STR("le"), str_of(le ? le : "")}};
    struct labels labels = {items, le ? 3 : 2};
    struct buf sent;
    struct series *s;
    buf_init(&sent, MEM_BASE);
    labels_encode(&sent, labels);
    uint64_t hash = hash_xxh3(sent.p, sent.len);
    s = tenant_find_series(t, hash, buf_bytes(&sent), NULL);
    if (!s)
        CHECK_OK(tenant_add_series(t, labels, hash, buf_bytes(&sent), NULL, &s, &w->err), &w->err);
    buf_release(&sent);
    return s;
}

static void ignore_done(void *arg, enum err_code rc)
{
    (void)arg;
    CHECK(rc == ERR_OK);
}

#define FLOATS 14
#define BUCKETS 5
#define HISTOGRAMS 3

/* One scrape of a tenant. */
static void scrape(struct world *w, struct tenant *t, int64_t t_ms, int n)
{
    static const char *const le[BUCKETS] = {"0.1", "0.5", "1", "5", "+Inf"};
    struct series *series[64], *h_series[HISTOGRAMS];
    int64_t times[64], h_times[HISTOGRAMS];
    double v[64], sum = 0;
    struct histogram *h[HISTOGRAMS];
    struct arena arena;
    size_t k = 0;
    arena_init(&arena, MEM_BASE, 0);
    tenant_write_begin(t);
    for (int i = 0; i < FLOATS; i++) {
        series[k] = add_series(w, t, i % 2 ? "requests_total" : "temperature", i, NULL);
        v[k++] = i % 2 ? (double)(n * (i + 3)) : (double)((n * 37 + i * 11) % 1000) / 8 + 0.001 * i;
    }
    for (int i = 0; i < BUCKETS; i++) {
        sum += (double)(n * (i + 1));
        series[k] = add_series(w, t, "latency_bucket", 0, le[i]);
        v[k++] = sum;
    }
    series[k] = add_series(w, t, "latency_count", 0, NULL);
    v[k++] = sum;
    for (size_t i = 0; i < k; i++) times[i] = t_ms;
    for (int i = 0; i < HISTOGRAMS; i++) {
        h_series[i] = add_series(w, t, "native", i, NULL);
        h_times[i] = t_ms;
        h[i] = model_histogram(&arena, (uint64_t)(n * 7 + i) * 101);
    }
    struct write_batch b = {.n = k,
                            .series = series,
                            .t_ms = times,
                            .v = v,
                            .n_histograms = HISTOGRAMS,
                            .h_series = h_series,
                            .h_t_ms = h_times,
                            .h = h};
    struct write_result result;
    CHECK_OK(tenant_write(t, &b, ignore_done, NULL, &result, &w->err), &w->err);
    tenant_write_end(t);
    CHECK_OK(engine_commit(w->engine, &w->err), &w->err);
    arena_release(&arena);
}

static struct tenant *tenant_of(struct world *w, size_t i, bool create)
{
    struct tenant *t = NULL;
    enum err_code rc = engine_tenant(w->engine, str_of(tenant_names[i]), create, &t, &w->err);
    if (create) CHECK_OK(rc, &w->err);
    return rc ? NULL : t;
}

static void describe(struct world *w, struct tenant *t, int n)
{
    char help[64];
    snprintf(help, sizeof(help), "Requests, as described in version %d.", n);
    struct catalog_metadata items[] = {
        {STR("requests_total"), STR("counter"), STR(""), str_of(help)},
        {STR("temperature"), STR("gauge"), STR("celsius"), STR("How warm it is.")}};
    CHECK_OK(tenant_put_metadata(t, items, COUNT_OF(items), &w->err), &w->err);
}

static void compact_to(struct world *w, size_t tenant, uint32_t level)
{
    struct engine_compact_options options = {.level = level};
    struct engine_compact_report report;
    CHECK_OK(engine_compact(w->engine, tenant_of(w, tenant, false), &options, &report, &w->err),
             &w->err);
}

/* Of one tenant, as many samples as are in the middle of what is written. */
static void delete_some(struct world *w)
{
    struct matcher m = {.op = MATCH_EQ, .name = STR("i"), .value = STR("3")};
    struct matcher_set set = {&m, 1};
    CHECK_OK(tenant_delete(tenant_of(w, 0, false), &set, 1, NOW_MS - 60 * HOUR_MS,
                           NOW_MS - 20 * HOUR_MS, &w->err),
             &w->err);
}

/* Five spans of time, each flushed twice; then blocks of all levels come of them, and at last what stays in the log. */
static void fill(struct world *w)
{
    int n = 1;
    for (int span = 0; span < 5; span++) {
        int64_t begin_ms = NOW_MS - (5 - span) * 20 * HOUR_MS;
        for (int half = 0; half < 2; half++) {
            for (size_t i = 0; i < TENANTS; i++) {
                struct tenant *t = tenant_of(w, i, true);
                for (int k = 0; k < 20; k++)
                    scrape(w, t, begin_ms + (half * 20 + k) * 60000 + (int64_t)i, n++);
                describe(w, t, n);
            }
            CHECK_OK(engine_flush(w->engine, NULL, &w->err), &w->err);
        }
        CHECK_OK(engine_step(w->engine, &w->err), &w->err);
        if (span == 1) compact_to(w, 0, 3);
        if (span == 2) compact_to(w, 1, 2);
        if (span == 3) compact_to(w, 1, 1);
    }
    delete_some(w);
    for (size_t i = 0; i < TENANTS; i++)
        for (int k = 0; k < 12; k++)
            scrape(w, tenant_of(w, i, true), NOW_MS - HOUR_MS + k * 15000, n++);
    clock_fake_advance(&w->clock, 2000);
    CHECK_OK(engine_step(w->engine, &w->err), &w->err);
    /* In the catalog's WAL alone. */
    CHECK_OK(engine_flush(w->engine, tenant_of(w, 2, false), &w->err), &w->err);
    for (size_t i = 0; i < TENANTS; i++)
        for (int k = 0; k < 12; k++)
            scrape(w, tenant_of(w, i, true), NOW_MS - HOUR_MS / 2 + k * 15000, n++);
}

/* ---- the disk as bytes ---- */

struct image_file {
    char path[256];
    struct buf bytes;
};
struct image {
    struct image_file files[FILES_MAX];
    size_t n;
};

static bool copy_file(void *ctx, const char *path, uint64_t size)
{
    (void)size;
    struct image *image = ctx;
    CHECK(image->n < FILES_MAX);
    struct image_file *f = &image->files[image->n++];
    snprintf(f->path, sizeof(f->path), "%s", path);
    buf_init(&f->bytes, MEM_BASE);
    return true;
}

static void image_take(struct image *image, struct world *w)
{
    image->n = 0;
    io_sim_paths(w->disk, copy_file, image);
    for (size_t i = 0; i < image->n; i++)
        CHECK(io_sim_copy_out(w->disk, image->files[i].path, false, &image->files[i].bytes));
}

static void image_release(struct image *image)
{
    for (size_t i = 0; i < image->n; i++) buf_release(&image->files[i].bytes);
}

static void put_file(struct world *w, const char *path, const void *p, size_t len)
{
    struct file *file;
    char dir[IO_PATH_BYTES];
    CHECK_OK(io_parent(dir, sizeof(dir), &w->err, path), &w->err);
    CHECK_OK(io_mkdir_all(w->env.io, dir, &w->err), &w->err);
    CHECK_OK(io_open(w->env.io, path, IO_WRITE | IO_CREATE, &file, &w->err), &w->err);
    if (len) CHECK_OK(file_write_at(file, 0, p, len, &w->err), &w->err);
    CHECK_OK(file_sync(file, &w->err), &w->err);
    file_close(file);
    CHECK_OK(io_sync_dir(w->env.io, dir, &w->err), &w->err);
}

struct damage {
    const struct image_file *file;
    bool truncate;
    size_t off; /* of the byte, or the new size */
    unsigned bit;
};

static void image_put(const struct image *image, struct world *w, const struct damage *d)
{
    for (size_t i = 0; i < image->n; i++) {
        const struct image_file *f = &image->files[i];
        size_t len = d && d->file == f && d->truncate ? d->off : f->bytes.len;
        put_file(w, f->path, f->bytes.p, len);
        if (d && d->file == f && !d->truncate) io_sim_flip_bit(w->disk, f->path, d->off, d->bit);
    }
}

/* ---- answers ---- */

struct answer_sample {
    int64_t t_ms;
    uint64_t bits;
};
struct answer {
    size_t tenant;
    char key[256]; /* labels, or a family */
    struct answer_sample *samples;
    size_t n;
};
struct answers {
    struct answer items[SERIES_MAX];
    size_t n;
    /* Errors and warnings that came with them */
    char texts[16384];
    size_t n_text_bytes, n_errors, n_warnings;
};

static void answers_release(struct answers *a)
{
    for (size_t i = 0; i < a->n; i++) mem_free(a->items[i].samples);
    a->n = 0;
}

static void add_text(struct answers *a, const char *text)
{
    size_t len = strlen(text);
    if (a->n_text_bytes + len + 2 > sizeof(a->texts)) return;
    memcpy(a->texts + a->n_text_bytes, text, len);
    a->n_text_bytes += len;
    a->texts[a->n_text_bytes++] = '\n';
    a->texts[a->n_text_bytes] = 0;
}

static void add_error(struct answers *a, const struct err *err)
{
    char text[ERR_TEXT_BYTES + ERR_FILE_BYTES + 64];
    a->n_errors++;
    add_text(a, err_describe(err, text, sizeof(text)));
}

static struct answer *new_answer(struct answers *a, size_t tenant, const char *key, size_t len)
{
    CHECK(a->n < SERIES_MAX);
    struct answer *x = &a->items[a->n++];
    *x = (struct answer){.tenant = tenant};
    CHECK(len < sizeof(x->key));
    memcpy(x->key, key, len);
    x->key[len] = 0;
    return x;
}

static uint64_t bits_of(const struct samples *s, size_t i)
{
    if (!s->h || !s->h[i]) return double_bits(s->v[i]);
    struct buf b;
    buf_init(&b, MEM_BASE);
    histogram_encode(&b, s->h[i]);
    uint64_t hash = hash_xxh3(b.p, b.len);
    buf_release(&b);
    return hash;
}

static void read_series(struct answers *a, size_t tenant, struct engine_select *sel, size_t i)
{
    struct arena arena;
    struct samples s;
    struct err err;
    struct buf key;
    arena_init(&arena, MEM_BASE, 0);
    samples_init(&s, MEM_BASE, &arena);
    buf_init(&key, MEM_BASE);
    if (select_read(sel, i, INT64_MIN / 2, INT64_MAX / 2, &s, &err)) {
        add_error(a, &err);
    } else {
        labels_print(&key, select_labels(sel, i));
        struct answer *x = new_answer(a, tenant, (const char *)key.p, key.len);
        x->n = s.n;
        x->samples = mem_calloc(MEM_BASE, s.n + 1, sizeof(*x->samples));
        CHECK(x->samples != NULL);
        for (size_t k = 0; k < s.n; k++)
            x->samples[k] = (struct answer_sample){s.t_ms[k], bits_of(&s, k)};
    }
    buf_release(&key);
    samples_release(&s);
    arena_release(&arena);
}

static void ask_select(struct answers *a, size_t tenant, struct tenant *t, const char *name)
{
    struct matcher m = {.op = MATCH_EQ, .name = STR(LABEL_NAME), .value = str_of(name)};
    struct engine_select *sel;
    struct err err;
    if (tenant_select(t, &m, 1, INT64_MIN / 2, INT64_MAX / 2, &sel, &err)) {
        add_error(a, &err);
        return;
    }
    for (size_t i = 0; i < select_count(sel); i++) read_series(a, tenant, sel, i);
    select_release(sel);
}

static void ask_warnings(struct answers *a, struct tenant *t)
{
    struct arena arena;
    struct engine_damage *items;
    struct err err;
    size_t n;
    arena_init(&arena, MEM_BASE, 0);
    CHECK_OK(tenant_missing(t, INT64_MIN / 2, INT64_MAX / 2, &arena, &items, &n, &err), &err);
    a->n_warnings += n;
    for (size_t i = 0; i < n; i++) add_text(a, items[i].info.ulid.text);
    arena_release(&arena);
}

static void ask_strings(struct answers *a, size_t tenant, struct tenant *t, const char *label)
{
    struct arena arena;
    struct label_want want = {0};
    struct str *items;
    struct err err;
    size_t n;
    bool cut;
    char key[64];
    arena_init(&arena, MEM_BASE, 0);
    if (tenant_label_values(t, str_of(label), NULL, 0, INT64_MIN / 2, INT64_MAX / 2, &want, &arena,
                            &items, &n, &cut, &err)) {
        add_error(a, &err);
    } else {
        uint64_t hash = n;
        for (size_t i = 0; i < n; i++) hash = hash * 31 + hash_xxh3(items[i].p, items[i].len);
        int len = snprintf(key, sizeof(key), "values of %s", label);
        struct answer *x = new_answer(a, tenant, key, (size_t)len);
        x->n = 1;
        x->samples = mem_calloc(MEM_BASE, 1, sizeof(*x->samples));
        x->samples[0] = (struct answer_sample){0, hash};
    }
    arena_release(&arena);
}

static void ask_metadata(struct answers *a, size_t tenant, struct tenant *t)
{
    struct arena arena;
    struct catalog_metadata *items;
    struct err err;
    size_t n;
    arena_init(&arena, MEM_BASE, 0);
    if (tenant_metadata(t, STR(""), &arena, &items, &n, &err)) {
        add_error(a, &err);
        n = 0;
    }
    for (size_t i = 0; i < n; i++) {
        struct answer *x = new_answer(a, tenant, items[i].family.p, items[i].family.len);
        uint64_t hash = hash_xxh3(items[i].help.p, items[i].help.len) * 31 +
                        hash_xxh3(items[i].type.p, items[i].type.len);
        x->n = 1;
        x->samples = mem_calloc(MEM_BASE, 1, sizeof(*x->samples));
        x->samples[0] = (struct answer_sample){1, hash};
    }
    arena_release(&arena);
}

static void ask_all(struct world *w, struct answers *a)
{
    static const char *const metrics[] = {"requests_total", "temperature", "latency_bucket",
                                          "latency_count", "native"};
    memset(a, 0, sizeof(*a));
    for (size_t i = 0; i < TENANTS; i++) {
        struct tenant *t = tenant_of(w, i, false);
        if (!t) continue;
        for (size_t k = 0; k < COUNT_OF(metrics); k++) ask_select(a, i, t, metrics[k]);
        ask_strings(a, i, t, "i");
        ask_strings(a, i, t, "le");
        ask_metadata(a, i, t);
        ask_warnings(a, t);
    }
}

/* ---- judging ---- */

enum outcome { HARMLESS, HEALED, DETECTED, REFUSED, OUTCOMES };
static const char *const outcome_names[] = {"harmless", "healed", "detected", "refused"};

struct flips {
    struct image image;
    struct answers reference, got;
    struct rng *rng;
    uint64_t counts[OUTCOMES];
    uint64_t by_kind[OUTCOMES][8];
    uint64_t n_found_by_verify, n_rebuilt;
};

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static size_t kind_of(const char *path)
{
    static const char *const suffixes[] = {".block",      ".wal",        ".sqlite",
                                           ".sqlite-wal", ".snapshot.0", ".snapshot.1"};
    for (size_t i = 0; i < COUNT_OF(suffixes); i++)
        if (str_has_suffix(str_of(path), str_of(suffixes[i]))) return i;
    return COUNT_OF(suffixes);
}

/* The name of a file, without what is after its first dot for blocks: texts name the block. */
static bool names_file(const char *text, const char *path)
{
    char name[IO_PATH_BYTES];
    snprintf(name, sizeof(name), "%s", base_name(path));
    char *suffix = strstr(name, ".block");
    if (suffix) *suffix = 0;
    suffix = strstr(name, ".sqlite");
    if (suffix) *suffix = 0;
    return strstr(text, name) != NULL;
}

static const struct answer *find_answer(const struct answers *a, const struct answer *like)
{
    for (size_t i = 0; i < a->n; i++)
        if (a->items[i].tenant == like->tenant && strcmp(a->items[i].key, like->key) == 0 &&
            (like->n != 1 || a->items[i].n != 1 ||
             a->items[i].samples[0].t_ms == like->samples[0].t_ms))
            return &a->items[i];
    return NULL;
}

static bool same_answer(const struct answer *a, const struct answer *b)
{
    return a->n == b->n && memcmp(a->samples, b->samples, a->n * sizeof(*a->samples)) == 0;
}

static bool has_sample(const struct answer *a, const struct answer_sample *s)
{
    for (size_t i = 0; i < a->n; i++)
        if (a->samples[i].t_ms == s->t_ms) return a->samples[i].bits == s->bits;
    return false;
}

static void describe_damage(const struct damage *d, char *out, size_t size)
{
    if (d->truncate)
        snprintf(out, size, "%s of %zu bytes cut to %zu", d->file->path, d->file->bytes.len,
                 d->off);
    else
        snprintf(out, size, "%s of %zu bytes, bit %u of byte %zu", d->file->path,
                 d->file->bytes.len, d->bit, d->off);
}

static void silent(struct flips *x, const struct damage *d, struct world *w, const char *what)
{
    char text[512];
    describe_damage(d, text, sizeof(text));
    test_fail(__FILE__, __LINE__, "SILENT %s: %s\nanswers said:\n%slog said:\n%s", text, what,
              x->got.texts, w->lines);
}

/* Is everything as it was? What is not must be missing, never another value. */
static bool judge_answers(struct flips *x, const struct damage *d, struct world *w)
{
    bool same = x->got.n_errors == 0;
    char what[400];
    for (size_t i = 0; i < x->reference.n; i++) {
        const struct answer *want = &x->reference.items[i];
        const struct answer *got = find_answer(&x->got, want);
        if (got && same_answer(got, want)) continue;
        same = false;
    }
    for (size_t i = 0; i < x->got.n; i++) {
        const struct answer *got = &x->got.items[i];
        const struct answer *want = find_answer(&x->reference, got);
        bool is_list = str_has_prefix(str_of(got->key), STR("values of "));
        for (size_t k = 0; !is_list && k < got->n; k++) {
            if (want && has_sample(want, &got->samples[k])) continue;
            snprintf(what, sizeof(what), "a wrong value of %s at %" PRId64, got->key,
                     got->samples[k].t_ms);
            silent(x, d, w, what);
        }
    }
    return same;
}

static void count_finding(void *ctx, const struct verify_finding *f)
{
    struct flips *x = ctx;
    (void)f;
    x->n_found_by_verify++;
}

/* Before anything is opened: does the check find it? It need not where the bytes mean nothing. */
static bool verify_finds(struct flips *x, const struct damage *d)
{
    struct world w;
    struct verify_totals totals;
    uint64_t before = x->n_found_by_verify;
    struct verify_options options = {.n_threads = 1, .fn = count_finding, .ctx = x};
    world_init(&w, 5);
    image_put(&x->image, &w, d);
    CHECK_OK(verify_data_dir(&w.env, "/data", &options, &totals, &w.err), &w.err);
    world_release(&w);
    return x->n_found_by_verify > before;
}

/* The start refused: a new catalog must bring everything back. */
static void rebuild_and_ask(struct flips *x, const struct damage *d, struct world *w)
{
    struct rebuild_report report;
    CHECK_OK(catalog_rebuild(&w->env, "/data", NULL, NULL, &report, &w->err), &w->err);
    CHECK_OK(engine_open(&w->env, &w->config, &w->engine, &w->err), &w->err);
    ask_all(w, &x->got);
    if (!judge_answers(x, d, w)) silent(x, d, w, "a new catalog does not bring everything back");
    answers_release(&x->got);
    x->n_rebuilt++;
}

/* What looked whole must stay so when the damaged file is worked with: steps, flushes, another start. */
static void open_again(struct flips *x, const struct damage *d, struct world *w)
{
    answers_release(&x->got);
    CHECK_OK(engine_step(w->engine, &w->err), &w->err);
    CHECK_OK(engine_close(w->engine, true, &w->err), &w->err);
    w->engine = NULL;
    CHECK_OK(engine_open(&w->env, &w->config, &w->engine, &w->err), &w->err);
    ask_all(w, &x->got);
    if (!judge_answers(x, d, w)) silent(x, d, w, "something is missing after another start");
}

static enum outcome run(struct flips *x, const struct damage *d)
{
    struct world w;
    enum outcome outcome;
    bool found = verify_finds(x, d);
    world_init(&w, 5);
    image_put(&x->image, &w, d);
    memset(&x->got, 0, sizeof(x->got));
    enum err_code rc = engine_open(&w.env, &w.config, &w.engine, &w.err);
    if (rc) {
        char text[ERR_TEXT_BYTES + ERR_FILE_BYTES + 64];
        err_describe(&w.err, text, sizeof(text));
        if (!names_file(text, d->file->path)) silent(x, d, &w, text);
        outcome = REFUSED;
        bool is_catalog = strstr(d->file->path, "catalog.sqlite") != NULL;
        if (is_catalog) rebuild_and_ask(x, d, &w);
    } else {
        ask_all(&w, &x->got);
        bool same = judge_answers(x, d, &w);
        if (same) open_again(x, d, &w);
        bool told = names_file(x->got.texts, d->file->path) || names_file(w.lines, d->file->path);
        if (!same && !told) silent(x, d, &w, "something is missing");
        outcome = !same ? DETECTED : told || w.n_line_bytes ? HEALED : HARMLESS;
        answers_release(&x->got);
    }
    if (outcome != HARMLESS && outcome != HEALED && !found)
        silent(x, d, &w, "quipu verify does not find it");
    if (kind_of(d->file->path) == 0 && !found) silent(x, d, &w, "quipu verify does not find it");
    world_release(&w);
    return outcome;
}

/* Each kind of file as often as any other. */
static const struct image_file *choose_file(const struct image *image, struct rng *rng)
{
    size_t kind = rng_below(rng, 6);
    for (;;) {
        const struct image_file *f = &image->files[rng_below(rng, image->n)];
        if (f->bytes.len && kind_of(f->path) == kind) return f;
    }
}

static struct damage choose_damage(const struct image *image, struct rng *rng)
{
    struct damage d = {.file = choose_file(image, rng), .truncate = rng_chance(rng, 0.2)};
    size_t len = d.file->bytes.len;
    /* The log's files end in zeros that were written ahead: most flips are in what counts. */
    while (len > 4096 && d.file->bytes.p[len - 1] == 0 && !d.truncate && kind_of(d.file->path) == 1)
        len--;
    d.off = rng_below(rng, len);
    d.bit = (unsigned)rng_below(rng, 8);
    return d;
}

static void prepare(struct flips *x)
{
    struct world w;
    world_init(&w, 3);
    CHECK_OK(engine_open(&w.env, &w.config, &w.engine, &w.err), &w.err);
    fill(&w);
    image_take(&x->image, &w);
    world_release(&w);
    world_init(&w, 4);
    image_put(&x->image, &w, NULL);
    CHECK_OK(engine_open(&w.env, &w.config, &w.engine, &w.err), &w.err);
    ask_all(&w, &x->reference);
    CHECK(x->reference.n_errors == 0 && x->reference.n_warnings == 0);
    world_release(&w);
    size_t kinds[8] = {0}, bytes = 0;
    for (size_t i = 0; i < x->image.n; i++) {
        kinds[kind_of(x->image.files[i].path)]++;
        bytes += x->image.files[i].bytes.len;
        if (getenv("QUIPU_TEST_LOG"))
            fprintf(stderr, "%s %zu\n", x->image.files[i].path, x->image.files[i].bytes.len);
    }
    for (size_t i = 0; i < 6; i++) CHECK(kinds[i] > 0);
    printf("%zu files, %zu bytes, %zu answers\n", x->image.n, bytes, x->reference.n);
}

static void test_flips(void **state)
{
    (void)state;
    static struct flips flips;
    struct flips *x = &flips;
    const char *text = getenv("QUIPU_FLIPS");
    uint64_t n = text ? strtoull(text, NULL, 10) : ROUNDS;
    struct rng rng;
    prepare(x);
    PROPERTY_LOOP(&rng, n)
    {
        struct damage d = choose_damage(&x->image, &rng);
        enum outcome outcome = run(x, &d);
        x->counts[outcome]++;
        x->by_kind[outcome][kind_of(d.file->path)]++;
    }
    printf("%10s %8s %8s %8s %8s %8s %8s\n", "", "block", "wal", "catalog", "its wal", "snap.0",
           "snap.1");
    for (size_t i = 0; i < OUTCOMES; i++) {
        printf("%10s", outcome_names[i]);
        for (size_t k = 0; k < 6; k++) printf(" %8" PRIu64, x->by_kind[i][k]);
        printf("\n");
    }
    printf("%" PRIu64 " catalogs made anew; no silent loss, no wrong value\n", x->n_rebuilt);
    answers_release(&x->reference);
    image_release(&x->image);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_flips)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
