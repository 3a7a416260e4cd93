/* tools/file_limit.h: what the limit on open files is used for. A connection takes one, so does a block while it is read. */
#ifndef QUIPU_TOOLS_FILE_LIMIT_H
#define QUIPU_TOOLS_FILE_LIMIT_H

#include "base/defs.h"

struct file_limit {
    uint64_t descriptors;     /* that the process may have */
    uint64_t connections_max; /* of the server */
    uint64_t block_files_max; /* of blocks, open at once */
};
/* Raises the soft limit as far as the hard one goes. Returns what it is now; 0: unknown. */
uint64_t file_limit_raise(void);
/* Divides it: the log, the catalog, threads and files that are written have theirs first. */
struct file_limit file_limit_plan(uint64_t descriptors, uint64_t connections_wanted);

#endif
