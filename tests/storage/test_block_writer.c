/* tests/storage/test_block_writer.c: blocks of targets that are scraped: shared times, series that begin late, end early
 * or miss scrapes, families of buckets, start times, histograms; written in every way the writer has, by turns, and read
 * back against what was written. */
#include "storage/block.h"

#include "storage/family.h"
#include "storage/format.h"
#include "tests/storage/gen_block.h"

#define SERIES_MAX 600

struct model_series {
    struct labels labels;
    struct samples samples;
    uint32_t family, member; /* family + 1; 0: none. member FAMILY_COUNT: _count */
    uint32_t id;             /* while it is written */
    size_t n_written;
};

struct model {
    struct arena arena;
    struct model_series series[SERIES_MAX];
    size_t n;
    uint32_t n_families;
    bool with_histograms;
};

/* ---- making it up ---- */

struct target {
    int64_t t_ms[3000];
    size_t n;
};

static void gen_target(struct rng *rng, struct target *t, size_t n)
{
    int64_t at = INT64_C(1700000000000) + (int64_t)rng_below(rng, 15000);
    unsigned kind = (unsigned)rng_below(rng, 4);
    t->n = n;
    for (size_t i = 0; i < n; i++) {
        t->t_ms[i] = at;
        at += (int64_t)gen_step_ms(rng, kind);
    }
}

static struct model_series *add_series(struct model *m, struct rng *rng, const char *name,
                                       size_t target, const char *le)
{
    CHECK(m->n < SERIES_MAX);
    struct model_series *s = &m->series[m->n++];
    struct label *l = ARENA_ARRAY(&m->arena, struct label, 4);
    CHECK(l != NULL);
    size_t n = 0;
    l[n++] = (struct label){STR(LABEL_NAME), str_of(name)};
    l[n++] = (struct label){STR("instance"), arena_printf(&m->arena, "host-%zu", target)};
    if (le) l[n++] = (struct label){STR("le"), arena_printf(&m->arena, "%s", le)};
    l[n++] = (struct label){STR("nr"),
                            arena_printf(&m->arena, "%zu_%x", m->n, (unsigned)rng_below(rng, 256))};
    *s = (struct model_series){.labels = {l, n}};
    samples_init(&s->samples, MEM_BASE, &m->arena);
    return s;
}

static void push_bits(struct samples *s, int64_t t_ms, uint64_t bits)
{
    struct err err;
    CHECK_OK(samples_push(s, t_ms, 0, NULL, &err), &err);
    memcpy(&s->v[s->n - 1], &bits, sizeof(bits));
}

/* Start times: one that moves now and then, or none. */
static void gen_starts(struct rng *rng, struct samples *s)
{
    struct err err;
    if (rng_chance(rng, 0.8)) return;
    CHECK_OK(samples_want_start_times(s, &err), &err);
    int64_t st = rng_chance(rng, 0.5) ? 0 : INT64_C(1699990000000);
    for (size_t i = 0; i < s->n; i++) {
        if (rng_chance(rng, 0.01)) st = rng_chance(rng, 0.2) ? 0 : s->t_ms[i] - 5;
        s->st_ms[i] = st;
    }
}

/* A series of a target: all of its scrapes, or with a late begin, an early end, gaps. */
static void gen_single(struct rng *rng, struct model *m, const struct target *t, size_t target)
{
    struct model_series *s = add_series(m, rng, "single", target, NULL);
    size_t from = rng_chance(rng, 0.7) ? 0 : rng_below(rng, t->n);
    size_t end = rng_chance(rng, 0.7) ? t->n : from + 1 + rng_below(rng, t->n - from);
    double gaps = rng_chance(rng, 0.7) ? 0 : rng_chance(rng, 0.5) ? 0.003 : 0.3;
    if (m->with_histograms && rng_chance(rng, 0.05)) {
        gen_histograms(rng, &s->samples, 1 + rng_below(rng, 30));
        return;
    }
    unsigned kind = (unsigned)rng_below(rng, GEN_VALUE_KINDS);
    double state = (double)rng_below(rng, 1000000);
    for (size_t i = from; i < end; i++)
        if (i == from || !rng_chance(rng, gaps))
            push_bits(&s->samples, t->t_ms[i], gen_value_bits(rng, kind, &state));
    gen_starts(rng, &s->samples);
}

/* Buckets and _count; now and then with what cannot be a family: a fraction, a _count of its own. */
static void gen_family(struct rng *rng, struct model *m, const struct target *t, size_t target)
{
    size_t n_members = FAMILY_MEMBERS_MIN + rng_below(rng, 10);
    size_t first = m->n;
    bool busy = rng_chance(rng, 0.8), ends = rng_chance(rng, 0.3), odd = rng_chance(rng, 0.15),
         other_count = rng_chance(rng, 0.15), has_count = rng_chance(rng, 0.8);
    m->n_families++;
    for (size_t k = 0; k <= n_members - !has_count; k++) {
        char le[16];
        snprintf(le, sizeof(le), "%zu", k);
        struct model_series *s = add_series(m, rng, k < n_members ? "bucket" : "count", target,
                                            k < n_members ? le : NULL);
        s->family = m->n_families;
        s->member = k < n_members ? (uint32_t)k : FAMILY_COUNT;
    }
    double values[16] = {0};
    for (size_t i = 0; i < t->n; i++) {
        double below = 0;
        if (rng_chance(rng, 0.001)) memset(values, 0, sizeof(values)); /* a restart */
        for (size_t k = 0; k < n_members; k++) {
            if (busy) values[k] += below += (double)rng_below(rng, 1 + 3 * k);
            double v = values[k] + (odd && i == 7 && k == 1 ? 0.5 : 0);
            bool stale = ends && i == t->n - 1;
            push_bits(&m->series[first + k].samples, t->t_ms[i],
                      stale ? STALE_NAN_BITS : double_bits(v));
            if (k + 1 == n_members && has_count)
                push_bits(&m->series[first + n_members].samples, t->t_ms[i],
                          stale ? STALE_NAN_BITS : double_bits(v + (other_count && i > 40)));
        }
    }
}

static int model_cmp(const void *a, const void *b)
{
    return labels_cmp(((const struct model_series *)a)->labels,
                      ((const struct model_series *)b)->labels);
}

static void model_init(struct model *m, struct rng *rng, size_t n_targets, size_t n_max)
{
    struct target *t = mem_alloc(MEM_BASE, sizeof(*t));
    CHECK(t != NULL);
    memset(m, 0, sizeof(*m));
    arena_init(&m->arena, MEM_BASE, 0);
    m->with_histograms = rng_chance(rng, 0.5);
    for (size_t i = 0; i < n_targets; i++) {
        gen_target(rng, t, 1 + rng_below(rng, n_max));
        size_t n_families = rng_below(rng, 4), n_singles = 1 + rng_below(rng, 30);
        for (size_t k = 0; k < n_families; k++) gen_family(rng, m, t, i);
        for (size_t k = 0; k < n_singles; k++) gen_single(rng, m, t, i);
    }
    qsort(m->series, m->n, sizeof(*m->series), model_cmp);
    mem_free(t);
}

static void model_release(struct model *m)
{
    for (size_t i = 0; i < m->n; i++) samples_release(&m->series[i].samples);
    arena_release(&m->arena);
}

/* ---- writing it ---- */

/* The next samples of a series as they are, or as a chunk that was made elsewhere. */
static void write_some(struct rng *rng, struct block_writer *w, struct model_series *s)
{
    struct err err;
    size_t left = s->samples.n - s->n_written;
    size_t n = rng_chance(rng, 0.5) ? left : 1 + rng_below(rng, left);
    unsigned way = s->samples.st_ms ? 0 : (unsigned)rng_below(rng, 4);
    if (way < 2) {
        CHECK_OK(block_writer_samples(w, s->id, &s->samples, s->n_written, n, &err), &err);
        s->n_written += n;
        return;
    }
    struct buf chunk;
    struct chunk_meta meta;
    buf_init(&chunk, MEM_BASE);
    n = MIN_OF(n, 700);
    CHECK_OK(chunk_encode(&s->samples, s->n_written, n, &chunk, &meta, &err), &err);
    if (way == 3 && !s->samples.h) {
        static const enum chunk_encoding encodings[] = {CHUNK_GORILLA, CHUNK_RAW, CHUNK_COLUMNS};
        buf_reset(&chunk);
        CHECK_OK(chunk_encode_as(encodings[rng_below(rng, COUNT_OF(encodings))], &s->samples,
                                 s->n_written, n, &chunk, &err),
                 &err);
    }
    CHECK_OK(block_writer_chunk(w, s->id, &meta, buf_bytes(&chunk), &err), &err);
    s->n_written += n;
    buf_release(&chunk);
}

/* The next samples of a family, which are as many for each member. */
static void write_family(struct rng *rng, struct block_writer *w, struct model *m, uint32_t family)
{
    struct err err;
    uint32_t ids[FAMILY_MEMBERS_MAX];
    const double *v[FAMILY_MEMBERS_MAX];
    struct block_family f = {.ids = ids, .v = v, .count_id = BLOCK_NO_SERIES};
    size_t n = 0, from = 0;
    for (size_t i = 0; i < m->n; i++) {
        struct model_series *s = &m->series[i];
        if (s->family != family) continue;
        if (!f.t_ms) {
            from = s->n_written;
            if (from == s->samples.n) return;
            n = rng_chance(rng, 0.5) ? s->samples.n - from
                                     : 1 + rng_below(rng, s->samples.n - from);
            f.t_ms = s->samples.t_ms + from;
        }
        if (s->member == FAMILY_COUNT) {
            f.count_id = s->id;
            f.count = s->samples.v + from;
        } else {
            ids[s->member] = s->id;
            v[s->member] = s->samples.v + from;
            f.n_members++;
        }
        s->n_written += n;
    }
    f.n = n;
    CHECK_OK(block_writer_family(w, &f, &err), &err);
}

static void write_model(struct test_env *e, struct rng *rng, struct model *m, uint32_t level,
                        struct block_info *info, char *path, size_t path_size)
{
    struct err err;
    struct block_writer *w;
    *info = (struct block_info){.incarnation = 1, .level = level};
    ulid_make(&info->ulid, INT64_C(1700000000000), rng);
    CHECK_OK(block_writer_open(&e->env, e->dir, info, &w, &err), &err);
    size_t n_left = 0;
    for (size_t i = 0; i < m->n; i++) {
        struct model_series *s = &m->series[i];
        s->n_written = 0;
        CHECK_OK(block_writer_series(w, s->labels, &s->id, &err), &err);
        n_left += !s->family;
    }
    for (uint32_t family = 1; family <= m->n_families; family++)
        for (int k = 0; k < 3; k++) write_family(rng, w, m, family);
    for (size_t i = 0; i < m->n; i++) { /* what is left of families: series by series */
        struct model_series *s = &m->series[i];
        while (s->family && s->n_written < s->samples.n) write_some(rng, w, s);
    }
    bool in_order = rng_chance(rng, 0.5);
    for (size_t i = 0; n_left; i = in_order ? (i + 1) % m->n : rng_below(rng, m->n)) {
        struct model_series *s = &m->series[i];
        if (s->n_written == s->samples.n) continue;
        do write_some(rng, w, s);
        while (in_order && s->n_written < s->samples.n);
        n_left -= s->n_written == s->samples.n;
    }
    CHECK_OK(block_writer_finish(w, info, &err), &err);
    block_writer_close(w);
    snprintf(path, path_size, "%s/%s.block", e->dir, info->ulid.text);
}

/* ---- reading it ---- */

static void check_starts(const struct samples *got, const struct samples *expected, size_t from)
{
    for (size_t i = 0; i < got->n; i++) {
        int64_t a = got->st_ms ? got->st_ms[i] : 0;
        CHECK_I64(a, expected->st_ms ? expected->st_ms[from + i] : 0);
    }
}

struct metas {
    const struct samples *expected;
    size_t n, from;
    int64_t mint_ms, maxt_ms;
};

/* The samples between the chunk's ends are those it speaks of. */
static enum err_code check_meta(void *ctx, const struct chunk_meta *meta, struct err *err)
{
    (void)err;
    struct metas *m = ctx;
    const struct samples *s = m->expected;
    CHECK(meta->t_max_ms >= m->mint_ms && meta->t_min_ms <= m->maxt_ms);
    while (m->from < s->n && s->t_ms[m->from] < meta->t_min_ms) m->from++;
    CHECK(m->from + meta->n <= s->n);
    CHECK_I64(s->t_ms[m->from], meta->t_min_ms);
    CHECK_I64(s->t_ms[m->from + meta->n - 1], meta->t_max_ms);
    uint64_t first;
    memcpy(&first, &s->v[m->from], sizeof(first));
    if (!s->h && first != STALE_NAN_BITS) CHECK_U64(double_bits(meta->first), first);
    m->from += meta->n;
    m->n += meta->n;
    return ERR_OK;
}

static void check_series(struct block *b, uint32_t id, const struct model_series *s,
                         struct rng *rng)
{
    struct err err;
    struct arena arena;
    struct samples got;
    arena_init(&arena, MEM_BASE, 0);
    samples_init(&got, MEM_BASE, &arena);
    struct labels labels;
    CHECK_OK(block_labels(b, id, &arena, &labels, &err), &err);
    CHECK(labels_cmp(labels, s->labels) == 0);
    CHECK_OK(block_read(b, id, INT64_MIN, INT64_MAX, &got, &err), &err);
    check_same_samples(&got, &s->samples, 0, s->samples.n);
    check_starts(&got, &s->samples, 0);
    for (int k = 0; k < 3; k++) { /* a part, behind what is there already */
        size_t n = s->samples.n, from = rng_below(rng, n), len = 1 + rng_below(rng, n - from);
        samples_reset(&got);
        CHECK_OK(samples_push(&got, 1, 1, NULL, &err), &err);
        struct metas metas = {.expected = &s->samples,
                              .mint_ms = s->samples.t_ms[from],
                              .maxt_ms = s->samples.t_ms[from + len - 1]};
        CHECK_OK(block_read(b, id, metas.mint_ms, metas.maxt_ms, &got, &err), &err);
        CHECK_U64(got.n, len + 1);
        struct samples rest = got;
        rest.t_ms++, rest.v++, rest.n--;
        if (rest.h) rest.h++;
        if (rest.st_ms) rest.st_ms++;
        check_same_samples(&rest, &s->samples, from, len);
        check_starts(&rest, &s->samples, from);
        CHECK_OK(block_metas(b, id, metas.mint_ms, metas.maxt_ms, check_meta, &metas, &err), &err);
        CHECK(metas.n >= len);
    }
    samples_release(&got);
    arena_release(&arena);
}

static void test_written_in_every_way(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 40)
    {
        struct err err;
        struct test_env e;
        struct page_cache *cache;
        struct block *b;
        struct block_info info;
        char path[512];
        static struct model m;
        test_env_init(&e);
        CHECK_OK(page_cache_new(&e.env, 256 << 10, &cache, &err), &err);
        model_init(&m, &rng, 1 + rng_below(&rng, 4), rng_chance(&rng, 0.3) ? 3000 : 200);
        write_model(&e, &rng, &m, (uint32_t)rng_below(&rng, 4), &info, path, sizeof(path));
        CHECK_OK(block_open(&e.env, path, cache, &b, &err), &err);
        CHECK_U64(info.n_series, m.n);
        uint64_t n_samples = 0;
        for (size_t i = 0; i < m.n; i++) n_samples += m.series[i].samples.n;
        CHECK_U64(info.n_samples, n_samples);
        CHECK_OK(block_verify(b, NULL, NULL, &err), &err);
        for (uint32_t i = 0; i < m.n; i++) check_series(b, i, &m.series[i], &rng);
        block_unref(b);
        model_release(&m);
        page_cache_free(cache);
        test_env_release(&e);
    }
}

/* ---- what sharing saves ---- */

static uint64_t section_bytes(struct block *b, const char *name, uint64_t *n_pages)
{
    struct block_section_info sections[16];
    size_t n = block_sections(b, sections, COUNT_OF(sections));
    for (size_t i = 0; i < n; i++) {
        if (strcmp(sections[i].name, name) != 0) continue;
        if (n_pages) *n_pages = sections[i].n_pages;
        return sections[i].bytes;
    }
    return 0;
}

/* 100 series of one jittery target, of which some begin late or end early: their times are there once. */
static void test_times_are_stored_once(void **state)
{
    (void)state;
    struct rng rng;
    test_rng(&rng);
    struct err err;
    struct test_env e;
    struct page_cache *cache;
    static struct target t;
    test_env_init(&e);
    CHECK_OK(page_cache_new(&e.env, 1 << 20, &cache, &err), &err);
    uint64_t bytes[2];
    for (int round = 0; round < 2; round++) { /* one series, then a hundred */
        struct block_info info = {.incarnation = 1, .level = 2};
        struct block_writer *w;
        struct block *b;
        char path[512];
        rng_seed(&rng, 5);
        int64_t at = 1700000000000;
        for (t.n = 0; t.n < 3000; t.n++) t.t_ms[t.n] = at += 1000 + (int64_t)rng_below(&rng, 300);
        ulid_make(&info.ulid, 1, &rng);
        CHECK_OK(block_writer_open(&e.env, e.dir, &info, &w, &err), &err);
        for (int i = 0; i < (round ? 100 : 1); i++) {
            char text[16];
            uint32_t id;
            snprintf(text, sizeof(text), "%03d", i);
            struct label l = {STR("a"), str_of(text)};
            CHECK_OK(block_writer_series(w, (struct labels){&l, 1}, &id, &err), &err);
            size_t from = i % 3 == 1 ? (size_t)i * 11 : 0,
                   end = i % 3 == 2 ? 3000 - (size_t)i : 3000;
            struct samples s;
            samples_init(&s, MEM_BASE, NULL);
            for (size_t k = from; k < end; k++)
                CHECK_OK(samples_push(&s, t.t_ms[k], (double)(k * 7), NULL, &err), &err);
            CHECK_OK(block_writer_samples(w, id, &s, 0, s.n, &err), &err);
            samples_release(&s);
        }
        CHECK_OK(block_writer_finish(w, &info, &err), &err);
        block_writer_close(w);
        snprintf(path, sizeof(path), "%s/%s.block", e.dir, info.ulid.text);
        CHECK_OK(block_open(&e.env, path, cache, &b, &err), &err);
        bytes[round] = section_bytes(b, "times", NULL);
        CHECK_OK(block_verify(b, NULL, NULL, &err), &err);
        block_unref(b);
    }
    CHECK(bytes[0] > 3000 && bytes[0] < 4500); /* 8 bits and a bit each */
    CHECK_U64(bytes[1], bytes[0]);
    page_cache_free(cache);
    test_env_release(&e);
}

/* ---- damage ---- */

/* Everything there is. What does not fail is what was written. */
static enum err_code read_all(struct test_env *e, struct page_cache *cache, const char *path,
                              const struct model *m, struct err *err)
{
    struct block *b;
    enum err_code rc = block_open(&e->env, path, cache, &b, err);
    if (rc) return rc;
    CHECK_U64(block_info(b)->n_series, m->n);
    struct arena arena;
    struct samples got;
    arena_init(&arena, MEM_BASE, 0);
    samples_init(&got, MEM_BASE, &arena);
    enum err_code worst = ERR_OK;
    for (uint32_t i = 0; i < m->n; i++) {
        samples_reset(&got);
        rc = block_read(b, i, INT64_MIN, INT64_MAX, &got, err);
        if (rc) {
            worst = rc;
            continue;
        }
        check_same_samples(&got, &m->series[i].samples, 0, m->series[i].samples.n);
        check_starts(&got, &m->series[i].samples, 0);
    }
    rc = block_verify(b, NULL, NULL, err);
    if (worst) CHECK(rc != ERR_OK); /* what a reader meets, the checker finds */
    samples_release(&got);
    arena_release(&arena);
    block_unref(b);
    return rc;
}

static void write_image(const char *path, const uint8_t *p, size_t len)
{
    FILE *file = fopen(path, "wb");
    CHECK(file != NULL);
    CHECK(fwrite(p, 1, len, file) == len);
    CHECK(fclose(file) == 0);
}

/* Every byte of small blocks, flipped in a bit of it, one after the other; and every length. */
static void test_every_flip_is_found(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 4)
    {
        struct err err;
        struct test_env e;
        struct page_cache *cache;
        struct block_info info;
        char path[512];
        static struct model m;
        test_env_init(&e);
        CHECK_OK(page_cache_new(&e.env, 256 << 10, &cache, &err), &err);
        model_init(&m, &rng, 1, 40);
        write_model(&e, &rng, &m, (uint32_t)rng_below(&rng, 4), &info, path, sizeof(path));
        uint8_t *image;
        size_t len;
        CHECK_OK(io_read_file(io_posix(), path, 1 << 30, &image, &len, &err), &err);
        CHECK_OK(read_all(&e, cache, path, &m, &err), &err);
        for (size_t i = 0; i < len; i++) {
            uint8_t flip = (uint8_t)(1 << rng_below(&rng, 8));
            image[i] ^= flip;
            write_image(path, image, len);
            enum err_code rc = read_all(&e, cache, path, &m, &err);
            if (rc != ERR_CORRUPT && rc != ERR_VERSION)
                test_fail(__FILE__, __LINE__, "flip of byte %zu: %s", i, err_code_name(rc));
            image[i] ^= flip;
        }
        for (size_t n = 0; n < len; n += 1 + len / 200) {
            write_image(path, image, n);
            CHECK_ERR(read_all(&e, cache, path, &m, &err), ERR_CORRUPT);
        }
        mem_free(image);
        model_release(&m);
        page_cache_free(cache);
        test_env_release(&e);
    }
}

/* ---- lack of memory: every allocation of writing and reading a family and more fails in turn ---- */

struct countdown {
    uint64_t left;
    bool fired;
};

static bool fail_at_zero(void *ctx, size_t size)
{
    (void)size;
    struct countdown *c = ctx;
    if (c->left-- != 0) return false;
    return c->fired = true;
}

#define FAMILY_SERIES 4 /* three buckets, _count */
#define FAMILY_N 300

struct input {
    int64_t t_ms[FAMILY_N];
    double v[FAMILY_SERIES][FAMILY_N];
    struct samples single; /* of the same times, with start times */
};

static void input_init(struct input *in, struct rng *rng)
{
    struct err err;
    int64_t at = INT64_C(1700000000000);
    samples_init(&in->single, MEM_BASE, NULL);
    for (int i = 0; i < FAMILY_N; i++) {
        in->t_ms[i] = at += 15000 + (int64_t)rng_below(rng, 3);
        for (int k = 0; k < 3; k++) in->v[k][i] = (double)(i * (k + 1) + (int)rng_below(rng, 2));
        in->v[3][i] = in->v[2][i];
        CHECK_OK(samples_push(&in->single, at, rng_normal(rng), NULL, &err), &err);
    }
    CHECK_OK(samples_want_start_times(&in->single, &err), &err);
    for (int i = 40; i < FAMILY_N; i++) in->single.st_ms[i] = 1700000000000;
}

static enum err_code write_input(struct block_writer *w, const struct input *in, struct err *err)
{
    static const char *const values[] = {"+Inf", "1", "2", "count", "single"};
    static const unsigned columns[] = {2, 0, 1, 3};
    uint32_t ids[FAMILY_SERIES + 1], members[3];
    const double *v[3] = {in->v[0], in->v[1], in->v[2]};
    enum err_code rc = ERR_OK;
    for (size_t i = 0; !rc && i < COUNT_OF(values); i++) {
        struct label l = {STR("le"), str_of(values[i])};
        rc = block_writer_series(w, (struct labels){&l, 1}, &ids[i], err);
    }
    for (size_t i = 0; !rc && i < 3; i++) members[columns[i]] = ids[i];
    struct block_family f = {members, 3, rc ? 0 : ids[3], in->t_ms, v, in->v[3], FAMILY_N};
    if (!rc) rc = block_writer_family(w, &f, err);
    return rc ? rc : block_writer_samples(w, ids[4], &in->single, 0, FAMILY_N, err);
}

static enum err_code read_input(struct test_env *e, struct page_cache *cache, const char *path,
                                const struct input *in)
{
    struct err err;
    struct block *b;
    struct samples got;
    samples_init(&got, MEM_BASE, NULL);
    enum err_code rc = block_open(&e->env, path, cache, &b, &err);
    if (rc) return rc;
    for (uint32_t id = 0; !rc && id < FAMILY_SERIES + 1; id++) {
        static const unsigned columns[] = {2, 0, 1, 3};
        samples_reset(&got);
        rc = block_read(b, id, INT64_MIN, INT64_MAX, &got, &err);
        if (rc) break;
        CHECK_U64(got.n, FAMILY_N);
        const double *v = id < FAMILY_SERIES ? in->v[columns[id]] : in->single.v;
        CHECK(memcmp(got.v, v, FAMILY_N * sizeof(double)) == 0);
        CHECK(memcmp(got.t_ms, in->t_ms, FAMILY_N * sizeof(int64_t)) == 0);
        if (id == FAMILY_SERIES)
            CHECK(memcmp(got.st_ms, in->single.st_ms, FAMILY_N * sizeof(int64_t)) == 0);
    }
    if (!rc) rc = block_verify(b, NULL, NULL, &err);
    samples_release(&got);
    block_unref(b);
    return rc;
}

static enum err_code write_and_read(struct test_env *e, struct page_cache *cache,
                                    const struct input *in, const struct block_info *like)
{
    struct err err;
    struct block_info info = *like;
    struct block_writer *w = NULL;
    char path[512];
    enum err_code rc = block_writer_open(&e->env, e->dir, &info, &w, &err);
    if (!rc) rc = write_input(w, in, &err);
    if (!rc) rc = block_writer_finish(w, &info, &err);
    block_writer_close(w);
    snprintf(path, sizeof(path), "%s/%s.block", e->dir, info.ulid.text);
    return rc ? rc : read_input(e, cache, path, in);
}

static void test_every_allocation_fails_in_turn(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 2)
    {
        static struct input in;
        struct err err;
        struct test_env e;
        struct page_cache *cache;
        struct block_info info = {.incarnation = 1, .level = (uint32_t)rng_below(&rng, 2) * 2};
        test_env_init(&e);
        CHECK_OK(page_cache_new(&e.env, 1 << 20, &cache, &err), &err);
        input_init(&in, &rng);
        ulid_make(&info.ulid, 1, &rng);
        size_t before = mem_bytes_total();
        uint64_t k = 0;
        for (;; k++) {
            struct countdown c = {k, false};
            mem_set_fail_hook(fail_at_zero, &c);
            enum err_code rc = write_and_read(&e, cache, &in, &info);
            mem_set_fail_hook(NULL, NULL);
            CHECK_U64(mem_bytes_total(), before);
            CHECK(rc == ERR_NO_MEMORY || rc == ERR_OK);
            if (!c.fired) break;
        }
        CHECK(k > 50);
        samples_release(&in.single);
        page_cache_free(cache);
        test_env_release(&e);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_written_in_every_way),
        cmocka_unit_test(test_times_are_stored_once),
        cmocka_unit_test(test_every_flip_is_found),
        cmocka_unit_test(test_every_allocation_fails_in_turn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
