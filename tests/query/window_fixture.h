/* tests/query/window_fixture.h: a window of samples in a short notation, run through a range function. */
#ifndef QUIPU_TESTS_WINDOW_FIXTURE_H
#define QUIPU_TESTS_WINDOW_FIXTURE_H

#include "query/kernel.h"
#include "tests/query/histogram_text.h"

#define WINDOW_SAMPLES_MAX 512

struct window_fixture {
    struct arena arena;
    struct notes notes;
    struct err err;
    int64_t t_ms[WINDOW_SAMPLES_MAX], st_ms[WINDOW_SAMPLES_MAX];
    double v[WINDOW_SAMPLES_MAX];
    struct histogram *h[WINDOW_SAMPLES_MAX];
    size_t n;
    bool any_h, any_st;
    struct range_window w; /* metric, mode, args may be set before a call */
};

__attribute__((unused)) static void window_init(struct window_fixture *f)
{
    memset(f, 0, sizeof(*f));
    arena_init(&f->arena, MEM_BASE, 0);
    notes_init(&f->notes, &f->arena);
    f->w.pos_arg = 5;
    f->w.pos_scalar = 9;
}

__attribute__((unused)) static void window_release(struct window_fixture *f)
{
    arena_release(&f->arena);
}

__attribute__((unused)) static void window_push(struct window_fixture *f, int64_t t_ms, double v)
{
    CHECK(f->n < WINDOW_SAMPLES_MAX);
    f->t_ms[f->n] = t_ms;
    f->v[f->n++] = v;
}

__attribute__((unused)) static void window_push_histogram(struct window_fixture *f, int64_t t_ms,
                                                          const char *text)
{
    f->h[f->n] = H(&f->arena, text);
    f->any_h = true;
    window_push(f, t_ms, f->h[f->n]->sum);
}

/* The start time of the sample that was pushed last. */
__attribute__((unused)) static void window_start_at(struct window_fixture *f, int64_t st_ms)
{
    f->st_ms[f->n - 1] = st_ms;
    f->any_st = true;
}

/* "0 1 _ 3": one value every step_ms from 0 on, _ for none. Replaces what was there. */
__attribute__((unused)) static void window_values(struct window_fixture *f, int64_t step_ms,
                                                  const char *values)
{
    f->n = 0;
    int64_t t_ms = 0;
    for (const char *p = values; *p; t_ms += step_ms) {
        char *end;
        double v = strtod(p, &end);
        if (*p == '_')
            end = (char *)(uintptr_t)p + 1;
        else
            window_push(f, t_ms, v);
        CHECK(end != p);
        for (p = end; *p == ' '; p++) {}
    }
}

/* The function over (end - range, end]. */
__attribute__((unused)) static struct point
window_call(struct window_fixture *f, enum function_id id, int64_t end_ms, int64_t range_ms)
{
    size_t from = 0, to = f->n;
    while (from < f->n && f->t_ms[from] <= end_ms - range_ms) from++;
    while (to > from && f->t_ms[to - 1] > end_ms) to--;
    struct range_window w = f->w;
    w.t_ms = f->t_ms + from;
    w.v = f->v + from;
    w.h = f->any_h ? f->h + from : NULL;
    w.st_ms = f->any_st ? f->st_ms + from : NULL;
    w.n = to - from;
    if (w.mode != SELECT_PLAIN) w.n_before = from;
    if (w.mode == SELECT_SMOOTHED) w.n_after = f->n - to;
    w.start_ms = end_ms - range_ms;
    w.eval_ms = w.end_ms = end_ms;
    w.range_ms = range_ms;
    w.arena = &f->arena;
    w.notes = &f->notes;
    struct point out = {POINT_NONE, 0, NULL};
    if (w.n || w.mode != SELECT_PLAIN) CHECK_OK(range_function(id, &w, &out, &f->err), &f->err);
    return out;
}

__attribute__((unused)) static double window_float(struct window_fixture *f, enum function_id id,
                                                   int64_t end_ms, int64_t range_ms)
{
    struct point p = window_call(f, id, end_ms, range_ms);
    CHECK(p.kind == POINT_FLOAT);
    return p.v;
}

/* As histograms print; "" for nothing. */
__attribute__((unused)) static void check_point(int line, struct point p, const char *expected)
{
    struct buf text;
    buf_init(&text, MEM_BASE);
    if (p.kind == POINT_HISTOGRAM) histogram_print(&text, p.h);
    if (p.kind == POINT_FLOAT) buf_printf(&text, "%.15g", p.v);
    if (!str_eq(str_from_bytes(buf_bytes(&text)), str_of(expected)))
        test_fail(__FILE__, line, "%.*s instead of %s", STR_ARG(str_from_bytes(buf_bytes(&text))),
                  expected);
    buf_release(&text);
}
#define CHECK_POINT(got, expected) check_point(__LINE__, got, expected)

/* Just this one note so far; takes it away. NULL: none. */
__attribute__((unused)) static void check_note(struct window_fixture *f, const char *text)
{
    CHECK_U64(f->notes.n, text != NULL);
    if (text) CHECK_STR(f->notes.first->text, text);
    if (text) CHECK(f->notes.first->pos == f->w.pos_arg || f->notes.first->pos == f->w.pos_scalar);
    notes_init(&f->notes, &f->arena);
}

#endif
