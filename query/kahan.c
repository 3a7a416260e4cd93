/* query/kahan.c: compensated sums and means (Kahan-Babuška, in Neumaier's form of 1974). The order of the
 * operations is the definition; the build forbids contraction. */
#include "query/kernel.h"

void average_add(struct average *a, double x)
{
    a->n++;
    if (a->n == 1) {
        a->sum = x;
        return;
    }
    double n = (double)a->n;
    if (!a->incremental) {
        double sum = a->sum, c = a->c;
        kahan_add(x, &sum, &c);
        if (!isinf(sum)) {
            a->sum = sum, a->c = c;
            return;
        }
        /* The sum overflows, the mean need not: from here on it is kept itself. */
        a->incremental = true;
        a->mean = a->sum / (n - 1);
        a->c /= n - 1;
    }
    double q = (n - 1) / n;
    a->mean *= q, a->c *= q;
    kahan_add(x / n, &a->mean, &a->c);
}

double average_value(const struct average *a)
{
    if (a->incremental) return a->mean + a->c;
    return a->sum / (double)a->n + a->c / (double)a->n;
}
