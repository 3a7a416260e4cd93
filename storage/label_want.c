/* storage/label_want.c: see the header. */
#include "storage/label_want.h"

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

/* `text` has at least so many bytes. */
static bool begins_with(const char *text, struct str needle)
{
    for (size_t i = 0; i < needle.len; i++)
        if (lower(text[i]) != lower(needle.p[i])) return false;
    return true;
}

bool label_wanted(const struct label_want *want, struct str text)
{
    struct str needle = want->search;
    if (!needle.len) return true;
    bool at_start = needle.p[0] == '^';
    if (at_start) needle = (struct str){needle.p + 1, needle.len - 1};
    if (needle.len > text.len) return false;
    size_t last = at_start ? 0 : text.len - needle.len;
    for (size_t i = 0; i <= last; i++)
        if (begins_with(text.p + i, needle)) return true;
    return false;
}
