/* base/hash.h: xxHash (libxxhash), so that values are the same on every machine and version. */
#ifndef QUIPU_BASE_HASH_H
#define QUIPU_BASE_HASH_H

#include "base/defs.h"

uint64_t hash_xxh3(const void *p, size_t len); /* XXH3 64, seed 0: tables in memory and on disk */
uint64_t hash_xxh64(const void *p,
                    size_t len); /* XXH64, seed 0: where PromQL's limit_ratio asks for it */

#endif
