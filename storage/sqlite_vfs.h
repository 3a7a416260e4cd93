/* storage/sqlite_vfs.h: lets SQLite do its file operations through a `struct io`, and take time and chance from
 * us, so that the simulator runs the real catalog.
 *
 * Set `PRAGMA locking_mode = EXCLUSIVE` before `journal_mode = WAL`. There is no shared memory here on purpose:
 * the WAL index then lives in the heap of the one connection, and is rebuilt from the WAL at every open. With
 * shared memory a process killed at a bad time, or a second one, could leave an index that disagrees with the
 * log; and the engine locks its folder and guards the one connection anyway. So a database belongs to the
 * connection that first reads it, until that closes; others get SQLITE_BUSY.
 *
 * Stricter than SQLite's own VFS: a folder is synced with the first sync of each file opened in it (whether an
 * earlier process got that far is not known); a failed sync is final, all writes and syncs fail until the file is
 * opened again; a WAL found at open is written again before it is trusted, since after a failed sync the system's cache
 * may show bytes that the disk has not got. Temporary files (zName NULL) are in memory.
 *
 * A COMMIT that fails by anything but a sync is certainly not there, now and after a restart. One that fails by a
 * sync (SQLITE_IOERR_FSYNC) is in doubt: this connection goes on to read the state before it, but the next one may
 * find it done. Delete nothing that it speaks of until the database has been opened again. */
#ifndef QUIPU_STORAGE_SQLITE_VFS_H
#define QUIPU_STORAGE_SQLITE_VFS_H

#include "base/clock.h"
#include "base/io.h"
#include "base/rng.h"

struct sqlite_vfs; /* from sqlite_vfs_register() */

/* Page checksums, if asked for: the last 8 bytes of each page of the database file, which SQLite must be told to leave
 * free (SQLITE_FCNTL_RESERVE_BYTES before the first page is made), are
 *   u32 number of the page, from 1   u32 crc32c of the page up to here
 * They are written with the page and checked whenever one is read, so that a flipped bit, a page in the wrong place and
 * one that was never written are found before SQLite sees any of it: SQLITE_IOERR_DATA, with sqlite_vfs_last_err()
 * naming file and offset. In the WAL, frames have checksums of SQLite's own (storage/sqlite_wal_check.h). A database
 * made without them is read as it is. */
#define SQLITE_VFS_PAGE_BYTES 4096
#define SQLITE_VFS_RESERVED_BYTES 8

struct sqlite_vfs_config {
    struct io *io;
    struct clock *clock; /* NULL: clock_system() */
    struct rng *rng;     /* NULL: getrandom(). Used under the connection's lock */
    bool page_checksums;
};

/* Makes a VFS known to sqlite3_open_v2() under sqlite_vfs_name(); never the default one. What config points to
 * must outlive it. Any number at a time. */
MUST_USE enum err_code sqlite_vfs_register(const struct sqlite_vfs_config *config,
                                           struct sqlite_vfs **out, struct err *err);
/* All its connections must be closed. NULL: no-op. */
void sqlite_vfs_unregister(struct sqlite_vfs *vfs);
/* Unique in the process; valid as long as the VFS. */
const char *sqlite_vfs_name(const struct sqlite_vfs *vfs);
/* The last failure of a file operation, with what sqlite3_errmsg() does not tell: file and errno. ERR_OK: none
 * yet. Under the connection's lock. */
const struct err *sqlite_vfs_last_err(const struct sqlite_vfs *vfs);
/* Forgets it: what is found afterwards is of a later call. */
void sqlite_vfs_clear_err(struct sqlite_vfs *vfs);

enum sqlite_pages { SQLITE_PAGES_EMPTY, SQLITE_PAGES_PLAIN, SQLITE_PAGES_CHECKSUMMED };
/* What the pages of a database file are, by its first one. */
MUST_USE enum err_code sqlite_vfs_pages(struct file *file, enum sqlite_pages *out, struct err *err);
/* Fills in, and checks, the last 8 bytes of a page. */
void sqlite_page_seal(uint8_t *page, uint32_t number);
bool sqlite_page_good(const uint8_t *page, uint32_t number);

#endif
