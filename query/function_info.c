/* query/function_info.c: info(v, {matchers}): labels of info series (target_info and its like) joined to v by
 * `instance` and `job`. The info series are held; v streams by. Where the info series that answers changes from
 * step to step, one series of v becomes several with other labels. */
#include "query/eval_labels.h"

#define DEFAULT_INFO_NAME "target_info"
#define INFO_SUFFIX "_info"

static const struct str IDENTIFYING[] = {{"instance", 8}, {"job", 3}};

/* The info series of one metric name and one identity, and which of them is the newest at each step. */
struct info_group {
    uint32_t name;    /* in op_info.names */
    uint32_t *winner; /* per step: series + 1, 0 = none */
    struct str metric;
};

struct op_info {
    struct op op;
    struct op *arg, *info_arg;
    const struct matcher *matchers; /* of the second argument */
    size_t n_matchers;
    bool has_positive_name;   /* else any *_info metric will do */
    struct series_list infos; /* v: times of the samples */
    struct key_table keys;    /* name, instance, job */
    struct info_group *groups;
    size_t groups_cap;
    struct str *names; /* of the info metrics, in order of appearance */
    size_t n_names, names_cap;
    struct eval_workers workers;
    struct series_list out;
    struct overlap_table put_out;
    bool infos_done;
};

static bool is_name_matcher(const struct matcher *m)
{
    return str_eq(m->name, STR(LABEL_NAME));
}

static bool positive(const struct matcher *m)
{
    return m->op == MATCH_EQ || m->op == MATCH_RE;
}

static bool name_matches(const struct op_info *info, struct str name)
{
    for (size_t i = 0; i < info->n_matchers; i++)
        if (is_name_matcher(&info->matchers[i]) && !matcher_matches(&info->matchers[i], name))
            return false;
    return info->has_positive_name || str_has_suffix(name, STR(INFO_SUFFIX));
}

/* Is the label among those that the matchers limit copying to? Without data matchers all are copied. */
static bool copied(const struct op_info *info, struct str name)
{
    bool limited = false;
    for (size_t i = 0; i < info->n_matchers; i++) {
        if (is_name_matcher(&info->matchers[i])) continue;
        limited = true;
        if (str_eq(info->matchers[i].name, name)) return true;
    }
    return !limited;
}

/* May a series pass that no info series answers for? */
static bool match_is_optional(const struct op_info *info)
{
    for (size_t i = 0; i < info->n_matchers; i++) {
        const struct matcher *m = &info->matchers[i];
        if (!is_name_matcher(m) && !matcher_matches_empty(m)) return false;
    }
    return true;
}

/* ---- the info side ---- */

static bool identify(struct op_info *info, struct str metric, struct labels labels)
{
    bool any = false;
    key_begin(&info->keys);
    key_put(&info->keys, metric);
    for (size_t i = 0; i < COUNT_OF(IDENTIFYING); i++) {
        struct str value = labels_get(labels, IDENTIFYING[i]);
        key_put(&info->keys, value);
        any |= value.len > 0;
    }
    return any;
}

static enum err_code name_number(struct op_info *info, struct str name, uint32_t *out,
                                 struct err *err)
{
    for (size_t i = 0; i < info->n_names; i++) {
        *out = (uint32_t)i;
        if (str_eq(info->names[i], name)) return ERR_OK;
    }
    if (info->n_names == info->names_cap) {
        size_t cap = MAX_OF(info->names_cap * 2, (size_t)8);
        struct str *names = EVAL_ARRAY(info->op.eval, struct str, cap);
        if (!names) return eval_no_memory(info->op.eval, err);
        if (info->n_names) memcpy(names, info->names, info->n_names * sizeof(*names));
        info->names = names;
        info->names_cap = cap;
    }
    *out = (uint32_t)info->n_names;
    info->names[info->n_names++] = name;
    return ERR_OK;
}

static enum err_code group_of(struct op_info *info, struct labels labels, struct info_group **out,
                              struct err *err)
{
    struct eval *eval = info->op.eval;
    struct str metric = labels_get(labels, STR(LABEL_NAME));
    uint32_t id;
    bool added;
    (void)identify(info, metric,
                   labels); /* one without identity is in a group that none asks for */
    enum err_code rc = key_add(&info->keys, &id, &added, err);
    if (rc) return rc;
    if (id >= info->groups_cap) {
        size_t cap = MAX_OF(info->groups_cap * 2, (size_t)16);
        struct info_group *groups = EVAL_ARRAY(eval, struct info_group, cap);
        if (!groups) return eval_no_memory(eval, err);
        if (info->groups_cap) memcpy(groups, info->groups, info->groups_cap * sizeof(*groups));
        info->groups = groups;
        info->groups_cap = cap;
    }
    struct info_group *group = *out = &info->groups[id];
    if (!added) return ERR_OK;
    group->metric = metric;
    group->winner = EVAL_ARRAY(eval, uint32_t, info->op.n_steps);
    if (!group->winner) return eval_no_memory(eval, err);
    return name_number(info, metric, &group->name, err);
}

static enum err_code fail_histogram(const struct eval_series *s, struct err *err)
{
    struct buf text;
    buf_init(&text, MEM_QUERY);
    labels_print(&text, s->labels);
    enum err_code rc =
        err_set(err, ERR_EXECUTION, "this should be an info metric, with float samples: %.*s",
                STR_ARG(str_from_bytes(buf_bytes(&text))));
    buf_release(&text);
    return rc;
}

/* The series with the newest sample answers; two of the same age are one too many. */
static enum err_code place_info(struct op_info *info, uint32_t number, struct err *err)
{
    const struct eval_series *s = &info->infos.items[number];
    struct info_group *group;
    enum err_code rc = group_of(info, s->labels, &group, err);
    if (rc) return rc;
    BITMAP_EACH(step, s->present, info->op.n_steps)
    {
        if (s->h && s->h[step]) return fail_histogram(s, err);
        uint32_t other = group->winner[step];
        double best = other ? info->infos.items[other - 1].v[step] : 0;
        if (other && best == s->v[step])
            return err_set(err, ERR_EXECUTION, "found duplicate series for info metric %.*s",
                           STR_ARG(group->metric));
        if (!other || best < s->v[step]) group->winner[step] = number + 1;
    }
    return ERR_OK;
}

static enum err_code take_in_infos(struct op_info *info, struct err *err)
{
    enum err_code rc = op_drain(info->info_arg, &info->infos, err);
    size_t n = 0;
    for (size_t i = 0; i < info->infos.n; i++)
        if (name_matches(info, labels_get(info->infos.items[i].labels, STR(LABEL_NAME))))
            info->infos.items[n++] = info->infos.items[i];
    info->infos.n = n;
    for (uint32_t i = 0; i < n && !rc; i++) rc = place_info(info, i, err);
    return rc;
}

/* ---- the series of v ---- */

/* Who answers for a series at a step: one info series (+ 1) per metric name. */
struct answer {
    uint32_t *of_name;
    struct eval_series s; /* what comes of the steps with this answer */
};
struct answers {
    struct answer *items;
    size_t n, cap;
};

/* Labels of the info series, but for those that the base has itself. */
static enum err_code add_labels(struct op_info *info, const struct eval_series *from,
                                struct labels base, struct labels *added, struct err *err)
{
    enum err_code rc = ERR_OK;
    for (size_t i = 0; i < from->labels.n && !rc; i++) {
        struct label l = from->labels.items[i];
        if (str_eq(l.name, STR(LABEL_NAME)) || !copied(info, l.name)) continue;
        struct str there = labels_get(*added, l.name);
        if (there.len && !str_eq(there, l.value))
            return err_set(err, ERR_EXECUTION, "conflicting label: %.*s", STR_ARG(l.name));
        if (there.len || labels_get(base, l.name).len) continue;
        rc = labels_with(info->op.eval->arena, *added, l.name, l.value, added, err);
    }
    return rc;
}

static enum err_code enriched_labels(struct op_info *info, const uint32_t *of_name,
                                     struct labels base, struct labels *out, struct err *err)
{
    struct labels added = {0};
    enum err_code rc = ERR_OK;
    for (size_t k = 0; k < info->n_names && !rc; k++)
        if (of_name[k])
            rc = add_labels(info, &info->infos.items[of_name[k] - 1], base, &added, err);
    *out = base;
    for (size_t i = 0; i < added.n && !rc; i++)
        rc = labels_with(info->op.eval->arena, *out, added.items[i].name, added.items[i].value, out,
                         err);
    return rc;
}

static enum err_code answer_new(struct op_info *info, struct answers *all, const uint32_t *of_name,
                                const struct eval_series *base, struct answer **out,
                                struct err *err)
{
    struct arena *arena = &info->workers.items[0]->arena;
    if (all->n == all->cap) {
        size_t cap = MAX_OF(all->cap * 2, (size_t)4);
        struct answer *items = ARENA_ARRAY(arena, struct answer, cap);
        if (!items) return arena_fail(arena, err);
        if (all->n) memcpy(items, all->items, all->n * sizeof(*items));
        all->items = items;
        all->cap = cap;
    }
    struct answer *answer = *out = &all->items[all->n++];
    answer->of_name = ARENA_ARRAY(arena, uint32_t, info->n_names);
    answer->s = (struct eval_series){.drop_name = base->drop_name};
    if (!answer->of_name || !series_alloc(arena, info->op.n_steps, &answer->s))
        return arena_fail(arena, err);
    if (base->h && !series_want_histograms(arena, info->op.n_steps, &answer->s))
        return arena_fail(arena, err);
    if (info->n_names) memcpy(answer->of_name, of_name, info->n_names * sizeof(uint32_t));
    return enriched_labels(info, of_name, base->labels, &answer->s.labels, err);
}

static bool is_answered(const struct op_info *info, const uint32_t *of_name)
{
    for (size_t k = 0; k < info->n_names; k++)
        if (of_name[k]) return true;
    return false;
}

static enum err_code push(struct op_info *info, const struct eval_series *s, struct err *err)
{
    uint32_t id;
    bool overlaps;
    enum err_code rc = overlap_add(&info->put_out, s->labels, s->present, &id, &overlaps, err);
    if (!rc && overlaps) rc = eval_same_labelset(err);
    return rc ? rc : series_list_push(info->op.eval, &info->out, s, err);
}

/* The groups that may answer for the series: by metric name, NULL = none. */
static enum err_code candidates(struct op_info *info, const struct eval_series *base,
                                const struct info_group **out, struct err *err)
{
    for (size_t k = 0; k < info->n_names; k++) {
        bool identified = identify(info, info->names[k], base->labels);
        if (info->keys.no_memory) return eval_no_memory(info->op.eval, err);
        uint32_t id = identified ? key_find(&info->keys) : KEY_NONE;
        out[k] = id == KEY_NONE ? NULL : &info->groups[id];
    }
    return ERR_OK;
}

static enum err_code enrich(struct op_info *info, const struct eval_series *base, struct err *err)
{
    struct arena *arena = &info->workers.items[0]->arena;
    const struct info_group **groups = ARENA_ARRAY(arena, const struct info_group *, info->n_names);
    uint32_t *of_name = ARENA_ARRAY(arena, uint32_t, info->n_names);
    if (!groups || !of_name) return arena_fail(arena, err);
    enum err_code rc = candidates(info, base, groups, err);
    struct answers all = {0};
    BITMAP_EACH(step, base->present, info->op.n_steps)
    {
        if (rc) return rc;
        for (size_t k = 0; k < info->n_names; k++)
            of_name[k] = groups[k] ? groups[k]->winner[step] : 0;
        if (!is_answered(info, of_name) && !match_is_optional(info)) continue;
        struct answer *answer = NULL;
        for (size_t i = 0; i < all.n && !answer; i++)
            if (!info->n_names ||
                memcmp(all.items[i].of_name, of_name, info->n_names * sizeof(uint32_t)) == 0)
                answer = &all.items[i];
        if (!answer) rc = answer_new(info, &all, of_name, base, &answer, err);
        if (!rc) series_set(&answer->s, step, base->v[step], base->h ? base->h[step] : NULL);
    }
    for (size_t i = 0; i < all.n && !rc; i++) rc = push(info, &all.items[i].s, err);
    return rc;
}

static enum err_code info_next(struct op *op, struct eval_batch *out, struct err *err)
{
    struct op_info *info = CONTAINER_OF(op, struct op_info, op);
    enum err_code rc = info->infos_done ? ERR_OK : take_in_infos(info, err);
    info->infos_done = true;
    *out = (struct eval_batch){NULL, 0};
    while (!rc && !out->n) {
        struct eval_batch batch;
        rc = op_next(info->arg, &batch, err);
        if (rc || !batch.n) break;
        info->out.n = 0;
        eval_workers_reset(op->eval, &info->workers);
        for (size_t i = 0; i < batch.n && !rc; i++) {
            const struct eval_series *base = &batch.items[i];
            /* Info series themselves are left alone. */
            if (name_matches(info, labels_get(base->labels, STR(LABEL_NAME))))
                rc = push(info, base, err);
            else
                rc = enrich(info, base, err);
        }
        *out = (struct eval_batch){info->out.items, info->out.n};
        batch_compact(out, op->n_steps);
    }
    return rc;
}

static const struct op_class INFO = {info_next};

/* The matchers as written, or those of the default metric. */
static enum err_code info_matchers(struct op_info *info, const struct plan *written,
                                   struct err *err)
{
    struct eval *eval = info->op.eval;
    bool any_name = false;
    for (size_t i = 0; i < written->n_matchers; i++) {
        const struct matcher *m = &written->matchers[i];
        if (!is_name_matcher(m)) continue;
        any_name = true;
        info->has_positive_name |= positive(m);
    }
    struct matcher *all = EVAL_ARRAY(eval, struct matcher, written->n_matchers + 1);
    if (!all) return eval_no_memory(eval, err);
    size_t n = written->n_matchers;
    if (n) memcpy(all, written->matchers, n * sizeof(*all));
    if (!any_name) {
        all[n++] = (struct matcher){
            .op = MATCH_EQ, .name = STR(LABEL_NAME), .value = STR(DEFAULT_INFO_NAME)};
        info->has_positive_name = true;
    }
    info->matchers = all;
    info->n_matchers = n;
    return ERR_OK;
}

enum err_code op_open_info(struct eval *eval, const struct plan *plan, struct op **out,
                           struct err *err)
{
    struct op_info *info = EVAL_NEW(eval, struct op_info);
    struct plan *select = EVAL_NEW(eval, struct plan);
    if (!info || !select) return eval_no_memory(eval, err);
    op_init(&info->op, &INFO, eval, plan);
    *out = &info->op;
    key_table_init(&info->keys, eval);
    overlap_init(&info->put_out, eval, plan->grid.n);
    enum err_code rc = info_matchers(info, plan->args[1], err);
    if (!rc) rc = eval_workers_new(eval, &info->workers, err);
    if (!rc) rc = op_open(eval, plan->args[0], &info->arg, err);
    if (rc) return rc;
    *select = *plan->args[1];
    select->fn = FN_INFO; /* times of samples, and which are histograms */
    select->matchers = info->matchers;
    select->n_matchers = info->n_matchers;
    return op_open(eval, select, &info->info_arg, err);
}
