/* ingest/tenant_source.c: see the header. */
#include "ingest/tenant_source.h"

static struct series *source_next(void *ctx, struct series_walk *walk, struct bytes message,
                                  size_t *label_bytes)
{
    return tenant_find_next(ctx, walk, message, label_bytes);
}

static struct series *source_find(void *ctx, uint64_t hash, struct bytes sent, struct series *hint)
{
    return tenant_find_series(ctx, hash, sent, hint);
}

static enum err_code source_add(void *ctx, struct labels labels, uint64_t hash, struct bytes sent,
                                struct series *hint, struct series **out, struct err *err)
{
    return tenant_add_series(ctx, labels, hash, sent, hint, out, err);
}

struct series_source tenant_series_source(struct tenant *tenant)
{
    return (struct series_source){source_next, source_find, source_add, tenant};
}

const char *tenant_series_short(struct tenant *tenant, struct series *series, struct arena *arena,
                                char *buf, size_t size)
{
    struct labels labels = {NULL, 0};
    struct err ignored; /* without memory the message has to do without them */
    if (series_labels(tenant, series, arena, &labels, &ignored)) labels.n = 0;
    return labels_short(labels, buf, size);
}
