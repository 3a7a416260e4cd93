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
void catalog_close(struct catalog *catalog); /* NULL: no-op */

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
};
MUST_USE enum err_code catalog_apply(struct catalog *catalog, const struct catalog_change *change,
                                     struct err *err);
/* No tenant has records below `pos` that are not in blocks: each one's flushed_pos is at least there afterwards. */
MUST_USE enum err_code catalog_flushed_to(struct catalog *catalog, uint64_t pos, struct err *err);
typedef enum err_code catalog_block_fn(void *ctx, const struct block_info *block, struct err *err);
MUST_USE enum err_code catalog_blocks(struct catalog *catalog, uint64_t incarnation,
                                      catalog_block_fn *fn, void *ctx, struct err *err);

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

#endif
