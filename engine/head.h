/* engine/head.h: samples that are not in blocks yet.
 *
 * A series has an open stream (Gorilla, grows in place) and closed chunks, newest first. Every chunk belongs to the
 * generation it was begun in: a flush takes generations, and a sample that meets an older generation's stream
 * begins a new one. What comes out of order goes to the side: sorted raw rows, sealed into chunks when they are
 * many. Histograms gather as rows, too, until there are enough for a chunk.
 *
 * Which sample wins a time: the one of the later generation; within one, the side's against the rest, and of sealed
 * side chunks the later one. head_append keeps it that way, by only letting in front what is later than all of its
 * generation. A staleness marker never replaces a value (samples_merge).
 *
 * Threads: the lock of the series' stripe guards all of it. Closed and sealed chunks do not change and are freed by
 * head_sweep only, so a reader whose view keeps them (view.h) decodes them without the lock. */
#ifndef QUIPU_ENGINE_HEAD_H
#define QUIPU_ENGINE_HEAD_H

#include "engine/registry.h"

#define HEAD_STRIPES 64
/* So many neighbours share a stripe: a request changes locks seldom, and what is ahead may be prefetched. */
#define HEAD_STRIPE_SERIES 512
struct head_stripe {
    struct lock lock;       /* rank LOCK_SHARD; guards its series' streams, chunks and extra */
    struct cell_pool *pool; /* of all stripes */
};

/* A stream that has ended, or bytes. */
enum head_chunk_kind { HEAD_STREAM, HEAD_BYTES };
struct head_chunk {
    struct head_chunk *next; /* older */
    int64_t t_min_ms, t_max_ms;
    uint32_t gen;
    uint16_t n;
    uint8_t kind;
};
struct head_closed {
    struct head_chunk c;
    uint8_t *first;
    uint64_t v_first_bits;
    uint32_t n_bits;
};
struct head_bytes {
    struct head_chunk c;
    uint32_t len;
    uint8_t data[]; /* as chunk.h */
};

/* Raw samples in time order. */
struct head_row {
    int64_t t_ms;
    uint64_t v_bits;
    uint8_t *h; /* a cell: u32 length, then histogram_encode's bytes; NULL: a float */
};
struct head_rows {
    struct head_row *items; /* a cell */
    uint32_t n, cap, gen;
    uint32_t h_bytes; /* of all histograms */
};
/* Start timestamps of floats: st_ms from t_ms on, up to the next one's. Sorted; see head_starts.c. */
struct head_start {
    int64_t t_ms, st_ms; /* 0: unknown */
};
struct head_starts {
    struct head_start *items; /* a cell */
    uint32_t n, cap;
};
/* What most series do not need. */
struct head_extra {
    struct head_rows side, histograms;
    struct head_starts starts;
    struct head_chunk *sealed; /* closed side chunks, newest first */
    int64_t sealed_t_max_ms;   /* of all of them; INT64_MIN: none */
    uint32_t n_sealed;
};

static inline bool head_is_empty(const struct series *s)
{
    return !stream_exists(&s->open) && !s->chunks && !s->extra;
}

/* What a batch changed, to be added to the tenant's counters at its end. */
struct head_counts {
    int64_t bytes, chunks, samples;
    uint64_t n_stored, n_out_of_order, n_duplicate, n_overwritten;
};

struct head_value {
    double v;                  /* bit-exact; of a histogram its sum */
    const struct histogram *h; /* NULL: a float */
    struct bytes encoded;      /* of h */
};

/* Under the stripe's lock: adds one sample. ERR_NO_MEMORY: it is not stored. */
MUST_USE enum err_code head_append(struct head_stripe *stripe, struct head_counts *counts,
                                   uint32_t gen, struct series *s, int64_t t_ms,
                                   const struct head_value *value, struct err *err);
/* The same for a float: the hot path. */
MUST_USE enum err_code head_append_float(struct head_stripe *stripe, struct head_counts *counts,
                                         uint32_t gen, struct series *s, int64_t t_ms, double v,
                                         struct err *err);

static inline bool head_has_starts(const struct series *s)
{
    return s->extra && s->extra->starts.n;
}
/* A float with a start timestamp (0: unknown), or one of a series that has some. */
MUST_USE enum err_code head_append_started(struct head_stripe *stripe, struct head_counts *counts,
                                           uint32_t gen, struct series *s, int64_t t_ms, double v,
                                           int64_t st_ms, struct err *err);

/* Brings the stream's state; later, under the stripe's lock, its end. */
PREFETCHES void head_prefetch_open(const struct series *s)
{
    __builtin_prefetch(&s->open, 1);
}
PREFETCHES void head_prefetch_end(const struct series *s)
{
    if (stream_exists(&s->open)) __builtin_prefetch(stream_at(&s->open), 1);
}

/* Under the stripe's lock: are there samples of generations > gen_after within [mint_ms, maxt_ms]? By chunk. */
bool head_overlaps(const struct series *s, uint32_t gen_after, int64_t mint_ms, int64_t maxt_ms);
/* Takes the stripe's lock for a moment, then decodes: appends samples of generations in (gen_after, gen_last] within
 * [mint_ms, maxt_ms], merged into what `out` holds as newer. Histograms go to out->arena. */
MUST_USE enum err_code head_read(struct head_stripe *stripe, const struct series *s,
                                 uint32_t gen_after, uint32_t gen_last, int64_t mint_ms,
                                 int64_t maxt_ms, struct samples *out, struct err *err);
/* Under the stripe's lock: frees generations <= gen_last. */
void head_sweep(struct head_stripe *stripe, struct head_counts *counts, uint32_t gen_last,
                struct series *s);

/* ---- for head*.c ---- */

/* A chunk with a copy of `data`, `kind` set; NULL when memory is out. Not linked yet. */
MUST_USE struct head_chunk *head_bytes_new(struct head_stripe *stripe, struct head_counts *counts,
                                           const struct head_chunk *like, struct bytes data);
/* A stream as the chunk that it is, NULL p when the arena is out of memory. */
struct bytes head_stream_bytes(const struct head_stream *s, struct arena *arena);
struct bytes head_closed_bytes(const struct head_closed *c, struct arena *arena);
void head_open_free(struct head_stripe *stripe, struct head_counts *counts, struct series *s);
void head_chunk_free(struct head_stripe *stripe, struct head_counts *counts, struct head_chunk *c);
/* NULL when memory is out. */
MUST_USE struct head_extra *head_extra_of(struct head_stripe *stripe, struct head_counts *counts,
                                          struct series *s);
/* Inserts by time, or replaces what stands there. */
MUST_USE bool head_rows_put(struct head_stripe *stripe, struct head_counts *counts,
                            struct head_rows *rows, int64_t t_ms, const struct head_value *value);
void head_rows_clear(struct head_stripe *stripe, struct head_counts *counts,
                     struct head_rows *rows);
/* Copies rows [from, n) as samples; histograms are decoded into out->arena. */
MUST_USE enum err_code head_rows_read(const struct head_rows *rows, struct samples *out,
                                      struct err *err);
/* Rows to a closed chunk in front of *list. */
MUST_USE enum err_code head_rows_seal(struct head_stripe *stripe, struct head_counts *counts,
                                      struct head_rows *rows, struct head_chunk **list,
                                      struct err *err);
/* The value that a reader gets at t_ms, whatever the generation; *found false: none, or none but in sealed chunks, of
 * which there are too many to look into. */
struct head_found {
    bool found;
    double v;
    struct histogram *h; /* in the arena given */
};
MUST_USE enum err_code head_find(const struct series *s, int64_t t_ms, struct arena *arena,
                                 struct head_found *out, struct err *err);

/* The float at t_ms has this start timestamp; latest: nothing of the series is later. False when memory is out. */
MUST_USE bool head_starts_put(struct head_stripe *stripe, struct head_counts *counts,
                              struct series *s, int64_t t_ms, int64_t st_ms, bool latest);
void head_starts_clear(struct head_stripe *stripe, struct head_counts *counts,
                       struct head_starts *starts);
/* Forgets what samples before t_min_ms had. */
void head_starts_trim(struct head_starts *starts, int64_t t_min_ms);
/* Fills in those of all floats. */
MUST_USE enum err_code head_starts_apply(const struct head_starts *starts, struct samples *s,
                                         struct err *err);

static inline int64_t head_rows_t_max(const struct head_rows *rows)
{
    return rows->items[rows->n - 1].t_ms;
}
static inline double head_row_value(const struct head_row *row)
{
    return double_from_bits(row->v_bits);
}

#endif
