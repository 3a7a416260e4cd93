/* A block of Prometheus's TSDB: the input is meta.json, index, the file of chunks and tombstones, each with its length as u16
 * before it. In a fuzzing build checksums are not looked at. */
#include "ingest/prometheus_block.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { META, INDEX, CHUNKS, TOMBSTONES, FILES };

struct files_io;
struct files_file {
    struct file file; /* first */
    struct bytes content;
};
struct files_io {
    struct io io; /* first */
    struct files_file files[FILES];
};

static int file_of(const char *path)
{
    static const char *const ENDS[FILES] = {"meta.json", "index", "000001", "tombstones"};
    struct str p = {path, strlen(path)};
    for (int i = 0; i < FILES; i++)
        if (str_has_suffix(p, (struct str){ENDS[i], strlen(ENDS[i])})) return i;
    return -1;
}

static enum err_code files_open(struct io *io, const char *path, unsigned flags, struct file **out,
                                struct err *err)
{
    int i = file_of(path);
    (void)flags;
    if (i < 0) return err_set(err, ERR_NOT_FOUND, "no such file");
    *out = &((struct files_io *)io)->files[i].file;
    return ERR_OK;
}
static enum err_code files_list(struct io *io, const char *dir, io_list_fn *fn, void *ctx,
                                struct err *err)
{
    (void)io, (void)dir, (void)err;
    (void)fn(ctx, "000001", false);
    return ERR_OK;
}
static enum err_code files_stat(struct io *io, const char *path, uint64_t *size, bool *is_dir,
                                struct err *err)
{
    int i = file_of(path);
    if (i < 0) return err_set(err, ERR_NOT_FOUND, "no such file");
    *size = ((struct files_io *)io)->files[i].content.len;
    *is_dir = false;
    return ERR_OK;
}
static void files_close(struct file *file)
{
    (void)file;
}
static enum err_code files_read_at(struct file *file, uint64_t off, void *p, size_t len, size_t *n,
                                   struct err *err)
{
    struct bytes b = ((struct files_file *)file)->content;
    (void)err;
    *n = off < b.len ? MIN_OF(len, b.len - (size_t)off) : 0;
    if (*n) memcpy(p, b.p + off, *n);
    return ERR_OK;
}
static enum err_code files_size(struct file *file, uint64_t *size, struct err *err)
{
    (void)err;
    *size = ((struct files_file *)file)->content.len;
    return ERR_OK;
}
static const struct io_ops IO_OPS = {.open = files_open, .list = files_list, .stat = files_stat};
static const struct file_ops FILE_OPS = {
    .close = files_close, .read_at = files_read_at, .size = files_size};

static enum err_code take(void *ctx, struct labels labels, const struct samples *s, struct err *err)
{
    const struct prometheus_walk *walk = ctx;
    (void)err;
    for (size_t i = 0; i < labels.n; i++)
        ASSERT(labels.items[i].name.len == 0 || labels.items[i].name.p);
    for (size_t i = 0; i < s->n; i++)
        ASSERT(s->t_ms[i] >= walk->start_ms && s->t_ms[i] <= walk->end_ms);
    return ERR_OK;
}
static void broken(void *ctx, const struct err *why)
{
    (void)ctx;
    ASSERT(why->text[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct files_io io = {.io.ops = &IO_OPS};
    struct prometheus_walk walk = {.put = take, .broken = broken, .start_ms = 0, .end_ms = 1 << 30};
    struct prometheus_block *block;
    struct err err;
    size_t at = 0;
    walk.ctx = &walk;
    for (int i = 0; i < FILES; i++) {
        size_t len = size - at >= 2 ? get_u16_le(data + at) : 0;
        at += size - at >= 2 ? 2 : 0;
        len = MIN_OF(len, size - at);
        io.files[i] = (struct files_file){{&FILE_OPS, &io.io, (char *)"file"}, {data + at, len}};
        at += len;
    }
    enum err_code rc = prometheus_block_open(&io.io, "block", &block, &err);
    if (!rc) rc = prometheus_block_walk(block, &walk, &err);
    ASSERT(rc == ERR_OK || err.text[0]);
    prometheus_block_close(block);
    return 0;
}
