/* base/hash.c: libxxhash behind our names. */
#include "base/hash.h"

#include <xxhash.h>

uint64_t hash_xxh3(const void *p, size_t len)
{
    return XXH3_64bits(p, len);
}

uint64_t hash_xxh64(const void *p, size_t len)
{
    return XXH64(p, len, 0);
}
