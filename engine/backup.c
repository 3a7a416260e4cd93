/* engine/backup.c: see the header. */
#include "engine/backup.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "base/file_copy.h"
#include "engine/engine_private.h"
#include "wal/archive.h"

#define NAME_BYTES_MAX 63
#define TRIES 5

void backup_blocks_dir(struct str tenant, uint64_t incarnation, struct buf *out)
{
    struct buf name; /* of its own: a long one is cut by its length */
    buf_init(&name, MEM_BASE);
    tenant_encode_name(tenant, incarnation, &name);
    buf_text(out, STR("tenants/"));
    buf_text(out, str_from_bytes(buf_bytes(&name)));
    buf_text(out, STR("/blocks"));
    out->failed |= name.failed;
    buf_release(&name);
}

/* ---- names ---- */

static enum err_code check_name(struct str name, struct err *err)
{
    bool ok = name.len > 0 && name.len <= NAME_BYTES_MAX && name.p[0] != '.';
    for (size_t i = 0; ok && i < name.len; i++) {
        char c = name.p[i];
        ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
             c == '.' || c == '-' || c == '_';
    }
    if (ok && !str_has_suffix(name, STR(".tmp"))) return ERR_OK;
    return err_set(err, ERR_INVALID,
                   "'%.*s' is no name for a snapshot: 1 to %d of a-z A-Z 0-9 . - _, no dot first",
                   STR_ARG(name), NAME_BYTES_MAX);
}

/* "20260102T030405Z-0123456789abcdef" */
static void make_name(struct engine *e, char *out, size_t size)
{
    time_t seconds = (time_t)(clock_wall_ms(e->env.clock) / 1000);
    struct tm tm;
    char when[32] = "0";
    if (gmtime_r(&seconds, &tm)) (void)strftime(when, sizeof(when), "%Y%m%dT%H%M%SZ", &tm);
    lock_take(&e->rng_lock);
    uint64_t chance = rng_u64(e->env.rng);
    lock_release(&e->rng_lock);
    snprintf(out, size, "%s-%016" PRIx64, when, chance);
}

/* ---- blocks that may not go ---- */

/* Views hold their blocks' files, whoever replaces them meanwhile. */
struct held {
    struct {
        struct tenant *tenant;
        struct view *view;
    } * items;
    size_t n, cap;
};

static enum err_code hold_views(struct engine *e, struct held *held, struct err *err)
{
    struct tenant *t;
    for (size_t i = 0; (t = engine_tenant_at(e, i)) != NULL; i++) {
        void *items = held->items;
        enum err_code rc =
            mem_grow(MEM_STORAGE, &items, &held->cap, held->n + 1, sizeof(*held->items), err);
        held->items = items;
        if (rc) return rc;
        held->items[held->n].tenant = t;
        held->items[held->n++].view = views_take(&t->views);
    }
    return ERR_OK;
}

static void let_go(struct held *held)
{
    for (size_t i = 0; i < held->n; i++)
        views_give(&held->items[i].tenant->views, held->items[i].view);
    mem_free(held->items);
}

/* ---- the snapshot ---- */

struct snapshot {
    struct engine *e;
    struct engine_snapshot_report *report;
    const char *dir; /* the unfinished one */
    struct catalog *copy;
    char blocks[IO_PATH_BYTES]; /* of the tenant that is at work: in the snapshot, */
    char from[IO_PATH_BYTES];   /* and in the engine's folder */
    uint64_t from_pos;          /* of the log */
};

static void note_moment(void *ctx)
{
    struct snapshot *s = ctx;
    s->report->log_pos = wal_end_pos(s->e->wal);
    s->report->moment_ms = clock_wall_ms(s->e->env.clock);
}

static enum err_code link_block(void *ctx, const struct block_info *info, struct err *err)
{
    struct snapshot *s = ctx;
    char name[ULID_CHARS + 8], from[IO_PATH_BYTES], to[IO_PATH_BYTES];
    snprintf(name, sizeof(name), "%s.block", info->ulid.text);
    enum err_code rc = io_path(from, sizeof(from), err, s->from, name);
    if (!rc) rc = io_path(to, sizeof(to), err, s->blocks, name);
    if (!rc) rc = file_link_or_copy(s->e->env.io, from, to, err);
    if (rc == ERR_NOT_FOUND) {
        s->report->missing++;
        return ERR_OK;
    }
    s->report->blocks++;
    s->report->block_bytes += info->file_bytes;
    return rc;
}

static enum err_code sub_dir(const char *dir, struct str sub, char *out, struct err *err)
{
    int n = snprintf(out, IO_PATH_BYTES, "%s/%.*s", dir, STR_ARG(sub));
    return n > 0 && n < IO_PATH_BYTES ? ERR_OK : err_set(err, ERR_LIMIT, "a path is too long");
}

static enum err_code link_tenant(void *ctx, const struct catalog_tenant *row, struct err *err)
{
    struct snapshot *s = ctx;
    struct buf sub;
    buf_init(&sub, MEM_BASE);
    backup_blocks_dir(row->name, row->incarnation, &sub);
    enum err_code rc = buf_finish(&sub, err);
    if (!rc) rc = sub_dir(s->e->data_dir, str_from_bytes(buf_bytes(&sub)), s->from, err);
    if (!rc) rc = sub_dir(s->dir, str_from_bytes(buf_bytes(&sub)), s->blocks, err);
    buf_release(&sub);
    if (!rc) rc = io_mkdir_all(s->e->env.io, s->blocks, err);
    if (!rc) rc = catalog_blocks(s->copy, row->incarnation, link_block, s, err);
    if (!rc) rc = io_sync_dir(s->e->env.io, s->blocks, err);
    s->from_pos = MIN_OF(s->from_pos, row->flushed_pos);
    return rc;
}

static enum err_code link_all(struct snapshot *s, struct err *err)
{
    enum err_code rc = catalog_open(&s->e->env, s->dir, &s->copy, err);
    if (!rc) rc = catalog_tenants(s->copy, link_tenant, s, err);
    catalog_close(s->copy);
    s->copy = NULL;
    return rc;
}

/* What was appended before the moment must be on the disk: else it was acknowledged to nobody, or is about to be. A
 * failure that came before is told by the first of two commits. */
static enum err_code settle_log(struct engine *e, struct err *err)
{
    enum err_code rc = wal_commit(e->wal, err);
    return rc ? wal_commit(e->wal, err) : rc;
}

/* Finished segments first, which the next step would bring: a part that follows a gap is of no use. */
static enum err_code archive_log(struct snapshot *s, struct err *err)
{
    struct engine *e = s->e;
    enum err_code rc = ERR_OK;
    uint64_t pos;
    for (bool more = true; !rc && more;) rc = wal_archive(e->wal, e->archive_dir, &pos, &more, err);
    return rc ? rc : wal_archive_part(e->wal, e->archive_dir, s->report->log_pos, err);
}

static enum err_code save_log(struct snapshot *s, struct err *err)
{
    char dir[IO_PATH_BYTES];
    enum err_code rc = io_path(dir, sizeof(dir), err, s->dir, "wal");
    if (!rc) rc = io_mkdir_all(s->e->env.io, dir, err);
    if (!rc) rc = settle_log(s->e, err);
    if (!rc)
        rc = wal_save(s->e->wal, dir, s->from_pos, s->report->log_pos, &s->report->log_bytes, err);
    if (!rc && s->e->archive_dir) rc = archive_log(s, err);
    return rc;
}

static enum err_code try_snapshot(struct snapshot *s, struct err *err)
{
    char catalog[IO_PATH_BYTES];
    struct io *io = s->e->env.io;
    struct held held = {.items = NULL};
    struct engine_snapshot_report *r = s->report;
    r->blocks = r->block_bytes = r->log_bytes = r->missing = 0;
    s->from_pos = UINT64_MAX;
    enum err_code rc = file_remove_tree(io, s->dir, err);
    if (!rc) rc = io_mkdir_all(io, s->dir, err);
    if (!rc) rc = io_path(catalog, sizeof(catalog), err, s->dir, "catalog.sqlite");
    if (!rc) rc = hold_views(s->e, &held, err);
    if (!rc) rc = catalog_copy(s->e->catalog, catalog, note_moment, s, err);
    if (!rc) rc = link_all(s, err);
    let_go(&held);
    if (!rc) rc = save_log(s, err);
    return rc ? rc : io_sync_dir(io, s->dir, err);
}

/* A block that came after the views were taken, and went before it was linked, is rare: again. One that never comes is
 * missing indeed. Under the step lock: nobody cuts the log. */
static enum err_code make_snapshot(struct engine *e, const char *dir,
                                   struct engine_snapshot_report *r, struct err *err)
{
    char temp[IO_PATH_BYTES], parent[IO_PATH_BYTES];
    struct io *io = e->env.io;
    if (io_exists(io, dir)) return err_set(err, ERR_EXISTS, "snapshot %s is there", r->name);
    int n = snprintf(temp, sizeof(temp), "%s.tmp", dir);
    if (n < 0 || (size_t)n >= sizeof(temp)) return err_set(err, ERR_LIMIT, "a path is too long");
    struct snapshot s = {.e = e, .report = r, .dir = temp};
    enum err_code rc = ERR_OK;
    for (size_t i = 0; !rc && i < TRIES; i++) {
        rc = try_snapshot(&s, err);
        if (r->missing == 0) break;
    }
    if (!rc) rc = io_rename(io, temp, dir, err);
    if (!rc) rc = io_parent(parent, sizeof(parent), err, dir);
    if (!rc) rc = io_sync_dir(io, parent, err);
    struct err ignored; /* it failed already; the next one removes what is left */
    if (rc) err_ignore(file_remove_tree(io, temp, &ignored));
    return rc;
}

static enum err_code path_of(struct engine *e, struct str name, char *out, struct err *err)
{
    char sub[NAME_BYTES_MAX + 16];
    snprintf(sub, sizeof(sub), "snapshots/%.*s", STR_ARG(name));
    return sub_dir(e->data_dir, str_of(sub), out, err);
}

enum err_code engine_snapshot(struct engine *e, struct str name, struct engine_snapshot_report *r,
                              struct err *err)
{
    *r = (struct engine_snapshot_report){.archive = e->archive_dir};
    enum err_code rc = name.len ? check_name(name, err) : ERR_OK;
    if (rc) return rc;
    if (name.len)
        snprintf(r->name, sizeof(r->name), "%.*s", STR_ARG(name));
    else
        make_name(e, r->name, sizeof(r->name));
    int64_t begun_ns = clock_mono_ns(e->env.clock);
    lock_take(&e->step_lock);
    rc = path_of(e, str_of(r->name), r->dir, err);
    if (!rc) rc = make_snapshot(e, r->dir, r, err);
    lock_release(&e->step_lock);
    if (rc) return err_context(err, "snapshot %s", r->name);
    log_msg(e->env.log, r->missing ? LOG_ERROR : LOG_INFO, "snapshot made",
            LOG_CSTR("name", r->name), LOG_U64("log_pos", r->log_pos), LOG_U64("blocks", r->blocks),
            LOG_U64("bytes", r->block_bytes), LOG_U64("log_bytes", r->log_bytes),
            LOG_U64("missing_blocks", r->missing),
            LOG_DOUBLE("seconds", (double)(clock_mono_ns(e->env.clock) - begun_ns) / 1e9));
    return ERR_OK;
}

enum err_code engine_snapshot_remove(struct engine *e, struct str name, struct err *err)
{
    char dir[IO_PATH_BYTES], temp[IO_PATH_BYTES + 8];
    enum err_code rc = check_name(name, err);
    if (!rc) rc = path_of(e, name, dir, err);
    if (rc) return rc;
    snprintf(temp, sizeof(temp), "%s.tmp", dir);
    lock_take(&e->step_lock);
    rc = file_remove_tree(e->env.io, dir, err);
    if (!rc) rc = file_remove_tree(e->env.io, temp, err);
    lock_release(&e->step_lock);
    return rc ? err_context(err, "removing snapshot %.*s", STR_ARG(name)) : ERR_OK;
}

enum err_code engine_delete_after(struct engine *e, int64_t t_ms, struct err *err)
{
    const struct matcher_set all = {.items = NULL};
    struct tenant *t;
    enum err_code rc = ERR_OK;
    for (size_t i = 0; !rc && t_ms < INT64_MAX && (t = engine_tenant_at(e, i)) != NULL; i++)
        if (atomic_load(&t->state) == TENANT_ALIVE)
            rc = tenant_delete(t, &all, 1, t_ms + 1, INT64_MAX, err);
    return rc;
}
