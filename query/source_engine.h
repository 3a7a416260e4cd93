/* query/source_engine.h: a tenant of the engine as a query's source. Cheap: one per request. */
#ifndef QUIPU_QUERY_SOURCE_ENGINE_H
#define QUIPU_QUERY_SOURCE_ENGINE_H

#include "engine/engine.h"
#include "query/source.h"

struct source_engine {
    struct query_source source; /* first */
    struct tenant *tenant;
};

/* Nothing to release. `src` and the tenant must outlive the query. */
void source_engine_init(struct source_engine *src, struct tenant *tenant);

#endif
