/* base/file_copy.c: see the header. */
#include "base/file_copy.h"

#include <inttypes.h>

#define PART_BYTES ((size_t)1 << 20)
#define DEPTH_MAX 16

/* `to` may be NULL: only fn sees the bytes. */
static enum err_code copy_parts(struct file *from, struct file *to, uint64_t size, file_copy_fn *fn,
                                void *ctx, struct err *err)
{
    uint8_t *part = mem_alloc(MEM_BASE, PART_BYTES);
    if (!part) return err_set(err, ERR_NO_MEMORY, "no memory to copy a file");
    enum err_code rc = ERR_OK;
    uint64_t off = 0;
    for (size_t n = PART_BYTES; !rc && off < size && n == PART_BYTES; off += n) {
        rc = file_read_at(from, off, part, PART_BYTES, &n, err);
        n = (size_t)MIN_OF((uint64_t)n, size - off);
        if (!rc && n && to) rc = file_write_at(to, off, part, n, err);
        if (!rc && n && fn) rc = fn(ctx, bytes_of(part, n), err);
        if (rc) break;
    }
    mem_free(part);
    if (!rc && size != UINT64_MAX && off < size) {
        err_set(err, ERR_CORRUPT, "%" PRIu64 " bytes, at least %" PRIu64 " were expected", off,
                size);
        rc = err_at(err, from->path, off);
    }
    return rc;
}

enum err_code file_copy(struct io *io, const char *from, const char *to, uint64_t size,
                        file_copy_fn *fn, void *ctx, struct err *err)
{
    struct file *in, *out = NULL;
    enum err_code rc = io_open(io, from, IO_READ, &in, err);
    if (rc) return rc;
    rc = io_create_temp(io, to, &out, err);
    if (!rc) rc = copy_parts(in, out, size, fn, ctx, err);
    /* Before the rename: no name may lead to bytes that a power cut can take back. */
    if (!rc) rc = file_sync(out, err);
    if (!rc) rc = io_publish(io, out, to, err);
    if (rc && out)
        io_discard(io, out);
    else
        file_close(out);
    file_close(in);
    return rc;
}

enum err_code file_scan(struct io *io, const char *path, file_copy_fn *fn, void *ctx,
                        struct err *err)
{
    struct file *in;
    enum err_code rc = io_open(io, path, IO_READ, &in, err);
    if (rc) return rc;
    rc = copy_parts(in, NULL, UINT64_MAX, fn, ctx, err);
    file_close(in);
    return rc;
}

enum err_code file_link_or_copy(struct io *io, const char *from, const char *to, struct err *err)
{
    enum err_code rc = io_link(io, from, to, err);
    /* Another file system, or one that knows no links: what copying cannot do either, it says again. */
    if (rc == ERR_IO) rc = file_copy(io, from, to, UINT64_MAX, NULL, NULL, err);
    return rc;
}

struct names {
    struct buf *out;
};

static bool note_name(void *ctx, const char *name, bool is_dir)
{
    struct names *names = ctx;
    buf_text(names->out, str_of(name));
    if (is_dir) buf_u8(names->out, '/');
    buf_u8(names->out, 0);
    return !names->out->failed;
}

enum err_code file_names(struct io *io, const char *dir, struct buf *out, struct err *err)
{
    struct names names = {out};
    enum err_code rc = io_list(io, dir, note_name, &names, err);
    if (rc == ERR_NOT_FOUND) return ERR_OK;
    return rc ? rc : buf_finish(out, err);
}

/* A link to a folder is a name to be removed, not a way to what it leads to: is_dir comes of the listing. */
static enum err_code remove_content(struct io *io, const char *dir, size_t depth, struct err *err)
{
    struct buf names;
    char path[IO_PATH_BYTES];
    buf_init(&names, MEM_BASE);
    enum err_code rc = file_names(io, dir, &names, err);
    if (!rc && depth > DEPTH_MAX) rc = err_set(err, ERR_LIMIT, "%s: folders too deep", dir);
    for (size_t off = 0; !rc && off < names.len;) {
        char *name = (char *)names.p + off;
        size_t len = strlen(name);
        off += len + 1;
        bool is_dir = len && name[len - 1] == '/';
        if (is_dir) name[len - 1] = 0;
        rc = io_path(path, sizeof(path), err, dir, name);
        if (!rc && is_dir) rc = remove_content(io, path, depth + 1, err);
        if (!rc) rc = is_dir ? io_rmdir(io, path, err) : io_unlink(io, path, err);
    }
    buf_release(&names);
    return rc;
}

enum err_code file_remove_tree(struct io *io, const char *path, struct err *err)
{
    uint64_t size;
    bool is_dir;
    enum err_code rc = io_stat(io, path, &size, &is_dir, err);
    if (rc == ERR_NOT_FOUND) return ERR_OK;
    if (!rc && !is_dir) return io_unlink(io, path, err);
    if (!rc) rc = remove_content(io, path, 0, err);
    return rc ? rc : io_rmdir(io, path, err);
}

enum err_code file_replace(struct io *io, const char *path, struct bytes content, struct err *err)
{
    struct file *file = NULL;
    enum err_code rc = io_create_temp(io, path, &file, err);
    if (!rc && content.len) rc = file_write_at(file, 0, content.p, content.len, err);
    if (!rc) rc = file_sync(file, err);
    if (!rc) rc = io_publish(io, file, path, err);
    if (rc && file)
        io_discard(io, file);
    else
        file_close(file);
    return rc;
}
