/* storage/verify.c: see the header. */
#include "storage/verify.h"

#include <inttypes.h>
#include <stdio.h>

#include "storage/catalog_private.h"
#include "storage/catalog_snapshot.h"
#include "storage/sqlite_vfs.h"
#include "storage/sqlite_wal_check.h"

#define CACHE_BYTES ((size_t)4 << 20)
#define SECTIONS_MAX 16
/* One bad page spoils all series on it: of each place the first finding counts. */
#define PLACES_MAX 256

void verify_report(verify_fn *fn, void *ctx, const char *file, const char *section,
                   const struct err *err)
{
    bool damage = err->code == ERR_CORRUPT || err->code == ERR_NOT_FOUND ||
                  err->code == ERR_VERSION || err->code == ERR_INVALID;
    struct verify_finding f = {.kind = damage ? VERIFY_DAMAGE : VERIFY_UNREADABLE,
                               .file = file,
                               .section = section,
                               .has_off = err->has_off,
                               .off = err->file_off,
                               .text = err->text};
    fn(ctx, &f);
}

/* ---- blocks ---- */

struct block_check {
    const char *path;
    struct block_section_info sections[SECTIONS_MAX];
    size_t n_sections;
    uint64_t places[PLACES_MAX];
    size_t n_places;
    verify_fn *fn;
    void *ctx;
};

static bool is_new_place(struct block_check *c, const struct err *problem)
{
    if (!problem->has_off || problem->file_off == 0) return true;
    for (size_t i = 0; i < c->n_places; i++)
        if (c->places[i] == problem->file_off) return false;
    if (c->n_places < PLACES_MAX) c->places[c->n_places++] = problem->file_off;
    return true;
}

static const char *section_at(const struct block_check *c, const struct err *problem)
{
    if (!problem->has_off || problem->file_off == 0) return "";
    for (size_t i = 0; i < c->n_sections; i++)
        if (problem->file_off >= c->sections[i].off &&
            problem->file_off < c->sections[i].off + c->sections[i].bytes)
            return c->sections[i].name;
    return "footer";
}

static void on_problem(void *ctx, const struct err *problem)
{
    struct block_check *c = ctx;
    if (is_new_place(c, problem))
        verify_report(c->fn, c->ctx, c->path, section_at(c, problem), problem);
}

/* Of a block that does not open: the part that its text names. */
static const char *part_of(const struct err *err)
{
    static const char *const parts[] = {"header", "trailer", "footer", "names", "page table"};
    for (size_t i = 0; i < COUNT_OF(parts); i++)
        if (strstr(err->text, parts[i])) return parts[i];
    return "";
}

static bool same_block(const struct block_info *a, const struct block_info *b)
{
    return strcmp(a->ulid.text, b->ulid.text) == 0 && a->incarnation == b->incarnation &&
           a->sequence == b->sequence && a->level == b->level && a->t_min_ms == b->t_min_ms &&
           a->t_max_ms == b->t_max_ms && a->n_series == b->n_series &&
           a->n_samples == b->n_samples && a->n_chunks == b->n_chunks &&
           a->file_bytes == b->file_bytes && a->created_ms == b->created_ms;
}

static void compare(struct block_check *c, const struct block_info *expected,
                    const struct block_info *found)
{
    struct err err;
    if (!expected || same_block(expected, found)) return;
    if (expected->file_bytes != found->file_bytes)
        err_set(&err, ERR_CORRUPT, "the file has %" PRIu64 " bytes, the catalog says %" PRIu64,
                found->file_bytes, expected->file_bytes);
    else
        err_set(&err, ERR_CORRUPT,
                "not what the catalog says: block %s, incarnation %" PRIu64 ", sequence %" PRIu64
                ", level %" PRIu32 ", %" PRIu64 " samples",
                found->ulid.text, found->incarnation, found->sequence, found->level,
                found->n_samples);
    verify_report(c->fn, c->ctx, c->path, "footer", &err);
}

enum err_code verify_block(const struct env *env, const char *path,
                           const struct block_info *expected, struct block_info *found,
                           verify_fn *fn, void *ctx, struct err *err)
{
    struct page_cache *cache = NULL;
    struct block *block = NULL;
    struct block_check c = {.path = path, .fn = fn, .ctx = ctx};
    *found = (struct block_info){0};
    enum err_code rc = page_cache_new(env, CACHE_BYTES, &cache, err);
    if (rc) return rc;
    rc = block_open(env, path, cache, &block, err);
    if (!rc) {
        *found = *block_info(block);
        c.n_sections = block_sections(block, c.sections, SECTIONS_MAX);
        compare(&c, expected, found);
        rc = block_verify(block, on_problem, &c, err);
        block_unref(block);
    } else if (rc != ERR_NO_MEMORY) {
        verify_report(fn, ctx, path, part_of(err), err);
    }
    page_cache_free(cache);
    return rc == ERR_NO_MEMORY ? rc : ERR_OK;
}

/* ---- the catalog ---- */

/* Every page, those too that SQLite's check does not look at. Pages that the WAL has may be torn where they are. */
static enum err_code check_pages(struct file *file, uint64_t *n_bad, verify_fn *fn, void *ctx,
                                 struct err *err)
{
    uint8_t page[SQLITE_VFS_PAGE_BYTES];
    uint64_t size = 0;
    enum err_code rc = file_size(file, &size, err);
    for (uint64_t off = 0; !rc && off < size; off += sizeof(page)) {
        size_t n = 0;
        struct err bad;
        char section[40];
        uint64_t number = off / sizeof(page) + 1;
        rc = file_read_at(file, off, page, sizeof(page), &n, err);
        if (rc || (n == sizeof(page) && sqlite_page_good(page, (uint32_t)number))) continue;
        snprintf(section, sizeof(section), "page %" PRIu64, number);
        err_set(&bad, ERR_CORRUPT,
                n < sizeof(page) ? "a page that is cut off" : "checksum of a page");
        err_at(&bad, file->path, off);
        verify_report(fn, ctx, file->path, section, &bad);
        ++*n_bad;
    }
    return rc;
}

static enum err_code check_file(struct io *io, const char *path, bool wal_counts, uint64_t *n_bad,
                                verify_fn *fn, void *ctx, struct err *err)
{
    struct file *file;
    enum sqlite_pages pages;
    enum err_code rc = io_open(io, path, IO_READ, &file, err);
    if (rc) return rc;
    rc = sqlite_vfs_pages(file, &pages, err);
    if (!rc && pages == SQLITE_PAGES_CHECKSUMMED && !wal_counts)
        rc = check_pages(file, n_bad, fn, ctx, err);
    file_close(file);
    return rc;
}

enum err_code verify_catalog(const struct env *env, const char *dir, verify_fn *fn, void *ctx,
                             struct err *err)
{
    char path[IO_PATH_BYTES], wal[IO_PATH_BYTES + 8];
    struct sqlite_wal_state state;
    struct err bad;
    enum err_code rc = io_path(path, sizeof(path), err, dir, CATALOG_FILE_NAME);
    if (rc) return rc;
    snprintf(wal, sizeof(wal), "%s-wal", path);
    if (sqlite_wal_check(env->io, wal, &state, &bad)) verify_report(fn, ctx, wal, "frame", &bad);
    uint64_t n_bad = 0;
    if (check_file(env->io, path, state.n_commits > 0, &n_bad, fn, ctx, &bad)) {
        if (bad.code == ERR_NO_MEMORY) return err_set(err, bad.code, "%s", bad.text);
        verify_report(fn, ctx, path, "", &bad);
        return ERR_OK;
    }
    struct catalog *catalog;
    rc = catalog_open_to_read(env, dir, &catalog, &bad);
    if (!rc) rc = catalog_check_integrity(catalog, &bad);
    if (rc == ERR_NO_MEMORY) return err_set(err, rc, "%s", bad.text);
    if (rc && !n_bad) verify_report(fn, ctx, path, "", &bad);
    catalog_close(catalog);
    return ERR_OK;
}

enum err_code verify_snapshots(struct io *io, const char *dir, verify_fn *fn, void *ctx,
                               struct err *err)
{
    for (uint64_t i = 0; i < CATALOG_SNAPSHOT_FILES; i++) {
        char path[IO_PATH_BYTES];
        struct arena arena;
        struct catalog_snapshot one;
        struct err bad;
        enum err_code rc = io_path(path, sizeof(path), err, dir, catalog_snapshot_name(i));
        if (rc) return rc;
        arena_init(&arena, MEM_CATALOG, 0);
        rc = catalog_snapshot_read(io, path, &arena, &one, &bad);
        arena_release(&arena);
        if (rc == ERR_NO_MEMORY) return err_set(err, rc, "%s", bad.text);
        if (rc && rc != ERR_NOT_FOUND) verify_report(fn, ctx, path, "", &bad);
    }
    return ERR_OK;
}
