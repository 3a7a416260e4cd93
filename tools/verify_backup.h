/* tools/verify_backup.h: checks a folder of backups (backup_manifest.h): every file against the size and SHA-256 that its
 * manifest says, and then what is in it, as engine/verify.h does. Changes nothing. */
#ifndef QUIPU_TOOLS_VERIFY_BACKUP_H
#define QUIPU_TOOLS_VERIFY_BACKUP_H

#include "engine/verify.h"

/* Is there a manifest in it, or in one of its folders? */
bool backup_dir_is(struct io *io, const char *dir);
/* `dir`: a folder of backups, all of which are checked. Files that several backups share are read once. */
MUST_USE enum err_code verify_backups(const struct env *env, const char *dir,
                                      const struct verify_options *options,
                                      struct verify_totals *totals, struct err *err);

#endif
