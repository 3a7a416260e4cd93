/* storage/catalog.h: catalog.sqlite (WAL mode, synchronous=FULL): which tenants and blocks there are. A change is
 * one transaction and durable when the call returns. Threads: any; one lock (rank LOCK_CATALOG) guards the
 * connection. The schema is versioned (PRAGMA user_version); a newer one is ERR_VERSION, an older is migrated. */
#ifndef QUIPU_STORAGE_CATALOG_H
#define QUIPU_STORAGE_CATALOG_H

#include "storage/block.h"

struct catalog;

/* Opens or makes `dir`/catalog.sqlite through env->io (storage/sqlite_vfs.h). */
MUST_USE enum err_code catalog_open(const struct env *env, const char *dir, struct catalog **out,
                                    struct err *err);
/* The same without changing a byte: what is there may be listed. */
MUST_USE enum err_code catalog_open_to_read(const struct env *env, const char *dir,
                                            struct catalog **out, struct err *err);
/* SQLite's integrity check, which reads everything. */
MUST_USE enum err_code catalog_check_integrity(struct catalog *catalog, struct err *err);
void catalog_close(struct catalog *catalog); /* NULL: no-op */
/* To be called now and then (once a second), and before catalog_close: writes a snapshot (storage/catalog_snapshot.h) when
 * something changed, and takes care that no more than the last second's changes are in the WAL alone. A snapshot that
 * cannot be written is logged and counted, and tried again. */
void catalog_keep(struct catalog *catalog, bool closing);

/* A copy as one file, complete and durable, at `path`, which must not exist. `moment` runs before anything of the catalog
 * can change again: what it notes is of the copy's moment. It may take locks of higher rank than LOCK_CATALOG. */
typedef void catalog_moment_fn(void *ctx);
MUST_USE enum err_code catalog_copy(struct catalog *catalog, const char *path,
                                    catalog_moment_fn *moment, void *ctx, struct err *err);

struct catalog_tenant {
    struct str name;
    uint64_t incarnation;   /* unique for all time in this catalog, never reused */
    uint64_t flushed_pos;   /* WAL records below this position are in blocks */
    uint64_t next_sequence; /* of the tenant's blocks */
    int64_t created_ms;
};
/* Get or create, durably. */
MUST_USE enum err_code catalog_tenant(struct catalog *catalog, struct str name, int64_t now_ms,
                                      struct catalog_tenant *out, struct err *err);
/* A tenant as it once was, when a catalog is made anew. ERR_EXISTS: its name or incarnation is taken. */
MUST_USE enum err_code catalog_put_tenant(struct catalog *catalog,
                                          const struct catalog_tenant *tenant, struct err *err);
typedef enum err_code catalog_tenant_fn(void *ctx, const struct catalog_tenant *tenant,
                                        struct err *err);
MUST_USE enum err_code catalog_tenants(struct catalog *catalog, catalog_tenant_fn *fn, void *ctx,
                                       struct err *err);

/* One transaction: blocks in, blocks out, the tenant's flushed_pos forward. */
struct catalog_change {
    uint64_t incarnation;
    const struct block_info *add;
    size_t n_add;
    const struct ulid *remove;
    size_t n_remove;
    bool set_flushed_pos;
    uint64_t flushed_pos;
    struct catalog_exemplars {
        bool replace;      /* those that are there go */
        uint64_t n;        /* exemplars in data; 0: none are added */
        int64_t max_ms;    /* of their times */
        struct bytes data; /* engine/exemplars.h; opaque here */
        uint64_t keep_max; /* runs go when newer ones have so many exemplars together */
        int64_t keep_ms;   /* and when all of theirs are older */
    } exemplars;
};
MUST_USE enum err_code catalog_apply(struct catalog *catalog, const struct catalog_change *change,
                                     struct err *err);
/* No tenant has records below `pos` that are not in blocks: each one's flushed_pos is at least there afterwards. */
MUST_USE enum err_code catalog_flushed_to(struct catalog *catalog, uint64_t pos, struct err *err);
typedef enum err_code catalog_block_fn(void *ctx, const struct block_info *block, struct err *err);
MUST_USE enum err_code catalog_blocks(struct catalog *catalog, uint64_t incarnation,
                                      catalog_block_fn *fn, void *ctx, struct err *err);

/* Runs of exemplars, oldest first. */
typedef enum err_code catalog_exemplars_fn(void *ctx, struct bytes data, struct err *err);
MUST_USE enum err_code catalog_exemplars(struct catalog *catalog, uint64_t incarnation,
                                         catalog_exemplars_fn *fn, void *ctx, struct err *err);

/* Metadata of metric families, last writer wins. */
struct catalog_metadata {
    struct str family, type, unit, help;
};
MUST_USE enum err_code catalog_put_metadata(struct catalog *catalog, uint64_t incarnation,
                                            const struct catalog_metadata *items, size_t n,
                                            struct err *err);
typedef enum err_code catalog_metadata_fn(void *ctx, const struct catalog_metadata *item,
                                          struct err *err);
MUST_USE enum err_code catalog_metadata(struct catalog *catalog, uint64_t incarnation,
                                        catalog_metadata_fn *fn, void *ctx, struct err *err);

/* What was deleted: samples of series that match, with mint_ms <= t <= maxt_ms, whenever they were or will be written.
 * It is in force until it is removed, which is for when no file holds such samples any more. */
struct catalog_tombstone {
    uint64_t id; /* counts up, never used twice */
    uint64_t incarnation;
    struct bytes matchers; /* engine/tombstones.h; opaque here */
    int64_t mint_ms, maxt_ms;
    uint64_t log_pos; /* end of the log at the delete */
    int64_t created_ms;
};
/* All or none; sets the ids. ERR_NOT_FOUND: there is no such tenant. */
MUST_USE enum err_code catalog_add_tombstones(struct catalog *catalog,
                                              struct catalog_tombstone *items, size_t n,
                                              struct err *err);
/* Those that are there. */
MUST_USE enum err_code catalog_remove_tombstones(struct catalog *catalog, uint64_t incarnation,
                                                 const uint64_t *ids, size_t n, struct err *err);
typedef enum err_code catalog_tombstone_fn(void *ctx, const struct catalog_tombstone *tombstone,
                                           struct err *err);
/* Ascending by id. incarnation 0: of all tenants. */
MUST_USE enum err_code catalog_tombstones(struct catalog *catalog, uint64_t incarnation,
                                          catalog_tombstone_fn *fn, void *ctx, struct err *err);

/* One transaction: the tenant, its blocks, metadata and tombstones are gone, and its incarnation is remembered as
 * deleted: no file and no record that names it may ever be served again. ERR_NOT_FOUND. */
MUST_USE enum err_code catalog_delete_tenant(struct catalog *catalog, uint64_t incarnation,
                                             int64_t now_ms, struct err *err);
struct catalog_deleted_tenant {
    uint64_t incarnation;
    struct str name;
    int64_t deleted_ms;
    bool files_gone; /* none is left that a start would have to look for */
};
/* Nothing of the deleted tenant is left on the disk. */
MUST_USE enum err_code catalog_files_gone(struct catalog *catalog, uint64_t incarnation,
                                          struct err *err);
typedef enum err_code catalog_deleted_fn(void *ctx, const struct catalog_deleted_tenant *tenant,
                                         struct err *err);
MUST_USE enum err_code catalog_deleted_tenants(struct catalog *catalog, catalog_deleted_fn *fn,
                                               void *ctx, struct err *err);

#endif
