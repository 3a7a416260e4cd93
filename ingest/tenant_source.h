/* ingest/tenant_source.h: a tenant of the engine as the source of a request's series. */
#ifndef QUIPU_INGEST_TENANT_SOURCE_H
#define QUIPU_INGEST_TENANT_SOURCE_H

#include "ingest/write_request.h"

/* For use between tenant_write_begin() and tenant_write_end(). */
struct series_source tenant_series_source(struct tenant *tenant);
/* A series of it as labels_short writes it, for messages; in the same time. Returns buf. */
const char *tenant_series_short(struct tenant *tenant, struct series *series, struct arena *arena,
                                char *buf, size_t size);

#endif
