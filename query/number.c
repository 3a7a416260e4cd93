#include "query/number.h"

#include <math.h>
#include <stdlib.h>

#include "query/number_shortest.h"

/* |v| = 0.d1d2d3… * 10^point, without leading or trailing zeros; zero is the digit 0 with point 1. */
struct decimal {
    char digits[NUMBER_DIGITS_MAX];
    int n;
    int point;
    bool negative;
};

static struct decimal decimal_of(double v)
{
    struct decimal d = {.negative = signbit(v)};
    d.n = number_shortest_digits(fabs(v), d.digits, &d.point);
    return d;
}

/* Two digits at a time */
static const char PAIRS[] = "0001020304050607080910111213141516171819202122232425262728293031323334"
                            "3536373839404142434445464748495051525354555657585960616263646566676869"
                            "707172737475767778798081828384858687888990919293949596979899";

size_t number_print_u64(char *out, uint64_t v)
{
    char text[20];
    char *p = text + sizeof text;
    for (; v >= 100; v /= 100) {
        p -= 2;
        memcpy(p, PAIRS + v % 100 * 2, 2);
    }
    if (v >= 10) {
        p -= 2;
        memcpy(p, PAIRS + v * 2, 2);
    } else {
        *--p = (char)('0' + v);
    }
    size_t n = (size_t)(text + sizeof text - p);
    memcpy(out, p, n);
    return n;
}

/* m / 10^decimals without zeros at the end */
static size_t put_scaled(char *out, uint64_t m, unsigned decimals, uint64_t scale)
{
    size_t n = number_print_u64(out, m / scale);
    uint64_t fraction = m % scale;
    if (!fraction) return n;
    out[n++] = '.';
    for (unsigned i = decimals; i > 0; i--, fraction /= 10)
        out[n + i - 1] = (char)('0' + fraction % 10);
    n += decimals;
    while (out[n - 1] == '0') n--;
    return n;
}

#define EXACT_MAX 1e15 /* a decimal of at most 15 digits is the only one that reads as its double */

/* Counters and gauges mostly are whole numbers or have a few decimals: m / 10^k. The division is rounded as reading the
 * text would be, so if it gives v, the text reads back; and with at most 15 digits no shorter or nearer one does.
 * 0 <= v < EXACT_MAX. Returns 0 when it is no such number. 81 -> 23 ns a point of a matrix. */
static size_t put_short(char *out, double v)
{
    uint64_t whole = (uint64_t)v;
    if ((double)whole == v) return number_print_u64(out, whole);
    if (v * 1e6 >= EXACT_MAX) return 0;
    double m = nearbyint(v * 1e3);
    if (m / 1e3 == v) return put_scaled(out, (uint64_t)m, 3, 1000);
    m = nearbyint(v * 1e6);
    if (m / 1e6 == v) return put_scaled(out, (uint64_t)m, 6, 1000000);
    return 0;
}

/* Plain decimals of 1e-6 <= |v| < EXACT_MAX, and of 0 */
static size_t put_usual(char *out, double v)
{
    size_t sign = signbit(v) ? 1 : 0;
    if (sign) out[0] = '-';
    v = fabs(v);
    size_t n = put_short(out + sign, v);
    if (!n) n = (size_t)(number_shortest_plain(v, out + sign) - (out + sign));
    return sign + n;
}

static bool is_usual(double v)
{
    double a = fabs(v);
    return (a >= 1e-6 && a < EXACT_MAX) || a == 0;
}

static size_t put_special(char *out, double v)
{
    const char *text = isnan(v) ? "NaN" : v > 0 ? "+Inf" : "-Inf";
    size_t n = strlen(text);
    memcpy(out, text, n);
    return n;
}

static size_t put_plain(char *out, const struct decimal *d)
{
    char *p = out;
    if (d->negative) *p++ = '-';
    if (d->point <= 0) {
        *p++ = '0';
        *p++ = '.';
        memset(p, '0', (size_t)-d->point);
        p += -d->point;
        memcpy(p, d->digits, (size_t)d->n);
        return (size_t)(p + d->n - out);
    }
    for (int i = 0; i < d->point; i++) *p++ = i < d->n ? d->digits[i] : '0';
    if (d->n <= d->point) return (size_t)(p - out);
    *p++ = '.';
    memcpy(p, d->digits + d->point, (size_t)(d->n - d->point));
    return (size_t)(p + (d->n - d->point) - out);
}

static size_t put_exp(char *out, const struct decimal *d)
{
    char *p = out;
    if (d->negative) *p++ = '-';
    *p++ = d->digits[0];
    if (d->n > 1) {
        *p++ = '.';
        memcpy(p, d->digits + 1, (size_t)(d->n - 1));
        p += d->n - 1;
    }
    int exponent = d->digits[0] == '0' ? 0 : d->point - 1;
    *p++ = 'e';
    *p++ = exponent < 0 ? '-' : '+';
    exponent = abs(exponent);
    if (exponent >= 100) *p++ = (char)('0' + exponent / 100);
    *p++ = (char)('0' + exponent / 10 % 10); /* at least two digits */
    *p++ = (char)('0' + exponent % 10);
    return (size_t)(p - out);
}

static bool is_digit_of(char c, int base)
{
    if (c >= '0' && c <= '9') return c - '0' < base;
    char lower = (char)(c | 0x20);
    return base == 16 && lower >= 'a' && lower <= 'f';
}

/* Go's rule: an underscore stands between digits, or between a base prefix and a digit. */
static bool underscores_ok(struct str s)
{
    /* '0' after a digit or base prefix, '_' after an underscore, '!' after the rest */
    char last = '^';
    size_t i = 0;
    bool hex = false;
    if (s.len && (s.p[0] == '-' || s.p[0] == '+')) i++;
    if (s.len - i >= 2 && s.p[i] == '0') {
        char c = (char)(s.p[i + 1] | 0x20);
        if (c == 'b' || c == 'o' || c == 'x') {
            hex = c == 'x';
            last = '0';
            i += 2;
        }
    }
    for (; i < s.len; i++) {
        if (is_digit_of(s.p[i], hex ? 16 : 10)) {
            last = '0';
        } else if (s.p[i] == '_') {
            if (last != '0') return false;
            last = '_';
        } else {
            if (last == '_') return false;
            last = '!';
        }
    }
    return last != '_';
}

static bool word_eq(struct str s, const char *word)
{
    for (size_t i = 0; i < s.len; i++)
        if (!word[i] || (s.p[i] | 0x20) != word[i]) return false;
    return !word[s.len];
}

static bool parse_special(struct str s, double *out)
{
    bool negative = s.len && s.p[0] == '-';
    if (s.len && (s.p[0] == '-' || s.p[0] == '+')) {
        s.p++;
        s.len--;
        if (word_eq(s, "nan")) return false; /* a signed NaN is no Go float */
    }
    if (word_eq(s, "nan"))
        *out = nan("");
    else if (word_eq(s, "inf") || word_eq(s, "infinity"))
        *out = negative ? -HUGE_VAL : HUGE_VAL;
    else
        return false;
    return true;
}

/* Does s, without underscores, have the shape of a Go float? strtod alone would also take blanks, trailing
 * text and hexadecimal without exponent. */
static bool float_shape_ok(const char *p, size_t len)
{
    size_t i = 0, n_digits = 0;
    int base = 10;
    if (i < len && (p[i] == '-' || p[i] == '+')) i++;
    if (len - i >= 2 && p[i] == '0' && (p[i + 1] | 0x20) == 'x') {
        base = 16;
        i += 2;
    }
    for (; i < len && is_digit_of(p[i], base); i++) n_digits++;
    if (i < len && p[i] == '.')
        for (i++; i < len && is_digit_of(p[i], base); i++) n_digits++;
    if (!n_digits) return false;
    bool has_exp = i < len && (p[i] | 0x20) == (base == 16 ? 'p' : 'e');
    if (!has_exp) return i == len && base == 10;
    i++;
    if (i < len && (p[i] == '-' || p[i] == '+')) i++;
    size_t exp_from = i;
    while (i < len && is_digit_of(p[i], 10)) i++;
    return i == len && i > exp_from;
}

static enum number_parse parse_clean(const char *z, size_t len, double *out)
{
    if (!float_shape_ok(z, len)) return NUMBER_SYNTAX;
    *out = strtod(z, NULL);
    return isinf(*out) ? NUMBER_RANGE : NUMBER_OK;
}

static enum number_parse parse_digits(struct str s, int base, int64_t *out)
{
    bool negative = s.len && s.p[0] == '-';
    size_t i = s.len && (s.p[0] == '-' || s.p[0] == '+') ? 1 : 0;
    if (base == 0) {
        base = 10;
        if (s.len - i >= 1 && s.p[i] == '0') {
            char c = s.len - i >= 3 ? (char)(s.p[i + 1] | 0x20) : 0;
            base = c == 'x' ? 16 : c == 'b' ? 2 : 8;
            i += c == 'x' || c == 'b' || c == 'o' ? 2 : 1;
            if (i == s.len) { /* just "0" */
                *out = 0;
                return NUMBER_OK;
            }
        }
    }
    if (i == s.len) return NUMBER_SYNTAX;
    const uint64_t limit = negative ? (uint64_t)INT64_MAX + 1 : (uint64_t)INT64_MAX;
    uint64_t value = 0;
    bool overflow = false;
    for (; i < s.len; i++) {
        if (s.p[i] == '_') continue;
        if (!is_digit_of(s.p[i], base)) return NUMBER_SYNTAX;
        uint64_t digit = (uint64_t)(s.p[i] <= '9' ? s.p[i] - '0' : (s.p[i] | 0x20) - 'a' + 10);
        if (value > (limit - digit) / (uint64_t)base) overflow = true;
        value = value * (uint64_t)base + digit;
    }
    if (overflow) {
        *out = negative ? INT64_MIN : INT64_MAX;
        return NUMBER_RANGE;
    }
    *out = (int64_t)(negative ? ~value + 1 : value);
    return NUMBER_OK;
}

size_t number_print_plain(char *out, double v)
{
    if (is_usual(v)) return put_usual(out, v);
    if (!isfinite(v)) return put_special(out, v);
    struct decimal d = decimal_of(v);
    return put_plain(out, &d);
}

size_t number_print_value(char *out, double v)
{
    if (is_usual(v)) return put_usual(out, v);
    if (!isfinite(v)) return put_special(out, v);
    struct decimal d = decimal_of(v);
    double a = fabs(v);
    return a != 0 && (a < 1e-6 || a >= 1e21) ? put_exp(out, &d) : put_plain(out, &d);
}

size_t number_print_exp(char *out, double v)
{
    if (!isfinite(v)) return put_special(out, v);
    struct decimal d = decimal_of(v);
    return put_exp(out, &d);
}

size_t number_print_general(char *out, double v)
{
    if (!isfinite(v)) return put_special(out, v);
    struct decimal d = decimal_of(v);
    return v != 0 && (d.point - 1 < -4 || d.point - 1 >= 6) ? put_exp(out, &d) : put_plain(out, &d);
}

enum number_parse number_parse_float(struct str text, double *out)
{
    *out = 0;
    if (!text.len) return NUMBER_SYNTAX;
    if (parse_special(text, out)) return NUMBER_OK;
    if (memchr(text.p, '_', text.len)) {
        /* readFloat takes underscores; Go then checks that they stand where a literal has them. */
        if (!underscores_ok(text)) return NUMBER_SYNTAX;
    }
    char small[128];
    char *z = small;
    if (text.len >= sizeof small) {
        z = mem_alloc(MEM_QUERY, text.len + 1);
        if (!z) return NUMBER_SYNTAX;
    }
    size_t n = 0;
    for (size_t i = 0; i < text.len; i++)
        if (text.p[i] != '_') z[n++] = text.p[i];
    z[n] = 0;
    enum number_parse rc = parse_clean(z, n, out);
    if (z != small) mem_free(z);
    return rc;
}

enum number_parse number_parse_int(struct str text, int64_t *out)
{
    *out = 0;
    if (!text.len) return NUMBER_SYNTAX;
    if (memchr(text.p, '_', text.len) && !underscores_ok(text)) return NUMBER_SYNTAX;
    return parse_digits(text, 0, out);
}

enum number_parse number_parse_decimal(struct str text, int64_t *out)
{
    *out = 0;
    if (!text.len || memchr(text.p, '_', text.len)) return NUMBER_SYNTAX;
    return parse_digits(text, 10, out);
}
