/* query/nearest.c: see the header. */
#include "query/nearest.h"

#define DISTANCE_MAX 2 /* one further and the hint misleads */

/* Damerau's distance in its simple form (optimal string alignment): changed, missing and surplus letters, and two that have
 * changed places, count one each. Three rows at a time; both texts at most NEAREST_BYTES_MAX long. */
static size_t edit_distance(struct str a, struct str b)
{
    size_t rows[3][NEAREST_BYTES_MAX + 1];
    for (size_t j = 0; j <= b.len; j++) rows[0][j] = j;
    for (size_t i = 1; i <= a.len; i++) {
        const size_t *above = rows[(i - 1) % 3], *above2 = rows[(i + 1) % 3];
        size_t *row = rows[i % 3];
        row[0] = i;
        for (size_t j = 1; j <= b.len; j++) {
            size_t change = above[j - 1] + (a.p[i - 1] != b.p[j - 1]);
            size_t gap = MIN_OF(above[j], row[j - 1]) + 1;
            row[j] = MIN_OF(change, gap);
            bool swapped = i > 1 && j > 1 && a.p[i - 1] == b.p[j - 2] && a.p[i - 2] == b.p[j - 1];
            if (swapped) row[j] = MIN_OF(row[j], above2[j - 2] + 1);
        }
    }
    return rows[a.len % 3][b.len];
}

void nearest_begin(struct nearest *n, struct str text)
{
    *n = (struct nearest){.text = text, .distance = DISTANCE_MAX + 1};
}

void nearest_try(struct nearest *n, struct str known)
{
    size_t longer = MAX_OF(n->text.len, known.len), shorter = MIN_OF(n->text.len, known.len);
    if (longer > NEAREST_BYTES_MAX || longer - shorter >= n->distance) return;
    size_t distance = edit_distance(n->text, known);
    if (distance >= n->distance || distance * 2 >= known.len) return;
    n->best = known;
    n->distance = distance;
}
