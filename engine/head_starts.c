/* engine/head_starts.c: start timestamps of a series' floats. They change seldom (when a counter begins again), so the
 * head keeps where they change: run i holds from its time up to that of the next one. Series without any have no runs,
 * and no memory for them. Under the stripe's lock, but for the copy that a reader has. */
#include "engine/head.h"

static size_t runs_bytes(uint32_t n)
{
    return (size_t)n * sizeof(struct head_start);
}

/* How many runs begin at or before t_ms. */
static uint32_t runs_until(const struct head_starts *starts, int64_t t_ms)
{
    uint32_t lo = 0, hi = starts->n;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (starts->items[mid].t_ms <= t_ms)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static int64_t start_at(const struct head_starts *starts, int64_t t_ms)
{
    uint32_t n = runs_until(starts, t_ms);
    return n ? starts->items[n - 1].st_ms : 0;
}

static bool runs_reserve(struct head_stripe *stripe, struct head_counts *counts,
                         struct head_starts *starts, uint32_t extra)
{
    if (starts->n + extra <= starts->cap) return true;
    uint32_t cap = MAX_OF(starts->n + extra, starts->cap + starts->cap / 2);
    struct head_start *items = cell_pool_get(stripe->pool, runs_bytes(cap));
    if (!items) return false;
    if (starts->items) {
        memcpy(items, starts->items, runs_bytes(starts->n));
        counts->bytes -= (int64_t)cells_size(runs_bytes(starts->cap));
        cell_pool_put(stripe->pool, starts->items, runs_bytes(starts->cap));
    }
    counts->bytes += (int64_t)cells_size(runs_bytes(cap));
    starts->items = items;
    starts->cap = cap;
    return true;
}

/* Runs that say the same as the one before. */
static void runs_join(struct head_starts *starts)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < starts->n; i++) {
        struct head_start run = starts->items[i];
        if (run.st_ms != (n ? starts->items[n - 1].st_ms : 0)) starts->items[n++] = run;
    }
    starts->n = n;
}

/* A run at t_ms, there already or not; there is room. */
static void runs_put(struct head_starts *starts, int64_t t_ms, int64_t st_ms)
{
    uint32_t at = runs_until(starts, t_ms);
    if (at && starts->items[at - 1].t_ms == t_ms) {
        starts->items[at - 1].st_ms = st_ms;
        return;
    }
    memmove(&starts->items[at + 1], &starts->items[at], runs_bytes(starts->n - at));
    starts->items[at] = (struct head_start){t_ms, st_ms};
    starts->n++;
}

bool head_starts_put(struct head_stripe *stripe, struct head_counts *counts, struct series *s,
                     int64_t t_ms, int64_t st_ms, bool latest)
{
    if (st_ms == 0 && !head_has_starts(s)) return true;
    struct head_extra *extra = head_extra_of(stripe, counts, s);
    if (!extra) return false;
    struct head_starts *starts = &extra->starts;
    int64_t before = start_at(starts, t_ms);
    if (before == st_ms) return true;
    if (!runs_reserve(stripe, counts, starts, 2)) return false;
    if (latest) {
        while (starts->n && starts->items[starts->n - 1].t_ms >= t_ms) starts->n--;
        runs_put(starts, t_ms, st_ms);
        return true;
    }
    /* This sample alone: those that follow keep theirs. */
    uint32_t next = runs_until(starts, t_ms);
    bool ends = next < starts->n && starts->items[next].t_ms == t_ms + 1;
    runs_put(starts, t_ms, st_ms);
    if (!ends) runs_put(starts, t_ms + 1, before);
    runs_join(starts);
    return true;
}

void head_starts_clear(struct head_stripe *stripe, struct head_counts *counts,
                       struct head_starts *starts)
{
    if (starts->items) {
        counts->bytes -= (int64_t)cells_size(runs_bytes(starts->cap));
        cell_pool_put(stripe->pool, starts->items, runs_bytes(starts->cap));
    }
    *starts = (struct head_starts){0};
}

void head_starts_trim(struct head_starts *starts, int64_t t_min_ms)
{
    uint32_t n = runs_until(starts, t_min_ms), gone = n ? n - 1 : 0;
    if (!gone) return;
    memmove(starts->items, starts->items + gone, runs_bytes(starts->n - gone));
    starts->n -= gone;
}

enum err_code head_starts_apply(const struct head_starts *starts, struct samples *s,
                                struct err *err)
{
    enum err_code rc = s->n ? samples_want_start_times(s, err) : ERR_OK;
    uint32_t run = 0;
    int64_t st_ms = 0;
    for (size_t i = 0; !rc && i < s->n; i++) {
        for (; run < starts->n && starts->items[run].t_ms <= s->t_ms[i]; run++)
            st_ms = starts->items[run].st_ms;
        if (!s->h || !s->h[i]) s->st_ms[i] = st_ms; /* a histogram has its own */
    }
    return rc;
}
