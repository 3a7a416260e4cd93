/* tools/bench_fleet.c: a fleet as a load. */
#include "tools/bench_load.h"

struct fleet_load {
    struct bench_load base; /* first */
    struct bench_fleet_config config;
    struct fleet *live, *ended; /* ended: NULL except in the round that replaces it */
    uint64_t next;              /* scrape */
};

static enum err_code replace_all(struct fleet_load *l, int64_t t_ms, struct err *err)
{
    struct fleet_config config = l->config.fleet;
    config.first_instance += l->next / l->config.lifetime * l->config.n_fleet;
    l->ended = l->live;
    l->live = NULL;
    fleet_end(l->ended, t_ms);
    return fleet_new(&config, &l->live, err);
}

static enum err_code fleet_round(struct bench_load *load, size_t *n_requests, struct err *err)
{
    struct fleet_load *l = CONTAINER_OF(load, struct fleet_load, base);
    int64_t t_ms = l->config.first_ms + (int64_t)l->next * l->config.fleet.interval_ms;
    *n_requests = 0;
    fleet_free(l->ended);
    l->ended = NULL;
    if (l->next == l->config.scrapes) return ERR_OK;
    if (l->config.lifetime && l->next && l->next % l->config.lifetime == 0) {
        enum err_code rc = replace_all(l, t_ms, err);
        if (rc) return rc;
    }
    fleet_scrape(l->live, t_ms);
    *n_requests = (l->ended ? fleet_n_requests(l->ended) : 0) + fleet_n_requests(l->live);
    l->next++;
    return ERR_OK;
}

static enum err_code fleet_body(struct bench_load *load, size_t i, struct bytes *body,
                                size_t *n_samples, struct err *err)
{
    (void)err;
    struct fleet_load *l = CONTAINER_OF(load, struct fleet_load, base);
    size_t n_ended = l->ended ? fleet_n_requests(l->ended) : 0;
    *body = i < n_ended ? fleet_request(l->ended, i, n_samples)
                        : fleet_request(l->live, i - n_ended, n_samples);
    return ERR_OK;
}

static void fleet_load_free(struct bench_load *load)
{
    struct fleet_load *l = CONTAINER_OF(load, struct fleet_load, base);
    fleet_free(l->live);
    fleet_free(l->ended);
    mem_free(l);
}

enum err_code bench_fleet_new(const struct bench_fleet_config *config, struct bench_load **out,
                              struct err *err)
{
    static const struct bench_load_ops ops = {fleet_round, fleet_body, fleet_load_free};
    struct fleet_load *l = mem_calloc(MEM_TOOLS, 1, sizeof(*l));
    if (!l) return err_set(err, ERR_NO_MEMORY, "no memory for a load");
    l->config = *config;
    enum err_code rc = fleet_new(&config->fleet, &l->live, err);
    if (rc) {
        mem_free(l);
        return rc;
    }
    uint64_t lives = config->lifetime ? (config->scrapes - 1) / config->lifetime : 0;
    l->base = (struct bench_load){
        .ops = &ops,
        .n_samples = (config->scrapes + lives) * fleet_n_series(l->live),
        .first_ms = config->first_ms,
        .last_ms = config->first_ms + (int64_t)config->scrapes * config->fleet.interval_ms,
    };
    *out = &l->base;
    return ERR_OK;
}
