/* query/source.h: where a query gets its series from. query/source_engine.c puts a tenant of the engine behind
 * it, tests an in-memory table. */
#ifndef QUIPU_QUERY_SOURCE_H
#define QUIPU_QUERY_SOURCE_H

#include "base/arena.h"
#include "storage/column_reader.h"
#include "storage/exemplar.h"
#include "storage/label_reader.h"
#include "storage/label_want.h"
#include "storage/matcher.h"
#include "storage/samples.h"

struct query_source;
struct source_select; /* a snapshot of the matching series */
struct source_reader;

/* One entry of /api/v1/metadata */
struct source_metadata {
    struct str family, type, unit, help;
};

struct query_source_ops {
    /* Series that match all matchers and may have samples in [mint_ms, maxt_ms], sorted by labels_cmp,
     * each once. Labels live as long as the select. */
    enum err_code (*select)(struct query_source *src, const struct matcher *matchers,
                            size_t n_matchers, int64_t mint_ms, int64_t maxt_ms,
                            struct source_select **out, struct err *err);
    size_t (*count)(const struct source_select *sel);
    struct labels (*labels)(const struct source_select *sel, size_t i);
    /* Appends the samples of series i with mint_ms <= t <= maxt_ms to `out`, in time order, staleness
     * markers included. Different series may be read by different threads at the same time. */
    enum err_code (*read)(struct source_select *sel, size_t i, int64_t mint_ms, int64_t maxt_ms,
                          struct samples *out, struct err *err);
    /* Like read, but the newest sample alone, if there is one: what an instant query asks of most series. May be NULL:
     * then read serves. */
    enum err_code (*read_last)(struct source_select *sel, size_t i, int64_t mint_ms,
                               int64_t maxt_ms, struct samples *out, struct err *err);
    void (*release)(struct source_select *sel);
    /* For who remembers answers (engine/changes.h). settle: what is at or before until_ms will be remembered; says whose
     * state it is and which. changed_since: the earliest time that changed after that. Both NULL: nothing can be
     * remembered. */
    void (*settle)(struct query_source *src, int64_t until_ms, uint64_t *identity,
                   uint64_t *number);
    int64_t (*changed_since)(struct query_source *src, uint64_t number);
    /* About how many series a select would find, and samples of theirs within the time, without finding them.
     * n_matchers 0: of all series, at no cost to speak of. May be NULL. */
    enum err_code (*estimate)(struct query_source *src, const struct matcher *matchers,
                              size_t n_matchers, int64_t mint_ms, int64_t maxt_ms, uint64_t *series,
                              uint64_t *samples, struct err *err);

    /* Labels of the series i .. i + n - 1 of a bare select may be asked for from now on. Not while others are in a call on
     * the select. NULL, with the next: selects are never bare. */
    enum err_code (*spell)(struct source_select *sel, size_t i, size_t n, struct err *err);
    /* Series with equal labels get the same number, from 0 on in the order of series, where only labels that `names`
     * keeps count. */
    enum err_code (*groups)(struct source_select *sel, const struct label_names *names,
                            uint32_t *numbers, struct err *err);

    /* Readers, for who reads one series after the other, one thread's each; freed before the select. All NULL: there are
     * none. */
    enum err_code (*reader_new)(struct source_select *sel, struct source_reader **out,
                                struct err *err);
    void (*reader_free)(struct source_reader *reader);
    /* As read. */
    enum err_code (*reader_samples)(struct source_reader *reader, size_t i, int64_t mint_ms,
                                    int64_t maxt_ms, struct samples *out, struct err *err);
    /* The same samples in place, if they are plain floats, until the next call; *plain false: ask for samples. */
    enum err_code (*reader_floats)(struct source_reader *reader, size_t i, int64_t mint_ms,
                                   int64_t maxt_ms, struct float_column *out, bool *plain,
                                   struct err *err);
    /* In place as well, but of the values only v[0] and v[n - 1]; *known false: some may be NaN, or (rises) less than the
     * one before. */
    enum err_code (*reader_ends)(struct source_reader *reader, size_t i, int64_t mint_ms,
                                 int64_t maxt_ms, bool rises, struct float_column *out, bool *known,
                                 struct err *err);
    /* The newest sample, if it is known without reading values. */
    enum err_code (*reader_newest)(struct source_reader *reader, size_t i, int64_t mint_ms,
                                   int64_t maxt_ms, bool want_value, struct newest_sample *out,
                                   struct err *err);

    /* Sorted, unique, copied to the arena. n_matchers 0: all. `*truncated` says if want->limit cut. */
    enum err_code (*label_names)(struct query_source *src, const struct matcher *matchers,
                                 size_t n_matchers, int64_t mint_ms, int64_t maxt_ms,
                                 const struct label_want *want, struct arena *arena,
                                 struct str **out, size_t *n, bool *truncated, struct err *err);
    enum err_code (*label_values)(struct query_source *src, struct str name,
                                  const struct matcher *matchers, size_t n_matchers,
                                  int64_t mint_ms, int64_t maxt_ms, const struct label_want *want,
                                  struct arena *arena, struct str **out, size_t *n, bool *truncated,
                                  struct err *err);
    /* Warnings for answers about [mint_ms, maxt_ms]: why samples are missing in them. In the arena. May be NULL: there
     * is never a reason. */
    enum err_code (*warnings)(struct query_source *src, int64_t mint_ms, int64_t maxt_ms,
                              struct arena *arena, struct str **out, size_t *n, struct err *err);
    /* Of series that match one of the sets, with mint_ms <= t <= maxt_ms. Sorted by series, in the arena. NULL: there are
     * none. */
    enum err_code (*exemplars)(struct query_source *src, const struct matcher_set *sets,
                               size_t n_sets, int64_t mint_ms, int64_t maxt_ms, struct arena *arena,
                               struct series_exemplars **out, size_t *n, struct err *err);
    /* family {"", 0}: all. Sorted by family. */
    enum err_code (*metadata)(struct query_source *src, struct str family, struct arena *arena,
                              struct source_metadata **out, size_t *n, struct err *err);
};

/* What one select may take. */
struct source_bounds {
    size_t series_max; /* ERR_LIMIT beyond; 0: none */
    /* Asked now and then while it searches; an error ends it. */
    enum err_code (*poll)(void *ctx, struct err *err);
    void *ctx;
    bool bare; /* labels are not asked for before `spell`; for sources that have it */
};

struct query_source {
    const struct query_source_ops *ops;
    const struct source_bounds *bounds; /* of the next select; NULL: none */
};

#endif
