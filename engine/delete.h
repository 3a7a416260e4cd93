/* engine/delete.h: deleted samples leave the files: in the background by and by, or all of them before their tombstones
 * are forgotten. Private to engine. */
#ifndef QUIPU_ENGINE_DELETE_H
#define QUIPU_ENGINE_DELETE_H

#include "engine/engine.h"

/* What is known of a block: whether it holds samples that tombstones up to checked_id hide. */
struct delete_mark {
    struct ulid ulid;
    uint64_t checked_id;
    uint64_t bytes;
    int64_t since_ms; /* the oldest delete that is pending */
    bool pending;
    bool hopeless; /* it cannot be read, or not be written again; told once */
    bool there;    /* scratch: in the view */
};
/* Of a tenant; guarded by compactor.lock. */
struct delete_memory {
    struct delete_mark *marks;
    size_t n, cap;
    uint64_t view, newest_id;                       /* when they were made */
    _Atomic uint64_t blocks_pending, bytes_pending; /* relaxed */
};
void delete_memory_release(struct delete_memory *memory);

/* How far a delete reaches that begins now: no later than the wall clock, nor than what the tenant has, should that clock
 * have jumped ahead (data_clock.h): what is written when it is right again is new. */
int64_t tenant_delete_until(struct tenant *tenant);
/* The catalog's tombstones of a tenant; at the start, before its log is read. */
MUST_USE enum err_code tenant_load_tombstones(struct tenant *tenant, struct err *err);
/* Writes at most one block again, if one is due; *did: it was done. Under compactor.lock. */
MUST_USE enum err_code deletes_step(struct engine *engine, bool *did, struct err *err);
/* Forgets tombstones of a time that retention has emptied. */
MUST_USE enum err_code tenant_expire_tombstones(struct tenant *tenant, struct err *err);

/* ---- tenant_delete.c ---- */

/* Removes what a crash left of deleted tenants; at the start, before blocks are opened. */
MUST_USE enum err_code engine_remove_orphans(struct engine *engine, struct err *err);
/* Tenants whose deletion failed in a way that nobody knows of: alive again once the catalog takes a change. */
MUST_USE enum err_code engine_resolve_doubts(struct engine *engine, struct err *err);

#endif
