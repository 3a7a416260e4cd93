/* storage/samples.h: samples of one series in columns, in time order, one per timestamp. */
#ifndef QUIPU_STORAGE_SAMPLES_H
#define QUIPU_STORAGE_SAMPLES_H

#include "base/arena.h"
#include "storage/histogram.h"

/* A float sample is (t_ms, v). A histogram sample is (t_ms, v = its sum, h), so that staleness is one test
 * on v for both kinds. */
struct samples {
    int64_t *t_ms;
    double *v;            /* bit-exact; NaN payloads survive */
    struct histogram **h; /* NULL when no sample is a histogram; else per sample, NULL for floats */
    int64_t *st_ms;       /* start timestamps per sample, 0 = unknown; NULL when none is known */
    size_t n, cap;
    enum mem_owner owner; /* of the columns */
    struct arena *arena;  /* where histograms live; may be NULL if none come */
};

void samples_init(struct samples *s, enum mem_owner owner, struct arena *arena);
void samples_release(struct samples *s);
static inline void samples_reset(struct samples *s)
{
    s->n = 0;
}
/* Room for `extra` more in t_ms and v (and h, st_ms where present). */
MUST_USE enum err_code samples_reserve(struct samples *s, size_t extra, struct err *err);
/* Makes the h column (all NULL so far). */
MUST_USE enum err_code samples_want_histograms(struct samples *s, struct err *err);
/* Makes the st_ms column (all 0 so far). */
MUST_USE enum err_code samples_want_start_times(struct samples *s, struct err *err);
/* Fills st_ms of the samples from `from` on with the start times that histograms carry. */
MUST_USE enum err_code samples_take_start_times(struct samples *s, size_t from, struct err *err);
/* Its start time, where that column is, is 0. */
MUST_USE enum err_code samples_push(struct samples *s, int64_t t_ms, double v, struct histogram *h,
                                    struct err *err);
/* Sample `from` takes the place of sample `to`, in all columns: so some are left out. */
void samples_move(struct samples *s, size_t to, size_t from);
/* Merges `newer` into `s`, both in time order; at an equal time `newer` wins, except that a staleness marker
 * never replaces a value. `s` keeps its columns and gains those of `newer`; histograms are shared, not copied. */
MUST_USE enum err_code samples_merge(struct samples *s, const struct samples *newer,
                                     struct err *err);

#endif
