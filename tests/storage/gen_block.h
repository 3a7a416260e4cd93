/* tests/storage/gen_block.h: random series, a block written from them, and what a plain loop over them answers. */
#ifndef QUIPU_TESTS_STORAGE_GEN_BLOCK_H
#define QUIPU_TESTS_STORAGE_GEN_BLOCK_H

#include "storage/block.h"
#include "tests/storage/env.h"
#include "tests/storage/gen.h"

struct gen_series {
    struct labels labels;
    struct samples samples;
};

struct gen_set {
    struct arena arena;
    struct gen_series *series; /* in label order */
    size_t n;
};

static const char *const gen_names[] = {"__name__", "az", "code", "instance", "job", "le", "pod"};

__attribute__((unused)) static struct labels gen_labels(struct rng *rng, struct arena *arena)
{
    struct label *items = ARENA_ARRAY(arena, struct label, COUNT_OF(gen_names) + 1);
    CHECK(items != NULL);
    size_t n = 0;
    for (size_t i = 0; i < COUNT_OF(gen_names); i++) {
        static const unsigned n_values[] = {12, 3, 5, 200, 4, 14, 5000};
        if (i && rng_chance(rng, 0.4)) continue;
        items[n].name = str_of(gen_names[i]);
        items[n].value = arena_printf(arena, "%s_%u", i % 2 ? "x" : gen_names[i],
                                      (unsigned)rng_below(rng, n_values[i]));
        CHECK(items[n].value.p != NULL);
        n++;
    }
    return (struct labels){items, n};
}

__attribute__((unused)) static int gen_series_cmp(const void *a, const void *b)
{
    return labels_cmp(((const struct gen_series *)a)->labels,
                      ((const struct gen_series *)b)->labels);
}

/* n_max series at most: equal label sets are dropped. */
__attribute__((unused)) static void gen_set_init(struct gen_set *set, struct rng *rng, size_t n_max,
                                                 size_t n_samples_max)
{
    arena_init(&set->arena, MEM_BASE, 0);
    set->series = ARENA_ARRAY(&set->arena, struct gen_series, n_max);
    CHECK(set->series != NULL);
    for (size_t i = 0; i < n_max; i++) set->series[i].labels = gen_labels(rng, &set->arena);
    qsort(set->series, n_max, sizeof(*set->series), gen_series_cmp);
    set->n = 0;
    for (size_t i = 0; i < n_max; i++) {
        if (i && labels_cmp(set->series[i].labels, set->series[set->n - 1].labels) == 0) continue;
        struct gen_series *s = &set->series[set->n++];
        s->labels = set->series[i].labels;
        samples_init(&s->samples, MEM_BASE, &set->arena);
        size_t n = 1 + rng_below(rng, n_samples_max);
        if (rng_chance(rng, 0.05))
            gen_histograms(rng, &s->samples, n);
        else
            gen_floats(rng, &s->samples, n, (unsigned)rng_below(rng, GEN_VALUE_KINDS),
                       (unsigned)rng_below(rng, GEN_TIME_KINDS - 1));
    }
}

__attribute__((unused)) static void gen_set_release(struct gen_set *set)
{
    for (size_t i = 0; i < set->n; i++) samples_release(&set->series[i].samples);
    arena_release(&set->arena);
}

/* Chunks of random lengths, not over chunk_max samples. */
__attribute__((unused)) static void gen_write_series(struct rng *rng, struct block_writer *w,
                                                     const struct gen_series *s, size_t chunk_max)
{
    struct err err;
    struct buf chunk;
    buf_init(&chunk, MEM_BASE);
    uint32_t id = 0;
    CHECK_OK(block_writer_series(w, s->labels, &id, &err), &err);
    for (size_t from = 0; from < s->samples.n;) {
        size_t n = 1 + rng_below(rng, chunk_max);
        n = MIN_OF(n, s->samples.n - from);
        struct chunk_meta meta;
        buf_reset(&chunk);
        CHECK_OK(chunk_encode(&s->samples, from, n, &chunk, &meta, &err), &err);
        CHECK_OK(block_writer_chunk(w, id, &meta, buf_bytes(&chunk), &err), &err);
        from += n;
    }
    buf_release(&chunk);
}

/* Writes the set to env's folder; the path into `path`. */
__attribute__((unused)) static struct block_info gen_write_block(struct test_env *e,
                                                                 struct rng *rng,
                                                                 const struct gen_set *set,
                                                                 char *path, size_t path_size)
{
    struct err err;
    struct block_info info = {.incarnation = 3, .sequence = 17, .level = 1, .created_ms = 1234567};
    ulid_make(&info.ulid, INT64_C(1700000000000), rng);
    struct block_writer *w;
    CHECK_OK(block_writer_open(&e->env, e->dir, &info, &w, &err), &err);
    for (size_t i = 0; i < set->n; i++) gen_write_series(rng, w, &set->series[i], 150);
    CHECK_OK(block_writer_finish(w, &info, &err), &err);
    block_writer_close(w);
    snprintf(path, path_size, "%s/%s.block", e->dir, info.ulid.text);
    return info;
}

#endif
