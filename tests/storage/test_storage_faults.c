/* tests/storage/test_storage_faults.c: a block is written and entered into the catalog on a simulated disk, while
 * each call in turn fails or the power goes. Afterwards: what the catalog names is whole, what was answered with
 * success is there, and after an error the same can be done again. */
#include "storage/catalog.h"

#include "tests/sim/io_sim.h"
#include "tests/storage/gen_block.h"

#define DIR "/data"
#define BLOCKS "/data/blocks"

struct world {
    struct io_sim *sim;
    struct clock_fake clock;
    struct rng rng;
    struct env env;
    struct gen_set set;
};

static void world_init(struct world *w, uint64_t seed)
{
    struct err err;
    w->sim = io_sim_new(seed);
    CHECK(w->sim != NULL);
    clock_fake_init(&w->clock, INT64_C(1700000000000));
    rng_seed(&w->rng, seed);
    w->env = (struct env){.io = io_sim_io(w->sim),
                          .clock = &w->clock.clock,
                          .metrics = metrics_new(),
                          .rng = &w->rng};
    CHECK_OK(io_mkdir_all(w->env.io, BLOCKS, &err), &err);
    gen_set_init(&w->set, &w->rng, 8, 40);
}

static void world_release(struct world *w)
{
    gen_set_release(&w->set);
    metrics_free(w->env.metrics);
    io_sim_free(w->sim);
}

static enum err_code write_block(struct world *w, uint64_t incarnation, struct block_info *info,
                                 struct err *err)
{
    *info = (struct block_info){.incarnation = incarnation, .sequence = 1};
    ulid_make(&info->ulid, 1, &w->rng);
    struct block_writer *bw = NULL;
    struct buf chunk;
    buf_init(&chunk, MEM_BASE);
    enum err_code rc = block_writer_open(&w->env, BLOCKS, info, &bw, err);
    for (size_t i = 0; !rc && i < w->set.n; i++) {
        const struct samples *s = &w->set.series[i].samples;
        struct chunk_meta meta;
        buf_reset(&chunk);
        uint32_t id = 0;
        size_t half = s->n / 2; /* one part by itself, the other encoded before */
        rc = block_writer_series(bw, w->set.series[i].labels, &id, err);
        if (!rc && half) rc = block_writer_samples(bw, id, s, 0, half, err);
        if (!rc) rc = chunk_encode(s, half, s->n - half, &chunk, &meta, err);
        if (!rc) rc = block_writer_chunk(bw, id, &meta, buf_bytes(&chunk), err);
    }
    if (!rc) rc = block_writer_finish(bw, info, err);
    block_writer_close(bw);
    buf_release(&chunk);
    return rc;
}

/* What a flush does, from opening the catalog on. *sure: catalog_apply() said yes. */
static enum err_code flush(struct world *w, bool *sure, struct err *err)
{
    *sure = false;
    struct catalog *c = NULL;
    struct catalog_tenant t;
    struct block_info info;
    enum err_code rc = catalog_open(&w->env, DIR, &c, err);
    if (!rc) rc = catalog_tenant(c, STR("t"), 1, &t, err);
    if (!rc) rc = write_block(w, t.incarnation, &info, err);
    if (!rc) {
        struct catalog_change change = {.incarnation = t.incarnation,
                                        .add = &info,
                                        .n_add = 1,
                                        .set_flushed_pos = true,
                                        .flushed_pos = 77};
        rc = catalog_apply(c, &change, err);
        *sure = rc == ERR_OK;
    }
    catalog_close(c);
    return rc;
}

struct checked {
    struct world *w;
    struct page_cache *cache;
    size_t n;
};

/* A block that the catalog names is there, whole, with all its samples. */
static enum err_code check_block(void *ctx, const struct block_info *info, struct err *err)
{
    struct checked *c = ctx;
    char path[256];
    snprintf(path, sizeof(path), BLOCKS "/%s.block", info->ulid.text);
    struct block *b;
    CHECK_OK(block_open(&c->w->env, path, c->cache, &b, err), err);
    CHECK_OK(block_verify(b, NULL, NULL, err), err);
    CHECK_U64(block_info(b)->n_samples, info->n_samples);
    CHECK_U64(block_info(b)->file_bytes, info->file_bytes);
    struct arena arena;
    struct samples s;
    arena_init(&arena, MEM_BASE, 0);
    samples_init(&s, MEM_BASE, &arena);
    for (uint32_t id = 0; id < c->w->set.n; id++) {
        samples_reset(&s);
        CHECK_OK(block_read(b, id, INT64_MIN, INT64_MAX, &s, err), err);
        const struct samples *expected = &c->w->set.series[id].samples;
        check_same_samples(&s, expected, 0, expected->n);
    }
    samples_release(&s);
    arena_release(&arena);
    block_unref(b);
    c->n++;
    return ERR_OK;
}

/* After the disk is well again. at_least: blocks that must be there; one more may be. */
static void check_restart(struct world *w, size_t at_least)
{
    struct err err;
    struct catalog *c;
    struct catalog_tenant t;
    struct checked checked = {.w = w};
    CHECK_OK(page_cache_new(&w->env, 1 << 20, &checked.cache, &err), &err);
    CHECK_OK(io_remove_temps(w->env.io, BLOCKS, &err), &err);
    CHECK_OK(catalog_open(&w->env, DIR, &c, &err), &err);
    CHECK_OK(catalog_tenant(c, STR("t"), 1, &t, &err), &err);
    CHECK_OK(catalog_blocks(c, t.incarnation, check_block, &checked, &err), &err);
    CHECK(checked.n >= at_least);
    CHECK(checked.n <= at_least + 1);
    /* The block and the position are one transaction. */
    CHECK_U64(t.flushed_pos, checked.n ? 77 : 0);
    page_cache_free(checked.cache);
    catalog_close(c);
}

/* One world per call: the k-th call fails; then once more without a failure. */
static bool fail_at(uint64_t k, enum io_sim_failure kind)
{
    struct world w;
    struct err err;
    bool sure = false, again;
    world_init(&w, 1000 + k);
    io_sim_fail(w.sim, k, kind);
    enum err_code rc = flush(&w, &sure, &err);
    io_sim_heal(w.sim);
    if (rc) {
        bool named = rc == ERR_IO || rc == ERR_NO_SPACE;
        if (!named) test_fail(__FILE__, __LINE__, "call %" PRIu64 ": %s", k, err.text);
        CHECK(err.text[0] != 0);
    }
    if (rc && kind == IO_SIM_ENOSPC && rc != ERR_NO_SPACE) CHECK_ERR(rc, ERR_IO);
    check_restart(&w, sure);
    CHECK_OK(flush(&w, &again, &err), &err);
    CHECK(again);
    world_release(&w);
    return rc != ERR_OK;
}

static void fail_each(enum io_sim_failure kind)
{
    /* Past the last call nothing fails any more: ten in a row without a failure are the end. */
    size_t n_failed = 0;
    for (uint64_t k = 1, quiet = 0; quiet < 10; k++) {
        if (fail_at(k, kind)) {
            n_failed++;
            quiet = 0;
        } else {
            quiet++;
        }
    }
    CHECK(n_failed > 10);
}

static void test_each_call_fails_with_eio(void **state)
{
    (void)state;
    fail_each(IO_SIM_EIO);
}

static void test_each_call_finds_the_disk_full(void **state)
{
    (void)state;
    fail_each(IO_SIM_ENOSPC);
}

static void test_each_write_is_cut_short(void **state)
{
    (void)state;
    fail_each(IO_SIM_SHORT);
}

static enum err_code read_block(struct world *w, const char *path, struct page_cache *cache,
                                struct err *err)
{
    struct block *b;
    enum err_code rc = block_open(&w->env, path, cache, &b, err);
    if (rc) return rc;
    struct arena arena;
    struct samples s;
    arena_init(&arena, MEM_BASE, 0);
    samples_init(&s, MEM_BASE, &arena);
    enum err_code first = ERR_OK;
    for (uint32_t id = 0; id < w->set.n; id++) {
        const struct samples *expected = &w->set.series[id].samples;
        samples_reset(&s);
        rc = block_read(b, id, INT64_MIN, INT64_MAX, &s, err);
        if (!rc)
            check_same_samples(&s, expected, 0, expected->n);
        else
            first = rc;
        struct labels labels;
        rc = block_labels(b, id, &arena, &labels, err);
        if (!rc)
            CHECK(labels_eq(labels, w->set.series[id].labels));
        else
            first = rc;
    }
    samples_release(&s);
    arena_release(&arena);
    block_unref(b);
    return first;
}

/* A read that fails is the error of what needed it; the next one may succeed. */
static void test_each_read_fails(void **state)
{
    (void)state;
    struct world w;
    struct err err;
    struct block_info info;
    struct page_cache *cache;
    char path[256];
    world_init(&w, 9);
    CHECK_OK(write_block(&w, 1, &info, &err), &err);
    snprintf(path, sizeof(path), BLOCKS "/%s.block", info.ulid.text);
    CHECK_OK(page_cache_new(&w.env, 1 << 20, &cache, &err), &err);
    CHECK_OK(read_block(&w, path, cache, &err), &err);
    uint64_t k = 1;
    for (;; k++) {
        io_sim_fail(w.sim, k, IO_SIM_EIO);
        enum err_code rc = read_block(&w, path, cache, &err);
        io_sim_heal(w.sim);
        if (!rc) break;
        CHECK_ERR(rc, ERR_IO);
        CHECK(strstr(err.text, path) != NULL || strcmp(err.file, path) == 0);
        CHECK_OK(read_block(&w, path, cache, &err), &err);
    }
    CHECK(k > 6);
    page_cache_free(cache);
    world_release(&w);
}

static void test_power_cut_at_each_call(void **state)
{
    (void)state;
    struct rng rng;
    size_t n_cut = 0;
    for (uint64_t k = 1, quiet = 0; quiet < 10; k++) {
        for (uint64_t round = 0; round < 4; round++) {
            struct world w;
            struct err err;
            bool sure;
            rng_seed(&rng, k * 31 + round);
            world_init(&w, rng_u64(&rng));
            io_sim_power_cut_at(w.sim, k);
            enum err_code rc = flush(&w, &sure, &err);
            bool cut = io_sim_is_off(w.sim);
            if (cut) CHECK(rc != ERR_OK || sure);
            io_sim_power_cut(w.sim); /* at the latest now */
            /* The folders were not synced by the flush but by world_init. */
            check_restart(&w, sure);
            CHECK_OK(flush(&w, &sure, &err), &err);
            n_cut += cut;
            quiet = cut ? 0 : quiet + 1;
            world_release(&w);
        }
    }
    CHECK(n_cut > 40);
}

/* No byte of a published block is wrong without a word: bits flipped on the medium. */
static void test_flipped_bits_of_the_catalog(void **state)
{
    (void)state;
    struct world w;
    struct err err;
    bool sure;
    world_init(&w, 5);
    CHECK_OK(flush(&w, &sure, &err), &err);
    struct buf image;
    buf_init(&image, MEM_BASE);
    CHECK(io_sim_copy_out(w.sim, DIR "/catalog.sqlite", true, &image));
    size_t n_refused = 0;
    for (int i = 0; i < 200; i++) {
        uint64_t off = rng_below(&w.rng, image.len);
        unsigned bit = (unsigned)rng_below(&w.rng, 8);
        io_sim_flip_bit(w.sim, DIR "/catalog.sqlite", off, bit);
        struct catalog *c = NULL;
        enum err_code rc = catalog_open(&w.env, DIR, &c, &err);
        if (rc) n_refused++;
        /* Not every bit can be told from a good one before pages have checksums; none may crash. */
        catalog_close(c);
        struct file *f;
        CHECK_OK(
            io_open(w.env.io, DIR "/catalog.sqlite", IO_READ | IO_WRITE | IO_TRUNCATE, &f, &err),
            &err);
        CHECK_OK(file_write_at(f, 0, image.p, image.len, &err), &err);
        CHECK_OK(file_sync(f, &err), &err);
        file_close(f);
    }
    CHECK(n_refused > 0);
    check_restart(&w, 1);
    buf_release(&image);
    world_release(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_call_fails_with_eio),
        cmocka_unit_test(test_each_call_finds_the_disk_full),
        cmocka_unit_test(test_each_write_is_cut_short),
        cmocka_unit_test(test_each_read_fails),
        cmocka_unit_test(test_power_cut_at_each_call),
        cmocka_unit_test(test_flipped_bits_of_the_catalog),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
