/* query/binary.c: vectors matched by labels. The "one" side (right; left for group_right) is taken in whole and
 * indexed by signature; the other side streams by. Everything that Prometheus checks at each step is checked here by
 * bitmaps over the steps: which steps a match group has a sample at, and which were matched already. */
#include "query/binary.h"
#include "query/eval_labels.h"

#define NO_SERIES UINT32_MAX

/* The series of the one side with one signature; at any step at most one of them may have a sample. */
struct match_group {
    uint32_t first, last; /* in op_match.one, chained by next_of */
    uint64_t *present;    /* steps at which the one side has a sample */
    uint64_t *matched;    /* steps at which something met it */
};

struct op_match {
    struct op op;
    const struct vector_matching *matching;
    bool many_left; /* the many side stands left of the operator */
    bool grouped;   /* group_left, group_right */
    bool return_bool;
    bool has_fill_one, has_fill_many;
    struct eval_series fill_one, fill_many; /* the value at every step; no labels */

    struct op *many_op, *one_op;
    struct label_filter filter;
    struct key_table signatures; /* to groups */
    struct match_group *groups;
    size_t groups_cap;
    struct series_list one;
    uint32_t *next_of;   /* of each series in `one` */
    uint64_t *duplicate; /* steps at which some group of the one side has two samples */
    uint64_t *any_many;  /* steps at which the many side has a sample, so far */

    struct overlap_table put_out; /* grouped: result labels */
    uint32_t *put_out_group;      /* by number of the label set: the group that made it first */
    size_t put_out_cap;

    struct eval_workers workers; /* [0]: columns of a batch */
    struct series_list out;
    bool one_done, many_done, fill_done;
};

static struct arena *batch_arena(struct op_match *m)
{
    return &m->workers.items[0]->arena;
}

/* ---- the one side ---- */

static enum err_code group_of(struct op_match *m, struct labels labels, struct match_group **out,
                              struct err *err)
{
    struct eval *eval = m->op.eval;
    uint32_t id;
    bool added;
    key_begin(&m->signatures);
    key_put_filtered(&m->signatures, labels, &m->filter);
    enum err_code rc = key_add(&m->signatures, &id, &added, err);
    if (rc) return rc;
    if (id >= m->groups_cap) {
        size_t cap = MAX_OF(m->groups_cap * 2, (size_t)16);
        struct match_group *groups = EVAL_ARRAY(eval, struct match_group, cap);
        if (!groups) return eval_no_memory(eval, err);
        if (m->groups_cap) memcpy(groups, m->groups, m->groups_cap * sizeof(*groups));
        m->groups = groups;
        m->groups_cap = cap;
    }
    struct match_group *group = &m->groups[id];
    if (added) {
        *group = (struct match_group){.first = NO_SERIES, .last = NO_SERIES};
        group->present = EVAL_ARRAY(eval, uint64_t, m->op.n_words);
        group->matched = EVAL_ARRAY(eval, uint64_t, m->op.n_words);
        if (!group->present || !group->matched) return eval_no_memory(eval, err);
    }
    *out = group;
    return ERR_OK;
}

static enum err_code index_one_side(struct op_match *m, struct err *err)
{
    enum err_code rc = op_drain(m->one_op, &m->one, err);
    if (rc) return rc;
    m->next_of = EVAL_ARRAY(m->op.eval, uint32_t, m->one.n);
    if (!m->next_of) return eval_no_memory(m->op.eval, err);
    for (uint32_t i = 0; i < m->one.n; i++) {
        struct match_group *group;
        rc = group_of(m, m->one.items[i].labels, &group, err);
        if (rc) return rc;
        m->next_of[i] = NO_SERIES;
        if (group->first == NO_SERIES)
            group->first = i;
        else
            m->next_of[group->last] = i;
        group->last = i;
        for (size_t w = 0; w < m->op.n_words; w++) {
            m->duplicate[w] |= group->present[w] & m->one.items[i].present[w];
            group->present[w] |= m->one.items[i].present[w];
        }
    }
    return ERR_OK;
}

static enum err_code print_duplicate(const struct op_match *m, const struct eval_series *a,
                                     const struct eval_series *b, struct err *err)
{
    struct labels match;
    enum err_code rc = labels_filter(m->op.eval, b->labels, &m->filter, &match, err);
    if (rc) return rc;
    struct buf group, first, second;
    buf_init(&group, MEM_QUERY);
    buf_init(&first, MEM_QUERY);
    buf_init(&second, MEM_QUERY);
    labels_print(&group, match);
    labels_print(&first, a->labels);
    labels_print(&second, b->labels);
    struct str x = str_from_bytes(buf_bytes(&first)), y = str_from_bytes(buf_bytes(&second));
    bool swap = str_cmp(x, y) > 0;
    struct str lower = swap ? y : x, upper = swap ? x : y;
    rc = err_set(err, ERR_EXECUTION,
                 "found duplicate series for the match group %.*s on the %s hand-side of the "
                 "operation: [%.*s, %.*s];many-to-many matching not allowed: matching labels must "
                 "be unique on one side",
                 STR_ARG(str_from_bytes(buf_bytes(&group))), m->many_left ? "right" : "left",
                 STR_ARG(lower), STR_ARG(upper));
    buf_release(&group);
    buf_release(&first);
    buf_release(&second);
    return rc;
}

/* Names the first pair of series that share a signature at the step. */
static enum err_code fail_duplicate(struct op_match *m, size_t step, struct err *err)
{
    for (uint32_t i = 0; i < m->one.n; i++) {
        if (!bitmap_get(m->one.items[i].present, step)) continue;
        struct match_group *group;
        enum err_code rc = group_of(m, m->one.items[i].labels, &group, err);
        if (rc) return rc;
        for (uint32_t k = group->first; k != i; k = m->next_of[k])
            if (bitmap_get(m->one.items[k].present, step))
                return print_duplicate(m, &m->one.items[k], &m->one.items[i], err);
    }
    ASSERT(false);
    return ERR_OK;
}

/* Duplicates matter at the steps where there is anything to match them with. */
static enum err_code check_duplicates(struct op_match *m, struct err *err)
{
    bool always = m->has_fill_one || m->has_fill_many;
    for (size_t w = 0; w < m->op.n_words; w++) {
        uint64_t bad = m->duplicate[w] & (always ? UINT64_MAX : m->any_many[w]);
        if (bad) return fail_duplicate(m, w * 64 + (size_t)__builtin_ctzll(bad), err);
    }
    return ERR_OK;
}

/* ---- results ---- */

/* Labels of a result: `many` and `one` are the label sets of the two sides. */
static enum err_code result_labels(struct op_match *m, struct labels many, struct labels one,
                                   struct labels *out, struct err *err)
{
    struct eval *eval = m->op.eval;
    enum err_code rc = ERR_OK;
    *out = many;
    if (!m->grouped) {
        /* `ignoring` as a filter would take the name, too, which a comparison keeps. */
        struct str name = labels_get(many, STR(LABEL_NAME));
        rc = labels_filter(eval, many, &m->filter, out, err);
        if (!rc && !m->matching->on && name.len)
            rc = labels_with(eval->arena, *out, STR(LABEL_NAME), name, out, err);
    }
    if (!rc && op_drops_name(m->op.plan->op, false))
        rc = labels_without_name(eval->arena, *out, out, err);
    for (size_t i = 0; !rc && i < m->matching->include.n; i++) {
        struct str name = m->matching->include.items[i];
        rc = labels_with(eval->arena, *out, name, labels_get(one, name), out, err);
    }
    return rc;
}

/* Two results with the same labels at a step. */
static enum err_code check_unique(struct op_match *m, const struct match_group *group,
                                  const struct eval_series *s, const uint64_t *steps,
                                  struct err *err)
{
    if (!m->grouped) return ERR_OK;
    uint32_t id, group_id = (uint32_t)(group - m->groups);
    bool overlaps;
    enum err_code rc = overlap_add(&m->put_out, s->labels, steps, &id, &overlaps, err);
    if (rc) return rc;
    if (id >= m->put_out_cap) {
        size_t cap = MAX_OF(m->put_out_cap * 2, (size_t)16);
        uint32_t *grown = EVAL_ARRAY(m->op.eval, uint32_t, cap);
        if (!grown) return eval_no_memory(m->op.eval, err);
        if (m->put_out_cap) memcpy(grown, m->put_out_group, m->put_out_cap * sizeof(*grown));
        for (size_t i = m->put_out_cap; i < cap; i++) grown[i] = NO_SERIES;
        m->put_out_group = grown;
        m->put_out_cap = cap;
    }
    if (m->put_out_group[id] == NO_SERIES) m->put_out_group[id] = group_id;
    if (!overlaps) return ERR_OK;
    if (m->put_out_group[id] != group_id) return eval_same_labelset(err);
    return err_set(err, ERR_EXECUTION,
                   "multiple matches for labels: grouping labels must ensure unique matches");
}

/* Arithmetic has taken the name away already; one that group_left brought in stays. */
static bool result_drops_name(const struct op_match *m, const struct eval_series *many)
{
    return m->return_bool || (many->drop_name && !op_drops_name(m->op.plan->op, false));
}

static void float_pairs(struct op_match *m, const struct eval_series *l,
                        const struct eval_series *r, const uint64_t *steps, bool alone,
                        struct eval_series *out)
{
    enum binary_op op = m->op.plan->op;
    size_t n = m->op.n_steps;
    if (!op_is_comparison(op)) {
        if (alone) {
            column_arithmetic(op, steps, n, l->v, r->v, out->v);
        } else {
            BITMAP_EACH(s, steps, n) out->v[s] = binary_float(op, l->v[s], r->v[s]);
        }
        for (size_t w = 0; w < m->op.n_words; w++) out->present[w] |= steps[w];
        return;
    }
    BITMAP_EACH(s, steps, n)
    {
        bool holds = compare_float(op, l->v[s], r->v[s]);
        if (!holds && !m->return_bool) continue;
        series_set(out, s, m->return_bool ? holds : l->v[s], NULL);
    }
}

/* Adds to `out` what comes of l and r at `steps`. `alone`: nothing else is added. */
static enum err_code put_pairs(struct op_match *m, const struct eval_series *l,
                               const struct eval_series *r, const uint64_t *steps, bool alone,
                               struct eval_series *out, struct err *err)
{
    enum binary_op op = m->op.plan->op;
    if (!l->h && !r->h && op != OP_TRIM_LOWER && op != OP_TRIM_UPPER) {
        float_pairs(m, l, r, steps, alone, out);
        return ERR_OK;
    }
    struct pair_job job = {.op = op,
                           .return_bool = m->return_bool,
                           .pos = m->op.plan->node->pos,
                           .notes = &m->op.eval->notes,
                           .arena = batch_arena(m)};
    BITMAP_EACH(s, steps, m->op.n_steps)
    {
        struct point a = series_point(l, s), b = series_point(r, s), point;
        enum err_code rc = pair_evaluate(&job, &a, &b, &point, err);
        if (rc) return rc;
        if (point.kind == POINT_NONE) continue;
        bool is_histogram = point.kind == POINT_HISTOGRAM;
        if (is_histogram && !series_want_histograms(batch_arena(m), m->op.n_steps, out))
            return arena_fail(batch_arena(m), err);
        series_set(out, s, point.v, is_histogram ? point.h : NULL);
    }
    return ERR_OK;
}

static enum err_code put_sides(struct op_match *m, const struct eval_series *many,
                               const struct eval_series *one, const uint64_t *steps, bool alone,
                               struct eval_series *out, struct err *err)
{
    return m->many_left ? put_pairs(m, many, one, steps, alone, out, err)
                        : put_pairs(m, one, many, steps, alone, out, err);
}

/* ---- one series of the many side ---- */

/* A part of a many-side series that has one partner: a series of the one side, or the fill value. */
static enum err_code put_part(struct op_match *m, const struct match_group *group,
                              const struct eval_series *many, const struct eval_series *one,
                              const uint64_t *steps, struct err *err)
{
    struct eval_series out = {.drop_name = result_drops_name(m, many)};
    struct labels one_labels = one->labels;
    enum err_code rc = ERR_OK;
    if (one == &m->fill_one && m->matching->include.n)
        rc = labels_filter(m->op.eval, many->labels, &m->filter, &one_labels, err);
    if (!rc) rc = result_labels(m, many->labels, one_labels, &out.labels, err);
    if (!rc) rc = check_unique(m, group, &out, steps, err);
    if (rc) return rc;
    if (!series_alloc(batch_arena(m), m->op.n_steps, &out)) return arena_fail(batch_arena(m), err);
    rc = put_sides(m, many, one, steps, true, &out, err);
    return rc ? rc : series_list_push(m->op.eval, &m->out, &out, err);
}

static bool intersect(const uint64_t *a, const uint64_t *b, size_t n_words, uint64_t *out)
{
    uint64_t any = 0;
    for (size_t w = 0; w < n_words; w++) any |= out[w] = a[w] & b[w];
    return any != 0;
}

/* The parts with different partners: several results where labels are copied from the partner. */
static enum err_code put_parts(struct op_match *m, const struct match_group *group,
                               const struct eval_series *many, uint64_t *steps, struct err *err)
{
    for (uint32_t i = group->first; i != NO_SERIES; i = m->next_of[i]) {
        if (!intersect(many->present, m->one.items[i].present, m->op.n_words, steps)) continue;
        enum err_code rc = put_part(m, group, many, &m->one.items[i], steps, err);
        if (rc) return rc;
    }
    if (!m->has_fill_one) return ERR_OK;
    uint64_t any = 0;
    for (size_t w = 0; w < m->op.n_words; w++)
        any |= steps[w] = many->present[w] & ~group->present[w];
    return any ? put_part(m, group, many, &m->fill_one, steps, err) : ERR_OK;
}

/* All partners in one result. */
static enum err_code put_whole(struct op_match *m, const struct match_group *group,
                               const struct eval_series *many, uint64_t *steps, struct err *err)
{
    struct eval_series out = {.drop_name = result_drops_name(m, many)};
    enum err_code rc = result_labels(m, many->labels, (struct labels){0}, &out.labels, err);
    if (!rc) rc = check_unique(m, group, &out, steps, err);
    if (rc) return rc;
    if (!series_alloc(batch_arena(m), m->op.n_steps, &out)) return arena_fail(batch_arena(m), err);
    bool alone = group->first == group->last && !m->has_fill_one;
    for (uint32_t i = group->first; i != NO_SERIES; i = m->next_of[i]) {
        if (!intersect(many->present, m->one.items[i].present, m->op.n_words, steps)) continue;
        rc = put_sides(m, many, &m->one.items[i], steps, alone, &out, err);
        if (rc) return rc;
    }
    if (m->has_fill_one) {
        for (size_t w = 0; w < m->op.n_words; w++) steps[w] = many->present[w] & ~group->present[w];
        rc = put_sides(m, many, &m->fill_one, steps, false, &out, err);
        if (rc) return rc;
    }
    return series_list_push(m->op.eval, &m->out, &out, err);
}

static enum err_code match_series(struct op_match *m, const struct eval_series *many,
                                  struct err *err)
{
    struct match_group *group;
    if (m->has_fill_one) {
        enum err_code rc = group_of(m, many->labels, &group, err);
        if (rc) return rc;
    } else {
        key_begin(&m->signatures);
        key_put_filtered(&m->signatures, many->labels, &m->filter);
        if (m->signatures.no_memory) return eval_no_memory(m->op.eval, err);
        uint32_t id = key_find(&m->signatures);
        if (id == KEY_NONE) return ERR_OK;
        group = &m->groups[id];
    }
    uint64_t *steps = ARENA_ARRAY(batch_arena(m), uint64_t, m->op.n_words);
    if (!steps) return arena_fail(batch_arena(m), err);
    uint64_t any = 0, again = 0;
    for (size_t w = 0; w < m->op.n_words; w++) {
        steps[w] = many->present[w] & (m->has_fill_one ? UINT64_MAX : group->present[w]);
        any |= steps[w];
        again |= steps[w] & group->matched[w];
        group->matched[w] |= steps[w];
    }
    if (again && !m->grouped)
        return err_set(err, ERR_EXECUTION,
                       "multiple matches for labels: many-to-one matching must be explicit "
                       "(group_left/group_right)");
    if (!any) return ERR_OK;
    return m->matching->include.n ? put_parts(m, group, many, steps, err)
                                  : put_whole(m, group, many, steps, err);
}

/* One-side series that nothing met get the many side's fill value as partner. */
static enum err_code fill_many_side(struct op_match *m, struct err *err)
{
    for (size_t g = 0; g < m->signatures.n; g++) {
        const struct match_group *group = &m->groups[g];
        for (uint32_t i = group->first; i != NO_SERIES; i = m->next_of[i]) {
            const struct eval_series *one = &m->one.items[i];
            uint64_t *steps = ARENA_ARRAY(batch_arena(m), uint64_t, m->op.n_words);
            if (!steps) return arena_fail(batch_arena(m), err);
            uint64_t any = 0;
            for (size_t w = 0; w < m->op.n_words; w++)
                any |= steps[w] = one->present[w] & ~group->matched[w];
            if (!any) continue;
            struct eval_series many = m->fill_many;
            enum err_code rc =
                labels_filter(m->op.eval, one->labels, &m->filter, &many.labels, err);
            if (!rc) rc = put_part(m, group, &many, one, steps, err);
            if (rc) return rc;
        }
    }
    return ERR_OK;
}

/* ---- the operator ---- */

static enum err_code match_batch(struct op_match *m, const struct eval_batch *batch,
                                 struct err *err)
{
    for (size_t i = 0; i < batch->n; i++)
        for (size_t w = 0; w < m->op.n_words; w++) m->any_many[w] |= batch->items[i].present[w];
    enum err_code rc = check_duplicates(m, err);
    for (size_t i = 0; i < batch->n && !rc; i++) rc = match_series(m, &batch->items[i], err);
    return rc;
}

static enum err_code match_next(struct op *op, struct eval_batch *out, struct err *err)
{
    struct op_match *m = CONTAINER_OF(op, struct op_match, op);
    enum err_code rc = ERR_OK;
    if (!m->one_done) rc = index_one_side(m, err);
    m->one_done = true;
    *out = (struct eval_batch){NULL, 0};
    while (!rc && !out->n && !m->fill_done) {
        rc = eval_poll(op->eval, err);
        m->out.n = 0;
        eval_workers_reset(op->eval, &m->workers);
        if (rc) break;
        if (!m->many_done) {
            struct eval_batch batch = {NULL, 0};
            rc = op_next(m->many_op, &batch, err);
            if (!rc) rc = match_batch(m, &batch, err);
            m->many_done = !rc && !batch.n;
        } else {
            m->fill_done = true;
            if (m->has_fill_many) rc = fill_many_side(m, err);
        }
        *out = (struct eval_batch){m->out.items, m->out.n};
        batch_compact(out, op->n_steps);
    }
    return rc;
}

static const struct op_class MATCH = {match_next};

static enum err_code fill_series(struct op_match *m, double v, struct eval_series *out,
                                 struct err *err)
{
    if (!series_alloc(m->op.eval->arena, m->op.n_steps, out))
        return eval_no_memory(m->op.eval, err);
    bitmap_fill(out->present, m->op.n_steps);
    for (size_t s = 0; s < m->op.n_steps; s++) out->v[s] = v;
    return ERR_OK;
}

static enum err_code open_fills(struct op_match *m, struct err *err)
{
    const struct vector_matching *matching = m->matching;
    /* Not by where the sides stand: with group_right, too, fill_right is for a missing "one" side. So Prometheus. */
    m->has_fill_many = matching->has_fill_left;
    m->has_fill_one = matching->has_fill_right;
    enum err_code rc =
        m->has_fill_many ? fill_series(m, matching->fill_left, &m->fill_many, err) : ERR_OK;
    if (!rc && m->has_fill_one) rc = fill_series(m, matching->fill_right, &m->fill_one, err);
    return rc;
}

enum err_code op_open_match(struct eval *eval, const struct plan *plan, struct op **out,
                            struct err *err)
{
    const struct node_binary *bin = NODE_AS(binary, plan->node);
    struct op_match *m = EVAL_NEW(eval, struct op_match);
    if (!m) return eval_no_memory(eval, err);
    op_init(&m->op, &MATCH, eval, plan);
    *out = &m->op;
    m->matching = &bin->matching;
    m->return_bool = bin->return_bool;
    m->many_left = bin->matching.card != CARD_ONE_TO_MANY;
    m->grouped = bin->matching.card != CARD_ONE_TO_ONE;
    key_table_init(&m->signatures, eval);
    overlap_init(&m->put_out, eval, plan->grid.n);
    m->duplicate = EVAL_ARRAY(eval, uint64_t, m->op.n_words);
    m->any_many = EVAL_ARRAY(eval, uint64_t, m->op.n_words);
    if (!m->duplicate || !m->any_many) return eval_no_memory(eval, err);
    enum err_code rc = open_fills(m, err);
    if (!rc) rc = label_filter_init(eval, bin->matching.labels, bin->matching.on, &m->filter, err);
    if (!rc) rc = eval_workers_new(eval, &m->workers, err);
    if (!rc) rc = op_open(eval, plan->args[m->many_left ? 0 : 1], &m->many_op, err);
    if (!rc) rc = op_open(eval, plan->args[m->many_left ? 1 : 0], &m->one_op, err);
    return rc;
}
