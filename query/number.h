/* query/number.h: doubles as text, both ways, as Go's strconv has them (that is what clients compare with).
 * Formatting is the shortest text that reads back as the same double. Nothing depends on the locale. */
#ifndef QUIPU_QUERY_NUMBER_H
#define QUIPU_QUERY_NUMBER_H

#include "base/bytes.h"

/* Enough for any double in any of the forms, without a NUL: 5e-324 takes 2 + 324 bytes, its neighbours with
 * 17 digits up to 342, and a sign. */
#define NUMBER_BYTES_MAX 352

/* Each writes at most NUMBER_BYTES_MAX bytes, no NUL, and returns how many. NaN, +Inf, -Inf, -0 alike. */

/* Always plain decimal: 1000000000000000000000, 0.0000001 (scalars, the printer, count_values) */
size_t number_print_plain(char *out, double v);
/* Plain for 1e-6 <= |v| < 1e21 and 0, else 1e-07, 1e+21 (values of vectors, matrices, histograms) */
size_t number_print_value(char *out, double v);
/* Always 1.5e+01, 0e+00 (values of alerts) */
size_t number_print_exp(char *out, double v);
/* Go's %g and %v: e form when the exponent is below -4 or at least 6: 100000, 1e+06 */
size_t number_print_general(char *out, double v);

/* Whole numbers, at most 20 bytes */
size_t number_print_u64(char *out, uint64_t v);

enum number_parse { NUMBER_OK, NUMBER_SYNTAX, NUMBER_RANGE };
/* strconv.ParseFloat: decimal, hexadecimal with p exponent, underscores only where Go's literals have them (which for
 * decimals means between digits), [+-]inf, infinity and nan in any case. The whole text must be the number.
 * NUMBER_RANGE: too large; *out is then an infinity. Too small is 0 and fine. */
enum number_parse number_parse_float(struct str text, double *out);
/* strconv.ParseInt(text, 0, 64): 0x, 0o, 0b, a leading 0 for octal, underscores */
enum number_parse number_parse_int(struct str text, int64_t *out);
/* strconv.Atoi and ParseInt(text, 10, 64) */
enum number_parse number_parse_decimal(struct str text, int64_t *out);

#endif
