/* query/source_tenants.h: the series of several tenants as one source, as Mimir federates them.
 *
 * Each series gains __tenant_id__ with its tenant's name; if it has such a label already, that becomes
 * original___tenant_id__. Matchers on these names mean the new labels, so that __tenant_id__ chooses tenants. */
#ifndef QUIPU_QUERY_SOURCE_TENANTS_H
#define QUIPU_QUERY_SOURCE_TENANTS_H

#include "query/source.h"

#define TENANT_LABEL "__tenant_id__"
#define TENANT_LABEL_ORIGINAL "original___tenant_id__"

struct source_tenant {
    struct str name;
    struct query_source *source;
};
struct source_tenants {
    struct query_source source; /* first */
    const struct source_tenant *tenants;
    size_t n;
    size_t memory_bytes_max; /* of one select's label sets */
};

/* `tenants` are sorted by name and must outlive the source, as their sources must. Nothing to release. */
void source_tenants_init(struct source_tenants *src, const struct source_tenant *tenants, size_t n,
                         size_t memory_bytes_max);

#endif
