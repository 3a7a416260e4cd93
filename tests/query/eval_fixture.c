#include "tests/query/eval_fixture.h"

#include "query/kernel.h"
#include "query/number.h"
#include "tests/quipu_test.h"

struct fixture *fixture_new(const char *load)
{
    struct fixture *f = mem_calloc(MEM_QUERY, 1, sizeof(*f));
    if (!f) abort();
    f->mem = source_mem_new();
    source_mem_load(f->mem, load);
    clock_fake_init(&f->clock, 0);
    f->env = (struct query_env){.source = source_mem_source(f->mem),
                                .clock = &f->clock.clock,
                                .limits = query_limits_default()};
    buf_init(&f->text, MEM_QUERY);
    return f;
}

void fixture_free(struct fixture *f)
{
    buf_release(&f->text);
    source_mem_free(f->mem);
    mem_free(f);
}

struct query_result *fixture_run(struct fixture *f, const char *query, int64_t start_ms,
                                 int64_t end_ms, int64_t step_ms, struct err *err)
{
    struct query_request request = {
        .text = str_of(query), .start_ms = start_ms, .end_ms = end_ms, .step_ms = step_ms};
    struct query_result *result;
    enum err_code rc = query_run(&f->env, &request, &result, err);
    /* However it ended, nothing may be left behind. */
    CHECK_U64(source_mem_open(f->mem), 0);
    CHECK((rc == ERR_OK) == (result != NULL));
    return result;
}

static void put_value(struct buf *out, double v)
{
    char text[NUMBER_BYTES_MAX];
    buf_text(out, (struct str){text, number_print_value(text, v)});
}

static void put_point(struct buf *out, const struct result_series *s, size_t i)
{
    buf_u8(out, ' ');
    if (s->h && s->h[i])
        histogram_print(out, s->h[i]);
    else
        put_value(out, s->v[i]);
}

static void put_series(struct buf *out, const struct result_series *s, int64_t start_ms,
                       int64_t end_ms, int64_t step_ms)
{
    labels_print(out, s->labels);
    size_t i = 0;
    for (int64_t t = start_ms; step_ms && t <= end_ms; t += step_ms) {
        if (i < s->n && s->t_ms[i] == t)
            put_point(out, s, i++);
        else
            buf_text(out, STR(" _"));
    }
    /* Range vectors come with their own times. */
    for (; i < s->n; i++) {
        put_point(out, s, i);
        if (step_ms == 0 && (s->n > 1 || s->t_ms[i] != start_ms))
            buf_printf(out, "@%g", (double)s->t_ms[i] / 1000);
    }
    buf_u8(out, '\n');
}

static void put_notes(struct buf *out, const struct query_result *result, struct str query,
                      enum note_kind kind, const char *word)
{
    struct arena arena;
    arena_init(&arena, MEM_QUERY, 0);
    for (size_t i = 0;; i++) {
        struct str text = notes_text(&result->notes, kind, i, query, &arena);
        if (!text.p) break;
        buf_printf(out, "%s: %.*s\n", word, STR_ARG(text));
    }
    arena_release(&arena);
}

static const char *answer(struct fixture *f, const char *query, int64_t start, int64_t end,
                          int64_t step)
{
    struct err err;
    struct buf *out = &f->text;
    buf_reset(out);
    struct query_result *result =
        fixture_run(f, query, start * 1000, end * 1000, step * 1000, &err);
    if (!result) {
        buf_printf(out, "error %s: %s\n", err_code_name(err.code), err.text);
    } else {
        if (result->type == VALUE_SCALAR) {
            put_value(out, result->scalar);
            buf_u8(out, '\n');
        }
        if (result->type == VALUE_STRING) buf_printf(out, "%.*s\n", STR_ARG(result->string));
        for (size_t i = 0; i < result->n_series; i++)
            put_series(out, &result->series[i], start * 1000, end * 1000, step * 1000);
        put_notes(out, result, str_of(query), NOTE_WARNING, "warn");
        put_notes(out, result, str_of(query), NOTE_INFO, "info");
        query_result_free(result);
    }
    buf_u8(out, 0);
    return (const char *)out->p;
}

const char *fixture_instant(struct fixture *f, const char *query, int64_t t)
{
    return answer(f, query, t, t, 0);
}

const char *fixture_range(struct fixture *f, const char *query, int64_t start, int64_t end,
                          int64_t step)
{
    return answer(f, query, start, end, step);
}

void check_answer(const char *file, int line, const char *query, const char *got,
                  const char *expected)
{
    if (strcmp(got, expected) != 0)
        test_fail(file, line, "%s\n--- expected\n%s--- got\n%s", query, expected, got);
}
