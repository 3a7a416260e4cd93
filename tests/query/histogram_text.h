/* tests/query/histogram_text.h: histograms in a short notation, as Prometheus's rule tests have it, without the double
 * braces: "schema:0 count:4 sum:5 z_bucket:1 z_bucket_w:0.001 offset:-1 buckets:[1 2 1] n_buckets:[3] custom_values:[1 2]
 * hint:gauge". All parts may be missing; one span a side. count does not follow from the buckets. */
#ifndef QUIPU_TESTS_HISTOGRAM_TEXT_H
#define QUIPU_TESTS_HISTOGRAM_TEXT_H

#include "storage/histogram.h"
#include "tests/quipu_test.h"

__attribute__((unused)) static double *text_numbers(struct arena *arena, const char **p,
                                                    uint32_t *n)
{
    double *v = ARENA_ARRAY(arena, double, 64);
    CHECK(v != NULL && **p == '[');
    for (++*p; **p != ']'; ++*n) {
        char *end;
        CHECK(*n < 64);
        v[*n] = strtod(*p, &end);
        CHECK(end != *p);
        for (*p = end; **p == ' '; ++*p) {}
    }
    ++*p;
    return v;
}

__attribute__((unused)) static struct histogram_span *text_span(struct arena *arena, int32_t offset,
                                                                uint32_t n, uint32_t *n_spans)
{
    struct histogram_span *span = ARENA_NEW(arena, struct histogram_span);
    CHECK(span != NULL);
    *span = (struct histogram_span){offset, n};
    *n_spans = n > 0;
    return span;
}

__attribute__((unused)) static bool text_key(const char **p, const char *key)
{
    size_t len = strlen(key);
    if (strncmp(*p, key, len) != 0 || (*p)[len] != ':') return false;
    *p += len + 1;
    return true;
}

__attribute__((unused)) static struct histogram *H(struct arena *arena, const char *text)
{
    struct histogram *h = ARENA_NEW(arena, struct histogram);
    CHECK(h != NULL);
    int32_t offset = 0, n_offset = 0;
    static const char *const hints[] = {"unknown", "reset", "not_reset", "gauge"};
    for (const char *p = text; *p;) {
        char *end = (char *)(uintptr_t)p;
        if (*p == ' ') {
            p++;
            continue;
        }
        if (text_key(&p, "custom_values")) {
            h->bounds = text_numbers(arena, &p, &h->n_bounds);
        } else if (text_key(&p, "buckets")) {
            h->pos = text_numbers(arena, &p, &h->n_pos);
        } else if (text_key(&p, "n_buckets")) {
            h->neg = text_numbers(arena, &p, &h->n_neg);
        } else if (text_key(&p, "hint")) {
            size_t len = strcspn(p, " ");
            for (uint8_t i = 0; i < 4; i++)
                if (strlen(hints[i]) == len && !strncmp(p, hints[i], len)) h->reset_hint = i;
            p += len;
        } else {
            double v = strtod(strchr(p, ':') + 1, &end);
            if (text_key(&p, "schema"))
                h->schema = (int32_t)v;
            else if (text_key(&p, "count"))
                h->count = v;
            else if (text_key(&p, "sum"))
                h->sum = v;
            else if (text_key(&p, "z_bucket"))
                h->zero_count = v;
            else if (text_key(&p, "z_bucket_w"))
                h->zero_threshold = v;
            else if (text_key(&p, "offset"))
                offset = (int32_t)v;
            else if (text_key(&p, "n_offset"))
                n_offset = (int32_t)v;
            else
                test_fail(__FILE__, __LINE__, "no key of a histogram: %s", p);
            p = end;
        }
    }
    h->pos_spans = text_span(arena, offset, h->n_pos, &h->n_pos_spans);
    h->neg_spans = text_span(arena, n_offset, h->n_neg, &h->n_neg_spans);
    return h;
}

#define CHECK_NEAR(got, expected)                                                                  \
    do {                                                                                           \
        double near_a_ = (got), near_b_ = (expected);                                              \
        double near_d_ = near_a_ - near_b_, near_m_ = near_b_ < 0 ? -near_b_ : near_b_;            \
        bool near_nan_ = near_a_ != near_a_ && near_b_ != near_b_;                                 \
        if (!near_nan_ && near_a_ != near_b_ &&                                                    \
            !((near_d_ < 0 ? -near_d_ : near_d_) <= near_m_ * 4e-15))                              \
            test_fail(__FILE__, __LINE__, "%s is %.17g instead of %.17g", #got, near_a_, near_b_); \
    } while (0)

#endif
