/* query/aggregate.h: aggregations take in series after series and keep what they must per group and step. */
#ifndef QUIPU_QUERY_AGGREGATE_H
#define QUIPU_QUERY_AGGREGATE_H

#include "query/eval_labels.h"

struct agg_group {
    struct labels labels; /* of the result; topk and its kin have none */
    bool drop_name;
    void *state; /* the operation's own */
};

struct op_aggregate {
    struct op op;
    struct op *arg;
    const struct node_aggregate *node;
    const struct agg_class *class;
    const double *param; /* at each step, or NULL */
    struct label_filter filter;
    struct key_table keys;
    struct agg_group *groups;
    size_t groups_cap;
    /* Where `arg` is a bare leaf (`leaf`, or around it what measures): by the number of a series that of its group in the source, and by this the group here,
     * KEY_NONE until a series comes. NULL: series have labels. */
    struct op *leaf;
    const uint32_t *source_groups;
    uint32_t *known_groups;
    struct series_list out;
    struct eval_workers workers;
    void *state; /* the operation's own, of the whole */
    bool started, done;
};

/* An operation. All functions but `add` may be NULL. */
struct agg_class {
    /* Checks the parameter. *nothing: the result is empty, whatever the input (evaluated all the same: its errors and
     * notes count). */
    enum err_code (*start)(struct op_aggregate *agg, bool *nothing, struct err *err);
    enum err_code (*group_init)(struct op_aggregate *agg, struct agg_group *group, struct err *err);
    /* Takes in a series of the group; it may be changed in place. */
    enum err_code (*add)(struct op_aggregate *agg, struct agg_group *group, struct eval_series *s,
                         struct err *err);
    /* The result of one group, pushed to agg->out. NULL: results are the series that `add` left some steps to. */
    enum err_code (*finish)(struct op_aggregate *agg, struct agg_group *group, struct err *err);
    /* Instead of finish: the result of all groups at once. */
    enum err_code (*finish_all)(struct op_aggregate *agg, struct err *err);
};
extern const struct agg_class AGG_CLASS_SUM, AGG_CLASS_AVG, AGG_CLASS_EXTREME, AGG_CLASS_COUNT,
    AGG_CLASS_GROUP, AGG_CLASS_STDDEV;                                    /* aggregate_fold.c */
extern const struct agg_class AGG_CLASS_QUANTILE, AGG_CLASS_COUNT_VALUES; /* aggregate_hold.c */
extern const struct agg_class AGG_CLASS_TOPK, AGG_CLASS_LIMITK,
    AGG_CLASS_LIMIT_RATIO; /* aggregate_k.c */

/* The group of a series, made if it is new. */
MUST_USE enum err_code agg_group_of(struct op_aggregate *agg, const struct eval_series *s,
                                    struct agg_group **out, struct err *err);
/* The same for other labels than the series' own, which are copied if the group is new. */
MUST_USE enum err_code agg_group_of_labels(struct op_aggregate *agg, struct labels labels,
                                           const struct eval_series *s, struct agg_group **out,
                                           struct err *err);
MUST_USE enum err_code agg_push_result(struct op_aggregate *agg, const struct agg_group *group,
                                       uint64_t *present, double *v, struct histogram **h,
                                       struct err *err);
/* "ignored histogram in max aggregation", with its position. */
void agg_note_ignored(struct op_aggregate *agg);
/* Takes the histograms out of a series, noted. */
void agg_ignore_histograms(struct op_aggregate *agg, struct eval_series *s);

#endif
