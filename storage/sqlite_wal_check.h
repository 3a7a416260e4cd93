/* storage/sqlite_wal_check.h: is the WAL of an SQLite database what was written? SQLite takes the first frame with a wrong
 * checksum for the end of the log, as a power cut in the middle of a transaction leaves one; so a flipped bit costs all
 * transactions behind it without a word. This tells the two apart before SQLite looks.
 *
 * Damage is: a header that one bit would make good again, or more than one commit from the first bad frame on: each commit
 * is synced before the next transaction is written, so only the last one can be unfinished. What cannot be told from an
 * unfinished write is not damage, even where a single bit would make it good: the file is used again and again, and a torn
 * frame may differ by one bit from what was there before. So the last transaction may be lost to a flip; whoever cannot make it
 * good from elsewhere checkpoints before it answers (storage/catalog.h). */
#ifndef QUIPU_STORAGE_SQLITE_WAL_CHECK_H
#define QUIPU_STORAGE_SQLITE_WAL_CHECK_H

#include "base/io.h"

struct sqlite_wal_state {
    uint64_t file_bytes;
    uint64_t n_frames, n_commits; /* that SQLite would use */
    uint64_t unused_off;          /* where those end */
};
/* ERR_CORRUPT names file and offset. No file, or an empty one: nothing is wrong. */
MUST_USE enum err_code sqlite_wal_check(struct io *io, const char *path,
                                        struct sqlite_wal_state *out, struct err *err);

#endif
