#include "query/number_shortest.h"

#include <charconv>

int number_shortest_digits(double v, char digits[NUMBER_DIGITS_MAX], int *point)
{
    char text[40];
    const char *end = std::to_chars(text, text + sizeof text, v, std::chars_format::scientific).ptr;
    int n = 0;
    const char *p = text;
    for (; p < end && *p != 'e'; p++)
        if (*p != '.' && n < NUMBER_DIGITS_MAX) digits[n++] = *p;
    int exponent = 0;
    p++;
    if (p < end && *p == '+') p++; /* from_chars takes no plus sign */
    std::from_chars(p, end, exponent);
    while (n > 1 && digits[n - 1] == '0') n--;
    *point = exponent + 1;
    return n;
}

char *number_shortest_plain(double v, char *out)
{
    return std::to_chars(out, out + 40, v, std::chars_format::fixed).ptr;
}
