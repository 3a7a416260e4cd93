/* tools/verify_backup.c: see the header. Contents are checked even where the sum is wrong: that tells which part is. */
#include "tools/verify_backup.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "tools/backup_store.h"

#define PIECE_BYTES ((size_t)256 << 10)

struct checked_file {
    char *path;
    const struct manifest_file *file;
};
struct backup_check {
    const struct env *env;
    const struct verify_options *options;
    struct verify_totals *totals; /* of sums, added to those of contents */
    struct backup_store store;
    struct checked_file *files; /* each path once */
    size_t n, cap;
    struct sha256 *sha;
    uint8_t *piece;
};

static void on_finding(void *ctx, const struct verify_finding *f)
{
    struct backup_check *c = ctx;
    c->totals->damaged += f->kind == VERIFY_DAMAGE;
    c->totals->unreadable += f->kind == VERIFY_UNREADABLE;
    c->totals->notes += f->kind == VERIFY_NOTE;
    if (c->options->fn) c->options->fn(c->options->ctx, f);
}

/* ---- is it one? ---- */

struct search {
    struct io *io;
    const char *dir;
    bool found;
};

static bool look_for_manifest(void *ctx, const char *name, bool is_dir)
{
    struct search *s = ctx;
    char dir[IO_PATH_BYTES], path[IO_PATH_BYTES];
    struct err ignored; /* too long a path is none of ours */
    if (!is_dir || !backup_name_is(str_of(name)) ||
        io_path(dir, sizeof(dir), &ignored, s->dir, name) != ERR_OK ||
        io_path(path, sizeof(path), &ignored, dir, MANIFEST_NAME) != ERR_OK)
        return true;
    s->found = io_exists(s->io, path);
    return !s->found;
}

bool backup_dir_is(struct io *io, const char *dir)
{
    struct search s = {.io = io, .dir = dir};
    struct err ignored; /* whatever it is, it is told by who opens it */
    return io_list(io, dir, look_for_manifest, &s, &ignored) == ERR_OK && s.found;
}

/* ---- sums ---- */

static enum err_code sum_file(struct backup_check *c, struct file *file, char hex[SHA256_HEX_BYTES],
                              uint64_t *bytes, struct err *err)
{
    size_t n = 1;
    *bytes = 0;
    enum err_code rc = sha256_begin(c->sha, err);
    while (!rc && n) {
        rc = file_read_at(file, *bytes, c->piece, PIECE_BYTES, &n, err);
        if (!rc && n) rc = sha256_add(c->sha, bytes_of(c->piece, n), err);
        *bytes += rc ? 0 : n;
    }
    return rc ? rc : sha256_end(c->sha, hex, err);
}

static void check_sum(struct backup_check *c, const struct checked_file *f)
{
    char hex[SHA256_HEX_BYTES];
    uint64_t bytes = 0;
    struct file *file = NULL;
    struct err err;
    enum err_code rc = io_open(c->env->io, f->path, IO_READ, &file, &err);
    if (!rc) rc = sum_file(c, file, hex, &bytes, &err);
    file_close(file);
    if (!rc && bytes != f->file->bytes)
        rc = err_set(&err, ERR_CORRUPT, "%" PRIu64 " bytes, the manifest says %" PRIu64, bytes,
                     f->file->bytes);
    else if (!rc && strcmp(hex, f->file->sha256) != 0)
        rc = err_set(&err, ERR_CORRUPT, "not the SHA-256 of the manifest");
    if (rc) verify_report(on_finding, c, f->path, "", &err);
}

/* ---- the list ---- */

static int compare_paths(const void *a, const void *b)
{
    return strcmp(((const struct checked_file *)a)->path, ((const struct checked_file *)b)->path);
}

static enum err_code add_file(struct backup_check *c, const struct backup *backup,
                              const struct manifest_file *file, struct err *err)
{
    char path[IO_PATH_BYTES];
    void *files = c->files;
    enum err_code rc = store_file_path(&c->store, backup, file, path, err);
    if (!rc) rc = mem_grow(MEM_TOOLS, &files, &c->cap, c->n + 1, sizeof(*c->files), err);
    c->files = files;
    if (rc) return rc;
    char *copy = mem_strdup(MEM_TOOLS, path);
    if (!copy) return err_set(err, ERR_NO_MEMORY, "no memory for a list of files");
    c->files[c->n++] = (struct checked_file){copy, file};
    return ERR_OK;
}

static enum err_code list_files(struct backup_check *c, struct err *err)
{
    enum err_code rc = ERR_OK;
    for (size_t i = 0; !rc && i < c->store.n; i++) {
        const struct manifest *m = &c->store.items[i].manifest;
        for (size_t k = 0; !rc && k < m->n; k++)
            rc = add_file(c, &c->store.items[i], &m->files[k], err);
    }
    if (c->n) qsort(c->files, c->n, sizeof(*c->files), compare_paths);
    size_t n = 0;
    for (size_t i = 0; i < c->n; i++) {
        if (n && strcmp(c->files[i].path, c->files[n - 1].path) == 0)
            mem_free(c->files[i].path);
        else
            c->files[n++] = c->files[i];
    }
    c->n = n;
    return rc;
}

/* ---- contents ---- */

static enum err_code check_contents(struct backup_check *c, struct verify_totals *contents,
                                    struct err *err)
{
    struct verify_file *files = mem_calloc(MEM_TOOLS, c->n + 1, sizeof(*files));
    if (!files) return err_set(err, ERR_NO_MEMORY, "no memory for a list of files");
    for (size_t i = 0; i < c->n; i++) files[i].path = c->files[i].path;
    enum err_code rc = verify_files(c->env, files, c->n, c->options, contents, err);
    mem_free(files);
    for (size_t i = 0; !rc && i < c->store.n; i++) {
        char dir[IO_PATH_BYTES];
        rc = io_path(dir, sizeof(dir), err, c->store.dir, c->store.items[i].name);
        if (!rc) rc = verify_catalog(c->env, dir, on_finding, c, err);
    }
    return rc;
}

static enum err_code check_all(struct backup_check *c, struct err *err)
{
    struct verify_totals contents = {0};
    c->piece = mem_alloc(MEM_TOOLS, PIECE_BYTES);
    enum err_code rc = c->piece ? sha256_new(&c->sha, err)
                                : err_set(err, ERR_NO_MEMORY, "no memory to read files");
    if (!rc) rc = list_files(c, err);
    for (size_t i = 0; !rc && i < c->n; i++) check_sum(c, &c->files[i]);
    if (!rc) rc = check_contents(c, &contents, err);
    c->totals->files = c->n + c->store.n;
    c->totals->bytes = contents.bytes;
    c->totals->blocks = contents.blocks;
    c->totals->samples = contents.samples;
    c->totals->records = contents.records;
    c->totals->segments = contents.segments;
    c->totals->damaged += contents.damaged;
    c->totals->unreadable += contents.unreadable;
    c->totals->notes += contents.notes;
    return rc;
}

enum err_code verify_backups(const struct env *env, const char *dir,
                             const struct verify_options *options, struct verify_totals *totals,
                             struct err *err)
{
    struct backup_check c = {.env = env, .options = options, .totals = totals};
    struct err bad;
    *totals = (struct verify_totals){0};
    enum err_code rc = store_open_to_read(&c.store, env->io, dir, &bad);
    if (rc == ERR_CORRUPT || rc == ERR_VERSION) { /* a manifest: nothing else can be told then */
        verify_report(on_finding, &c, *bad.file ? bad.file : dir, MANIFEST_NAME, &bad);
        return ERR_OK;
    }
    if (rc) {
        *err = bad;
        return rc;
    }
    rc = check_all(&c, err);
    for (size_t i = 0; i < c.n; i++) mem_free(c.files[i].path);
    mem_free(c.files);
    mem_free(c.piece);
    sha256_free(c.sha);
    store_close(&c.store);
    return rc;
}
