/* query/binary_set.c: and, or, unless: presence by signature and step. Values pass untouched. */
#include "query/eval_labels.h"

struct op_set {
    struct op op;
    struct op *left, *right;
    struct label_filter filter;
    struct key_table signatures;
    uint64_t **seen; /* by signature: steps at which the side taken in first has it */
    size_t seen_cap;
    bool first_done;
};

/* Bits of the series' signature; NULL: it was never seen and is not to be added. */
static enum err_code seen_of(struct op_set *set, struct labels labels, bool add, uint64_t **out,
                             struct err *err)
{
    struct eval *eval = set->op.eval;
    *out = NULL;
    key_begin(&set->signatures);
    key_put_filtered(&set->signatures, labels, &set->filter);
    if (set->signatures.no_memory) return eval_no_memory(eval, err);
    uint32_t id = key_find(&set->signatures);
    if (id == KEY_NONE && !add) return ERR_OK;
    if (id == KEY_NONE) {
        bool added;
        enum err_code rc = key_add(&set->signatures, &id, &added, err);
        if (rc) return rc;
        if (id >= set->seen_cap) {
            size_t cap = MAX_OF(set->seen_cap * 2, (size_t)16);
            uint64_t **grown = EVAL_ARRAY(eval, uint64_t *, cap);
            if (!grown) return eval_no_memory(eval, err);
            if (set->seen_cap) memcpy(grown, set->seen, set->seen_cap * sizeof(*grown));
            set->seen = grown;
            set->seen_cap = cap;
        }
        set->seen[id] = EVAL_ARRAY(eval, uint64_t, set->op.n_words);
        if (!set->seen[id]) return eval_no_memory(eval, err);
    }
    *out = set->seen[id];
    return ERR_OK;
}

static enum err_code remember(struct op_set *set, const struct eval_batch *batch, struct err *err)
{
    for (size_t i = 0; i < batch->n; i++) {
        uint64_t *seen;
        enum err_code rc = seen_of(set, batch->items[i].labels, true, &seen, err);
        if (rc) return rc;
        for (size_t w = 0; w < set->op.n_words; w++) seen[w] |= batch->items[i].present[w];
    }
    return ERR_OK;
}

/* Keeps the steps at which the signature was seen (and), or was not (unless, the right side of or). */
static enum err_code restrict_batch(struct op_set *set, struct eval_batch *batch, bool keep_seen,
                                    struct err *err)
{
    for (size_t i = 0; i < batch->n; i++) {
        uint64_t *seen, *present = batch->items[i].present;
        enum err_code rc = seen_of(set, batch->items[i].labels, false, &seen, err);
        if (rc) return rc;
        if (!seen && !keep_seen) continue;
        for (size_t w = 0; w < set->op.n_words; w++) {
            uint64_t bits = seen ? seen[w] : 0;
            present[w] &= keep_seen ? bits : ~bits;
        }
    }
    batch_compact(batch, set->op.n_steps);
    return ERR_OK;
}

static enum err_code or_next(struct op *op, struct eval_batch *out, struct err *err)
{
    struct op_set *set = CONTAINER_OF(op, struct op_set, op);
    if (!set->first_done) {
        enum err_code rc = op_next(set->left, out, err);
        if (rc) return rc;
        if (out->n) return remember(set, out, err);
        set->first_done = true;
    }
    do {
        enum err_code rc = op_next(set->right, out, err);
        if (rc || !out->n) return rc;
        rc = restrict_batch(set, out, false, err);
        if (rc) return rc;
    } while (!out->n);
    return ERR_OK;
}

static enum err_code take_in_right(struct op_set *set, struct err *err)
{
    for (;;) {
        struct eval_batch batch;
        enum err_code rc = op_next(set->right, &batch, err);
        if (rc || !batch.n) return rc;
        rc = remember(set, &batch, err);
        if (rc) return rc;
    }
}

static enum err_code and_unless_next(struct op *op, struct eval_batch *out, struct err *err)
{
    struct op_set *set = CONTAINER_OF(op, struct op_set, op);
    *out = (struct eval_batch){NULL, 0};
    if (!set->first_done) {
        enum err_code rc = take_in_right(set, err);
        if (rc) return rc;
        set->first_done = true;
    }
    do {
        enum err_code rc = op_next(set->left, out, err);
        if (rc || !out->n) return rc;
        rc = restrict_batch(set, out, op->plan->op == OP_AND, err);
        if (rc) return rc;
    } while (!out->n);
    return ERR_OK;
}

static const struct op_class OR = {or_next};
static const struct op_class AND_UNLESS = {and_unless_next};

enum err_code op_open_set(struct eval *eval, const struct plan *plan, struct op **out,
                          struct err *err)
{
    const struct node_binary *bin = NODE_AS(binary, plan->node);
    struct op_set *set = EVAL_NEW(eval, struct op_set);
    if (!set) return eval_no_memory(eval, err);
    op_init(&set->op, plan->op == OP_OR ? &OR : &AND_UNLESS, eval, plan);
    *out = &set->op;
    key_table_init(&set->signatures, eval);
    enum err_code rc =
        label_filter_init(eval, bin->matching.labels, bin->matching.on, &set->filter, err);
    if (!rc) rc = op_open(eval, plan->args[0], &set->left, err);
    return rc ? rc : op_open(eval, plan->args[1], &set->right, err);
}
