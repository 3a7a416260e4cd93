/* tests/storage/test_block.c: blocks against a plain loop over what was written, and against damage. */
#include "storage/block.h"

#include "tests/storage/gen_block.h"

struct fixture {
    struct test_env e;
    struct page_cache *cache;
    struct gen_set set;
    struct block_info info;
    struct block *block;
    char path[512];
    struct err err;
};

static void fixture_init(struct fixture *f, struct rng *rng, size_t n_series, size_t n_samples)
{
    test_env_init(&f->e);
    CHECK_OK(page_cache_new(&f->e.env, 256 << 10, &f->cache, &f->err), &f->err);
    gen_set_init(&f->set, rng, n_series, n_samples);
    f->info = gen_write_block(&f->e, rng, &f->set, f->path, sizeof(f->path));
    CHECK_OK(block_open(&f->e.env, f->path, f->cache, &f->block, &f->err), &f->err);
}

static void fixture_release(struct fixture *f)
{
    block_unref(f->block);
    gen_set_release(&f->set);
    page_cache_free(f->cache);
    test_env_release(&f->e);
}

static void check_labels_eq(struct labels got, struct labels expected)
{
    CHECK_U64(got.n, expected.n);
    CHECK(labels_cmp(got, expected) == 0);
}

static void check_series(struct fixture *f, uint32_t id, struct rng *rng)
{
    const struct gen_series *s = &f->set.series[id];
    struct arena arena;
    struct samples got;
    arena_init(&arena, MEM_BASE, 0);
    samples_init(&got, MEM_BASE, &arena);
    struct labels labels;
    CHECK_OK(block_labels(f->block, id, &arena, &labels, &f->err), &f->err);
    check_labels_eq(labels, s->labels);
    CHECK_OK(block_read(f->block, id, INT64_MIN, INT64_MAX, &got, &f->err), &f->err);
    check_same_samples(&got, &s->samples, 0, s->samples.n);

    size_t a = rng_below(rng, s->samples.n), b = a + rng_below(rng, s->samples.n - a);
    int64_t mint = s->samples.t_ms[a], maxt = s->samples.t_ms[b];
    samples_reset(&got);
    CHECK_OK(block_read(f->block, id, mint, maxt, &got, &f->err), &f->err);
    check_same_samples(&got, &s->samples, a, b - a + 1);
    bool overlaps;
    CHECK_OK(block_overlaps(f->block, id, mint, maxt, &overlaps, &f->err), &f->err);
    CHECK(overlaps);
    int64_t end = s->samples.t_ms[s->samples.n - 1];
    CHECK_OK(block_overlaps(f->block, id, end + 1, INT64_MAX, &overlaps, &f->err), &f->err);
    CHECK(!overlaps);
    CHECK_OK(block_overlaps(f->block, id, INT64_MIN, s->samples.t_ms[0] - 1, &overlaps, &f->err),
             &f->err);
    CHECK(!overlaps);
    samples_release(&got);
    arena_release(&arena);
}

static void test_roundtrip(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 6)
    {
        struct fixture f;
        fixture_init(&f, &rng, 1 + rng_below(&rng, 3000), 300);
        const struct block_info *info = block_info(f.block);
        CHECK(strcmp(info->ulid.text, f.info.ulid.text) == 0);
        CHECK_U64(info->incarnation, 3);
        CHECK_U64(info->sequence, 17);
        CHECK_U64(info->level, 1);
        CHECK_I64(info->created_ms, 1234567);
        CHECK_U64(info->n_series, f.set.n);
        CHECK_U64(info->file_bytes, f.info.file_bytes);
        uint64_t n_samples = 0;
        int64_t t_min = INT64_MAX, t_max = INT64_MIN;
        for (size_t i = 0; i < f.set.n; i++) {
            const struct samples *s = &f.set.series[i].samples;
            n_samples += s->n;
            t_min = MIN_OF(t_min, s->t_ms[0]);
            t_max = MAX_OF(t_max, s->t_ms[s->n - 1]);
        }
        CHECK_U64(info->n_samples, n_samples);
        CHECK_I64(info->t_min_ms, t_min);
        CHECK_I64(info->t_max_ms, t_max);
        CHECK_OK(block_verify(f.block, NULL, NULL, &f.err), &f.err);
        for (uint32_t i = 0; i < f.set.n; i++) check_series(&f, i, &rng);
        fixture_release(&f);
    }
}

/* ---- matchers: a regular expression here is a list of strings, a prefix, or "contains" ---- */

struct fake_re {
    const struct str *literals;
    size_t n_literals;
    struct str prefix, contains;
};

static bool fake_match(const void *re, struct str text)
{
    const struct fake_re *f = re;
    for (size_t i = 0; i < f->n_literals; i++)
        if (str_eq(f->literals[i], text)) return true;
    if (f->n_literals) return false;
    if (!str_has_prefix(text, f->prefix)) return false;
    return f->contains.len == 0 ||
           (text.len && memmem(text.p, text.len, f->contains.p, f->contains.len) != NULL);
}

static struct str pick_value(struct rng *rng, const struct gen_set *set, struct str name)
{
    for (int tries = 0; tries < 20; tries++) {
        struct str v = labels_get(set->series[rng_below(rng, set->n)].labels, name);
        if (v.len) return v;
    }
    return STR("nowhere");
}

static void gen_matcher(struct rng *rng, const struct gen_set *set, struct arena *arena,
                        struct matcher *m)
{
    memset(m, 0, sizeof(*m));
    m->op = (enum matcher_op)rng_below(rng, 4);
    m->name = rng_chance(rng, 0.1) ? STR("no_such_label")
                                   : str_of(gen_names[rng_below(rng, COUNT_OF(gen_names))]);
    m->value = rng_chance(rng, 0.2) ? STR("") : pick_value(rng, set, m->name);
    if (m->op == MATCH_EQ || m->op == MATCH_NEQ) return;
    struct fake_re *re = ARENA_NEW(arena, struct fake_re);
    CHECK(re != NULL);
    m->re = re;
    m->re_match = fake_match;
    unsigned kind = (unsigned)rng_below(rng, 4);
    if (kind == 0) {
        size_t n = 1 + rng_below(rng, 6);
        struct str *literals = ARENA_ARRAY(arena, struct str, n);
        CHECK(literals != NULL);
        for (size_t i = 0; i < n; i++)
            literals[i] = rng_chance(rng, 0.15) ? STR("") : pick_value(rng, set, m->name);
        m->literals = re->literals = literals;
        m->n_literals = re->n_literals = n;
    } else if (kind == 1) {
        struct str v = pick_value(rng, set, m->name);
        v.len = 1 + rng_below(rng, v.len);
        re->prefix = v;
        if (rng_chance(rng, 0.7)) m->prefix = v;
        if (rng_chance(rng, 0.5)) re->contains = STR("1");
    } else if (kind == 2) {
        re->contains = rng_chance(rng, 0.5) ? STR("_") : STR("2");
    } /* else: matches everything */
}

static void check_select(struct fixture *f, const struct matcher *m, size_t n_matchers)
{
    struct arena arena;
    arena_init(&arena, MEM_BASE, 0);
    uint32_t *ids;
    size_t n, k = 0;
    CHECK_OK(block_select(f->block, m, n_matchers, &arena, &ids, &n, &f->err), &f->err);
    for (uint32_t i = 0; i < f->set.n; i++) {
        if (!matchers_match_labels(m, n_matchers, f->set.series[i].labels)) continue;
        CHECK(k < n);
        CHECK_U64(ids[k], i);
        k++;
    }
    CHECK_U64(n, k);
    arena_release(&arena);
}

static void test_select(void **state)
{
    (void)state;
    struct rng rng;
    size_t n_found = 0;
    PROPERTY_LOOP(&rng, 3)
    {
        struct fixture f;
        fixture_init(&f, &rng, 3000, 3);
        check_select(&f, NULL, 0);
        for (int k = 0; k < 400; k++) {
            struct arena arena;
            arena_init(&arena, MEM_BASE, 0);
            struct matcher m[4];
            size_t n = 1 + rng_below(&rng, COUNT_OF(m));
            for (size_t i = 0; i < n; i++) gen_matcher(&rng, &f.set, &arena, &m[i]);
            check_select(&f, m, n);
            arena_release(&arena);
            n_found++;
        }
        fixture_release(&f);
    }
    CHECK(n_found > 0);
}

struct value_list {
    struct str *items;
    size_t n, cap;
    struct arena *arena;
};
static enum err_code list_value(void *ctx, struct str value, bool *done, struct err *err)
{
    struct value_list *list = ctx;
    (void)done;
    (void)err;
    if (list->n == list->cap) {
        size_t cap = 2 * list->cap + 16;
        struct str *more = ARENA_ARRAY(list->arena, struct str, cap);
        CHECK(more != NULL);
        if (list->n) memcpy(more, list->items, list->n * sizeof(*more));
        list->items = more;
        list->cap = cap;
    }
    list->items[list->n++] = arena_str(list->arena, value);
    return ERR_OK;
}
static struct str *values_of(struct block *block, struct str name, struct arena *arena, size_t *n)
{
    struct value_list list = {.arena = arena};
    struct err err;
    CHECK_OK(block_each_value(block, name, list_value, &list, &err), &err);
    *n = list.n;
    return list.items;
}

static int str_cmp_p(const void *a, const void *b)
{
    return str_cmp(*(const struct str *)a, *(const struct str *)b);
}

static void test_names_and_values(void **state)
{
    (void)state;
    struct rng rng;
    test_rng(&rng);
    struct fixture f;
    fixture_init(&f, &rng, 2000, 3);
    struct arena arena;
    arena_init(&arena, MEM_BASE, 0);
    struct str *names, *values;
    size_t n, n_values;
    CHECK_OK(block_label_names(f.block, &arena, &names, &n, &f.err), &f.err);
    CHECK_U64(n, COUNT_OF(gen_names));
    for (size_t i = 0; i < n; i++) {
        CHECK_STR(names[i], gen_names[i]);
        struct str *all = ARENA_ARRAY(&arena, struct str, f.set.n);
        size_t n_all = 0, n_unique = 0;
        for (size_t k = 0; k < f.set.n; k++) {
            struct str v = labels_get(f.set.series[k].labels, names[i]);
            if (v.len) all[n_all++] = v;
        }
        qsort(all, n_all, sizeof(*all), str_cmp_p);
        values = values_of(f.block, names[i], &arena, &n_values);
        for (size_t k = 0; k < n_all; k++) {
            if (k && str_eq(all[k], all[k - 1])) continue;
            CHECK(n_unique < n_values);
            CHECK(str_eq(values[n_unique], all[k]));
            n_unique++;
        }
        CHECK_U64(n_values, n_unique);
    }
    (void)values_of(f.block, STR("nope"), &arena, &n_values);
    CHECK_U64(n_values, 0);
    arena_release(&arena);
    fixture_release(&f);
}

/* ---- shapes at the edges ---- */

static void test_one_series_without_labels(void **state)
{
    (void)state;
    struct rng rng;
    test_rng(&rng);
    struct fixture f;
    test_env_init(&f.e);
    CHECK_OK(page_cache_new(&f.e.env, 1 << 20, &f.cache, &f.err), &f.err);
    struct gen_series one = {.labels = {NULL, 0}};
    samples_init(&one.samples, MEM_BASE, NULL);
    CHECK_OK(samples_push(&one.samples, -5, 1.5, NULL, &f.err), &f.err);
    f.set = (struct gen_set){.series = &one, .n = 1};
    arena_init(&f.set.arena, MEM_BASE, 0);
    f.info = gen_write_block(&f.e, &rng, &f.set, f.path, sizeof(f.path));
    CHECK_OK(block_open(&f.e.env, f.path, f.cache, &f.block, &f.err), &f.err);
    check_series(&f, 0, &rng);
    struct matcher m = {.op = MATCH_EQ, .name = STR("a"), .value = STR("")};
    check_select(&f, &m, 1);
    m.op = MATCH_NEQ;
    check_select(&f, &m, 1);
    CHECK_OK(block_verify(f.block, NULL, NULL, &f.err), &f.err);
    fixture_release(&f);
}

/* Many labels, and items larger than a page. */
static void test_large_items(void **state)
{
    (void)state;
    struct rng rng;
    test_rng(&rng);
    struct fixture f;
    test_env_init(&f.e);
    CHECK_OK(page_cache_new(&f.e.env, 1 << 20, &f.cache, &f.err), &f.err);
    arena_init(&f.set.arena, MEM_BASE, 0);
    f.set.n = 3;
    f.set.series = ARENA_ARRAY(&f.set.arena, struct gen_series, 3);
    for (size_t i = 0; i < 3; i++) {
        size_t n_labels = 300 + i;
        struct label *items = ARENA_ARRAY(&f.set.arena, struct label, n_labels);
        for (size_t k = 0; k < n_labels; k++) {
            items[k].name = arena_printf(&f.set.arena, "l%03zu", k);
            items[k].value = STR("same");
        }
        char *big = arena_alloc(&f.set.arena, 100000, 1);
        memset(big, 'a' + (int)i, 100000);
        items[5].value = (struct str){big, 100000};
        f.set.series[i].labels = (struct labels){items, n_labels};
        samples_init(&f.set.series[i].samples, MEM_BASE, NULL);
        gen_floats(&rng, &f.set.series[i].samples, 20000, 5, 0); /* any bits: 8 bytes a value */
    }
    struct block_info info = {.incarnation = 1};
    ulid_make(&info.ulid, 1, &rng);
    struct block_writer *w;
    CHECK_OK(block_writer_open(&f.e.env, f.e.dir, &info, &w, &f.err), &f.err);
    for (size_t i = 0; i < 3; i++) gen_write_series(&rng, w, &f.set.series[i], 40000);
    CHECK_OK(block_writer_finish(w, &info, &f.err), &f.err);
    block_writer_close(w);
    snprintf(f.path, sizeof(f.path), "%s/%s.block", f.e.dir, info.ulid.text);
    CHECK_OK(block_open(&f.e.env, f.path, f.cache, &f.block, &f.err), &f.err);
    for (uint32_t i = 0; i < 3; i++) check_series(&f, i, &rng);
    CHECK_OK(block_verify(f.block, NULL, NULL, &f.err), &f.err);
    fixture_release(&f);
}

/* ---- the writer: series in any order, some without samples, whole runs and families ---- */

/* Declares all series of the set, writes those that `keep` says, in turns, and takes the others out of the set. */
static void write_in_turns(struct fixture *f, struct rng *rng, const bool *keep)
{
    struct block_info info = {.incarnation = 3, .level = (uint32_t)rng_below(rng, 4)};
    ulid_make(&info.ulid, 1, rng);
    struct block_writer *w;
    CHECK_OK(block_writer_open(&f->e.env, f->e.dir, &info, &w, &f->err), &f->err);
    size_t *done = mem_calloc(MEM_BASE, f->set.n, sizeof(*done));
    uint32_t *ids = mem_calloc(MEM_BASE, f->set.n, sizeof(*ids));
    CHECK(done && ids);
    size_t n_open = 0, n_kept = 0;
    for (size_t i = 0; i < f->set.n; i++) {
        CHECK_OK(block_writer_series(w, f->set.series[i].labels, &ids[i], &f->err), &f->err);
        CHECK_U64(ids[i], i);
        n_open += keep[i];
    }
    while (n_open) {
        size_t i = rng_below(rng, f->set.n);
        const struct samples *s = &f->set.series[i].samples;
        if (!keep[i] || done[i] == s->n) continue;
        size_t n = 1 + rng_below(rng, s->n - done[i]);
        CHECK_OK(block_writer_samples(w, ids[i], s, done[i], n, &f->err), &f->err);
        done[i] += n;
        n_open -= done[i] == s->n;
    }
    CHECK_OK(block_writer_finish(w, &f->info, &f->err), &f->err);
    block_writer_close(w);
    snprintf(f->path, sizeof(f->path), "%s/%s.block", f->e.dir, info.ulid.text);
    for (size_t i = 0; i < f->set.n; i++) {
        if (keep[i])
            f->set.series[n_kept++] = f->set.series[i];
        else
            samples_release(&f->set.series[i].samples);
    }
    f->set.n = n_kept;
    mem_free(done);
    mem_free(ids);
}

static void test_series_in_any_order_and_some_left_out(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 12)
    {
        struct fixture f;
        test_env_init(&f.e);
        CHECK_OK(page_cache_new(&f.e.env, 256 << 10, &f.cache, &f.err), &f.err);
        gen_set_init(&f.set, &rng, 1 + rng_below(&rng, 300), 700);
        bool *keep = mem_calloc(MEM_BASE, f.set.n, sizeof(*keep));
        CHECK(keep != NULL);
        double share = rng_unit(&rng);
        for (size_t i = 0; i < f.set.n; i++) keep[i] = rng_chance(&rng, share);
        keep[rng_below(&rng, f.set.n)] = true;
        write_in_turns(&f, &rng, keep);
        mem_free(keep);
        CHECK_OK(block_open(&f.e.env, f.path, f.cache, &f.block, &f.err), &f.err);
        CHECK_U64(block_info(f.block)->n_series, f.set.n);
        CHECK_OK(block_verify(f.block, NULL, NULL, &f.err), &f.err);
        for (uint32_t i = 0; i < f.set.n; i++) check_series(&f, i, &rng);
        for (int k = 0; k < 30; k++) {
            struct matcher m;
            gen_matcher(&rng, &f.set, &f.set.arena, &m);
            check_select(&f, &m, 1);
        }
        size_t n_values;
        struct str *values = values_of(f.block, STR("pod"), &f.set.arena, &n_values);
        /* A series that was left out leaves no value. */
        for (size_t k = 0; k < n_values; k++) {
            struct matcher m = {.op = MATCH_EQ, .name = STR("pod"), .value = values[k]};
            size_t n = 0;
            for (size_t i = 0; i < f.set.n; i++)
                n += matchers_match_labels(&m, 1, f.set.series[i].labels);
            CHECK(n > 0);
        }
        fixture_release(&f);
    }
}

static bool count_entry(void *ctx, const char *name, bool is_dir)
{
    (void)name;
    (void)is_dir;
    ++*(size_t *)ctx;
    return true;
}
static void check_file_count(const char *dir, size_t expected)
{
    struct err err;
    size_t n = 0;
    CHECK_OK(io_list(io_posix(), dir, count_entry, &n, &err), &err);
    CHECK_U64(n, expected);
}

static void test_no_file_is_left_behind(void **state)
{
    (void)state;
    struct test_env e;
    test_env_init(&e);
    struct err err;
    struct block_info info = {.incarnation = 1};
    ulid_make(&info.ulid, 1, &e.rng);
    struct block_writer *w;
    CHECK_OK(block_writer_open(&e.env, e.dir, &info, &w, &err), &err);
    check_file_count(e.dir, 1);
    CHECK_ERR(block_writer_finish(w, &info, &err), ERR_INVALID); /* no samples */
    block_writer_close(w);
    block_writer_close(NULL);
    check_file_count(e.dir, 0);
    test_env_release(&e);
}

static void test_dropped_file_goes_with_the_last_reference(void **state)
{
    (void)state;
    struct rng rng;
    test_rng(&rng);
    struct fixture f;
    fixture_init(&f, &rng, 10, 5);
    struct block *second = block_ref(f.block);
    block_drop_file(f.block);
    block_unref(second);
    check_series(&f, 0, &rng);
    CHECK(io_exists(io_posix(), f.path));
    block_unref(f.block);
    f.block = NULL;
    CHECK(!io_exists(io_posix(), f.path));
    fixture_release(&f);
}

/* ---- damage ---- */

struct image {
    uint8_t *p;
    size_t len;
};

static struct image read_image(const char *path)
{
    struct err err;
    struct image im;
    CHECK_OK(io_read_file(io_posix(), path, 1 << 30, &im.p, &im.len, &err), &err);
    return im;
}

static void write_image(const char *path, const uint8_t *p, size_t len)
{
    FILE *file = fopen(path, "wb");
    CHECK(file != NULL);
    CHECK(fwrite(p, 1, len, file) == len);
    CHECK(fclose(file) == 0);
}

/* Opens and reads all there is. What does not fail is compared. */
static enum err_code read_all(struct fixture *f, struct page_cache *cache)
{
    struct block *b;
    enum err_code rc = block_open(&f->e.env, f->path, cache, &b, &f->err);
    if (rc) return rc;
    struct arena arena;
    struct samples got;
    arena_init(&arena, MEM_BASE, 0);
    samples_init(&got, MEM_BASE, &arena);
    CHECK_U64(block_info(b)->n_series, f->set.n);
    enum err_code worst = ERR_OK;
    for (uint32_t i = 0; i < f->set.n; i++) {
        struct labels labels;
        rc = block_labels(b, i, &arena, &labels, &f->err);
        if (!rc)
            check_labels_eq(labels, f->set.series[i].labels);
        else
            worst = rc;
        samples_reset(&got);
        rc = block_read(b, i, INT64_MIN, INT64_MAX, &got, &f->err);
        if (!rc)
            check_same_samples(&got, &f->set.series[i].samples, 0, f->set.series[i].samples.n);
        else
            worst = rc;
        for (size_t k = 0; k < f->set.series[i].labels.n; k++) {
            struct label l = f->set.series[i].labels.items[k];
            struct matcher m = {.op = MATCH_EQ, .name = l.name, .value = l.value};
            uint32_t *ids;
            size_t n, expected = 0;
            rc = block_select(b, &m, 1, &arena, &ids, &n, &f->err);
            for (size_t j = 0; j < f->set.n; j++)
                expected += matchers_match_labels(&m, 1, f->set.series[j].labels);
            if (!rc)
                CHECK_U64(n, expected);
            else
                worst = rc;
        }
    }
    rc = block_verify(b, NULL, NULL, &f->err);
    if (worst) CHECK(rc != ERR_OK); /* what a reader meets, the checker finds */
    if (rc) worst = rc;
    samples_release(&got);
    arena_release(&arena);
    block_unref(b);
    return worst;
}

/* Every bit of a small block, one after the other: found, and no wrong answer before that. */
static void test_every_flipped_bit_is_found(void **state)
{
    (void)state;
    struct rng rng;
    test_rng(&rng);
    struct fixture f;
    fixture_init(&f, &rng, 6, 8);
    block_unref(f.block);
    f.block = NULL;
    struct image im = read_image(f.path);
    CHECK(im.len < 4096);
    CHECK_OK(read_all(&f, f.cache), &f.err);
    for (size_t bit = 0; bit < im.len * 8; bit++) {
        im.p[bit / 8] ^= (uint8_t)(1 << bit % 8);
        write_image(f.path, im.p, im.len);
        enum err_code rc = read_all(&f, f.cache);
        if (rc != ERR_CORRUPT && rc != ERR_VERSION)
            test_fail(__FILE__, __LINE__, "flip of bit %zu: %s", bit, err_code_name(rc));
        CHECK(strcmp(f.err.file, f.path) == 0);
        im.p[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    for (size_t len = 0; len < im.len; len++) {
        write_image(f.path, im.p, len);
        CHECK_ERR(read_all(&f, f.cache), ERR_CORRUPT);
    }
    mem_free(im.p);
    fixture_release(&f);
}

static void count_problem(void *ctx, const struct err *problem)
{
    CHECK(problem->code == ERR_CORRUPT);
    CHECK(problem->file[0] != 0);
    ++*(size_t *)ctx;
}

/* A page goes bad under an open block: the rest is served, verify names each problem. */
static void test_damage_costs_only_what_it_hits(void **state)
{
    (void)state;
    struct rng rng;
    test_rng(&rng);
    struct fixture f;
    fixture_init(&f, &rng, 900, 200);
    struct block_section_info sections[8];
    size_t n = block_sections(f.block, sections, COUNT_OF(sections));
    CHECK_U64(n, 7);
    CHECK(strcmp(sections[0].name, "chunks") == 0);
    CHECK(strcmp(sections[1].name, "times") == 0);
    CHECK(sections[0].n_pages > 3);
    struct image im = read_image(f.path);
    im.p[sections[0].off + 20] ^= 1; /* the first page of chunks */
    write_image(f.path, im.p, im.len);
    struct arena arena;
    struct samples got;
    arena_init(&arena, MEM_BASE, 0);
    samples_init(&got, MEM_BASE, &arena);
    CHECK_ERR(block_read(f.block, 0, INT64_MIN, INT64_MAX, &got, &f.err), ERR_CORRUPT);
    CHECK(strcmp(f.err.file, f.path) == 0 && f.err.has_off);
    CHECK_U64(f.err.file_off, sections[0].off);
    CHECK(strstr(f.err.text, "chunks") != NULL);
    CHECK_U64(got.n, 0);
    check_series(&f, (uint32_t)f.set.n - 1, &rng);
    size_t n_problems = 0;
    CHECK_ERR(block_verify(f.block, count_problem, &n_problems, &f.err), ERR_CORRUPT);
    CHECK(n_problems > 1);
    mem_free(im.p);
    samples_release(&got);
    arena_release(&arena);
    fixture_release(&f);
}

/* Good checksums over wrong contents: a writer that was told wrong statistics. */
static void test_verify_finds_wrong_statistics(void **state)
{
    (void)state;
    struct test_env e;
    test_env_init(&e);
    struct err err;
    struct page_cache *cache;
    CHECK_OK(page_cache_new(&e.env, 1 << 20, &cache, &err), &err);
    struct samples s;
    samples_init(&s, MEM_BASE, NULL);
    for (int i = 0; i < 10; i++) CHECK_OK(samples_push(&s, i * 10, i, NULL, &err), &err);
    for (int kind = 0; kind < 4; kind++) {
        struct buf chunk;
        struct chunk_meta meta;
        buf_init(&chunk, MEM_BASE);
        CHECK_OK(chunk_encode(&s, 0, s.n, &chunk, &meta, &err), &err);
        buf_reset(&chunk); /* in an encoding that the writer does not look into */
        CHECK_OK(chunk_encode_as(CHUNK_GORILLA, &s, 0, s.n, &chunk, &err), &err);
        if (kind == 1) meta.max = 8;
        if (kind == 2) meta.t_max_ms = 85; /* before the last sample */
        if (kind == 3) meta.n = 9;
        if (kind == 3) meta.t_max_ms = 80;
        struct block_info info = {.incarnation = 1};
        ulid_make(&info.ulid, kind, &e.rng);
        struct block_writer *w;
        struct label l = {STR("a"), STR("b")};
        CHECK_OK(block_writer_open(&e.env, e.dir, &info, &w, &err), &err);
        uint32_t id = 0;
        CHECK_OK(block_writer_series(w, (struct labels){&l, 1}, &id, &err), &err);
        CHECK_OK(block_writer_chunk(w, id, &meta, buf_bytes(&chunk), &err), &err);
        CHECK_OK(block_writer_finish(w, &info, &err), &err);
        block_writer_close(w);
        char path[512];
        snprintf(path, sizeof(path), "%s/%s.block", e.dir, info.ulid.text);
        struct block *b;
        CHECK_OK(block_open(&e.env, path, cache, &b, &err), &err);
        enum err_code rc = block_verify(b, NULL, NULL, &err);
        CHECK(rc == (kind ? ERR_CORRUPT : ERR_OK));
        block_unref(b);
        buf_release(&chunk);
    }
    samples_release(&s);
    page_cache_free(cache);
    test_env_release(&e);
}

/* ---- lack of memory: every allocation of writing and reading fails in turn ---- */

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

static enum err_code write_and_read(struct test_env *e, const struct gen_set *set,
                                    struct page_cache *cache, const struct ulid *ulid)
{
    struct err err;
    struct block_info info = {.incarnation = 1, .ulid = *ulid};
    struct block_writer *w = NULL;
    struct buf chunk;
    buf_init(&chunk, MEM_BASE);
    enum err_code rc = block_writer_open(&e->env, e->dir, &info, &w, &err);
    for (size_t i = 0; !rc && i < set->n; i++) {
        struct chunk_meta meta;
        buf_reset(&chunk);
        uint32_t id = 0;
        rc = block_writer_series(w, set->series[i].labels, &id, &err);
        if (!rc)
            rc = chunk_encode(&set->series[i].samples, 0, set->series[i].samples.n, &chunk, &meta,
                              &err);
        if (!rc) rc = block_writer_chunk(w, id, &meta, buf_bytes(&chunk), &err);
    }
    if (!rc) rc = block_writer_finish(w, &info, &err);
    block_writer_close(w);
    buf_release(&chunk);
    if (rc) return rc;
    char path[512];
    snprintf(path, sizeof(path), "%s/%s.block", e->dir, info.ulid.text);
    struct block *b;
    rc = block_open(&e->env, path, cache, &b, &err);
    if (rc) return rc;
    rc = block_verify(b, NULL, NULL, &err);
    struct arena arena;
    arena_init(&arena, MEM_BASE, 0);
    struct labels labels;
    if (!rc) rc = block_labels(b, 0, &arena, &labels, &err);
    uint32_t *ids;
    size_t n;
    struct matcher m = {.op = MATCH_NEQ, .name = STR("job"), .value = STR("x")};
    if (!rc) rc = block_select(b, &m, 1, &arena, &ids, &n, &err);
    arena_release(&arena);
    block_unref(b);
    return rc;
}

static void test_every_allocation_fails_in_turn(void **state)
{
    (void)state;
    struct rng rng;
    test_rng(&rng);
    struct test_env e;
    test_env_init(&e);
    struct err err;
    struct page_cache *cache;
    CHECK_OK(page_cache_new(&e.env, 1 << 20, &cache, &err), &err);
    struct gen_set set;
    gen_set_init(&set, &rng, 40, 20);
    struct ulid ulid;
    ulid_make(&ulid, 1, &rng);
    size_t before = mem_bytes_total();
    uint64_t k = 0;
    for (;; k++) {
        struct countdown c = {k, false};
        mem_set_fail_hook(fail_at_zero, &c);
        enum err_code rc = write_and_read(&e, &set, cache, &ulid);
        mem_set_fail_hook(NULL, NULL);
        CHECK_U64(mem_bytes_total(), before);
        /* Some are done without: a page is stored as it is when there is no memory to pack it. */
        CHECK(rc == ERR_NO_MEMORY || rc == ERR_OK);
        if (!c.fired) break;
    }
    CHECK(k > 50);
    gen_set_release(&set);
    page_cache_free(cache);
    test_env_release(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_roundtrip),
        cmocka_unit_test(test_select),
        cmocka_unit_test(test_names_and_values),
        cmocka_unit_test(test_one_series_without_labels),
        cmocka_unit_test(test_large_items),
        cmocka_unit_test(test_series_in_any_order_and_some_left_out),
        cmocka_unit_test(test_no_file_is_left_behind),
        cmocka_unit_test(test_dropped_file_goes_with_the_last_reference),
        cmocka_unit_test(test_every_flipped_bit_is_found),
        cmocka_unit_test(test_damage_costs_only_what_it_hits),
        cmocka_unit_test(test_verify_finds_wrong_statistics),
        cmocka_unit_test(test_every_allocation_fails_in_turn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
