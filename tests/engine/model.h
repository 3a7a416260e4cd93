/* tests/engine/model.h: what an engine must answer: every sample of every series, with the history that a crash may
 * or may not have kept.
 *
 * A cell is one series at one time. `now` is what a reader gets as long as the process lives: all that was accepted,
 * in order. After a crash each write since the last known state is there if it was acknowledged, and there or not if
 * it was not: cell_possible() tells which values may have come of it. What is then read becomes the known state. */
#ifndef QUIPU_TESTS_ENGINE_MODEL_H
#define QUIPU_TESTS_ENGINE_MODEL_H

#include "storage/samples.h"
#include "tests/quipu_test.h"

/* A value: a float by its bits, or a histogram by the number that it is made from. */
struct value {
    bool none, is_histogram;
    uint64_t bits; /* of the float; or the number */
};

__attribute__((unused)) static struct value value_none(void)
{
    return (struct value){.none = true};
}
__attribute__((unused)) static bool value_same(struct value a, struct value b)
{
    return a.none == b.none && (a.none || (a.is_histogram == b.is_histogram && a.bits == b.bits));
}

#define MODEL_STALE_HISTOGRAM UINT64_MAX

/* The histogram of a number, in the arena. */
__attribute__((unused)) static struct histogram *model_histogram(struct arena *arena,
                                                                 uint64_t number)
{
    struct histogram *h = ARENA_NEW(arena, struct histogram);
    bool stale = number == MODEL_STALE_HISTOGRAM;
    uint64_t x = stale ? 0 : number;
    h->pos_spans = ARENA_ARRAY(arena, struct histogram_span, 2);
    h->pos = ARENA_ARRAY(arena, double, 3);
    h->schema = (int32_t)(x % 5);
    h->is_int = x % 3 != 0;
    h->n_pos_spans = 2;
    h->n_pos = 3;
    h->pos_spans[0] = (struct histogram_span){(int32_t)(x % 7) - 3, 2};
    h->pos_spans[1] = (struct histogram_span){(int32_t)(x % 4), 1};
    for (size_t i = 0; i < 3; i++) h->pos[i] = (double)((x >> (i * 4)) % 1000);
    h->zero_threshold = 0.001;
    h->zero_count = (double)(x % 11);
    h->count = h->zero_count + h->pos[0] + h->pos[1] + h->pos[2];
    h->sum = stale ? stale_nan() : (double)x * 0.25;
    return h;
}

__attribute__((unused)) static bool value_is_stale(struct value v)
{
    return !v.none && v.bits == (v.is_histogram ? MODEL_STALE_HISTOGRAM : STALE_NAN_BITS);
}
/* What a reader gets when `newer` is written over `old`. */
__attribute__((unused)) static struct value value_over(struct value old, struct value newer)
{
    if (newer.none) return old;
    return !old.none && value_is_stale(newer) && !value_is_stale(old) ? old : newer;
}

__attribute__((unused)) static bool value_is(struct value v, const struct samples *s, size_t i,
                                             struct arena *arena)
{
    const struct histogram *h = s->h ? s->h[i] : NULL;
    if (v.none || v.is_histogram != (h != NULL)) return false;
    if (!h) return double_bits(s->v[i]) == v.bits;
    return histogram_same_bits(h, model_histogram(arena, v.bits));
}

enum fate { FATE_OPEN, FATE_KEPT, FATE_LOST_PERHAPS };

struct write_of {
    struct value value;
    size_t request; /* index of its fate */
};
struct cell {
    int64_t t_ms;
    struct value now;
    struct value known; /* at the last collapse */
    struct write_of *writes;
    size_t n_writes, writes_cap;
};
struct model_series {
    struct cell *cells; /* ascending */
    size_t n, cap;
};

/* Where t_ms is or belongs. */
__attribute__((unused)) static size_t model_search(const struct model_series *s, int64_t t_ms)
{
    size_t lo = 0, hi = s->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (s->cells[mid].t_ms < t_ms)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

__attribute__((unused)) static struct cell *model_cell(struct model_series *s, int64_t t_ms)
{
    struct err err;
    size_t at = model_search(s, t_ms);
    if (at < s->n && s->cells[at].t_ms == t_ms) return &s->cells[at];
    void *cells = s->cells;
    CHECK_OK(mem_grow(MEM_BASE, &cells, &s->cap, s->n + 1, sizeof(*s->cells), &err), &err);
    s->cells = cells;
    memmove(&s->cells[at + 1], &s->cells[at], (s->n - at) * sizeof(*s->cells));
    s->cells[at] = (struct cell){.t_ms = t_ms, .now = value_none(), .known = value_none()};
    s->n++;
    return &s->cells[at];
}

/* accepted: the engine took it, so that it can be read from now on. */
__attribute__((unused)) static void model_write(struct model_series *s, int64_t t_ms,
                                                struct value value, size_t request, bool accepted)
{
    struct err err;
    struct cell *cell = model_cell(s, t_ms);
    void *writes = cell->writes;
    CHECK_OK(mem_grow(MEM_BASE, &writes, &cell->writes_cap, cell->n_writes + 1,
                      sizeof(*cell->writes), &err),
             &err);
    cell->writes = writes;
    cell->writes[cell->n_writes++] = (struct write_of){value, request};
    if (accepted) cell->now = value_over(cell->now, value);
}

#define POSSIBLE_MAX 64
__attribute__((unused)) static size_t cell_possible(const struct cell *cell, const enum fate *fates,
                                                    struct value out[POSSIBLE_MAX])
{
    size_t n = 0;
    out[n++] = cell->known;
    for (size_t i = 0; i < cell->n_writes; i++) {
        const struct write_of *w = &cell->writes[i];
        size_t n_before = n;
        for (size_t k = 0; k < n_before; k++) {
            struct value v = value_over(out[k], w->value);
            if (fates[w->request] == FATE_KEPT) {
                out[k] = v;
                continue;
            }
            bool seen = false;
            for (size_t m = 0; m < n; m++) seen |= value_same(out[m], v);
            CHECK(seen || n < POSSIBLE_MAX);
            if (!seen) out[n++] = v;
        }
    }
    return n;
}

/* A restart left `value` here. */
__attribute__((unused)) static void cell_collapse(struct cell *cell, struct value value)
{
    cell->known = cell->now = value;
    cell->n_writes = 0;
}

__attribute__((unused)) static void model_release(struct model_series *s)
{
    for (size_t i = 0; i < s->n; i++) mem_free(s->cells[i].writes);
    mem_free(s->cells);
    *s = (struct model_series){0};
}

#endif
