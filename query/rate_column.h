/* query/rate_column.h: rate, increase and delta of one series of plain floats at all steps at once: the same bits as
 * range_function() step by step, without its cost. */
#ifndef QUIPU_QUERY_RATE_COLUMN_H
#define QUIPU_QUERY_RATE_COLUMN_H

#include "query/eval_op.h"
#include "query/rate_windows.h"

/* Neither histograms nor start times nor anchored or smoothed windows. */
bool rate_column_applies(enum function_id fn, enum selector_mode mode,
                         const struct samples *samples);
/* The values of a series whose windows are `w`, without staleness markers; `falls`: some value is less than the
 * one before. The steps of w->present get a value in
 * `out`. */
void rate_column(enum function_id fn, const struct plan_window *window,
                 const struct rate_windows *w, const double *v, bool falls, double *out);

#endif
