/* tools/import_target.h: where `quipu import` puts its samples: a server, by remote write, or a data folder that no server has
 * open. Both say when they are durable. */
#ifndef QUIPU_TOOLS_IMPORT_TARGET_H
#define QUIPU_TOOLS_IMPORT_TARGET_H

#include "base/bytes.h"

struct import_target; /* from import_target_open() */

struct import_target_config {
    const char *server; /* or: */
    const char *data_dir,
        *config_file;     /* the folder; the server's configuration, which may name it */
    const char *tenant;   /* NULL: "default" */
    int64_t retention_ms; /* -1: as the configuration says */
    int64_t retry_ms;     /* a server that has no time now is asked again for so long */
};
/* What was left out of messages that were stored. */
struct import_refused {
    uint64_t n;
    char first[512]; /* what the first was told */
};

MUST_USE enum err_code import_target_open(const struct import_target_config *config,
                                          struct import_target **out, struct err *err);
/* A message of remote write, not compressed. Returns when it is durable. */
MUST_USE enum err_code import_target_store(struct import_target *target, struct bytes message,
                                           struct err *err);
const struct import_refused *import_target_refused(const struct import_target *target);
/* Flushes a data folder. NULL: no-op. */
MUST_USE enum err_code import_target_close(struct import_target *target, struct err *err);

#endif
