/* base/memory_limit.h: how much memory the system lets us have, and how much of it the process holds now.
 * Linux: control groups of version 2 (memory.max) and 1 (memory.limit_in_bytes) at their usual mount points, and
 * /proc. Threads: any. */
#ifndef QUIPU_BASE_MEMORY_LIMIT_H
#define QUIPU_BASE_MEMORY_LIMIT_H

#include "base/io.h"

struct memory_limit {
    uint64_t bytes;     /* 0: nobody says */
    const char *source; /* "cgroup v2", "cgroup v1", "machine", "unknown" */
};
/* The least of what the machine has and what each control group from the process's own up to the root allows.
 * `root` stands before all paths: "" but in tests. */
struct memory_limit memory_limit_find(struct io *io, const char *root);

/* Resident memory of this process, file pages included, as an out-of-memory killer counts it; 0: unknown. About 5 us. */
uint64_t memory_resident_bytes(struct io *io);

#endif
