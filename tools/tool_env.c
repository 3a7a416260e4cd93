/* tools/tool_env.c: see the header. */
#include "tools/tool_env.h"

#include "base/io.h"
#include "base/metric.h"

enum err_code tool_env_init(struct tool_env *t, enum log_level level, bool threads, struct err *err)
{
    log_init(&t->log, clock_system(), level);
    rng_seed_os(&t->rng);
    t->env = (struct env){.io = io_posix(),
                          .clock = clock_system(),
                          .log = &t->log,
                          .metrics = metrics_new(),
                          .rng = &t->rng,
                          .threads = threads};
    return t->env.metrics ? ERR_OK : err_set(err, ERR_NO_MEMORY, "no memory");
}

void tool_env_release(struct tool_env *t)
{
    metrics_free(t->env.metrics);
    t->env.metrics = NULL;
}
