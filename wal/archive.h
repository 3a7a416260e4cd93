/* wal/archive.h: the log outside of its folder: what a backup takes of it, an archive of finished segments, and what a
 * restore makes of both. All but wal_save and wal_archive work on files that no log has open.
 *
 * An archive is a folder of segments under their own names. The one that was being written when a backup was made is
 * there as NAME.part until it is finished. */
#ifndef QUIPU_WAL_ARCHIVE_H
#define QUIPU_WAL_ARCHIVE_H

#include "wal/wal.h"

/* The records in [from_pos, end_pos) as a log of its own in `dir`, which exists and is empty: finished segments by
 * links, the last one cut at end_pos. The caller sees to it that what it asks for is durable and is not cut meanwhile.
 * *bytes: size of it. Any thread. */
MUST_USE enum err_code wal_save(struct wal *wal, const char *dir, uint64_t from_pos,
                                uint64_t end_pos, uint64_t *bytes, struct err *err);

/* Brings finished segments into the archive, oldest first, a few at most (*more: there are others). *pos: log before it
 * is in the archive. ERR_EXISTS: the archive has another segment of that name, so it is of another log. One thread. */
MUST_USE enum err_code wal_archive(struct wal *wal, const char *dir, uint64_t *pos, bool *more,
                                   struct err *err);
/* The segment that is being written, up to end_pos, as NAME.part. */
MUST_USE enum err_code wal_archive_part(struct wal *wal, const char *dir, uint64_t end_pos,
                                        struct err *err);

/* Removes segments of the archive that end at or before pos. *n, *bytes: what went. */
MUST_USE enum err_code wal_archive_cut(struct io *io, const char *dir, uint64_t pos, uint64_t *n,
                                       uint64_t *bytes, struct err *err);

/* Copies to the log in `dir` what the archive has beyond it. ERR_NOT_FOUND: a segment in between is missing. */
struct wal_extend_report {
    uint64_t segments, bytes;
};
MUST_USE enum err_code wal_extend(struct io *io, const char *dir, const char *archive,
                                  struct wal_extend_report *report, struct err *err);
/* Cuts the log in `dir` before the first record that arrived after t_ms. Records without a time (of older versions)
 * count as of the one before. *last_ms: of the last record kept, about; INT64_MIN: not known. */
MUST_USE enum err_code wal_cut_after(struct io *io, const char *dir, int64_t t_ms, int64_t *last_ms,
                                     struct err *err);
/* Tenants that came to be within the log in `dir`. */
struct wal_tenant;
typedef enum err_code wal_tenant_fn(void *ctx, const struct wal_tenant *tenant, struct err *err);
MUST_USE enum err_code wal_each_tenant(struct io *io, const char *dir, wal_tenant_fn *fn, void *ctx,
                                       struct err *err);
/* Blanks all records but those of one tenant; positions stay. */
MUST_USE enum err_code wal_keep_tenant(struct io *io, const char *dir, uint64_t incarnation,
                                       struct err *err);
/* Where the log in `dir` begins and ends; both 0: there is none. */
MUST_USE enum err_code wal_dir_span(struct io *io, const char *dir, uint64_t *begin_pos,
                                    uint64_t *end_pos, struct err *err);

#endif
