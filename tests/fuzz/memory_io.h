/* tests/fuzz/memory_io.h: the fuzzer's bytes as the one file of a file system, so that a decoder of files reads
 * them without a disk. */
#ifndef QUIPU_TESTS_FUZZ_MEMORY_IO_H
#define QUIPU_TESTS_FUZZ_MEMORY_IO_H

#include "base/io.h"

/* Just enough of a file: one, read-only. */
struct memory_file {
    struct file file; /* first */
    const uint8_t *p;
    size_t len;
};
struct memory_io {
    struct io io; /* first */
    struct memory_file file;
};

static enum err_code memory_open(struct io *io, const char *path, unsigned flags, struct file **out,
                                 struct err *err)
{
    (void)path;
    (void)flags;
    (void)err;
    *out = &((struct memory_io *)io)->file.file;
    return ERR_OK;
}
static void memory_close(struct file *file)
{
    (void)file;
}
static enum err_code memory_read_at(struct file *file, uint64_t off, void *p, size_t len, size_t *n,
                                    struct err *err)
{
    (void)err;
    struct memory_file *m = (struct memory_file *)file;
    *n = off < m->len ? MIN_OF(len, m->len - (size_t)off) : 0;
    if (*n) memcpy(p, m->p + off, *n);
    return ERR_OK;
}
static enum err_code memory_size(struct file *file, uint64_t *size, struct err *err)
{
    (void)err;
    *size = ((struct memory_file *)file)->len;
    return ERR_OK;
}
static const struct io_ops memory_ops = {.open = memory_open};
static const struct file_ops memory_file_ops = {
    .close = memory_close, .read_at = memory_read_at, .size = memory_size};

#endif
