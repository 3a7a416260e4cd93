/* engine/recover.c: what a start finds: the catalog's blocks, then the log from where each tenant was flushed.
 *
 * A record is for a tenant if it names its incarnation and lies at or behind its flushed_pos. When the head grows
 * past its budget meanwhile, the largest one is written to blocks, which enter the catalog only when the replay is
 * over: until then their log must stay, as later records name series that are defined before them. Left behind by a
 * crash they are unknown to the catalog, and the next start removes them.
 *
 * What is read here need not be on the disk: after a failed fsync the system's cache shows bytes that a power cut
 * takes away. So no record of this process rests on a definition that it found: series count as not logged. */
#include <stdio.h>
#include <stdlib.h>

#include "engine/engine_private.h"
#include "engine/replay_apply.h"
#include "wal/record.h"

#define ASIDE ".unknown" /* behind the name of a block that the catalog does not know */
/* Of the head\'s budget, and of work_bytes_max: samples gathered for the head. */
#define GATHER_SHARE 4

/* ---- blocks ---- */

struct block_list {
    struct engine *engine;
    struct tenant *tenant;
    int64_t created_ms; /* of the tenant's row */
    bool log_is_whole;  /* from the tenant's flushed_pos on */
    struct block_info *items;
    size_t n, cap;
    struct block **opened;
    size_t n_opened;
    struct block_info *left_out; /* of the catalog's blocks, those that are missing or broken */
    size_t n_left_out, left_out_cap;
    bool disk_fails; /* what cannot be read now is there, perhaps */
};

static enum err_code add_block(void *ctx, const struct block_info *info, struct err *err)
{
    struct block_list *list = ctx;
    void *items = list->items;
    enum err_code rc =
        mem_grow(MEM_STORAGE, &items, &list->cap, list->n + 1, sizeof(*list->items), err);
    list->items = items;
    if (!rc) list->items[list->n++] = *info;
    return rc;
}

/* A block that cannot be served is named and left out; the rest is served. Lack of memory ends the start. */
static enum err_code open_block(struct block_list *list, const struct block_info *info,
                                struct err *err)
{
    struct engine *e = list->engine;
    char path[IO_PATH_BYTES];
    struct block *block = NULL;
    enum err_code rc = tenant_block_path(list->tenant, info->ulid.text, path, sizeof(path), err);
    if (!rc) rc = block_open(&e->env, path, e->cache, &block, err);
    if (!rc) {
        const struct block_info *found = block_info(block);
        if (strcmp(found->ulid.text, info->ulid.text) != 0 ||
            found->incarnation != info->incarnation || found->sequence != info->sequence)
            rc = err_set(err, ERR_CORRUPT, "%s is not the block that the catalog means", path);
    }
    /* Of a newer version: this build would serve a part as if it were all. */
    if (rc == ERR_NO_MEMORY || rc == ERR_VERSION) return rc;
    if (!rc) {
        list->opened[list->n_opened++] = block;
        return ERR_OK;
    }
    block_unref(block);
    list->disk_fails |= rc == ERR_IO;
    void *left_out = list->left_out;
    struct err no_memory;
    rc = mem_grow(MEM_STORAGE, &left_out, &list->left_out_cap, list->n_left_out + 1,
                  sizeof(*list->left_out), &no_memory);
    list->left_out = left_out;
    if (rc) {
        *err = no_memory;
        return rc;
    }
    list->left_out[list->n_left_out++] = *info;
    tenant_leave_out(list->tenant, info, err);
    return ERR_OK;
}

static bool in_catalog(const struct block_list *list, const char *ulid)
{
    for (size_t i = 0; i < list->n; i++)
        if (strncmp(list->items[i].ulid.text, ulid, ULID_CHARS) == 0) return true;
    return false;
}

struct stray {
    struct block_list *list;
    struct ulid *items;
    size_t n, cap;
    enum err_code rc;
    struct err *err;
};

static bool note_stray(void *ctx, const char *name, bool is_dir)
{
    struct stray *stray = ctx;
    struct ulid ulid;
    struct str text = str_of(name);
    if (is_dir || !str_has_suffix(text, STR(".block"))) return true;
    text.len -= strlen(".block");
    if (!ulid_parse(text, &ulid) || in_catalog(stray->list, ulid.text)) return true;
    void *items = stray->items;
    stray->rc =
        mem_grow(MEM_STORAGE, &items, &stray->cap, stray->n + 1, sizeof(*stray->items), stray->err);
    stray->items = items;
    if (!stray->rc) stray->items[stray->n++] = ulid;
    return !stray->rc;
}

/* A crash may come between the catalog's forgetting of a block and its file's end. */
static bool is_expired(const struct tenant *t, const struct block_info *info)
{
    int64_t retention_ms = atomic_load_explicit(&t->retention_ms, memory_order_relaxed);
    return retention_ms > 0 &&
           info->t_max_ms < data_clock_ms(&t->engine->data_clock) - retention_ms;
}

/* Is what a stray block holds certainly elsewhere? What a flush did not enter into the catalog is in the log. All else
 * came of blocks that the catalog knows, or was merged into such: if they are all there. The log must reach back to
 * where the catalog says that the tenant was flushed, else the catalog may be from before. */
static bool is_elsewhere(const struct block_list *list, const struct block_info *info)
{
    bool newer = info->sequence >= list->tenant->next_sequence;
    if (info->incarnation != list->tenant->incarnation || info->created_ms < list->created_ms)
        return false;
    if (newer && !list->log_is_whole) return false;
    if (newer && info->level == 0) return true;
    for (size_t i = 0; i < list->n_left_out; i++) {
        const struct block_info *lost = &list->left_out[i];
        if (lost->t_min_ms <= info->t_max_ms && info->t_min_ms <= lost->t_max_ms) return false;
    }
    return true;
}

/* What a crash left of a flush, a merge or a removal goes. Any other stranger is told about and set aside under
 * another name: it may be all that is left of something, and no later start may take it for one of its own. */
static void judge_stray(struct block_list *list, const struct ulid *ulid)
{
    struct tenant *t = list->tenant;
    struct engine *e = list->engine;
    char path[IO_PATH_BYTES], aside[IO_PATH_BYTES + sizeof(ASIDE)];
    struct block *block = NULL;
    struct err why;
    enum err_code rc = tenant_block_path(t, ulid->text, path, sizeof(path), &why);
    if (!rc) rc = block_open(&e->env, path, e->cache, &block, &why);
    if (rc == ERR_IO || rc == ERR_NO_MEMORY || rc == ERR_VERSION ||
        list->disk_fails) { /* the next start will see */
        if (block) block_unref(block);
        return;
    }
    bool ours = !rc;
    if (ours) {
        const struct block_info *info = block_info(block);
        bool is_copy =
            strcmp(info->ulid.text, ulid->text) != 0; /* somebody's, under another name */
        ours = !is_copy && (is_elsewhere(list, info) ||
                            (info->incarnation == t->incarnation && is_expired(t, info)));
        if (ours) block_drop_file(block);
        block_unref(block);
    }
    snprintf(aside, sizeof(aside), "%s" ASIDE, path);
    if (!ours) err_ignore(io_rename(e->env.io, path, aside, &why)); /* or else at the next start */
    log_msg(e->env.log, LOG_WARN,
            ours ? "block of an unfinished flush, merge or removal removed"
                 : "a block that the catalog does not know, set aside as *" ASIDE,
            LOG_CSTR("file", path));
}

static enum err_code judge_strays(struct block_list *list, struct err *err)
{
    struct tenant *t = list->tenant;
    struct io *io = list->engine->env.io;
    if (!io_exists(io, t->blocks_dir)) return ERR_OK;
    struct stray stray = {.list = list, .err = err};
    enum err_code rc = io_remove_temps(io, t->blocks_dir, err);
    if (!rc) rc = io_list(io, t->blocks_dir, note_stray, &stray, err);
    if (!rc) rc = stray.rc;
    for (size_t i = 0; !rc && i < stray.n; i++) judge_stray(list, &stray.items[i]);
    mem_free(stray.items);
    return rc;
}

static enum err_code show_blocks(struct block_list *list, struct err *err)
{
    struct view_change change = {.add = list->opened, .n_add = list->n_opened};
    struct view *view;
    enum err_code rc = views_prepare(&list->tenant->views, &change, &view, err);
    if (rc) return rc;
    views_publish(&list->tenant->views, view);
    list->n_opened = 0; /* the view's now */
    return ERR_OK;
}

static enum err_code open_blocks(struct tenant *t, const struct catalog_tenant *row,
                                 uint64_t log_pos, struct err *err)
{
    struct block_list list = {.engine = t->engine,
                              .tenant = t,
                              .created_ms = row->created_ms,
                              .log_is_whole = log_pos <= row->flushed_pos};
    enum err_code rc = catalog_blocks(t->engine->catalog, t->incarnation, add_block, &list, err);
    list.opened = mem_calloc(MEM_STORAGE, MAX_OF(list.n, (size_t)1), sizeof(struct block *));
    if (!rc && !list.opened) rc = err_set(err, ERR_NO_MEMORY, "no memory for %zu blocks", list.n);
    for (size_t i = 0; !rc && i < list.n; i++) rc = open_block(&list, &list.items[i], err);
    if (!rc) rc = judge_strays(&list, err);
    if (!rc) rc = show_blocks(&list, err);
    for (size_t i = 0; i < list.n_opened; i++) block_unref(list.opened[i]);
    mem_free(list.opened);
    mem_free(list.left_out);
    mem_free(list.items);
    return rc ? err_context(err, "blocks of tenant %s", t->name) : rc;
}

struct tenant_list {
    struct engine *engine;
    uint64_t log_pos; /* from which on the log is there */
};

static enum err_code open_tenant(void *ctx, const struct catalog_tenant *row, struct err *err)
{
    const struct tenant_list *list = ctx;
    struct tenant *t;
    enum err_code rc = engine_add_tenant(list->engine, row, &t, err);
    if (!rc) rc = tenant_load_tombstones(t, err);
    if (!rc) rc = tenant_load_exemplars(t, err);
    return rc ? rc : open_blocks(t, row, list->log_pos, err);
}

/* ---- the log ---- */

/* Ids that the log gives to a series known under another one: a series may end and come back in between. */
struct other_id {
    uint64_t incarnation;
    uint32_t id, means;
};

struct replay {
    struct engine *engine;
    struct tenant **by_incarnation; /* sorted */
    size_t n_tenants;
    struct tenant *tenant; /* of the last record */
    struct other_id *others;
    size_t n_others, others_cap;
    struct arena arena;
    struct replay_apply apply;
    uint64_t n_samples, n_unknown_series, n_unknown_tenants, n_bad, n_flushes;
};

static int compare_incarnation(const void *a, const void *b)
{
    uint64_t x = (*(struct tenant *const *)a)->incarnation;
    uint64_t y = (*(struct tenant *const *)b)->incarnation;
    return (x > y) - (x < y);
}

static struct tenant *tenant_of(struct replay *r, uint64_t incarnation)
{
    if (r->tenant && r->tenant->incarnation == incarnation) return r->tenant;
    size_t lo = 0, hi = r->n_tenants;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (r->by_incarnation[mid]->incarnation < incarnation)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo == r->n_tenants || r->by_incarnation[lo]->incarnation != incarnation) return NULL;
    return r->tenant = r->by_incarnation[lo];
}

static struct other_id *other_id(struct replay *r, const struct tenant *t, uint64_t id)
{
    for (size_t i = 0; i < r->n_others; i++)
        if (r->others[i].id == id && r->others[i].incarnation == t->incarnation)
            return &r->others[i];
    return NULL;
}

static struct series *series_of(struct replay *r, struct tenant *t, uint64_t id)
{
    if (id == 0 || id >= UINT32_MAX) return NULL;
    struct series *s = series_by_id(&t->registry, (uint32_t)id);
    if (s && s->live && r->n_others == 0) return s;
    struct other_id *other = other_id(r, t, id);
    if (other) s = series_by_id(&t->registry, other->means);
    return s && s->live ? s : NULL;
}

static enum err_code note_other_id(struct replay *r, const struct tenant *t, uint32_t id,
                                   uint32_t means, struct err *err)
{
    struct other_id *known = other_id(r, t, id);
    if (known) {
        known->means = means;
        return ERR_OK;
    }
    void *items = r->others;
    enum err_code rc =
        mem_grow(MEM_REGISTRY, &items, &r->others_cap, r->n_others + 1, sizeof(*r->others), err);
    r->others = items;
    if (!rc) r->others[r->n_others++] = (struct other_id){t->incarnation, id, means};
    return rc;
}

static enum err_code replay_one_series(struct replay *r, struct tenant *t, uint64_t id,
                                       struct bytes encoded, struct err *err)
{
    struct reader reader = reader_init(encoded);
    struct registry_add add = {.id = (uint32_t)id};
    struct err bad;
    enum err_code rc = labels_decode(&reader, &r->arena, &add.labels, &bad);
    if (!rc) rc = reader_finish(&reader, &bad);
    if (rc == ERR_NO_MEMORY) return err_set(err, rc, "%s", bad.text);
    if (rc || id == 0 || id >= UINT32_MAX) {
        r->n_bad++;
        return ERR_OK;
    }
    struct series *taken = series_by_id(&t->registry, (uint32_t)id), *s;
    if (taken && taken->live) add.id = 0; /* of these labels, or the log's id was given anew */
    rc = registry_add(&t->registry, &add, &s, NULL, err);
    if (rc) return rc;
    if (s->id != id) return note_other_id(r, t, (uint32_t)id, s->id, err);
    struct other_id *stale = r->n_others ? other_id(r, t, id) : NULL;
    if (stale) stale->means = s->id;
    return ERR_OK;
}

static enum err_code replay_series(struct replay *r, struct tenant *t, struct bytes payload,
                                   struct err *err)
{
    struct wal_series record;
    enum err_code rc = wal_decode_series(payload, &r->arena, &record, err);
    for (size_t i = 0; !rc && i < record.n; i++)
        rc = replay_one_series(r, t, record.id[i], record.labels[i], err);
    return rc;
}

static enum err_code replay_samples(struct replay *r, struct tenant *t, struct bytes payload,
                                    struct err *err)
{
    struct wal_samples record;
    int64_t min_ms = INT64_MAX, max_ms = INT64_MIN;
    enum err_code rc = wal_decode_samples(payload, &r->arena, &record, err);
    for (size_t i = 0; !rc && i < record.n; i++) {
        struct series *s = series_of(r, t, record.id[i]);
        if (!s) {
            r->n_unknown_series++;
            continue;
        }
        min_ms = MIN_OF(min_ms, record.t_ms[i]);
        max_ms = MAX_OF(max_ms, record.t_ms[i]);
        rc = replay_apply_add(&r->apply, t, s, record.t_ms[i], record.v[i], err);
    }
    time_range_add(&t->range, min_ms, max_ms);
    return rc;
}

/* Few senders have start timestamps: these samples go to the head one by one. */
static enum err_code replay_started(struct replay *r, struct tenant *t, struct bytes payload,
                                    struct head_counts *counts, struct err *err)
{
    struct wal_samples record;
    enum err_code rc = replay_apply_run(&r->apply, err); /* what was before comes before */
    if (!rc) rc = wal_decode_started(payload, &r->arena, &record, err);
    for (size_t i = 0; !rc && i < record.n; i++) {
        struct series *s = series_of(r, t, record.id[i]);
        if (!s) {
            r->n_unknown_series++;
            continue;
        }
        time_range_add(&t->range, record.t_ms[i], record.t_ms[i]);
        struct head_stripe *stripe = tenant_stripe(t, s);
        lock_take(&stripe->lock);
        rc = head_append_started(stripe, counts, t->gen, s, record.t_ms[i], record.v[i],
                                 record.st_ms[i], err);
        lock_release(&stripe->lock);
    }
    return rc;
}

static enum err_code replay_histograms(struct replay *r, struct tenant *t, struct bytes payload,
                                       struct head_counts *counts, struct err *err)
{
    struct wal_items record;
    enum err_code rc = replay_apply_run(&r->apply, err); /* floats of the same series come first */
    if (!rc) rc = wal_decode_items(payload, &r->arena, &record, err);
    for (size_t i = 0; !rc && i < record.n; i++) {
        struct series *s = series_of(r, t, record.id[i]);
        struct reader reader = reader_init(record.item[i]);
        struct histogram *h = NULL;
        if (!s) {
            r->n_unknown_series++;
            continue;
        }
        rc = histogram_decode(&reader, &r->arena, &h, err);
        if (!rc) rc = reader_finish(&reader, err);
        if (rc) break;
        struct head_value value = {h->sum, h, record.item[i]};
        time_range_add(&t->range, record.t_ms[i], record.t_ms[i]);
        struct head_stripe *stripe = tenant_stripe(t, s);
        lock_take(&stripe->lock);
        rc = head_append(stripe, counts, t->gen, s, record.t_ms[i], &value, err);
        lock_release(&stripe->lock);
    }
    return rc;
}

static enum err_code replay_exemplars(struct replay *r, struct tenant *t, struct bytes payload,
                                      struct err *err)
{
    struct wal_items record;
    struct buf series;
    buf_init(&series, MEM_HEAD);
    enum err_code rc = wal_decode_items(payload, &r->arena, &record, err);
    for (size_t i = 0; !rc && i < record.n; i++) {
        const struct series *s = series_of(r, t, record.id[i]);
        struct reader reader = reader_init(record.item[i]);
        struct encoded_exemplar e = {.t_ms = record.t_ms[i], .v = reader_double(&reader)};
        struct labels labels;
        if (!s) {
            r->n_unknown_series++;
            continue;
        }
        e.labels = bytes_of(reader.p, reader_left(&reader));
        rc = labels_decode(&reader, &r->arena, &labels, err);
        if (!rc) rc = reader_finish(&reader, err);
        if (rc) break;
        buf_reset(&series);
        rwlock_read(&t->registry.lock);
        registry_encode_labels(&t->registry, s, &series);
        rwlock_release(&t->registry.lock);
        if (!series.failed) (void)exemplars_add(&t->exemplars, buf_bytes(&series), &e);
    }
    buf_release(&series);
    return rc;
}

/* Keeps the head within its budget. */
static enum err_code flush_largest(struct replay *r, struct err *err)
{
    if (LIKELY(!engine_head_over_budget(r->engine))) return ERR_OK;
    enum err_code rc = replay_apply_run(&r->apply, err);
    if (rc) return rc;
    struct tenant *largest = r->by_incarnation[0];
    for (size_t i = 1; i < r->n_tenants; i++)
        if (atomic_load(&r->by_incarnation[i]->head_bytes) > atomic_load(&largest->head_bytes))
            largest = r->by_incarnation[i];
    r->n_flushes++;
    rc = tenant_flush(largest, true, err);
    (void)pressure_level_now(&r->engine->pressure); /* what was freed is seen at once */
    return rc;
}

static enum err_code replay_record(void *ctx, const struct wal_record *record, struct err *err)
{
    struct replay *r = ctx;
    uint64_t incarnation;
    struct head_counts counts = {0};
    struct err bad;
    if (record->type == WAL_TIME || record->type == WAL_PAD || record->type == WAL_TENANT)
        return ERR_OK; /* for an archive */
    if (wal_record_incarnation(record->payload, &incarnation, &bad)) {
        r->n_bad++;
        return ERR_OK;
    }
    struct tenant *t = tenant_of(r, incarnation);
    if (!t) {
        r->n_unknown_tenants++;
        return ERR_OK;
    }
    if (record->pos < t->cut_pos) return ERR_OK;
    if (atomic_load(&t->first_pos) == POS_NONE) {
        atomic_store(&t->first_pos, record->pos);
        atomic_store(&t->first_arrival_ns, MAX_OF(clock_mono_ns(r->engine->env.clock), 1));
    }
    arena_reset(&r->arena);
    enum err_code rc = ERR_OK;
    switch (record->type) {
    case WAL_SERIES: rc = replay_series(r, t, record->payload, &bad); break;
    case WAL_SAMPLES: rc = replay_samples(r, t, record->payload, &bad); break;
    case WAL_STARTED: rc = replay_started(r, t, record->payload, &counts, &bad); break;
    case WAL_HISTOGRAMS: rc = replay_histograms(r, t, record->payload, &counts, &bad); break;
    case WAL_EXEMPLARS: rc = replay_exemplars(r, t, record->payload, &bad); break;
    default: break; /* of a later version, or nothing to the head */
    }
    r->n_samples += counts.n_stored;
    tenant_count(t, &counts);
    if (rc == ERR_CORRUPT) { /* behind a good checksum: our own bug, but no reason not to start */
        r->n_bad++;
        log_msg(r->engine->env.log, LOG_ERROR, "a record of the log makes no sense",
                LOG_U64("pos", record->pos), LOG_ERR(&bad));
        return ERR_OK;
    }
    if (rc) {
        *err = bad;
        return rc;
    }
    return flush_largest(r, err);
}

static void replay_report(struct replay *r, const struct wal_replay_stats *stats,
                          int64_t started_ns)
{
    struct engine *e = r->engine;
    double seconds = (double)(clock_mono_ns(e->env.clock) - started_ns) / 1e9;
    metric_add(e->metrics.unknown_series, r->n_unknown_series);
    metric_add(e->metrics.unknown_tenants, r->n_unknown_tenants);
    bool whole = r->n_unknown_series == 0 && r->n_bad == 0 && stats->gaps == 0;
    log_msg(e->env.log, whole ? LOG_INFO : LOG_ERROR,
            whole ? "log replayed" : "log replayed, some of it is lost",
            LOG_U64("segments", stats->segments), LOG_U64("records", stats->records),
            LOG_U64("bytes", stats->bytes), LOG_U64("samples", r->n_samples),
            LOG_U64("gaps", stats->gaps), LOG_U64("bad_records", r->n_bad),
            LOG_U64("samples_of_unknown_series", r->n_unknown_series),
            LOG_U64("records_of_unknown_tenants", r->n_unknown_tenants),
            LOG_U64("flushes", r->n_flushes), LOG_DOUBLE("seconds", seconds));
}

static enum err_code replay_log(struct replay *r, struct err *err)
{
    struct engine *e = r->engine;
    struct wal_replay_stats stats = {0};
    int64_t started_ns = clock_mono_ns(e->env.clock);
    uint64_t from_pos = r->n_tenants ? POS_NONE : 0;
    for (size_t i = 0; i < r->n_tenants; i++)
        from_pos = MIN_OF(from_pos, r->by_incarnation[i]->cut_pos);
    for (size_t i = 0; i < r->n_tenants; i++) registry_load_begin(&r->by_incarnation[i]->registry);
    enum err_code rc = wal_replay(e->wal, from_pos, replay_record, r, &stats, err);
    if (!rc) rc = replay_apply_run(&r->apply, err);
    if (!rc && r->n_tenants) rc = flush_largest(r, err);
    r->n_samples += atomic_load(&r->apply.n_stored);
    for (size_t i = 0; !rc && i < r->n_tenants; i++)
        rc = registry_load_end(&r->by_incarnation[i]->registry, err);
    for (size_t i = 0; !rc && i < r->n_tenants; i++)
        if (r->by_incarnation[i]->n_recovered)
            rc = tenant_flush_recovered(r->by_incarnation[i], err);
    if (!rc) replay_report(r, &stats, started_ns);
    return rc ? err_context(err, "replaying the log") : rc;
}

/* ---- the newest data, for the clock of retention ---- */

struct newest {
    struct engine *engine;
    int64_t t_ms; /* INT64_MIN: none */
};

static enum err_code newest_block(void *ctx, const struct block_info *info, struct err *err)
{
    struct newest *newest = ctx;
    (void)err;
    newest->t_ms = MAX_OF(newest->t_ms, info->t_max_ms);
    return ERR_OK;
}

static enum err_code newest_of_tenant(void *ctx, const struct catalog_tenant *row, struct err *err)
{
    struct newest *newest = ctx;
    return catalog_blocks(newest->engine->catalog, row->incarnation, newest_block, newest, err);
}

/* Before strangers are judged by their age. Without any block none of them is too old. */
static enum err_code clock_of_catalog(struct newest *newest, struct err *err)
{
    enum err_code rc = catalog_tenants(newest->engine->catalog, newest_of_tenant, newest, err);
    data_clock_start(&newest->engine->data_clock, newest->engine->env.clock,
                     MAX_OF(newest->t_ms, 0));
    return rc;
}

/* With what the log had. */
static void clock_of_all(struct newest *newest)
{
    struct tenant *t;
    for (size_t i = 0; (t = engine_tenant_at(newest->engine, i)) != NULL; i++) {
        int64_t min_ms, max_ms;
        tenant_head_range(t, &min_ms, &max_ms);
        newest->t_ms = MAX_OF(newest->t_ms, max_ms);
        struct view *view = views_take(&t->views);
        for (size_t k = 0; k < view->n_blocks; k++)
            newest->t_ms = MAX_OF(newest->t_ms, block_info(view->blocks[k])->t_max_ms);
        views_give(&t->views, view);
    }
    data_clock_start(&newest->engine->data_clock, newest->engine->env.clock, newest->t_ms);
}

enum err_code engine_recover(struct engine *e, struct err *err)
{
    struct newest newest = {e, INT64_MIN};
    struct replay r = {.engine = e};
    struct tenant_list list = {.engine = e};
    enum err_code rc = wal_kept_pos(e->wal, &list.log_pos, err);
    if (!rc) rc = engine_remove_orphans(e, err);
    if (!rc) rc = clock_of_catalog(&newest, err);
    if (!rc) rc = catalog_tenants(e->catalog, open_tenant, &list, err);
    if (rc) return rc;
    r.n_tenants = e->n_tenants;
    r.by_incarnation =
        mem_calloc(MEM_REGISTRY, MAX_OF(r.n_tenants, (size_t)1), sizeof(*r.by_incarnation));
    if (!r.by_incarnation) return err_set(err, ERR_NO_MEMORY, "no memory for the tenants");
    if (r.n_tenants) memcpy(r.by_incarnation, e->tenants, r.n_tenants * sizeof(*r.by_incarnation));
    qsort(r.by_incarnation, r.n_tenants, sizeof(*r.by_incarnation), compare_incarnation);
    arena_init(&r.arena, MEM_HEAD, 0);
    size_t gather_bytes = MIN_OF(e->config.work_bytes_max, engine_head_bytes_max(e)) / GATHER_SHARE;
    rc = replay_apply_init(&r.apply, e, gather_bytes, err);
    if (!rc) rc = replay_log(&r, err);
    if (!rc) clock_of_all(&newest);
    replay_apply_release(&r.apply);
    arena_release(&r.arena);
    mem_free(r.others);
    mem_free(r.by_incarnation);
    return rc;
}
