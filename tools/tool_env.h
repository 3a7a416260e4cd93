/* tools/tool_env.h: the outside world of a command: the machine's files, clock and random numbers. */
#ifndef QUIPU_TOOLS_TOOL_ENV_H
#define QUIPU_TOOLS_TOOL_ENV_H

#include "base/env.h"
#include "base/log.h"
#include "base/rng.h"

struct tool_env {
    struct env env; /* of the two below; so it may not be moved */
    struct log log;
    struct rng rng;
};
/* threads: background threads may run. ERR_NO_MEMORY. */
MUST_USE enum err_code tool_env_init(struct tool_env *t, enum log_level level, bool threads,
                                     struct err *err);
/* Also of one that could not be initialised, or is all zeros. */
void tool_env_release(struct tool_env *t);

#endif
