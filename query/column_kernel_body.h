/* query/column_kernel_body.h: the kernels, for column_kernel.c and column_kernel_avx2.c, which define KERNEL. Vectors are the
 * compiler's: it makes of them what the target has. What does not fill a vector is done one by one, operation by
 * operation the same. */
#include <math.h>

#include "query/column_kernel.h"
#include "query/kernel.h"

typedef double v4d __attribute__((vector_size(32)));
typedef int64_t v4i __attribute__((vector_size(32)));
#define LANES 4
#define INLINE static inline __attribute__((always_inline))

INLINE v4d load(const double *p)
{
    v4d v;
    memcpy(&v, p, sizeof(v));
    return v;
}
INLINE void store(double *p, v4d v)
{
    memcpy(p, &v, sizeof(v));
}
INLINE v4d splat(double x)
{
    return (v4d){x, x, x, x};
}
INLINE bool any(v4i m)
{
    return (m[0] | m[1] | m[2] | m[3]) != 0;
}
INLINE v4d choose(v4i m, v4d yes, v4d no)
{
    return (v4d)((m & (v4i)yes) | (~m & (v4i)no));
}
INLINE v4d absolute(v4d v)
{
    return (v4d)((v4i)v & INT64_MAX);
}

static unsigned check(const double *v, size_t n)
{
    v4i nan = {0}, falls = {0};
    size_t i = 1;
    unsigned found = n && v[0] != v[0] ? COLUMN_NAN : 0;
    for (; i + LANES <= n; i += LANES) {
        v4d x = load(v + i), before = load(v + i - 1);
        nan |= x != x;
        falls |= x < before;
    }
    found |= (any(nan) ? COLUMN_NAN : 0) | (any(falls) ? COLUMN_FALLS : 0);
    for (; i < n; i++)
        found |= (v[i] != v[i] ? COLUMN_NAN : 0) | (v[i] < v[i - 1] ? COLUMN_FALLS : 0);
    return found;
}

/* No counter is negative: extrapolating back stops where it would have been 0. That takes a division to know; mostly
 * the counter is so far above its gain that a product with room for all rounding says so as well. */
#define ROOM (1 + 1e-9)
#define BOUND_MIN 1e-280

static bool gains(const struct gain_columns *in, size_t n, double *out)
{
    struct gain_columns c = *in;
    v4i doubts = {0};
    bool doubt = false;
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        v4d from = load(c.first + i), delta = load(c.last + i) - from;
        v4d bound = load(c.to_start + i) * delta * ROOM;
        store(out + i, delta * load(c.factor + i));
        v4i sure = (from * load(c.sampled + i) >= bound) & (bound > splat(BOUND_MIN)) &
                   (bound < splat(INFINITY));
        doubts |= (delta > splat(0)) & (from >= splat(0)) & ~sure;
    }
    for (; i < n; i++) {
        double delta = c.last[i] - c.first[i], bound = c.to_start[i] * delta * ROOM;
        out[i] = delta * c.factor[i];
        bool sure = c.first[i] * c.sampled[i] >= bound && bound > BOUND_MIN && bound < INFINITY;
        doubt |= delta > 0 && c.first[i] >= 0 && !sure;
    }
    return doubt || any(doubts);
}

static void add(const double *v, size_t n, double *sum, double *c)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        v4d s = load(sum + i), x = load(v + i), t = s + x;
        v4d lost = choose(absolute(s) >= absolute(x), (s - t) + x, (x - t) + s);
        v4d kept = load(c + i) + lost;
        store(c + i, choose(absolute(t) == splat(INFINITY), splat(0), kept));
        store(sum + i, t);
    }
    for (; i < n; i++) kahan_add(v[i], &sum[i], &c[i]);
}

const struct column_kernel KERNEL = {check, gains, add};
