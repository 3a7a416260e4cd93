/* storage/family.h: the `le` series of a classic histogram as one chunk without times (storage/format.h,
 * "Families"). Each bucket is coded against its neighbours: about half the bits of single series, and what a
 * quantile needs is decoded at once, while each bucket can still be read as the series it is.
 * Threads: pure functions. */
#ifndef QUIPU_STORAGE_FAMILY_H
#define QUIPU_STORAGE_FAMILY_H

#include "storage/intcol.h"

#define FAMILY_MEMBERS_MIN 2
#define FAMILY_MEMBERS_MAX 254
#define FAMILY_COUNT 255 /* as a member number: the _count series */

struct family_input {
    const double *const
        *v; /* n_members columns of n values each, by rising bound, the last is +Inf */
    size_t n_members, n;
    const double *count; /* the _count series, or NULL when there is none */
};
/* Appends the chunk. False, and nothing is appended: it cannot be a family (a value that is not a whole number below
 * 2^53, a _count that is not +Inf's in every bit, a staleness marker that not all members have at the same samples,
 * markers alone, no memory to work in), or single chunks would be smaller than it (only asked for when
 * single_bytes > 0: what they take). Values need not rise, neither in time nor over le. */
MUST_USE bool family_encode(struct buf *out, const struct family_input *in, enum effort effort,
                            size_t single_bytes);
/* Number of members, and whether _count is in it. */
MUST_USE enum err_code family_peek(struct bytes chunk, size_t *n_members, bool *has_count,
                                   struct err *err);
/* Are there staleness markers among its values? They are the only NaN. */
bool family_has_markers(struct bytes chunk);
/* The n values of member k (FAMILY_COUNT: of _count). Only the columns it needs are read: one for +Inf and _count, else
 * those on the member's side of the dearest bucket. ERR_CORRUPT also when the chunk has no such member. */
MUST_USE enum err_code family_decode(struct bytes chunk, size_t n, unsigned k, double *out,
                                     struct err *err);
/* All members at once: out[k * n + i], cumulative over le as stored, n_members * n values. */
MUST_USE enum err_code family_decode_all(struct bytes chunk, size_t n, double *out,
                                         struct err *err);
/* What each bucket alone (over the bound of member k - 1, up to that of member k) counted from one sample to the next:
 * out[k * n + i] observations between the samples i - 1 and i, out[k * n] all before the first sample. Summing over
 * members up to k and samples up to i gives back value i of member k. A reset shows as negative numbers; at a
 * staleness marker it is 0, and what came while the series was gone is in the next number. n_members * n values. */
MUST_USE enum err_code family_decode_increments(struct bytes chunk, size_t n, int64_t *out,
                                                struct err *err);

#endif
