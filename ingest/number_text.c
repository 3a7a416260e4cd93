/* ingest/number_text.c: see the header. Most numbers have few digits: m * 10^k with m < 2^53 and |k| <= 22 is one rounding of
 * exact operands (Clinger 1990), the rest is strtod's. */
#include "ingest/number_text.h"

#include <math.h>
#include <stdlib.h>
#include <strings.h>

#define EXACT_DIGITS 15
#define EXACT_POWER 22

struct scan {
    const char *p, *end;
};

static bool is_digit(const struct scan *s)
{
    return s->p < s->end && *s->p >= '0' && *s->p <= '9';
}

static bool take(struct scan *s, char c)
{
    if (s->p == s->end || *s->p != c) return false;
    s->p++;
    return true;
}

static bool take_sign(struct scan *s)
{
    if (take(s, '-')) return true;
    (void)take(s, '+');
    return false;
}

/* What a decimal consists of. */
struct decimal {
    bool negative;
    uint64_t digits;    /* the first EXACT_DIGITS, without leading zeros */
    size_t n_digits, n; /* of those; of all */
    int power;          /* of ten, that digits are multiplied with */
    bool inexact;       /* a digit other than zero did not fit */
};

static void take_digits(struct scan *s, struct decimal *d, bool fraction)
{
    for (; is_digit(s); s->p++, d->n++) {
        unsigned digit = (unsigned)(*s->p - '0');
        if (d->n_digits < EXACT_DIGITS) {
            d->digits = d->digits * 10 + digit;
            d->n_digits += d->digits != 0;
            d->power -= fraction;
        } else {
            d->inexact |= digit != 0;
            d->power += !fraction;
        }
    }
}

static bool take_exponent(struct scan *s, struct decimal *d)
{
    if (!take(s, 'e') && !take(s, 'E')) return true;
    bool negative = take_sign(s);
    int e = 0;
    if (!is_digit(s)) return false;
    for (; is_digit(s); s->p++)
        if (e < 100000) e = e * 10 + (*s->p - '0');
    d->power += negative ? -e : e;
    return true;
}

static bool scan_decimal(struct str text, struct decimal *d)
{
    struct scan s = {text.p, text.len ? text.p + text.len : text.p};
    *d = (struct decimal){.negative = take_sign(&s)};
    take_digits(&s, d, false);
    if (take(&s, '.')) take_digits(&s, d, true);
    return d->n > 0 && take_exponent(&s, d) && s.p == s.end;
}

bool number_text_decimal(struct str text, double *out)
{
    static const double TENS[EXACT_POWER + 1] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                                 1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                                 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    struct decimal d;
    if (text.len > NUMBER_TEXT_BYTES_MAX || !scan_decimal(text, &d)) return false;
    if (!d.inexact && d.power >= -EXACT_POWER && d.power <= EXACT_POWER) {
        double v = (double)d.digits;
        v = d.power < 0 ? v / TENS[-d.power] : v * TENS[d.power];
        *out = d.negative ? -v : v;
        return true;
    }
    char z[NUMBER_TEXT_BYTES_MAX + 1];
    memcpy(z, text.p, text.len);
    z[text.len] = 0;
    *out = strtod(z, NULL); /* the program never leaves the C locale */
    return true;
}

static bool same_word(struct str text, const char *word)
{
    return text.len == strlen(word) && strncasecmp(text.p, word, text.len) == 0;
}

static bool nan_with_bits(struct str text, double *out)
{
    uint64_t bits = 0;
    if (text.len != strlen("NaN:7ff0000000000002") || strncasecmp(text.p, "nan:", 4) != 0)
        return false;
    for (size_t i = 4; i < text.len; i++) {
        char c = text.p[i];
        unsigned digit = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                         : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a' + 10)
                         : c >= 'A' && c <= 'F' ? (unsigned)(c - 'A' + 10)
                                                : 16;
        if (digit == 16) return false;
        bits = bits << 4 | digit;
    }
    *out = double_from_bits(bits);
    return isnan(*out);
}

bool number_text_value(struct str text, double *out)
{
    if (number_text_decimal(text, out)) return true;
    if (!text.len) return false;
    bool negative = text.p[0] == '-';
    struct str word = text;
    if (negative || text.p[0] == '+') word.p++, word.len--;
    if (same_word(word, "inf") || same_word(word, "infinity")) {
        *out = negative ? -(double)INFINITY : (double)INFINITY;
        return true;
    }
    if (same_word(word, "nan")) {
        *out = double_from_bits(TEXT_NAN_BITS);
        return true;
    }
    return nan_with_bits(text, out);
}

static bool whole_number(struct scan *s, uint64_t max, uint64_t *out)
{
    uint64_t v = 0;
    if (!is_digit(s)) return false;
    for (; is_digit(s); s->p++) {
        uint64_t digit = (uint64_t)(*s->p - '0');
        if (v > (max - digit) / 10) return false;
        v = v * 10 + digit;
    }
    *out = v;
    return true;
}

bool number_text_ms(struct str text, int64_t *out)
{
    struct scan s = {text.p, text.len ? text.p + text.len : text.p};
    bool negative = take_sign(&s);
    uint64_t v;
    if (!whole_number(&s, (uint64_t)INT64_MAX + negative, &v) || s.p != s.end) return false;
    *out = (int64_t)(negative ? 0 - v : v);
    return true;
}

bool number_text_seconds(struct str text, int64_t *t_ms)
{
    struct scan s = {text.p, text.len ? text.p + text.len : text.p};
    bool negative = take_sign(&s);
    uint64_t seconds, ms = 0;
    double v;
    if (whole_number(&s, INT64_MAX / 1000 - 1, &seconds)) {
        if (take(&s, '.')) {
            for (unsigned unit = 100; is_digit(&s); s.p++, unit /= 10)
                ms += (uint64_t)(*s.p - '0') * unit;
        }
        if (s.p == s.end) {
            int64_t t = (int64_t)(seconds * 1000 + ms);
            *t_ms = negative ? -t : t;
            return true;
        }
    }
    if (!number_text_decimal(text, &v) || !(fabs(v) < 9e15)) return false;
    *t_ms = (int64_t)(v * 1000);
    return true;
}
