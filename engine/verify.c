/* engine/verify.c: see the header. First a list of jobs is made, then threads take one after the other. */
#include "engine/verify.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/pool.h"
#include "engine/engine_private.h"
#include "storage/catalog_snapshot.h"
#include "wal/record.h"

#define BLOCK_SUFFIX ".block"
#define JOBS_QUEUED_MAX 16

enum job_kind { JOB_BLOCK, JOB_SEGMENT, JOB_SNAPSHOT };

struct verify_job {
    enum job_kind kind;
    char *path;
    bool has_expected, newest; /* newest: segment of the log */
    struct block_info expected;
    uint64_t bytes;
    struct tenant *tenant; /* of an engine: the block is held */
    struct block *held;
};

struct verifier {
    const struct env *env;
    const struct verify_options *options;
    struct lock lock; /* rank LOCK_SERVER; guards what follows */
    struct verify_totals *report;
    enum err_code rc; /* the first failure of the check itself */
    struct err *err;
    uint64_t bytes_all;
    struct verify_job *jobs;
    size_t n_jobs, cap;
};

static void verifier_init(struct verifier *v, const struct env *env,
                          const struct verify_options *options, struct verify_totals *report,
                          struct err *err)
{
    *v = (struct verifier){.env = env, .options = options, .report = report, .err = err};
    *report = (struct verify_totals){0};
    lock_init(&v->lock, LOCK_SERVER);
}

static void verifier_release(struct verifier *v)
{
    for (size_t i = 0; i < v->n_jobs; i++) {
        block_unref(v->jobs[i].held);
        mem_free(v->jobs[i].path);
    }
    mem_free(v->jobs);
    lock_destroy(&v->lock);
}

static void on_finding(void *ctx, const struct verify_finding *f)
{
    struct verifier *v = ctx;
    lock_take(&v->lock);
    v->report->damaged += f->kind == VERIFY_DAMAGE;
    v->report->unreadable += f->kind == VERIFY_UNREADABLE;
    v->report->notes += f->kind == VERIFY_NOTE;
    if (v->options->fn) v->options->fn(v->options->ctx, f);
    lock_release(&v->lock);
}

static void note(struct verifier *v, const char *path, const char *section, uint64_t off,
                 const char *text)
{
    struct verify_finding f = {.kind = VERIFY_NOTE,
                               .file = path,
                               .section = section,
                               .has_off = off > 0,
                               .off = off,
                               .text = text};
    on_finding(v, &f);
}

static void damaged(struct verifier *v, const char *path, const char *section, const char *text)
{
    struct err err;
    err_set(&err, ERR_CORRUPT, "%s", text);
    verify_report(on_finding, v, path, section, &err);
}

/* ---- jobs ---- */

static enum err_code add_job(struct verifier *v, const struct verify_job *job, const char *path,
                             struct err *err)
{
    void *jobs = v->jobs;
    enum err_code rc = mem_grow(MEM_STORAGE, &jobs, &v->cap, v->n_jobs + 1, sizeof(*job), err);
    v->jobs = jobs;
    if (rc) return rc;
    struct verify_job *to = &v->jobs[v->n_jobs];
    *to = *job;
    bool is_dir;
    struct err ignored; /* it is told when the file is read */
    if (io_stat(v->env->io, path, &to->bytes, &is_dir, &ignored)) to->bytes = 0;
    to->path = mem_strdup(MEM_STORAGE, path);
    if (!to->path) return err_set(err, ERR_NO_MEMORY, "no memory for a list of files");
    v->bytes_all += to->bytes;
    v->n_jobs++;
    return ERR_OK;
}

/* ---- a segment of the log ---- */

struct segment_check {
    struct verifier *v;
    const struct verify_job *job;
    struct arena arena;
    uint64_t n_records, end_off;
    bool pending; /* a bad place that may be the unfinished end */
    struct wal_inspect_item bad;
};

static void report_record(struct segment_check *c, uint64_t off, const char *text)
{
    struct err err;
    err_set(&err, ERR_CORRUPT, "%s", text);
    err_at(&err, c->job->path, off);
    verify_report(on_finding, c->v, c->job->path, "record", &err);
}

static enum err_code decode_record(struct segment_check *c, const struct wal_inspect_item *item,
                                   struct err *err)
{
    struct wal_series series;
    struct wal_samples samples;
    struct wal_items items;
    arena_reset(&c->arena);
    switch (item->type) {
    case WAL_SERIES: return wal_decode_series(item->payload, &c->arena, &series, err);
    case WAL_SAMPLES: return wal_decode_samples(item->payload, &c->arena, &samples, err);
    case WAL_STARTED: return wal_decode_started(item->payload, &c->arena, &samples, err);
    case WAL_HISTOGRAMS:
    case WAL_EXEMPLARS: return wal_decode_items(item->payload, &c->arena, &items, err);
    default: return ERR_OK;
    }
}

static bool on_item(void *ctx, const struct wal_inspect_item *item)
{
    struct segment_check *c = ctx;
    struct err err;
    /* Valid records follow: it was no unfinished end. */
    if (c->pending) report_record(c, c->bad.file_off, c->bad.text ? c->bad.text : "bad record");
    c->pending = item->bad;
    c->bad = *item;
    c->end_off = item->file_off + item->stored_bytes;
    if (item->bad) return true;
    c->n_records++;
    if (decode_record(c, item, &err) == ERR_CORRUPT) report_record(c, item->file_off, err.text);
    return true;
}

/* A bad end of the newest segment is what a crash in the middle of a write leaves; but it may be damage. */
static void judge_end(struct segment_check *c)
{
    if (!c->pending) return;
    const char *text = c->bad.text ? c->bad.text : "bad record";
    if (!c->job->newest) {
        report_record(c, c->bad.file_off, text);
        return;
    }
    note(c->v, c->job->path, "record", c->bad.file_off,
         "the end of the log is torn, as a crash leaves it; the next start cuts it off");
}

static enum err_code check_segment(struct verifier *v, struct verify_job *job, struct err *err)
{
    struct segment_check c = {.v = v, .job = job};
    struct wal_segment_info info;
    struct err bad;
    arena_init(&c.arena, MEM_WAL, 0);
    enum err_code rc = wal_inspect(v->env->io, job->path, &info, on_item, &c, &bad);
    if (!rc) judge_end(&c);
    arena_release(&c.arena);
    if (rc == ERR_NO_MEMORY) return err_set(err, rc, "%s", bad.text);
    if (rc) verify_report(on_finding, v, job->path, "", &bad);
    lock_take(&v->lock);
    v->report->segments++;
    v->report->records += c.n_records;
    lock_release(&v->lock);
    return ERR_OK;
}

/* ---- blocks ---- */

struct block_findings {
    struct verifier *v;
    struct verify_job *job;
};

static void on_block_finding(void *ctx, const struct verify_finding *f)
{
    struct block_findings *b = ctx;
    on_finding(b->v, f);
    if (!b->job->tenant || f->kind != VERIFY_DAMAGE) return;
    struct err why;
    err_set(&why, ERR_CORRUPT, "%s", f->text);
    if (f->has_off) err_at(&why, f->file, f->off);
    tenant_note_damage(b->job->tenant, &b->job->expected, &why);
}

static enum err_code check_block(struct verifier *v, struct verify_job *job, struct err *err)
{
    struct block_info found;
    struct block_findings findings = {v, job};
    enum err_code rc = verify_block(v->env, job->path, job->has_expected ? &job->expected : NULL,
                                    &found, on_block_finding, &findings, err);
    lock_take(&v->lock);
    v->report->blocks++;
    v->report->samples += found.n_samples;
    lock_release(&v->lock);
    return rc;
}

static enum err_code check_snapshot(struct verifier *v, const struct verify_job *job)
{
    struct arena arena;
    struct catalog_snapshot one;
    struct err bad;
    arena_init(&arena, MEM_CATALOG, 0);
    enum err_code rc = catalog_snapshot_read(v->env->io, job->path, &arena, &one, &bad);
    arena_release(&arena);
    if (rc) verify_report(on_finding, v, job->path, "", &bad);
    return ERR_OK;
}

/* ---- running ---- */

static void run_job(void *ctx, size_t worker, size_t i)
{
    struct verifier *v = ctx;
    struct verify_job *job = &v->jobs[i];
    struct err err;
    (void)worker;
    lock_take(&v->lock);
    enum err_code rc = v->rc;
    lock_release(&v->lock);
    if (rc) return;
    switch (job->kind) {
    case JOB_BLOCK: rc = check_block(v, job, &err); break;
    case JOB_SEGMENT: rc = check_segment(v, job, &err); break;
    case JOB_SNAPSHOT: rc = check_snapshot(v, job); break;
    }
    lock_take(&v->lock);
    v->report->files++;
    v->report->bytes += job->bytes;
    if (!rc && v->options->progress &&
        !v->options->progress(v->options->ctx, v->report, v->bytes_all))
        rc = err_set(&err, ERR_CANCELED, "given up");
    if (rc && !v->rc) {
        v->rc = rc;
        *v->err = err;
    }
    lock_release(&v->lock);
}

static enum err_code run_jobs(struct verifier *v, struct err *err)
{
    size_t n_threads = MIN_OF(MAX_OF(v->options->n_threads, (size_t)1), (size_t)64);
    struct pool *pool;
    enum err_code rc = pool_new("verify", v->env->threads ? n_threads - 1 : 0,
                                JOBS_QUEUED_MAX + n_threads, &pool, err);
    if (rc) return rc;
    pool_for(pool, v->n_jobs, run_job, v);
    pool_free(pool);
    return v->rc;
}

/* ---- a data directory ---- */

struct tenant_row {
    char *blocks_dir;
    struct ulid *known; /* blocks of the catalog */
    size_t n_known, cap;
};
struct dir_check {
    struct verifier *v;
    const char *dir;
    struct catalog *catalog;
    struct tenant_row *tenants;
    size_t n_tenants, cap;
    char **names; /* of a listing */
    size_t n_names, names_cap;
    enum err_code rc;
    struct err *err;
};

static enum err_code blocks_dir_of(const char *dir, const struct catalog_tenant *row, char **out,
                                   struct err *err)
{
    struct buf path;
    struct buf name;
    buf_init(&path, MEM_BASE);
    buf_init(&name, MEM_BASE);
    tenant_encode_name(row->name, row->incarnation, &name);
    buf_printf(&path, "%s/tenants/%.*s/blocks", dir, (int)name.len, (const char *)name.p);
    buf_u8(&path, 0);
    enum err_code rc = name.failed ? buf_finish(&name, err) : buf_finish(&path, err);
    if (!rc && !(*out = mem_strdup(MEM_STORAGE, (const char *)path.p)))
        rc = err_set(err, ERR_NO_MEMORY, "no memory for a tenant");
    buf_release(&path);
    buf_release(&name);
    return rc;
}

static enum err_code add_row(void *ctx, const struct block_info *info, struct err *err)
{
    struct dir_check *d = ctx;
    struct tenant_row *t = &d->tenants[d->n_tenants - 1];
    void *known = t->known;
    enum err_code rc =
        mem_grow(MEM_STORAGE, &known, &t->cap, t->n_known + 1, sizeof(*t->known), err);
    t->known = known;
    if (rc) return rc;
    t->known[t->n_known++] = info->ulid;
    char path[IO_PATH_BYTES], name[ULID_CHARS + sizeof(BLOCK_SUFFIX)];
    snprintf(name, sizeof(name), "%s" BLOCK_SUFFIX, info->ulid.text);
    rc = io_path(path, sizeof(path), err, t->blocks_dir, name);
    if (rc) return rc;
    if (!io_exists(d->v->env->io, path)) {
        damaged(d->v, path, "", "the catalog knows this block, but there is no such file");
        return ERR_OK;
    }
    struct verify_job job = {.kind = JOB_BLOCK, .has_expected = true, .expected = *info};
    return add_job(d->v, &job, path, err);
}

static enum err_code add_tenant(void *ctx, const struct catalog_tenant *row, struct err *err)
{
    struct dir_check *d = ctx;
    void *tenants = d->tenants;
    enum err_code rc =
        mem_grow(MEM_STORAGE, &tenants, &d->cap, d->n_tenants + 1, sizeof(*d->tenants), err);
    d->tenants = tenants;
    if (rc) return rc;
    struct tenant_row *t = &d->tenants[d->n_tenants];
    *t = (struct tenant_row){.blocks_dir = NULL};
    rc = blocks_dir_of(d->dir, row, &t->blocks_dir, err);
    if (rc) return rc;
    d->n_tenants++;
    return catalog_blocks(d->catalog, row->incarnation, add_row, d, err);
}

static bool is_known(const struct tenant_row *t, struct str ulid)
{
    for (size_t i = 0; t && i < t->n_known; i++)
        if (str_eq(str_of(t->known[i].text), ulid)) return true;
    return false;
}

static bool add_name(void *ctx, const char *name, bool is_dir)
{
    struct dir_check *d = ctx;
    (void)is_dir;
    void *names = d->names;
    d->rc = mem_grow(MEM_STORAGE, &names, &d->names_cap, d->n_names + 1, sizeof(char *), d->err);
    d->names = names;
    if (!d->rc && !(d->names[d->n_names] = mem_strdup(MEM_STORAGE, name)))
        d->rc = err_set(d->err, ERR_NO_MEMORY, "no memory for a list of files");
    d->n_names += !d->rc;
    return !d->rc;
}

static void forget_names(struct dir_check *d)
{
    for (size_t i = 0; i < d->n_names; i++) mem_free(d->names[i]);
    d->n_names = 0;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Sorted. A folder that is not there has nothing in it. */
static enum err_code list(struct dir_check *d, const char *dir, struct err *err)
{
    forget_names(d);
    d->rc = ERR_OK;
    d->err = err;
    if (!io_exists(d->v->env->io, dir)) return ERR_OK;
    enum err_code rc = io_list(d->v->env->io, dir, add_name, d, err);
    if (d->n_names) qsort(d->names, d->n_names, sizeof(char *), compare_names);
    return rc ? rc : d->rc;
}

/* One file of a folder of blocks. t NULL: of no tenant that the catalog knows. */
static enum err_code judge_file(struct dir_check *d, const struct tenant_row *t, const char *dir,
                                const char *name, struct err *err)
{
    char path[IO_PATH_BYTES];
    struct str text = str_of(name);
    struct verify_job job = {.kind = JOB_BLOCK};
    enum err_code rc = io_path(path, sizeof(path), err, dir, name);
    if (rc) return rc;
    if (str_has_suffix(text, STR(".tmp"))) {
        note(d->v, path, "", 0, "an unfinished write; the next start removes it");
        return ERR_OK;
    }
    if (str_has_suffix(text, STR(BLOCK_SUFFIX ".unknown"))) {
        note(d->v, path, "", 0, "set aside by a start, as the catalog does not know it");
        return ERR_OK;
    }
    if (!str_has_suffix(text, STR(BLOCK_SUFFIX))) return ERR_OK;
    text.len -= strlen(BLOCK_SUFFIX);
    if (is_known(t, text)) return ERR_OK;
    note(d->v, path, "", 0, "a block that the catalog does not know");
    return add_job(d->v, &job, path, err);
}

static const struct tenant_row *find_tenant(const struct dir_check *d, const char *blocks_dir)
{
    for (size_t i = 0; i < d->n_tenants; i++)
        if (strcmp(d->tenants[i].blocks_dir, blocks_dir) == 0) return &d->tenants[i];
    return NULL;
}

static enum err_code list_tenant(struct dir_check *d, const char *tenants_dir, const char *name,
                                 struct err *err)
{
    char dir[IO_PATH_BYTES], blocks[IO_PATH_BYTES];
    enum err_code rc = io_path(dir, sizeof(dir), err, tenants_dir, name);
    if (!rc) rc = io_path(blocks, sizeof(blocks), err, dir, "blocks");
    if (rc || !io_exists(d->v->env->io, blocks)) return rc;
    const struct tenant_row *t = find_tenant(d, blocks);
    rc = list(d, blocks, err);
    for (size_t i = 0; !rc && i < d->n_names; i++) rc = judge_file(d, t, blocks, d->names[i], err);
    return rc;
}

static enum err_code list_tenants(struct dir_check *d, struct err *err)
{
    char dir[IO_PATH_BYTES];
    enum err_code rc = io_path(dir, sizeof(dir), err, d->dir, "tenants");
    if (!rc) rc = list(d, dir, err);
    char **names = d->names;
    size_t n = d->n_names;
    d->names = NULL;
    d->n_names = d->names_cap = 0;
    for (size_t i = 0; i < n; i++) {
        if (!rc) rc = list_tenant(d, dir, names[i], err);
        mem_free(names[i]);
    }
    mem_free(names);
    return rc;
}

static enum err_code list_log(struct dir_check *d, struct err *err)
{
    char dir[IO_PATH_BYTES], path[IO_PATH_BYTES];
    enum err_code rc = io_path(dir, sizeof(dir), err, d->dir, "wal");
    if (!rc) rc = list(d, dir, err);
    for (size_t i = 0; !rc && i < d->n_names; i++) {
        struct verify_job job = {.kind = JOB_SEGMENT, .newest = true};
        if (!str_has_suffix(str_of(d->names[i]), STR(".wal"))) continue;
        rc = io_path(path, sizeof(path), err, dir, d->names[i]);
        if (!rc) rc = add_job(d->v, &job, path, err);
        if (rc || d->v->n_jobs < 2) continue;
        struct verify_job *before = &d->v->jobs[d->v->n_jobs - 2];
        if (before->kind == JOB_SEGMENT) before->newest = false;
    }
    return rc;
}

static enum err_code list_snapshots(struct dir_check *d, struct err *err)
{
    enum err_code rc = ERR_OK;
    for (uint64_t i = 0; !rc && i < CATALOG_SNAPSHOT_FILES; i++) {
        char path[IO_PATH_BYTES];
        struct verify_job job = {.kind = JOB_SNAPSHOT};
        rc = io_path(path, sizeof(path), err, d->dir, catalog_snapshot_name(i));
        if (!rc && io_exists(d->v->env->io, path)) rc = add_job(d->v, &job, path, err);
    }
    return rc;
}

/* A catalog that cannot be listed has been told already; the blocks are checked each for itself. */
static enum err_code list_catalog(struct dir_check *d, struct err *err)
{
    struct err bad;
    enum err_code rc = verify_catalog(d->v->env, d->dir, on_finding, d->v, err);
    if (rc) return rc;
    d->v->report->files++;
    rc = catalog_open_to_read(d->v->env, d->dir, &d->catalog, &bad);
    if (!rc) rc = catalog_tenants(d->catalog, add_tenant, d, &bad);
    catalog_close(d->catalog);
    return rc == ERR_NO_MEMORY ? err_set(err, rc, "%s", bad.text) : ERR_OK;
}

static enum err_code lock_dir(const struct env *env, const char *dir, struct file **lock,
                              struct err *err)
{
    char path[IO_PATH_BYTES];
    *lock = NULL;
    enum err_code rc = io_path(path, sizeof(path), err, dir, "LOCK");
    if (rc || !io_exists(env->io, path)) return rc;
    struct err refused; /* a directory that may only be read has no server that writes into it */
    if (io_open(env->io, path, IO_READ | IO_WRITE, lock, &refused)) return ERR_OK;
    rc = file_lock(*lock, err);
    return rc == ERR_BUSY ? err_context(err, "a server has %s open", dir) : rc;
}

static enum err_code check_is_data_dir(const struct env *env, const char *dir, struct err *err)
{
    static const char *const signs[] = {"catalog.sqlite", "wal", "tenants", "catalog.snapshot.0",
                                        "catalog.snapshot.1"};
    for (size_t i = 0; i < COUNT_OF(signs); i++) {
        char path[IO_PATH_BYTES];
        enum err_code rc = io_path(path, sizeof(path), err, dir, signs[i]);
        if (rc) return rc;
        if (io_exists(env->io, path)) return ERR_OK;
    }
    return err_set(err, ERR_NOT_FOUND, "%s is not a data directory", dir);
}

enum err_code verify_data_dir(const struct env *env, const char *dir,
                              const struct verify_options *options, struct verify_totals *report,
                              struct err *err)
{
    struct verifier v;
    struct file *lock = NULL;
    verifier_init(&v, env, options, report, err);
    struct dir_check d = {.v = &v, .dir = dir, .err = err};
    enum err_code rc = check_is_data_dir(env, dir, err);
    if (!rc) rc = lock_dir(env, dir, &lock, err);
    if (!rc) rc = list_catalog(&d, err);
    if (!rc) rc = list_snapshots(&d, err);
    if (!rc) rc = list_log(&d, err);
    if (!rc) rc = list_tenants(&d, err);
    if (!rc) rc = run_jobs(&v, err);
    for (size_t i = 0; i < d.n_tenants; i++) {
        mem_free(d.tenants[i].blocks_dir);
        mem_free(d.tenants[i].known);
    }
    mem_free(d.tenants);
    forget_names(&d);
    mem_free(d.names);
    verifier_release(&v);
    file_close(lock);
    return rc;
}

enum err_code verify_files(const struct env *env, const struct verify_file *files, size_t n,
                           const struct verify_options *options, struct verify_totals *report,
                           struct err *err)
{
    struct verifier v;
    enum err_code rc = ERR_OK;
    verifier_init(&v, env, options, report, err);
    for (size_t i = 0; !rc && i < n; i++) {
        struct str path = str_of(files[i].path);
        struct verify_job job = {.kind = JOB_BLOCK, .newest = true};
        if (str_has_suffix(path, STR(".wal")))
            job.kind = JOB_SEGMENT;
        else if (strstr(files[i].path, "catalog.snapshot."))
            job.kind = JOB_SNAPSHOT;
        else if (!str_has_suffix(path, STR(BLOCK_SUFFIX)))
            continue;
        rc = add_job(&v, &job, files[i].path, err);
    }
    if (!rc) rc = run_jobs(&v, err);
    verifier_release(&v);
    return rc;
}

/* ---- a running engine ---- */

static enum err_code add_blocks(struct verifier *v, struct tenant *t, struct err *err)
{
    enum err_code rc = ERR_OK;
    struct view *view = views_take(&t->views);
    for (size_t i = 0; !rc && i < view->n_blocks; i++) {
        char path[IO_PATH_BYTES];
        const struct block_info *info = block_info(view->blocks[i]);
        struct verify_job job = {
            .kind = JOB_BLOCK, .has_expected = true, .expected = *info, .tenant = t};
        rc = tenant_block_path(t, info->ulid.text, path, sizeof(path), err);
        if (!rc) rc = add_job(v, &job, path, err);
        /* Held, so that the file stays when a merge replaces it. */
        if (!rc) v->jobs[v->n_jobs - 1].held = block_ref(view->blocks[i]);
    }
    views_give(&t->views, view);
    return rc;
}

static enum err_code add_left_out(struct verifier *v, struct tenant *t, struct err *err)
{
    struct arena arena;
    struct engine_damage *items;
    size_t n = 0;
    arena_init(&arena, MEM_STORAGE, 0);
    enum err_code rc = tenant_damage(t, &arena, &items, &n, err);
    for (size_t i = 0; !rc && i < n; i++) {
        char path[IO_PATH_BYTES];
        if (!items[i].left_out) continue; /* found again */
        rc = tenant_block_path(t, items[i].info.ulid.text, path, sizeof(path), err);
        if (!rc) damaged(v, path, "", items[i].reason.p);
    }
    arena_release(&arena);
    return rc;
}

enum err_code engine_verify(struct engine *e, struct tenant *tenant,
                            const struct verify_options *options, struct verify_totals *report,
                            struct err *err)
{
    struct verifier v;
    struct tenant *t = tenant;
    enum err_code rc = ERR_OK;
    verifier_init(&v, &e->env, options, report, err);
    for (size_t i = 0; !rc && (tenant ? i == 0 : (t = engine_tenant_at(e, i)) != NULL); i++) {
        rc = add_blocks(&v, t, err);
        if (!rc) rc = add_left_out(&v, t, err);
    }
    if (!rc) rc = run_jobs(&v, err);
    verifier_release(&v);
    return rc;
}
