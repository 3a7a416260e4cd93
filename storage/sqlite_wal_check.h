/* storage/sqlite_wal_check.h: is the WAL of an SQLite database what was written? SQLite takes the first frame with a wrong
 * checksum for the end of the log, as a power cut in the middle of a transaction leaves one; so a flipped bit costs all
 * transactions behind it without a word. This tells the two apart before SQLite looks.
 *
 * Damage is: a header or a first bad frame that one bit would make good again (its checksum tells which; that a torn
 * write looks like it has a chance of 2^-48), or bad frames with more than one commit behind them: only the last
 * transaction can be unfinished. What cannot be told from an unfinished write is not damage. */
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
