/* storage/ulid.c: 48 bits of ms since 1970 and 80 random bits as 26 digits of 5 bits, highest first (the ULID
 * specification; the two highest bits of the 130 are 0). */
#include "storage/block.h"

#define TIME_DIGITS 10
#define TIME_MS_MAX ((INT64_C(1) << 48) - 1)

static const char digits[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

void ulid_make(struct ulid *out, int64_t t_ms, struct rng *rng)
{
    uint64_t t = (uint64_t)(t_ms < 0 ? 0 : MIN_OF(t_ms, TIME_MS_MAX));
    for (int i = TIME_DIGITS - 1; i >= 0; i--, t >>= 5) out->text[i] = digits[t & 31];
    uint64_t r = 0;
    for (int i = TIME_DIGITS; i < ULID_CHARS; i++, r >>= 5) {
        if ((i - TIME_DIGITS) % 8 == 0) r = rng_u64(rng); /* eight digits from each draw */
        out->text[i] = digits[r & 31];
    }
    out->text[ULID_CHARS] = 0;
}

bool ulid_parse(struct str text, struct ulid *out)
{
    if (text.len != ULID_CHARS || text.p[0] > '7') return false;
    for (size_t i = 0; i < ULID_CHARS; i++)
        if (text.p[i] == 0 || !strchr(digits, text.p[i])) return false;
    memcpy(out->text, text.p, ULID_CHARS);
    out->text[ULID_CHARS] = 0;
    return true;
}
