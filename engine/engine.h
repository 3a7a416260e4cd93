/* engine/engine.h: tenants, their series and samples; owns the WAL and the storage below. What ingest and query
 * know of the engine is this file.
 *
 * Durability: a write's completion runs after the fsync that covers it, and its samples can be read by then.
 * Order: of two samples of one series with the same time, the one written later wins, across head and blocks (but
 * a staleness marker never replaces a value); the same bits again are a no-op.
 * Threads: any, unless a function says otherwise. */
#ifndef QUIPU_ENGINE_ENGINE_H
#define QUIPU_ENGINE_ENGINE_H

#include "base/env.h"
#include "engine/pressure.h"
#include "storage/catalog.h"
#include "storage/column_reader.h"
#include "storage/exemplar.h"
#include "storage/label_reader.h"
#include "storage/label_want.h"
#include "storage/matcher.h"
#include "storage/samples.h"
#include "wal/wal.h"

struct engine; /* from engine_open() */
struct tenant; /* valid while the engine is open */
struct series; /* one live series of a tenant; valid between tenant_write_begin() and _end() */

/* How matchers with regular expressions that are kept (of what was deleted) come to life again; query/matcher_regex.h. */
struct engine_regex {
    /* Fills re_match, re, literals and prefix of a matcher that has the rest. `*owned`: for free(). */
    enum err_code (*compile)(struct matcher *matcher, void **owned, struct err *err);
    void (*free)(void *owned);
};
struct engine_config {
    const char *data_dir;
    int64_t retention_ms;     /* 0: for ever. Whole blocks go when all of them is older */
    uint64_t retention_bytes; /* 0: none. A tenant's oldest blocks go when it has more in blocks */
    uint64_t samples_rate, samples_burst;    /* of each tenant, in a second; 0: no limit. rate.h */
    const struct engine_override *overrides; /* of these, for some tenants; copied */
    size_t n_overrides;
    int64_t future_max_ms;   /* 10 min: samples further ahead are refused */
    int64_t flush_window_ms; /* 30 min: a head is flushed when its oldest arrival is older */
    size_t
        head_bytes_max; /* all tenants: past it the largest head is flushed; past twice it ERR_LIMIT */
    size_t page_cache_bytes;   /* 64 MiB */
    size_t tenants_max;        /* 10,000 */
    uint64_t series_max;       /* all tenants; 0: none but memory */
    size_t registry_bytes_max; /* labels and tables of live series, all tenants; 0: none */
    enum wal_sync wal_sync;
    uint64_t wal_segment_bytes; /* 64 MiB */
    uint64_t
        wal_held_bytes_max; /* 256 MiB: a tenant that holds back more of the WAL is flushed early */
    const char *wal_archive; /* NULL or "": none. Finished segments go there before they are cut */
    size_t wal_queue_bytes_max; /* 64 MiB: records that wait for the disk; past it ERR_LIMIT */
    size_t
        work_bytes_max; /* 256 MiB: what one flush or compaction may hold decoded, about; never less than
                            * one series' samples of two hours */
    size_t
        open_files_max; /* 4,096: blocks whose files are open at once; others are opened when they are read */
    uint64_t
        reserve_bytes_max; /* 0: none. Kept free for a full disk; see disk_room.h, also for "auto" */
    uint64_t exemplars_max;       /* 100,000: of a tenant; 0: none are kept */
    size_t exemplar_bytes_max;    /* 32 MiB: of all tenants, in memory */
    struct memory_ceiling memory; /* none: see pressure.h */
    bool compact; /* true: blocks are merged in the background; engine_compact works anyway */
    uint64_t
        compact_rate; /* bytes read and written in a second by that, about; 0: as fast as it goes */
    int64_t
        delete_rest_ms; /* 5 min: blocks with deleted samples are written again when a delete is older */
    struct engine_regex
        regex; /* none: what was deleted by a regular expression is ERR_UNSUPPORTED, also at the start */
    int64_t
        scrub_interval_ms; /* 7 d: all blocks are read and checked about once in this time; 0: never */
};
struct engine_override {
    struct str tenant;
    bool has_retention, has_retention_bytes, has_samples_rate, has_samples_burst;
    int64_t retention_ms;
    uint64_t retention_bytes, samples_rate, samples_burst;
};
struct engine_config engine_config_default(const char *data_dir);

/* Locks the directory (ERR_BUSY: another process has it), opens the catalog and the blocks, replays the WAL. */
MUST_USE enum err_code engine_open(const struct env *env, const struct engine_config *config,
                                   struct engine **out, struct err *err);
/* Changes what may change while running: retention, rates (and overrides), compaction, scrub_interval_ms, future_max_ms, flush_window_ms, head_bytes_max, series_max,
 * registry_bytes_max, exemplars_max, exemplar_bytes_max. */
void engine_reconfigure(struct engine *engine, const struct engine_config *config);
/* flush: heads go to blocks first, so that the next start is quick. Otherwise just stops (all that was
 * acknowledged is in the WAL anyway). Frees all; no call may be running. */
MUST_USE enum err_code engine_close(struct engine *engine, bool flush, struct err *err);
/* One round of background work: due flushes, WAL cut, retention. The engine's own thread calls it every second;
 * without env->threads the owner does, and it merges blocks, too. */
MUST_USE enum err_code engine_step(struct engine *engine, struct err *err);
/* Forgets what was deleted of a tenant (NULL: of all) up to now, after it was removed from all files: heads are
 * flushed and blocks with deleted samples written again. Samples of that time may be written anew afterwards. ERR_BUSY:
 * such samples kept coming meanwhile; what was deleted stays deleted. */
struct engine_clean_report {
    uint64_t tombstones;                        /* forgotten */
    uint64_t blocks, bytes_before, bytes_after; /* written again */
};
MUST_USE enum err_code engine_clean_tombstones(struct engine *engine, struct tenant *tenant,
                                               struct engine_clean_report *report, struct err *err);
/* Deletes a tenant and all it has, durably when the call returns: one transaction of the catalog, then files. What is
 * in the log of it is skipped, also by a start. A write that is under way fails (ERR_SHUTDOWN), a select keeps what
 * it has. The name may be used at once for a new tenant, which shares nothing with the old one. ERR_NOT_FOUND. */
struct tenant_delete_report {
    uint64_t
        series; /* with samples; when memory does not allow to count: of the largest block or the head */
    uint64_t samples; /* in blocks and in the head, repeated ones counted */
    uint64_t blocks, bytes;
};
MUST_USE enum err_code engine_delete_tenant(struct engine *engine, struct str name,
                                            struct tenant_delete_report *report, struct err *err);
/* Waits until all that was written before is durable, or failed (the error). Without env->threads: does it, and
 * completions run inside. */
MUST_USE enum err_code engine_commit(struct engine *engine, struct err *err);
/* Flushes the head of one tenant (NULL: of all) now; returns when the blocks are in the catalog. */
MUST_USE enum err_code engine_flush(struct engine *engine, struct tenant *tenant, struct err *err);
struct engine_compact_report {
    uint64_t jobs; /* merges done */
    uint64_t samples,
        duplicates; /* written by them; dropped by them, as another of that time was kept */
    uint64_t bytes_read, bytes_written;
    uint64_t bytes_before, bytes_after, blocks_before, blocks_after; /* of the tenant */
    double seconds;
};
struct engine_compact_options {
    uint32_t level; /* cells up to this level (compact_plan.h) count as closed; 0: those that are */
    bool dry_run;   /* changes nothing; what the report says of the result is a guess */
    /* Now and then; `done` of the merge at work, 0 to 1. False: enough (ERR_CANCELED). NULL: none. */
    bool (*progress)(void *ctx, const struct engine_compact_report *so_far, double done);
    void *ctx;
};
/* Merges blocks of a tenant (NULL: of all) until nothing is left to be merged. What was merged before an error stays
 * merged. */
MUST_USE enum err_code engine_compact(struct engine *engine, struct tenant *tenant,
                                      const struct engine_compact_options *options,
                                      struct engine_compact_report *report, struct err *err);
/* May a write, or a query, begin? ERR_NO_MEMORY while the process is too near to its memory ceiling. tenant_write and
 * tenant_select ask by themselves; to ask before a body is decoded saves the work. */
enum engine_work { ENGINE_WRITE, ENGINE_QUERY };
MUST_USE enum err_code engine_admit(struct engine *engine, enum engine_work work, struct err *err);
/* What stops writes now (disk full, a failed fsync, heads that cannot be flushed), for /-/ready; false when all is well.
 * It ends by itself: the engine tries again once a second. */
bool engine_failed(struct engine *engine, struct err *why);

/* ---- remembered answers (changes.h) ---- */

/* What a reader finds within [min_ms, max_ms] is not what it was: to be called after a delete, an import of blocks, blocks
 * that went. Late samples need no call. */
void tenant_changed(struct tenant *tenant, int64_t min_ms, int64_t max_ms);
/* Who wants to remember an answer about times up to until_ms calls this before it reads; the answer holds for times
 * before tenant_changed_since(tenant, number). */
uint64_t tenant_settle(struct tenant *tenant, int64_t until_ms);
/* Tells a tenant from one of the same name before or after it. */
uint64_t tenant_identity(const struct tenant *tenant);
/* INT64_MAX: nothing changed, INT64_MIN: all may have. */
int64_t tenant_changed_since(struct tenant *tenant, uint64_t number);

/* ---- tenants ---- */

#define TENANT_NAME_BYTES_MAX 150
#define TENANT_DEFAULT "default"
/* Mimir's rules: 1..150 bytes of 0-9 a-z A-Z ! - _ . * ' ( ), not "." or "..", not reserved. ERR_INVALID with
 * Mimir's texts. */
MUST_USE enum err_code tenant_name_check(struct str name, struct err *err);
/* The tenant of that name. create: makes it, durably, when there is none (ERR_LIMIT over tenants_max); else
 * ERR_NOT_FOUND. */
MUST_USE enum err_code engine_tenant(struct engine *engine, struct str name, bool create,
                                     struct tenant **out, struct err *err);
size_t engine_count_tenants(struct engine *engine);
struct str tenant_name(const struct tenant *tenant);

#define TENANT_LEVELS 4
struct tenant_stats {
    uint64_t series_active; /* in the head */
    uint64_t head_samples, head_bytes, head_chunks;
    int64_t head_min_ms, head_max_ms; /* INT64_MAX, INT64_MIN when empty */
    uint64_t blocks, block_bytes, block_samples;
    uint64_t blocks_by_level[TENANT_LEVELS]; /* the last: and above */
    uint64_t label_pairs;                    /* distinct, in the head */
};
void tenant_stats(struct tenant *tenant, struct tenant_stats *out);

/* May the tenant write now? Asked before a body is decoded. ERR_RATE: it is over its own rate, for *retry_after_ms more.
 * ERR_LIMIT: the disk is behind, and the tenant has its share of what waits. */
MUST_USE enum err_code tenant_admit(struct tenant *tenant, int64_t *retry_after_ms,
                                    struct err *err);
/* A block that is missing or damaged (quarantine.h). */
struct engine_damage {
    struct block_info info;
    bool left_out; /* all of it; else the pages that are damaged */
    int64_t found_ms;
    struct str reason;
};
/* All that are known; copied to the arena. */
MUST_USE enum err_code tenant_damage(struct tenant *tenant, struct arena *arena,
                                     struct engine_damage **out, size_t *n, struct err *err);
/* Those whose samples are missing in answers about [mint_ms, maxt_ms]. */
MUST_USE enum err_code tenant_missing(struct tenant *tenant, int64_t mint_ms, int64_t maxt_ms,
                                      struct arena *arena, struct engine_damage **out, size_t *n,
                                      struct err *err);

/* ---- writing: one request ----
 * begin; find or add the series; write; end. Between begin and end the caller holds the tenant's gate shared: no
 * blocking but what these calls do themselves. */
void tenant_write_begin(struct tenant *tenant);
void tenant_write_end(struct tenant *tenant);

/* Series of a request, one after the other: {0} at its start. `last` is the series found before (the caller sets it
 * after tenant_find_series and tenant_add_series, and `n` to 0), the rest is tenant_find_next's. */
#define SENT_PAIRS_MAX 63
struct series_walk {
    struct series *last;
    const uint8_t *sent;                  /* its label bytes */
    uint32_t n, turn;                     /* pairs in ends[turn]; 0: not known */
    uint16_t ends[2][SENT_PAIRS_MAX + 1]; /* where each of its pairs ends */
};
/* The series that followed `last` the last time, if `message` begins with its label bytes as remembered (compared
 * in full); *label_bytes: how many. The caller sees to it that no labels follow. NULL: another one; the cost of a
 * known series in its usual place is that of reading its bytes. `message` must stay until the next call. */
struct series *tenant_find_next(struct tenant *tenant, struct series_walk *walk,
                                struct bytes message, size_t *label_bytes);
/* Known series by the label bytes exactly as a sender encodes them (any encoding: the bytes are an alias, compared
 * in full). `hash` = hash_xxh3(sent). `hint` (may be NULL) is the series found before in this request: it remembers
 * what followed. NULL: not known under these bytes. */
struct series *tenant_find_series(struct tenant *tenant, uint64_t hash, struct bytes sent,
                                  struct series *hint);
/* Get or create by labels (valid: sorted, unique, no empty values), and remember `sent` as an alias when it is
 * not empty. ERR_LIMIT over series_max or memory. */
MUST_USE enum err_code tenant_add_series(struct tenant *tenant, struct labels labels, uint64_t hash,
                                         struct bytes sent, struct series *hint,
                                         struct series **out, struct err *err);

struct write_batch {
    size_t n; /* float samples, in columns */
    struct series **series;
    int64_t *t_ms;
    double *v;
    int64_t *st_ms; /* start timestamps, 0: unknown; NULL: of none. Histograms carry their own */
    size_t n_histograms;
    struct series **h_series;
    int64_t *h_t_ms;
    struct histogram **h; /* validated */
    size_t n_exemplars;
    struct series **e_series;
    int64_t *e_t_ms;
    double *e_v;
    struct bytes *e_labels; /* encoded (storage/labels.h) */
};
struct write_result {
    size_t n_too_old;         /* before 1970 or beyond retention: not stored */
    size_t n_too_new;         /* over future_max_ms ahead: not stored */
    struct series *first_bad; /* of those; NULL: none. Valid until tenant_write_end */
    int64_t first_bad_t_ms;
    bool first_bad_too_new;
    size_t n_exemplars;             /* stored, or there already */
    size_t exemplars_unordered;     /* from before the newest of their series: not stored */
    size_t exemplars_left_out;      /* for their time, or without room: not stored */
    struct series *first_unordered; /* NULL: none. Valid until tenant_write_end */
};
typedef void write_done_fn(void *arg, enum err_code rc);
/* Logs the batch and puts it into the head. Bad times are left out (see result) and hurt nobody else; the arrays may
 * be compacted in place. done(arg, rc) runs exactly once unless an error is returned: after the fsync, on the
 * committer thread, or before the call returns when nothing was left to store.
 * Errors: ERR_LIMIT (queue, memory: try later), ERR_IO, ERR_NO_SPACE, ERR_SHUTDOWN. */
MUST_USE enum err_code tenant_write(struct tenant *tenant, struct write_batch *batch,
                                    write_done_fn *done, void *arg, struct write_result *result,
                                    struct err *err);
/* Labels of a series, for messages. Copied to the arena. */
MUST_USE enum err_code series_labels(struct tenant *tenant, struct series *series,
                                     struct arena *arena, struct labels *out, struct err *err);
/* Metadata of metric families; what is new or changed is stored durably before the call returns. */
MUST_USE enum err_code tenant_put_metadata(struct tenant *tenant,
                                           const struct catalog_metadata *items, size_t n,
                                           struct err *err);

/* ---- deleting ---- */

/* Samples with mint_ms <= t <= maxt_ms, but no later than now, of series that match all of one set's matchers are gone
 * from every answer and stay so, also those that come late, until engine_clean_tombstones. Durable when the call
 * returns. Regular expressions are compiled anew. Their bytes go when heads are flushed and, by and by, as blocks are written again.
 * ERR_LIMIT: too many deletes that were not cleaned. */
MUST_USE enum err_code tenant_delete(struct tenant *tenant, const struct matcher_set *sets,
                                     size_t n_sets, int64_t mint_ms, int64_t maxt_ms,
                                     struct err *err);
struct tenant_delete_preview {
    uint64_t series, samples; /* that a delete would hide now */
};
MUST_USE enum err_code tenant_delete_preview(struct tenant *tenant, const struct matcher_set *sets,
                                             size_t n_sets, int64_t mint_ms, int64_t maxt_ms,
                                             struct tenant_delete_preview *out, struct err *err);
struct tombstone_stats {
    uint64_t tombstones;
    uint64_t blocks_pending,
        bytes_pending; /* blocks with samples that are deleted, as far as known */
};
void tenant_tombstone_stats(struct tenant *tenant, struct tombstone_stats *out);

/* ---- reading ---- */

/* What a select would find, from the index and the statistics of blocks alone, without reading a sample. No matchers: all
 * that there is within the time, for which the index is not looked at. Series that are in several blocks are
 * counted once, ended ones perhaps not at all; samples are taken to be spread evenly over a block's time and series. */
struct tenant_estimate {
    uint64_t series, samples;
};
MUST_USE enum err_code tenant_estimate(struct tenant *tenant, const struct matcher *matchers,
                                       size_t n_matchers, int64_t mint_ms, int64_t maxt_ms,
                                       struct tenant_estimate *out, struct err *err);

/* What one select may take. {0}: no bounds. */
struct select_bounds {
    size_t series_max; /* ERR_LIMIT beyond; 0: none */
    /* Now and then while it searches; an error ends it. May be NULL. */
    enum err_code (*poll)(void *ctx, struct err *err);
    void *ctx;
    bool bare; /* labels are not asked for before select_spell */
};
struct engine_select; /* a snapshot: what was answered to a writer before is in it */
/* Series that match all matchers and may have samples in [mint_ms, maxt_ms], sorted by labels, head and blocks as
 * one. */
MUST_USE enum err_code tenant_select(struct tenant *tenant, const struct matcher *matchers,
                                     size_t n_matchers, int64_t mint_ms, int64_t maxt_ms,
                                     struct engine_select **out, struct err *err);
MUST_USE enum err_code tenant_select_bounded(struct tenant *tenant, const struct matcher *matchers,
                                             size_t n_matchers, int64_t mint_ms, int64_t maxt_ms,
                                             const struct select_bounds *bounds,
                                             struct engine_select **out, struct err *err);
size_t select_count(const struct engine_select *sel);
/* Labels of the series i .. i + n - 1 of a bare select may be asked for from now on. Nobody else may be in a call on the
 * select, nor during the next one. */
MUST_USE enum err_code select_spell(struct engine_select *sel, size_t i, size_t n, struct err *err);
/* Series with equal labels get the same number, from 0 on in the order of series, where only labels that `names` keeps
 * count: numbers[i] of series i. No text is looked at where the labels of blocks will do. */
MUST_USE enum err_code select_groups(struct engine_select *sel, const struct label_names *names,
                                     uint32_t *numbers, struct err *err);
struct labels select_labels(const struct engine_select *sel, size_t i);
/* Appends the samples of series i with mint_ms <= t <= maxt_ms, merged over head and blocks, staleness markers
 * included. Different series may be read by different threads at once. */
MUST_USE enum err_code select_read(struct engine_select *sel, size_t i, int64_t mint_ms,
                                   int64_t maxt_ms, struct samples *out, struct err *err);
void select_release(struct engine_select *sel); /* NULL: no-op */

/* For who reads one series after the other: what is decoded for one serves the next. One thread's; there may be several
 * readers of one select. */
struct select_reader;
MUST_USE enum err_code select_reader_new(struct engine_select *sel, struct select_reader **out,
                                         struct err *err);
void select_reader_free(struct select_reader *r); /* before the select. NULL: no-op */
/* As select_read. */
MUST_USE enum err_code select_reader_samples(struct select_reader *r, size_t i, int64_t mint_ms,
                                             int64_t maxt_ms, struct samples *out, struct err *err);
/* In place, but of the values only the first and the last; *known false: see column_reader_ends. */
MUST_USE enum err_code select_reader_ends(struct select_reader *r, size_t i, int64_t mint_ms,
                                          int64_t maxt_ms, bool rises, struct float_column *out,
                                          bool *known, struct err *err);
/* The newest of them, where that is known without reading values. */
MUST_USE enum err_code select_reader_newest(struct select_reader *r, size_t i, int64_t mint_ms,
                                            int64_t maxt_ms, bool want_value,
                                            struct newest_sample *out, struct err *err);
/* The same samples in place, where that is possible; *plain false: it is not, read samples. */
MUST_USE enum err_code select_reader_floats(struct select_reader *r, size_t i, int64_t mint_ms,
                                            int64_t maxt_ms, struct float_column *out, bool *plain,
                                            struct err *err);

/* Sorted, unique, copied to the arena. n_matchers 0: everything within the range of time (by head and block, not by
 * sample). */
MUST_USE enum err_code tenant_label_names(struct tenant *tenant, const struct matcher *matchers,
                                          size_t n_matchers, int64_t mint_ms, int64_t maxt_ms,
                                          const struct label_want *want, struct arena *arena,
                                          struct str **out, size_t *n, bool *truncated,
                                          struct err *err);
MUST_USE enum err_code tenant_label_values(struct tenant *tenant, struct str name,
                                           const struct matcher *matchers, size_t n_matchers,
                                           int64_t mint_ms, int64_t maxt_ms,
                                           const struct label_want *want, struct arena *arena,
                                           struct str **out, size_t *n, bool *truncated,
                                           struct err *err);
/* The newest exemplars are kept, a bounded number (engine_config.exemplars_max). Those with mint_ms <= t <= maxt_ms of series
 * that match all of one set's matchers: series sorted by labels, each one's by time; in the arena. */
MUST_USE enum err_code tenant_exemplars(struct tenant *tenant, const struct matcher_set *sets,
                                        size_t n_sets, int64_t mint_ms, int64_t maxt_ms,
                                        struct arena *arena, struct series_exemplars **out,
                                        size_t *n, struct err *err);
/* family {"", 0}: all. Sorted by family; strings copied to the arena. */
MUST_USE enum err_code tenant_metadata(struct tenant *tenant, struct str family,
                                       struct arena *arena, struct catalog_metadata **out,
                                       size_t *n, struct err *err);

#endif
