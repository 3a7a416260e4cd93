/* tools/overrides.h: what the configuration says of single tenants, as the engine wants it. */
#ifndef QUIPU_TOOLS_OVERRIDES_H
#define QUIPU_TOOLS_OVERRIDES_H

#include "engine/engine.h"
#include "tools/config.h"

/* Sets engine->overrides; *items is to be freed with mem_free() when the engine has taken its copy. Names point into
 * `config`. ERR_NO_MEMORY: the engine must not get to see the rest either, or it would delete what is to be kept. */
MUST_USE enum err_code overrides_make(const struct config *config, struct engine_config *engine,
                                      struct engine_override **items, struct err *err);

#endif
