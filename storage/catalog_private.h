/* storage/catalog_private.h: the catalog from inside, for catalog_snapshot.c. */
#ifndef QUIPU_STORAGE_CATALOG_PRIVATE_H
#define QUIPU_STORAGE_CATALOG_PRIVATE_H

#include "base/metric.h"
#include "storage/catalog.h"

#define CATALOG_FILE_NAME "catalog.sqlite"

/* What there is to be kept elsewhere, and what has been. */
struct catalog_keep {
    uint64_t n_changes;                /* of what blocks and log cannot give back */
    uint64_t n_quiet;                  /* of all else */
    uint64_t n_unsettled;              /* transactions that are in the WAL alone */
    uint64_t kept_changes, kept_quiet; /* those that the newest snapshot has */
    uint64_t generation;               /* of the newest snapshot; 0: not known yet */
    int64_t kept_ns, pause_ns; /* when it was written; not sooner again than after the pause */
    struct metric *written, *failures, *bytes;
};
void catalog_keep_init(struct catalog_keep *keep, struct metrics *metrics);

/* Between the two the caller has the catalog's lock. */
struct catalog_keep *catalog_begin_keep(struct catalog *catalog);
void catalog_end_keep(struct catalog *catalog);

const struct env *catalog_env(const struct catalog *catalog);
const char *catalog_dir(const struct catalog *catalog);
/* Under the lock. */
struct sqlite3 *catalog_db(struct catalog *catalog);
/* SQLite's last error as ours. */
enum err_code catalog_db_error(struct catalog *catalog, const char *what, struct err *err);
/* What is in the WAL goes to the database. A failure leaves it in the WAL. */
void catalog_settle(struct catalog *catalog);

#endif
