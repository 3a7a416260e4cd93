/* engine/head.h: samples that are not in blocks yet.
 *
 * A series has chunks, newest first: the open one (Gorilla, grows in place) and closed ones. Every chunk belongs to
 * the generation it was begun in: a flush takes generations, and a sample that meets an older generation's chunk
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
#include "storage/gorilla.h"

#define HEAD_STRIPES 8
/* Series of one page share a stripe, so that neighbours in a request need not change locks. */
struct head_stripe {
    struct lock lock; /* rank LOCK_SHARD; guards cells and its series' chunks and extra */
    struct cells cells;
};

/* By kind, so that a chunk tells its own layout. */
enum head_chunk_kind { HEAD_OPEN, HEAD_CLOSED };
struct head_chunk {
    struct head_chunk *next; /* older */
    int64_t t_min_ms;
    uint32_t gen, cell_bytes;
    uint16_t n;
    uint8_t kind;
};
struct head_open {
    struct head_chunk c; /* n is gorilla.n, t_max is gorilla.t_last_ms */
    struct gorilla gorilla;
    uint8_t data[];
};
struct head_closed {
    struct head_chunk c;
    int64_t t_max_ms;
    uint32_t data_bytes;
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
/* What most series do not need. */
struct head_extra {
    struct head_rows side, histograms;
    struct head_chunk *sealed; /* closed side chunks, newest first */
};

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

/* Under the stripe's lock: brings the open chunk's header; later, its end. */
static inline void head_prefetch_chunk(const struct series *s)
{
    const struct head_open *open = (const struct head_open *)s->chunks;
    if (!open) return;
    __builtin_prefetch(open);
    __builtin_prefetch(open->data);
}
static inline void head_prefetch_end(const struct series *s)
{
    const struct head_open *open = (const struct head_open *)s->chunks;
    if (open && open->c.kind == HEAD_OPEN)
        __builtin_prefetch(open->data + gorilla_size(&open->gorilla), 1);
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

int64_t head_chunk_t_max(const struct head_chunk *c);
struct bytes head_chunk_bytes(const struct head_chunk *c);
/* A closed chunk with a copy of `data`; NULL when memory is out. Not linked yet. */
MUST_USE struct head_chunk *head_closed_new(struct head_stripe *stripe, struct head_counts *counts,
                                            const struct head_chunk *like, int64_t t_max_ms,
                                            struct bytes data);
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
/* The value that a reader gets at t_ms, whatever the generation; *found false: none. */
struct head_found {
    bool found;
    double v;
    struct histogram *h; /* in the arena given */
};
MUST_USE enum err_code head_find(const struct series *s, int64_t t_ms, struct arena *arena,
                                 struct head_found *out, struct err *err);

static inline int64_t head_rows_t_max(const struct head_rows *rows)
{
    return rows->items[rows->n - 1].t_ms;
}
static inline double head_row_value(const struct head_row *row)
{
    return double_from_bits(row->v_bits);
}

#endif
