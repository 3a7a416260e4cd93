/* wal/record.h: the payloads of WAL records, by columns. Every payload begins with the tenant's incarnation, so
 * that a deleted tenant's data never returns to its successor. Encoders append to a buf, decoders are bounded and
 * leave their arrays in an arena. Layouts: wal/format.h. */
#ifndef QUIPU_WAL_RECORD_H
#define QUIPU_WAL_RECORD_H

#include "base/arena.h"
#include "base/bytes.h"

/* WAL_SERIES: labels of series before the first sample that names them. `labels` is an opaque encoded label set
 * (storage/labels.h). */
struct wal_series {
    uint64_t incarnation;
    size_t n;
    uint64_t *id;
    struct bytes *labels;
};
void wal_encode_series(struct buf *out, const struct wal_series *series);
MUST_USE enum err_code wal_decode_series(struct bytes payload, struct arena *arena,
                                         struct wal_series *out, struct err *err);

/* WAL_SAMPLES: ids, times and values in columns. WAL_STARTED: start timestamps as well. */
struct wal_samples {
    uint64_t incarnation;
    size_t n;
    uint64_t *id;
    int64_t *t_ms;
    double *v;
    int64_t *st_ms; /* NULL: WAL_SAMPLES */
};
void wal_encode_samples(struct buf *out, const struct wal_samples *samples);
MUST_USE enum err_code wal_decode_samples(struct bytes payload, struct arena *arena,
                                          struct wal_samples *out, struct err *err);
MUST_USE enum err_code wal_decode_started(struct bytes payload, struct arena *arena,
                                          struct wal_samples *out, struct err *err);

/* WAL_HISTOGRAMS and WAL_EXEMPLARS: ids and times in columns, and an opaque item for each: an encoded histogram
 * (storage/histogram.h); 8 bytes of value and an encoded label set. */
struct wal_items {
    uint64_t incarnation;
    size_t n;
    uint64_t *id;
    int64_t *t_ms;
    struct bytes *item;
};
void wal_encode_items(struct buf *out, const struct wal_items *items);
MUST_USE enum err_code wal_decode_items(struct bytes payload, struct arena *arena,
                                        struct wal_items *out, struct err *err);

/* WAL_TIME: when the records that follow were appended (wall clock). Of no tenant: its incarnation is 0. */
#define WAL_TIME_BYTES 10
void wal_encode_time(uint8_t out[WAL_TIME_BYTES], int64_t t_ms);
MUST_USE enum err_code wal_decode_time(struct bytes payload, int64_t *t_ms, struct err *err);

/* WAL_TENANT */
struct wal_tenant {
    uint64_t incarnation;
    struct str name; /* in the payload */
    int64_t created_ms;
};
void wal_encode_tenant(struct buf *out, const struct wal_tenant *tenant);
MUST_USE enum err_code wal_decode_tenant(struct bytes payload, struct wal_tenant *out,
                                         struct err *err);

/* The incarnation alone, to skip a record early. */
MUST_USE enum err_code wal_record_incarnation(struct bytes payload, uint64_t *incarnation,
                                              struct err *err);

#endif
