/* tools/backup_store.h: a folder of backups (layout: backup_manifest.h). Who makes a backup has it locked; who reads one
 * only looks. */
#ifndef QUIPU_TOOLS_BACKUP_STORE_H
#define QUIPU_TOOLS_BACKUP_STORE_H

#include "tools/backup_manifest.h"

struct backup {
    char name[BACKUP_NAME_BYTES];
    struct manifest manifest;
};
struct backup_store {
    struct io *io;
    char dir[IO_PATH_BYTES], blocks[IO_PATH_BYTES];
    struct file *lock;
    struct backup *items; /* complete ones, oldest first */
    size_t n, cap;
    const struct manifest_file **known; /* blocks of all of them, by name */
    size_t n_known;
};

/* Makes the folder if need be, locks it (ERR_BUSY) and removes what unfinished backups left beside blocks. */
MUST_USE enum err_code store_open_to_write(struct backup_store *store, struct io *io,
                                           const char *dir, struct err *err);
MUST_USE enum err_code store_open_to_read(struct backup_store *store, struct io *io,
                                          const char *dir, struct err *err);
void store_close(struct backup_store *store);
/* What earlier backups say of a block; NULL: none has it. */
const struct manifest_file *store_find(const struct backup_store *store, struct str name);
/* Of a file of a backup, `out` of IO_PATH_BYTES. */
MUST_USE enum err_code store_file_path(const struct backup_store *store,
                                       const struct backup *backup,
                                       const struct manifest_file *file, char *out,
                                       struct err *err);

struct store_prune_report {
    uint64_t backups, blocks, bytes;
};
/* Keeps the newest `keep` (at least 1) backups; removes the others,
 * then blocks that none of those kept has. Interrupted, it leaves blocks that the next one removes. */
MUST_USE enum err_code store_prune(struct backup_store *store, size_t keep,
                                   struct store_prune_report *report, struct err *err);
/* Reads the manifest of a backup that was just made. */
MUST_USE enum err_code store_add(struct backup_store *store, const char *name, struct err *err);

#endif
