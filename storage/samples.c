/* storage/samples.c: see the header. All columns have room for `cap` samples. */
#include "storage/samples.h"

void samples_init(struct samples *s, enum mem_owner owner, struct arena *arena)
{
    *s = (struct samples){.owner = owner, .arena = arena};
}

void samples_release(struct samples *s)
{
    mem_free(s->t_ms);
    mem_free(s->v);
    mem_free(s->h);
    mem_free(s->st_ms);
    samples_init(s, s->owner, s->arena);
}

static_assert(sizeof(int64_t) == 8 && sizeof(double) == 8 && sizeof(struct histogram *) == 8,
              "a column's item is 8 bytes");
#define ITEM_BYTES ((size_t)8)

/* Moves one column to new room. The columns moved before a failure merely have more room than `cap` says. */
static bool column_grow(enum mem_owner owner, void **column, size_t size)
{
    void *p = mem_realloc(owner, *column, size);
    if (p) *column = p;
    return p != NULL;
}

enum err_code samples_reserve(struct samples *s, size_t extra, struct err *err)
{
    if (LIKELY(extra <= s->cap - s->n)) return ERR_OK;
    size_t need, size;
    if (__builtin_add_overflow(s->n, extra, &need))
        return err_set(err, ERR_NO_MEMORY, "%zu more samples", extra);
    size_t cap = MAX_OF(need, s->cap + s->cap / 2);
    cap = MAX_OF(cap, (size_t)16);
    if (!mem_mul(cap, ITEM_BYTES, &size) || !column_grow(s->owner, (void **)&s->t_ms, size) ||
        !column_grow(s->owner, (void **)&s->v, size) ||
        (s->h && !column_grow(s->owner, (void **)&s->h, size)) ||
        (s->st_ms && !column_grow(s->owner, (void **)&s->st_ms, size)))
        return err_set(err, ERR_NO_MEMORY, "columns for %zu samples", cap);
    s->cap = cap;
    return ERR_OK;
}

/* A further column, zeroed: no histogram, no start time. */
static enum err_code column_add(const struct samples *s, void **column, struct err *err)
{
    if (*column) return ERR_OK;
    *column = mem_calloc(s->owner, MAX_OF(s->cap, (size_t)1), ITEM_BYTES);
    return *column ? ERR_OK : err_set(err, ERR_NO_MEMORY, "a column for %zu samples", s->cap);
}

enum err_code samples_want_histograms(struct samples *s, struct err *err)
{
    return column_add(s, (void **)&s->h, err);
}

enum err_code samples_want_start_times(struct samples *s, struct err *err)
{
    return column_add(s, (void **)&s->st_ms, err);
}

enum err_code samples_take_start_times(struct samples *s, size_t from, struct err *err)
{
    for (size_t i = from; s->h && i < s->n; i++) {
        if (!s->h[i] || !s->h[i]->start_ms) continue;
        enum err_code rc = samples_want_start_times(s, err);
        if (rc) return rc;
        s->st_ms[i] = s->h[i]->start_ms;
    }
    return ERR_OK;
}

enum err_code samples_push(struct samples *s, int64_t t_ms, double v, struct histogram *h,
                           struct err *err)
{
    enum err_code rc = samples_reserve(s, 1, err);
    if (!rc && h) rc = samples_want_histograms(s, err);
    if (rc) return rc;
    s->t_ms[s->n] = t_ms;
    /* By bits: a float register may quieten a signalling NaN, and the staleness marker is one. */
    memcpy(&s->v[s->n], &v, sizeof(v));
    if (s->h) s->h[s->n] = h;
    if (s->st_ms) s->st_ms[s->n] = 0;
    s->n++;
    return ERR_OK;
}

/* Copies sample `from` of src to place `to` of dst, which has the columns it needs. */
static inline void sample_copy(struct samples *dst, size_t to, const struct samples *src,
                               size_t from)
{
    dst->t_ms[to] = src->t_ms[from];
    memcpy(&dst->v[to], &src->v[from], sizeof(double));
    if (dst->h) dst->h[to] = src->h ? src->h[from] : NULL;
    if (dst->st_ms) dst->st_ms[to] = src->st_ms ? src->st_ms[from] : 0;
}

void samples_move(struct samples *s, size_t to, size_t from)
{
    sample_copy(s, to, s, from);
}

static void samples_shift_down(struct samples *s, size_t by, size_t n)
{
    memmove(s->t_ms, s->t_ms + by, n * ITEM_BYTES);
    memmove(s->v, s->v + by, n * ITEM_BYTES);
    if (s->h) memmove(s->h, s->h + by, n * ITEM_BYTES);
    if (s->st_ms) memmove(s->st_ms, s->st_ms + by, n * ITEM_BYTES);
}

/* Fills [s->n, s->n + newer->n) and below from the back. What is written lies never below what is still to
 * be read of s, as every step reads one and writes one; equal times leave a gap in front. */
static void merge_backwards(struct samples *s, const struct samples *newer)
{
    size_t i = s->n, j = newer->n, to = i + j;
    while (j > 0) {
        if (i > 0 && s->t_ms[i - 1] > newer->t_ms[j - 1]) {
            sample_copy(s, --to, s, --i);
            continue;
        }
        bool same = i > 0 && s->t_ms[i - 1] == newer->t_ms[j - 1];
        bool keep = same && is_stale_nan(newer->v[j - 1]) && !is_stale_nan(s->v[i - 1]);
        if (keep)
            sample_copy(s, --to, s, i - 1);
        else
            sample_copy(s, --to, newer, j - 1);
        j--;
        if (same) i--;
    }
    /* s[0, i) stands where it belongs; the merged ones join it. */
    size_t n_merged = s->n + newer->n - to;
    if (to > i) {
        struct samples tail = *s;
        tail.t_ms += i, tail.v += i;
        if (tail.h) tail.h += i;
        if (tail.st_ms) tail.st_ms += i;
        samples_shift_down(&tail, to - i, n_merged);
    }
    s->n = i + n_merged;
}

enum err_code samples_merge(struct samples *s, const struct samples *newer, struct err *err)
{
    if (newer->n == 0) return ERR_OK;
    enum err_code rc = samples_reserve(s, newer->n, err);
    if (!rc && newer->h) rc = samples_want_histograms(s, err);
    if (!rc && newer->st_ms) rc = samples_want_start_times(s, err);
    if (rc) return rc;
    merge_backwards(s, newer);
    return ERR_OK;
}
