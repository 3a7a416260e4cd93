/* base/file_copy.h: whole files and folders: copied, removed. Threads: any. */
#ifndef QUIPU_BASE_FILE_COPY_H
#define QUIPU_BASE_FILE_COPY_H

#include "base/bytes.h"
#include "base/io.h"

/* Sees each part as it passes; an error ends the copy. */
typedef enum err_code file_copy_fn(void *ctx, struct bytes part, struct err *err);
/* Copies the first `size` bytes of `from` (UINT64_MAX: all) to `to`, by way of `to`.tmp: synced, then renamed, so that
 * under its own name it is whole. fn may be NULL. ERR_CORRUPT: `from` is shorter than `size`. */
MUST_USE enum err_code file_copy(struct io *io, const char *from, const char *to, uint64_t size,
                                 file_copy_fn *fn, void *ctx, struct err *err);
/* Gives all bytes of a file to fn. */
MUST_USE enum err_code file_scan(struct io *io, const char *path, file_copy_fn *fn, void *ctx,
                                 struct err *err);
/* A second name for a file, or a copy where the file system refuses. The folder is the caller's to sync. */
MUST_USE enum err_code file_link_or_copy(struct io *io, const char *from, const char *to,
                                         struct err *err);
/* A folder with all that is in it, or a file; none is fine. At most 16 folders deep. */
MUST_USE enum err_code file_remove_tree(struct io *io, const char *path, struct err *err);
/* Writes a small file by way of a temporary one: the old one or the new one is there, whole, whatever happens. */
MUST_USE enum err_code file_replace(struct io *io, const char *path, struct bytes content,
                                    struct err *err);
/* Names in a folder, each with its NUL, appended to `out`; folders end with '/'. No folder: none. */
MUST_USE enum err_code file_names(struct io *io, const char *dir, struct buf *out, struct err *err);

#endif
