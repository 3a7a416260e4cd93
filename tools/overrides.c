/* tools/overrides.c */
#include "tools/overrides.h"

/* A tenant's own value of a key; false: it has none. */
static bool own_value(const struct config_tenant *t, const char *name, uint64_t *value)
{
    for (size_t k = 0; config_tenant_key_at(k); k++) {
        if (!t->has_own[k] || strcmp(config_tenant_key_at(k)->name, name) != 0) continue;
        *value = t->own[k];
        return true;
    }
    return false;
}

enum err_code overrides_make(const struct config *config, struct engine_config *engine,
                             struct engine_override **items, struct err *err)
{
    size_t n = config->n_tenants;
    *items = mem_calloc(MEM_TOOLS, MAX_OF(n, (size_t)1), sizeof(**items));
    if (!*items) return err_set(err, ERR_NO_MEMORY, "no memory for the limits of tenants");
    for (size_t i = 0; i < n; i++) {
        const struct config_tenant *t = &config->tenants[i];
        (*items)[i] = (struct engine_override){.tenant = str_of(t->name),
                                               .has_retention = t->has_retention,
                                               .has_retention_bytes = t->has_retention_bytes,
                                               .retention_ms = t->retention_ms,
                                               .retention_bytes = t->retention_bytes};
        struct engine_override *o = &(*items)[i];
        o->has_samples_rate = own_value(t, "limits.samples_per_second", &o->samples_rate);
        o->has_samples_burst = own_value(t, "limits.samples_burst", &o->samples_burst);
    }
    engine->overrides = *items;
    engine->n_overrides = n;
    return ERR_OK;
}
