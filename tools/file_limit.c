/* tools/file_limit.c */
#include "tools/file_limit.h"

#include <sys/resource.h>

#define DESCRIPTORS_UNKNOWN 1024 /* what Linux gives at least */
#define DESCRIPTORS_ENOUGH 1048576
#define OWN 64 /* log, catalog, files that are written, eventfds and epolls of the threads */
#define BLOCK_FILES_MIN 16
#define BLOCK_FILES_MAX 16384

uint64_t file_limit_raise(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
    struct rlimit more = {MIN_OF(limit.rlim_max, (rlim_t)DESCRIPTORS_ENOUGH), limit.rlim_max};
    if (limit.rlim_cur < more.rlim_cur && setrlimit(RLIMIT_NOFILE, &more) == 0) limit = more;
    return limit.rlim_cur;
}

struct file_limit file_limit_plan(uint64_t descriptors, uint64_t connections_wanted)
{
    struct file_limit p = {.descriptors = descriptors ? descriptors : DESCRIPTORS_UNKNOWN};
    uint64_t left = p.descriptors - MIN_OF(p.descriptors, (uint64_t)OWN);
    p.connections_max = MAX_OF(MIN_OF(connections_wanted, left / 2), (uint64_t)1);
    left -= MIN_OF(left, p.connections_max);
    p.block_files_max = MIN_OF(MAX_OF(left, (uint64_t)BLOCK_FILES_MIN), (uint64_t)BLOCK_FILES_MAX);
    return p;
}
