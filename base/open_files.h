/* base/open_files.h: a `struct io` above another one that keeps at most so many of the files open that are only read: a
 * server has more blocks than a process may have descriptors. A file opened with IO_READ alone is opened below when it is
 * read, stays open while it is used, and is closed when others need its place; its name must lead to it as long as
 * its handle is open. All else goes straight through to the one below.
 * When the system has no descriptor left, those that are not in use are closed, and it is tried once more.
 * Threads: any. */
#ifndef QUIPU_BASE_OPEN_FILES_H
#define QUIPU_BASE_OPEN_FILES_H

#include "base/io.h"

struct open_files;

/* open_max: at least 1; files that are being read at this moment are kept open beyond it. NULL: no memory. */
struct open_files *open_files_new(struct io *below, size_t open_max);
/* All files must be closed. NULL: no-op. */
void open_files_free(struct open_files *of);
struct io *open_files_io(struct open_files *of);

struct open_files_counts {
    size_t n_files;     /* handles */
    size_t n_open;      /* of these, open below */
    uint64_t n_reopens; /* so far */
};
struct open_files_counts open_files_counts(struct open_files *of);

#endif
