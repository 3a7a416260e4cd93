/* engine/tenant.c: tenants come to be, are named, counted and freed. */
#include "engine/tenant.h"

#include <stdio.h>

#include "base/hash.h"
#include "engine/engine_private.h"

static_assert(TENANT_LEVELS == COMPACT_LEVEL_MAX + 1, "each level is counted");

/* ---- names ---- */

static bool name_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != 0 && strchr("!-_.*'()", c) != NULL);
}

enum err_code tenant_name_check(struct str name, struct err *err)
{
    if (name.len == 0) return err_set(err, ERR_INVALID, "no org id");
    if (name.len > TENANT_NAME_BYTES_MAX)
        return err_set(err, ERR_INVALID, "tenant ID is too long: max %d characters",
                       TENANT_NAME_BYTES_MAX);
    for (size_t i = 0; i < name.len; i++) {
        if (name_char(name.p[i])) continue;
        size_t n = MAX_OF(utf8_sequence(name.p + i, name.len - i), (size_t)1);
        return err_set(err, ERR_INVALID, "tenant ID '%.*s' contains unsupported character '%.*s'",
                       STR_ARG(name), (int)n, name.p + i);
    }
    if (str_eq(name, STR(".")) || str_eq(name, STR("..")))
        return err_set(err, ERR_INVALID, "tenant ID is '.' or '..'");
    if (str_eq(name, STR("quipu")) || str_has_prefix(name, STR("__")))
        return err_set(err, ERR_INVALID, "tenant ID '%.*s' is not allowed", STR_ARG(name));
    return ERR_OK;
}

#define DIR_NAME_BYTES 180 /* of file systems' 255 */

void tenant_encode_name(struct str name, uint64_t incarnation, struct buf *out)
{
    for (size_t i = 0; i < name.len; i++) {
        char c = name.p[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
                     (c == '.' && i > 0);
        if (plain)
            buf_u8(out, (uint8_t)c);
        else
            buf_printf(out, "%%%02x", (unsigned)(uint8_t)c);
        if (out->len <= DIR_NAME_BYTES) continue;
        /* Cut, and told apart by what no other tenant has. */
        buf_printf(out, "%%~%llu", (unsigned long long)incarnation);
        return;
    }
}

struct str tenant_name(const struct tenant *tenant)
{
    return str_of(tenant->name);
}

/* ---- life ---- */

static void metrics_open(struct tenant *t)
{
    struct metrics *m = t->engine->env.metrics;
    char label[TENANT_NAME_BYTES_MAX * 2 + 32];
    metric_label(label, sizeof(label), "tenant", tenant_name(t));
    t->metrics = (struct tenant_metrics){
        .stored = metric_counter(m, "quipu_samples_stored_total",
                                 "Samples that entered the head, repeated ones left out.", label),
        .out_of_order =
            metric_counter(m, "quipu_head_out_of_order_total",
                           "Samples older than what the head held of their series.", label),
        .duplicate = metric_counter(m, "quipu_head_duplicate_total",
                                    "Samples that the head had already.", label),
        .overwritten = metric_counter(m, "quipu_head_overwritten_total",
                                      "Samples that replaced another value at their time.", label),
        .series = metric_gauge(m, "quipu_tenant_active_series", "Series in memory.", label),
        .rate_limited =
            metric_counter(m, "quipu_rate_limited_requests_total",
                           "Write requests refused as over limits.samples_per_second.", label),
        .over_share = metric_counter(
            m, "quipu_over_share_requests_total",
            "Write requests refused as others had to have their share of the log's queue.", label),
        .block_bytes = metric_gauge(m, "quipu_block_bytes", "Size of the blocks.", label),
    };
    for (unsigned level = 0; level <= COMPACT_LEVEL_MAX; level++) {
        char labels[sizeof(label) + 16];
        snprintf(labels, sizeof(labels), "level=\"%u\",%s", level, label);
        t->metrics.blocks[level] =
            metric_gauge(m, "quipu_blocks", "Blocks that are served, by level.", labels);
    }
}

static enum err_code make_blocks_dir(struct tenant *t, struct err *err)
{
    struct buf dir;
    buf_init(&dir, MEM_BASE);
    buf_printf(&dir, "%s/tenants/", t->engine->data_dir);
    struct buf name;
    buf_init(&name, MEM_BASE);
    tenant_encode_name(tenant_name(t), t->incarnation, &name);
    buf_text(&dir, str_from_bytes(buf_bytes(&name)));
    buf_text(&dir, STR("/blocks"));
    buf_u8(&dir, 0);
    enum err_code rc = name.failed ? buf_finish(&name, err) : buf_finish(&dir, err);
    if (!rc && !(t->blocks_dir = mem_strdup(MEM_REGISTRY, (const char *)dir.p)))
        rc = err_set(err, ERR_NO_MEMORY, "no memory for a tenant");
    buf_release(&name);
    buf_release(&dir);
    return rc;
}

enum err_code tenant_block_path(const struct tenant *t, const char *ulid, char *path, size_t size,
                                struct err *err)
{
    char name[ULID_CHARS + 8];
    snprintf(name, sizeof(name), "%.*s.block", ULID_CHARS, ulid);
    return io_path(path, size, err, t->blocks_dir, name);
}

enum err_code tenant_new(struct engine *engine, const struct catalog_tenant *row,
                         struct tenant **out, struct err *err)
{
    *out = NULL;
    struct tenant *t = mem_calloc(MEM_REGISTRY, 1, sizeof(*t));
    if (!t) return err_set(err, ERR_NO_MEMORY, "no memory for a tenant");
    t->engine = engine;
    t->incarnation = row->incarnation;
    t->stripe_salt = (uint32_t)row->incarnation;
    t->next_sequence = row->next_sequence;
    t->cut_pos = row->flushed_pos;
    t->gen = 1;
    atomic_store(&t->first_pos, POS_NONE);
    atomic_store(&t->held_pos, POS_NONE);
    time_range_clear(&t->range);
    time_range_clear(&t->old_range);
    registry_init(&t->registry, &engine->registry_pool, &engine->n_series);
    rwlock_init(&t->gate, LOCK_TENANT_GATE);
    lock_init(&t->flush_lock, LOCK_TENANT_FLUSH);
    lock_init(&t->metadata_lock, LOCK_INTERN);
    exemplars_init(&t->exemplars, &engine->exemplar_room);
    changes_init(&t->changes);
    tombstones_init(&t->tombstones);
    quarantine_init(&t->quarantine);
    enum err_code rc = views_init(&t->views, err);
    t->name = mem_calloc(MEM_REGISTRY, row->name.len + 1, 1);
    if (!rc && !t->name) rc = err_set(err, ERR_NO_MEMORY, "no memory for a tenant");
    if (!rc) memcpy(t->name, row->name.p, row->name.len);
    if (!rc) rc = make_blocks_dir(t, err);
    if (rc) {
        tenant_free(t);
        return rc;
    }
    metrics_open(t);
    *out = t;
    return ERR_OK;
}

static void drop_chunks(void *ctx, struct series *s)
{
    struct tenant *t = ctx;
    struct head_counts counts = {0};
    head_sweep(tenant_stripe(t, s), &counts, UINT32_MAX, s);
}

void tenant_free(struct tenant *t)
{
    if (!t) return;
    registry_each(&t->registry, drop_chunks, t);
    registry_release(&t->registry);
    views_release(&t->views);
    changes_release(&t->changes);
    quarantine_release(&t->quarantine);
    tenant_metadata_free(t);
    tombstones_release(&t->tombstones);
    delete_memory_release(&t->deletes);
    rwlock_destroy(&t->gate);
    lock_destroy(&t->flush_lock);
    lock_destroy(&t->metadata_lock);
    exemplars_release(&t->exemplars);
    mem_free(t->recovered);
    mem_free(t->doubtful);
    mem_free(t->compact.refused);
    mem_free(t->blocks_dir);
    mem_free(t->name);
    mem_free(t);
}

/* ---- numbers ---- */

void time_range_clear(struct time_range *range)
{
    /* A reader that finds it empty finds what it was moved to: the loads are in tenant_head_range. */
    atomic_store_explicit(&range->min_ms, INT64_MAX, memory_order_release);
    atomic_store_explicit(&range->max_ms, INT64_MIN, memory_order_release);
}

void time_range_add(struct time_range *range, int64_t min_ms, int64_t max_ms)
{
    int64_t now = atomic_load_explicit(&range->min_ms, memory_order_relaxed);
    while (min_ms < now &&
           !atomic_compare_exchange_weak_explicit(&range->min_ms, &now, min_ms,
                                                  memory_order_relaxed, memory_order_relaxed)) {}
    now = atomic_load_explicit(&range->max_ms, memory_order_relaxed);
    while (max_ms > now &&
           !atomic_compare_exchange_weak_explicit(&range->max_ms, &now, max_ms,
                                                  memory_order_relaxed, memory_order_relaxed)) {}
}

void tenant_head_range(struct tenant *t, int64_t *min_ms, int64_t *max_ms)
{
    /* This generation's first: a cut widens the old range before it clears the new one. */
    int64_t a = atomic_load(&t->range.min_ms), b = atomic_load(&t->range.max_ms);
    int64_t c = atomic_load(&t->old_range.min_ms), d = atomic_load(&t->old_range.max_ms);
    *min_ms = MIN_OF(a, c);
    *max_ms = MAX_OF(b, d);
}

void tenant_count(struct tenant *t, const struct head_counts *c)
{
    if (c->bytes) {
        atomic_fetch_add_explicit(&t->head_bytes, c->bytes, memory_order_relaxed);
        atomic_fetch_add_explicit(&t->engine->head_bytes, c->bytes, memory_order_relaxed);
    }
    if (c->samples) atomic_fetch_add_explicit(&t->head_samples, c->samples, memory_order_relaxed);
    if (c->chunks) atomic_fetch_add_explicit(&t->head_chunks, c->chunks, memory_order_relaxed);
    if (c->n_stored) metric_add(t->metrics.stored, c->n_stored);
    if (c->n_out_of_order) metric_add(t->metrics.out_of_order, c->n_out_of_order);
    if (c->n_duplicate) metric_add(t->metrics.duplicate, c->n_duplicate);
    if (c->n_overwritten) metric_add(t->metrics.overwritten, c->n_overwritten);
}

uint64_t tenant_held_pos(struct tenant *t)
{
    uint64_t first = atomic_load(&t->first_pos);
    uint64_t held = atomic_load(&t->held_pos);
    return MIN_OF(first, held);
}

enum err_code tenant_gone(const struct tenant *t, struct err *err)
{
    return err_set(err, ERR_SHUTDOWN, "tenant %s is being deleted", t->name);
}

static uint64_t not_negative(int64_t n)
{
    return n > 0 ? (uint64_t)n : 0; /* a reader between two halves of a change */
}

void tenant_stats(struct tenant *t, struct tenant_stats *out)
{
    *out = (struct tenant_stats){
        .series_active = atomic_load_explicit(&t->registry.n_series, memory_order_relaxed),
        .label_pairs = atomic_load_explicit(&t->registry.n_pairs, memory_order_relaxed),
        .head_samples = not_negative(atomic_load_explicit(&t->head_samples, memory_order_relaxed)),
        .head_bytes = not_negative(atomic_load_explicit(&t->head_bytes, memory_order_relaxed)),
        .head_chunks = not_negative(atomic_load_explicit(&t->head_chunks, memory_order_relaxed)),
    };
    tenant_head_range(t, &out->head_min_ms, &out->head_max_ms);
    struct view *view = views_take(&t->views);
    out->blocks = view->n_blocks;
    for (size_t i = 0; i < view->n_blocks; i++) {
        const struct block_info *info = block_info(view->blocks[i]);
        out->blocks_by_level[MIN_OF(info->level, (uint32_t)TENANT_LEVELS - 1)]++;
        out->block_bytes += info->file_bytes;
        out->block_samples += info->n_samples;
    }
    views_give(&t->views, view);
}

/* ---- series ---- */

void tenant_write_begin(struct tenant *t)
{
    rwlock_read(&t->gate);
    wal_coming(t->engine->wal, 1);
}

void tenant_write_end(struct tenant *t)
{
    wal_coming(t->engine->wal, -1);
    rwlock_release(&t->gate);
}

struct series *tenant_find_next(struct tenant *t, struct series_walk *walk, struct bytes message,
                                size_t *label_bytes)
{
    return registry_find_next(&t->registry, walk, message, label_bytes);
}

struct series *tenant_find_series(struct tenant *t, uint64_t hash, struct bytes sent,
                                  struct series *hint)
{
    return registry_find_sent(&t->registry, hash, sent, hint);
}

enum err_code tenant_add_series(struct tenant *t, struct labels labels, uint64_t hash,
                                struct bytes sent, struct series *hint, struct series **out,
                                struct err *err)
{
    struct engine_limits *limits = &t->engine->limits;
    if (UNLIKELY(atomic_load_explicit(&t->state, memory_order_relaxed) != TENANT_ALIVE))
        return tenant_gone(t, err);
    struct registry_add add = {
        .labels = labels,
        .series_max = atomic_load_explicit(&limits->series_max, memory_order_relaxed),
        .bytes_max = atomic_load_explicit(&limits->registry_bytes_max, memory_order_relaxed),
        .only_known = pressure_level(&t->engine->pressure) >= PRESSURE_SERIES};
    enum err_code rc = registry_add(&t->registry, &add, out, NULL, err);
    if (rc) return rc;
    registry_remember(&t->registry, *out, hash, sent);
    if (hint) atomic_store_explicit(&hint->successor, (*out)->id, memory_order_relaxed);
    return ERR_OK;
}

enum err_code series_labels(struct tenant *t, struct series *s, struct arena *arena,
                            struct labels *out, struct err *err)
{
    struct label *items = ARENA_ARRAY(arena, struct label, s->n_pairs);
    if (!items) return arena_fail(arena, err);
    rwlock_read(&t->registry.lock);
    enum err_code rc = labels_copy(arena, registry_labels(&t->registry, s, items), out, err);
    rwlock_release(&t->registry.lock);
    return rc;
}
