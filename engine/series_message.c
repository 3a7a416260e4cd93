/* engine/series_message.c: see the header. Field numbers: prompb/remote.proto, prompb/types.proto. */
#include "engine/series_message.h"

#include "base/protobuf.h"

void series_message_labels(struct buf *out, struct labels labels)
{
    for (size_t i = 0; i < labels.n; i++) {
        size_t label = pb_put_begin(out, 1);
        pb_put_text(out, 1, labels.items[i].name);
        pb_put_text(out, 2, labels.items[i].value);
        pb_put_end(out, label);
    }
}

size_t series_message_begin(struct buf *out, struct labels labels)
{
    size_t at = pb_put_begin(out, 1);
    series_message_labels(out, labels);
    return at;
}

void series_message_end(struct buf *out, size_t at)
{
    pb_put_end(out, at);
}

static void put_float(struct buf *out, int64_t t_ms, double v)
{
    size_t at = pb_put_begin(out, 2);
    pb_put_double(out, 1, v);
    pb_put_varint(out, 2, (uint64_t)t_ms);
    pb_put_end(out, at);
}

/* ---- histograms ---- */

static void put_spans(struct buf *out, uint32_t number, const struct histogram_span *spans,
                      uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        size_t at = pb_put_begin(out, number);
        pb_put_varint(out, 1, zigzag_encode(spans[i].offset));
        pb_put_varint(out, 2, spans[i].length);
        pb_put_end(out, at);
    }
}

static void put_doubles(struct buf *out, uint32_t number, const double *v, uint32_t n)
{
    if (!n) return;
    size_t at = pb_put_begin(out, number);
    for (uint32_t i = 0; i < n; i++) buf_double(out, v[i]);
    pb_put_end(out, at);
}

/* Whole numbers below 2^63, as an importer has checked. */
static void put_deltas(struct buf *out, uint32_t number, const double *v, uint32_t n)
{
    int64_t before = 0;
    if (!n) return;
    size_t at = pb_put_begin(out, number);
    for (uint32_t i = 0; i < n; i++) {
        int64_t count = (int64_t)v[i];
        buf_zigzag(out, (int64_t)((uint64_t)count - (uint64_t)before));
        before = count;
    }
    pb_put_end(out, at);
}

static void put_buckets(struct buf *out, uint32_t number, const struct histogram *h,
                        const double *v, uint32_t n)
{
    if (h->is_int)
        put_deltas(out, number, v, n);
    else
        put_doubles(out, number + 1, v, n);
}

static void put_histogram(struct buf *out, int64_t t_ms, const struct histogram *h, bool with_start)
{
    size_t at = pb_put_begin(out, 4);
    if (h->is_int) {
        pb_put_varint(out, 1, (uint64_t)h->count);
        pb_put_varint(out, 6, (uint64_t)h->zero_count);
    } else {
        pb_put_double(out, 2, h->count);
        pb_put_double(out, 7, h->zero_count);
    }
    pb_put_double(out, 3, h->sum);
    pb_put_varint(out, 4, zigzag_encode(h->schema));
    pb_put_double(out, 5, h->zero_threshold);
    put_spans(out, 8, h->neg_spans, h->n_neg_spans);
    put_buckets(out, 9, h, h->neg, h->n_neg);
    put_spans(out, 11, h->pos_spans, h->n_pos_spans);
    put_buckets(out, 12, h, h->pos, h->n_pos);
    if (h->reset_hint) pb_put_varint(out, 14, h->reset_hint);
    pb_put_varint(out, 15, (uint64_t)t_ms);
    put_doubles(out, 16, h->bounds, h->n_bounds);
    if (with_start && h->start_ms) pb_put_varint(out, 17, (uint64_t)h->start_ms);
    pb_put_end(out, at);
}

void series_message_samples(struct buf *out, const struct samples *s, size_t from, size_t to,
                            bool with_starts)
{
    for (size_t i = from; i < to; i++) {
        if (s->h && s->h[i])
            put_histogram(out, s->t_ms[i], s->h[i], with_starts);
        else
            put_float(out, s->t_ms[i], s->v[i]);
    }
}
