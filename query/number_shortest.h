/* query/number_shortest.h: std::to_chars behind a C interface (Ryu in libstdc++). Includes nothing of ours, so that
 * the one C++ file needs no headers written for C. */
#ifndef QUIPU_QUERY_NUMBER_SHORTEST_H
#define QUIPU_QUERY_NUMBER_SHORTEST_H

#ifdef __cplusplus
extern "C" {
#endif

#define NUMBER_DIGITS_MAX 17

/* The fewest digits that read back as v, the nearest to v among those: v = 0.d1d2d3… * 10^*point. v must be finite
 * and not negative. No trailing zeros; 0 is the one digit 0 with *point 1. Returns how many digits. */
int number_shortest_digits(double v, char digits[NUMBER_DIGITS_MAX], int *point);

/* The same digits laid out in plain decimal, for 1e-6 <= v < 1e15. Returns the end; at most 40 bytes. */
char *number_shortest_plain(double v, char *out);

#ifdef __cplusplus
}
#endif
#endif
