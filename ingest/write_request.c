/* ingest/write_request.c: see write_request.h. Field numbers are those of prometheus.WriteRequest (prompb/remote.proto,
 * prompb/types.proto; remote write specification 1.0). */
#include "ingest/write_request_private.h"

#include <inttypes.h>

#define EXEMPLAR_RUNES_MAX 128 /* of all names and values of one; OpenMetrics 1.0 */
#define BATCH_CAP_FIRST 2048
#define COUNT_EXACT_MAX 9007199254740992.0 /* 2^53: larger integer counts would be rounded */

void write_request_init(struct write_request *w, struct arena *arena,
                        const struct label_limits *limits, struct series_source source)
{
    *w = (struct write_request){.arena = arena, .texts = arena, .limits = limits, .source = source};
}

void write_request_reject(struct write_request *w, enum reject_reason reason, size_t n,
                          const struct err *why)
{
    w->rejected[reason] += n;
    if (w->n_problems < WRITE_PROBLEMS_SHOWN)
        w->problems[w->n_problems] = arena_str(w->texts, str_of(why->text)).p;
    w->n_problems++;
}

/* ---- columns that grow in the arena ---- */

static void *column_grow(struct arena *arena, const void *old, size_t n, size_t cap, size_t size)
{
    void *p = arena_alloc(arena, cap * size, 16); /* cap: bounded by the message's bytes */
    if (p && n) memcpy(p, old, n * size);
    return p;
}

enum err_code write_floats_reserve(struct write_request *w, struct err *err)
{
    struct write_batch *b = &w->batch;
    if (LIKELY(b->n < w->cap)) return ERR_OK;
    size_t cap = w->cap ? w->cap * 2 : BATCH_CAP_FIRST;
    void *series = column_grow(w->arena, b->series, b->n, cap, sizeof(*b->series));
    void *t_ms = column_grow(w->arena, b->t_ms, b->n, cap, sizeof(*b->t_ms));
    void *v = column_grow(w->arena, b->v, b->n, cap, sizeof(*b->v));
    if (!series || !t_ms || !v) return arena_fail(w->arena, err);
    if (b->st_ms) {
        void *st_ms = column_grow(w->arena, b->st_ms, b->n, cap, sizeof(*b->st_ms));
        if (!st_ms) return arena_fail(w->arena, err);
        b->st_ms = st_ms;
    }
    b->series = series;
    b->t_ms = t_ms;
    b->v = v;
    w->cap = cap;
    return ERR_OK;
}

enum err_code write_float_started(struct write_request *w, int64_t st_ms, struct err *err)
{
    struct write_batch *b = &w->batch;
    if (LIKELY(!st_ms && !b->st_ms)) return ERR_OK;
    if (!b->st_ms) {
        b->st_ms = column_grow(w->arena, NULL, 0, w->cap, sizeof(*b->st_ms));
        if (!b->st_ms) return arena_fail(w->arena, err);
        memset(b->st_ms, 0, b->n * sizeof(*b->st_ms));
    }
    b->st_ms[b->n - 1] = st_ms;
    return ERR_OK;
}

static enum err_code histograms_reserve(struct write_request *w, struct err *err)
{
    struct write_batch *b = &w->batch;
    if (b->n_histograms < w->h_cap) return ERR_OK;
    size_t n = b->n_histograms, cap = w->h_cap ? w->h_cap * 2 : 64;
    void *series = column_grow(w->arena, b->h_series, n, cap, sizeof(*b->h_series));
    void *t_ms = column_grow(w->arena, b->h_t_ms, n, cap, sizeof(*b->h_t_ms));
    void *h = column_grow(w->arena, b->h, n, cap, sizeof(*b->h));
    if (!series || !t_ms || !h) return arena_fail(w->arena, err);
    b->h_series = series;
    b->h_t_ms = t_ms;
    b->h = h;
    w->h_cap = cap;
    return ERR_OK;
}

/* ---- histograms ---- */

struct numbers {
    double *items;
    uint32_t n, cap;
    uint64_t sum; /* of the deltas so far, exactly; modulo 2^64 */
};
struct histogram_parts {
    struct histogram h;
    struct numbers pos, neg, bounds;
    int64_t t_ms;
    bool is_float; /* count_float was there */
};

/* A repeated message is counted before its array is made. */
static size_t field_count(struct bytes message, uint32_t number)
{
    struct pb pb = pb_init(message, "Histogram");
    struct pb_field f;
    size_t n = 0;
    while (pb_next(&pb, &f)) n += f.number == number;
    return n;
}

static bool span_decode(struct pb *outer, struct bytes message, struct histogram_span *out)
{
    struct pb pb = pb_init(message, "BucketSpan");
    struct pb_field f;
    while (pb_next(&pb, &f)) {
        if (f.number == 1) {
            if (!pb_expect(&pb, &f, PB_VARINT, "Offset")) break;
            out->offset = (int32_t)zigzag_decode(f.u & UINT32_MAX);
        } else if (f.number == 2) {
            if (!pb_expect(&pb, &f, PB_VARINT, "Length")) break;
            out->length = (uint32_t)f.u;
        }
    }
    if (pb.error) *outer = pb;
    return pb.error == PB_OK;
}

static enum err_code span_push(struct arena *arena, struct bytes message, uint32_t number,
                               struct pb *pb, const struct pb_field *f,
                               struct histogram_span **spans, uint32_t *n, struct err *err)
{
    if (!pb_expect(pb, f, PB_LEN, number == 8 ? "NegativeSpans" : "PositiveSpans")) return ERR_OK;
    if (!*spans) {
        *spans = ARENA_ARRAY(arena, struct histogram_span, field_count(message, number));
        if (!*spans) return arena_fail(arena, err);
    }
    (void)span_decode(pb, f->bytes, &(*spans)[*n]); /* an error ends pb */
    (*n)++;
    return ERR_OK;
}

static enum err_code numbers_reserve(struct arena *arena, struct numbers *a, size_t extra,
                                     struct err *err)
{
    if (extra > HISTOGRAM_BUCKETS_MAX - a->n)
        return err_set(err, ERR_INVALID, "histogram of more than %d buckets",
                       HISTOGRAM_BUCKETS_MAX);
    if (a->n + extra <= a->cap) return ERR_OK;
    size_t cap = MAX_OF(a->n + extra, (size_t)a->cap * 2);
    double *grown = column_grow(arena, a->items, a->n, cap, sizeof(double));
    if (!grown) return arena_fail(arena, err);
    a->items = grown;
    a->cap = (uint32_t)cap;
    return ERR_OK;
}

/* How many numbers a packed field holds: each varint has one byte below 0x80. */
static size_t packed_count(struct bytes packed, enum pb_wire wire)
{
    if (wire == PB_FIXED64) return packed.len / 8;
    size_t n = 0;
    for (size_t i = 0; i < packed.len; i++) n += packed.p[i] < 0x80;
    return n;
}

/* Appends the numbers of one packed (or single) field. Deltas (PB_VARINT) add up to absolute counts. */
static enum err_code numbers_push(struct arena *arena, struct pb *pb, const struct pb_field *f,
                                  enum pb_wire wire, const char *name, struct numbers *a,
                                  struct err *err)
{
    struct pb_packed packed;
    if (!pb_packed_init(pb, f, wire, name, &packed)) return ERR_OK;
    size_t n = packed.single ? 1 : packed_count(f->bytes, wire);
    enum err_code rc = numbers_reserve(arena, a, n, err);
    if (rc) return rc;
    uint64_t u;
    while (pb_packed_next(&packed, wire, &u)) {
        if (wire == PB_VARINT) a->sum += (uint64_t)zigzag_decode(u);
        a->items[a->n++] = wire == PB_VARINT ? (double)(int64_t)a->sum : double_from_bits(u);
    }
    if (packed.pb.error) *pb = packed.pb;
    return ERR_OK;
}

static bool scalar_field(struct pb *pb, const struct pb_field *f, struct histogram_parts *p)
{
    struct histogram *h = &p->h;
    switch (f->number) {
    case 1:
        if (!pb_expect(pb, f, PB_VARINT, "CountInt")) return true;
        h->count = (double)f->u;
        p->is_float = false;
        return true;
    case 2:
        if (!pb_expect(pb, f, PB_FIXED64, "CountFloat")) return true;
        h->count = double_from_bits(f->u);
        p->is_float = true;
        return true;
    case 3:
        if (pb_expect(pb, f, PB_FIXED64, "Sum")) memcpy(&h->sum, &f->u, 8);
        return true;
    case 4:
        if (pb_expect(pb, f, PB_VARINT, "Schema"))
            h->schema = (int32_t)zigzag_decode(f->u & UINT32_MAX);
        return true;
    case 5:
        if (pb_expect(pb, f, PB_FIXED64, "ZeroThreshold"))
            h->zero_threshold = double_from_bits(f->u);
        return true;
    case 6:
        if (pb_expect(pb, f, PB_VARINT, "ZeroCountInt")) h->zero_count = (double)f->u;
        return true;
    case 7:
        if (pb_expect(pb, f, PB_FIXED64, "ZeroCountFloat")) h->zero_count = double_from_bits(f->u);
        return true;
    case 14:
        if (pb_expect(pb, f, PB_VARINT, "ResetHint")) h->reset_hint = f->u <= 3 ? (uint8_t)f->u : 0;
        return true;
    case 15:
        if (pb_expect(pb, f, PB_VARINT, "Timestamp")) p->t_ms = (int64_t)f->u;
        return true;
    case 17:
        if (pb_expect(pb, f, PB_VARINT, "StartTimestamp")) h->start_ms = (int64_t)f->u;
        return true;
    default: return false;
    }
}

static enum err_code bucket_field(struct arena *arena, struct bytes message, struct pb *pb,
                                  const struct pb_field *f, struct histogram_parts *p,
                                  struct err *err)
{
    struct histogram *h = &p->h;
    switch (f->number) {
    case 8: return span_push(arena, message, 8, pb, f, &h->neg_spans, &h->n_neg_spans, err);
    case 11: return span_push(arena, message, 11, pb, f, &h->pos_spans, &h->n_pos_spans, err);
    case 9: return numbers_push(arena, pb, f, PB_VARINT, "NegativeDeltas", &p->neg, err);
    case 12: return numbers_push(arena, pb, f, PB_VARINT, "PositiveDeltas", &p->pos, err);
    case 10: return numbers_push(arena, pb, f, PB_FIXED64, "NegativeCounts", &p->neg, err);
    case 13: return numbers_push(arena, pb, f, PB_FIXED64, "PositiveCounts", &p->pos, err);
    case 16: return numbers_push(arena, pb, f, PB_FIXED64, "CustomValues", &p->bounds, err);
    default: return ERR_OK;
    }
}

/* A staleness marker carries nothing but its sum; what else a sender left in it would only be in the way. */
static void histogram_make_stale(struct histogram *h)
{
    double sum = h->sum;
    *h = (struct histogram){.is_int = h->is_int};
    memcpy(&h->sum, &sum, 8);
}

static enum err_code histogram_check(const struct histogram *h, struct err *err)
{
    if (h->is_int && (h->count > COUNT_EXACT_MAX || h->zero_count > COUNT_EXACT_MAX))
        return err_set(err, ERR_INVALID, "histogram's observation count is above 2^53");
    return histogram_validate(h, err);
}

static enum err_code histogram_decode_pb(struct write_request *w, struct pb *outer,
                                         struct bytes message, struct histogram_parts *p,
                                         struct err *err)
{
    struct pb pb = pb_init(message, "Histogram");
    struct pb_field f;
    while (pb_next(&pb, &f)) {
        if (scalar_field(&pb, &f, p)) continue;
        enum err_code rc = bucket_field(w->arena, message, &pb, &f, p, err);
        if (rc) return rc;
    }
    if (pb.error) *outer = pb;
    struct histogram *h = &p->h;
    h->is_int = !p->is_float;
    h->pos = p->pos.items;
    h->n_pos = p->pos.n;
    h->neg = p->neg.items;
    h->n_neg = p->neg.n;
    h->bounds = p->bounds.items;
    h->n_bounds = p->bounds.n;
    return ERR_OK;
}

enum err_code write_histogram_push(struct write_request *w, struct pb *outer, struct bytes message,
                                   struct series *series, int64_t st_ms, struct err *err)
{
    struct histogram_parts p = {0};
    enum err_code rc = histogram_decode_pb(w, outer, message, &p, err);
    if (rc || outer->error) return rc;
    if (histogram_is_stale(&p.h))
        histogram_make_stale(&p.h);
    else if ((rc = histogram_check(&p.h, err)) != ERR_OK)
        return rc;
    rc = histograms_reserve(w, err);
    if (rc) return rc;
    struct histogram *h = arena_alloc(w->arena, sizeof(*h), _Alignof(struct histogram));
    if (!h) return arena_fail(w->arena, err);
    memcpy(h, &p.h, sizeof(*h));
    if (!h->start_ms && !histogram_is_stale(h)) h->start_ms = st_ms;
    struct write_batch *b = &w->batch;
    b->h_series[b->n_histograms] = series;
    b->h_t_ms[b->n_histograms] = p.t_ms;
    b->h[b->n_histograms++] = h;
    return ERR_OK;
}

/* ---- exemplars ---- */

enum err_code write_exemplar_label(struct write_request *w, struct sent_exemplar *e,
                                   struct label label, struct err *err)
{
    if (e->n == e->cap) {
        size_t cap = e->cap ? e->cap * 2 : 8;
        void *labels = column_grow(w->arena, e->labels, e->n, cap, sizeof(*e->labels));
        if (!labels) return arena_fail(w->arena, err);
        e->labels = labels;
        e->cap = cap;
    }
    e->labels[e->n++] = label;
    return ERR_OK;
}

static size_t count_runes(struct str s)
{
    size_t n = 0;
    for (size_t i = 0; i < s.len; i++) n += ((unsigned char)s.p[i] & 0xC0) != 0x80;
    return n;
}

/* Drops empty values and sorts. False: they are not what labels must be, or too long. */
static bool exemplar_labels(struct sent_exemplar *e, struct labels *out)
{
    size_t n = 0, n_runes = 0;
    for (size_t i = 0; i < e->n; i++) {
        struct label l = e->labels[i];
        if (l.value.len == 0) continue;
        if (l.name.len == 0 || !utf8_valid(l.name) || !utf8_valid(l.value)) return false;
        n_runes += count_runes(l.name) + count_runes(l.value);
        e->labels[n++] = l;
    }
    if (n_runes > EXEMPLAR_RUNES_MAX || !labels_sort(e->labels, n)) return false;
    *out = (struct labels){e->labels, n};
    return true;
}

static enum err_code exemplars_reserve(struct write_request *w, struct err *err)
{
    struct write_batch *b = &w->batch;
    if (b->n_exemplars < w->e_cap) return ERR_OK;
    size_t n = b->n_exemplars, cap = w->e_cap ? w->e_cap * 2 : 64;
    void *series = column_grow(w->arena, b->e_series, n, cap, sizeof(*b->e_series));
    void *t_ms = column_grow(w->arena, b->e_t_ms, n, cap, sizeof(*b->e_t_ms));
    void *v = column_grow(w->arena, b->e_v, n, cap, sizeof(*b->e_v));
    void *labels = column_grow(w->arena, b->e_labels, n, cap, sizeof(*b->e_labels));
    if (!series || !t_ms || !v || !labels) return arena_fail(w->arena, err);
    b->e_series = series;
    b->e_t_ms = t_ms;
    b->e_v = v;
    b->e_labels = labels;
    w->e_cap = cap;
    return ERR_OK;
}

/* Without a time of its own it has that of the newest sample of the series in the message. */
static int64_t exemplar_time(const struct write_batch *b, const struct series *series)
{
    if (b->n && b->series[b->n - 1] == series) return b->t_ms[b->n - 1];
    if (b->n_histograms && b->h_series[b->n_histograms - 1] == series)
        return b->h_t_ms[b->n_histograms - 1];
    return 0;
}

enum err_code write_exemplar_push(struct write_request *w, struct series *series,
                                  struct sent_exemplar *e, struct err *err)
{
    struct write_batch *b = &w->batch;
    struct labels labels;
    struct buf encoded;
    if (!exemplar_labels(e, &labels)) {
        w->exemplars_refused++;
        return ERR_OK;
    }
    enum err_code rc = exemplars_reserve(w, err);
    if (rc) return rc;
    buf_init(&encoded, MEM_INGEST);
    labels_encode(&encoded, labels);
    rc = buf_finish(&encoded, err);
    uint8_t *copy = rc ? NULL : arena_alloc(w->arena, encoded.len, 1);
    if (!rc && !copy) rc = arena_fail(w->arena, err);
    if (!rc) {
        memcpy(copy, encoded.p, encoded.len);
        b->e_series[b->n_exemplars] = series;
        b->e_t_ms[b->n_exemplars] = e->t_ms ? e->t_ms : exemplar_time(b, series);
        b->e_v[b->n_exemplars] = e->v;
        b->e_labels[b->n_exemplars++] = bytes_of(copy, encoded.len);
    }
    buf_release(&encoded);
    return rc;
}

/* ---- one series ---- */

enum err_code write_sample_push(struct write_request *w, struct pb *outer, struct bytes message,
                                struct series *series, int64_t st_ms, struct err *err)
{
    uint64_t value_bits = 0;
    int64_t t_ms = 0;
    struct pb pb = pb_init(message, "Sample");
    struct pb_field f;
    if (LIKELY(message.len > 9 &&
               message.p[0] == 0x09)) { /* the value first, as all senders have it */
        value_bits = get_u64_le(message.p + 1);
        pb.p += 9;
    }
    while (pb_next(&pb, &f)) {
        if (f.number == 1 && pb_expect(&pb, &f, PB_FIXED64, "Value")) value_bits = f.u;
        if (f.number == 2 && pb_expect(&pb, &f, PB_VARINT, "Timestamp")) t_ms = (int64_t)f.u;
        if (UNLIKELY(f.number == 3 && w->v2) && pb_expect(&pb, &f, PB_VARINT, "StartTimestamp") &&
            f.u)
            st_ms = (int64_t)f.u;
    }
    if (pb.error) {
        *outer = pb;
        return ERR_OK;
    }
    enum err_code rc = write_floats_reserve(w, err);
    if (rc) return rc;
    struct write_batch *b = &w->batch;
    b->series[b->n] = series;
    b->t_ms[b->n] = t_ms;
    memcpy(&b->v[b->n], &value_bits, 8); /* as an integer: a NaN's payload survives */
    b->n++;
    return write_float_started(w, st_ms, err);
}

/* Label fields that do not all come first are put together in the arena. */
static enum err_code labels_gather(struct write_request *w, struct bytes message,
                                   struct series_parts *parts, struct err *err)
{
    uint8_t *to = arena_alloc(w->arena, message.len, 1);
    if (!to) return arena_fail(w->arena, err);
    size_t len = 0;
    struct pb pb = pb_init(message, "TimeSeries");
    struct pb_field f;
    for (const uint8_t *from = pb.p; pb_next(&pb, &f); from = pb.p) {
        if (f.number != 1) continue;
        memcpy(to + len, from, (size_t)(pb.p - from));
        len += (size_t)(pb.p - from);
    }
    parts->labels = bytes_of(to, len);
    parts->rest = message;
    return ERR_OK;
}

#define LABELS_TAG 0x0a /* number 1, PB_LEN */

/* A whole field of at most 127 bytes at p: the documented short cut past pb_next, which must find the same. */
static inline bool short_field(const uint8_t *p, const uint8_t *end, uint8_t tag)
{
    return end - p >= 2 && p[0] == tag && p[1] < 0x80 && p[1] <= end - p - 2;
}

/* Past the labels as senders write them, first and short. With the short cut for the sample: 123 -> 73 ns a
 * sample of 8 labels, snappy included. */
static size_t labels_skip(struct pb *pb)
{
    size_t n = 0;
    const uint8_t *p = pb->p;
    for (; short_field(p, pb->end, LABELS_TAG); n++) p += 2 + p[1];
    pb->p = p;
    return n;
}

/* First pass: where the labels are and how much else there is. */
static enum err_code series_split(struct write_request *w, struct pb *outer, struct bytes message,
                                  struct series_parts *parts, struct err *err)
{
    *parts = (struct series_parts){.labels = {message.p, 0}};
    struct pb pb = pb_init(message, "TimeSeries");
    struct pb_field f;
    bool labels_first = true, scattered = false;
    parts->n_labels = labels_skip(&pb);
    parts->labels.len = (size_t)(pb.p - message.p);
    if (LIKELY(short_field(pb.p, pb.end, WRITE_SAMPLES_TAG) && pb.end - pb.p == 2 + pb.p[1])) {
        parts->n_samples = 1; /* nothing else, as most senders have it */
        parts->rest = bytes_of(pb.p, 2 + (size_t)pb.p[1]);
        return ERR_OK;
    }
    while (pb_next(&pb, &f)) {
        switch (f.number) {
        case 1:
            if (!pb_expect(&pb, &f, PB_LEN, "Labels")) break;
            parts->n_labels++;
            scattered |= !labels_first;
            if (labels_first) parts->labels.len = (size_t)(pb.p - message.p);
            continue;
        case 2: parts->n_samples += pb_expect(&pb, &f, PB_LEN, "Samples"); break;
        case 3: parts->n_exemplars += pb_expect(&pb, &f, PB_LEN, "Exemplars"); break;
        case 4: parts->n_histograms += pb_expect(&pb, &f, PB_LEN, "Histograms"); break;
        default: break;
        }
        labels_first = false;
    }
    if (pb.error) *outer = pb;
    if (pb.error || !scattered) {
        size_t off = parts->labels.len;
        parts->rest = bytes_of(message.p + off, message.len - off);
        return ERR_OK;
    }
    return labels_gather(w, message, parts, err);
}

static bool label_decode(struct pb *outer, struct bytes message, struct label *out)
{
    struct pb pb = pb_init(message, "Label");
    struct pb_field f;
    *out = (struct label){STR(""), STR("")};
    while (pb_next(&pb, &f)) {
        if (f.number == 1 && pb_expect(&pb, &f, PB_LEN, "Name"))
            out->name = str_from_bytes(f.bytes);
        if (f.number == 2 && pb_expect(&pb, &f, PB_LEN, "Value"))
            out->value = str_from_bytes(f.bytes);
    }
    if (pb.error) *outer = pb;
    return pb.error == PB_OK;
}

enum err_code write_series_add(struct write_request *w, struct pb *outer,
                               const struct series_parts *parts, uint64_t hash, struct series **out,
                               struct err *err)
{
    struct label *items = ARENA_ARRAY(w->arena, struct label, parts->n_labels + 1);
    if (!items) return arena_fail(w->arena, err);
    size_t n = 0;
    struct pb pb = pb_init(parts->labels, "TimeSeries");
    struct pb_field f;
    while (pb_next(&pb, &f))
        if (!label_decode(outer, f.bytes, &items[n++])) return ERR_OK;

    struct err why;
    struct labels labels;
    enum reject_reason reason = label_check(items, n, w->limits, &labels, &why);
    if (reason) {
        write_request_reject(w, reason, parts->n_samples + parts->n_histograms, &why);
        return ERR_OK;
    }
    enum err_code rc =
        w->source.add(w->source.ctx, labels, hash, parts->labels, w->walk.last, out, &why);
    if (rc) { /* no room now: the sender is asked to come again, what is known is stored all the same */
        *out = NULL;
        w->add_rc = rc;
        w->add_err = why;
    }
    return ERR_OK;
}

/* Decodes an Exemplar. */
static enum err_code exemplar_decode(struct write_request *w, struct pb *outer,
                                     struct bytes message, struct sent_exemplar *e, struct err *err)
{
    struct pb pb = pb_init(message, "Exemplar");
    struct pb_field f;
    struct label label;
    enum err_code rc = ERR_OK;
    while (!rc && outer->error == PB_OK && pb_next(&pb, &f)) {
        if (f.number == 1 && pb_expect(&pb, &f, PB_LEN, "Labels") &&
            label_decode(outer, f.bytes, &label))
            rc = write_exemplar_label(w, e, label, err);
        write_exemplar_field(e, &pb, &f);
    }
    if (pb.error) *outer = pb;
    return rc;
}

/* series NULL: they are only looked at, as a malformed one is a malformed message. */
static enum err_code series_exemplars(struct write_request *w, struct pb *outer, struct bytes rest,
                                      struct series *series, struct err *err)
{
    struct pb pb = pb_init(rest, "TimeSeries");
    struct pb_field f;
    struct sent_exemplar e = {.labels = NULL};
    enum err_code rc = ERR_OK;
    while (!rc && outer->error == PB_OK && pb_next(&pb, &f)) {
        if (f.number != 3) continue;
        write_exemplar_reset(&e);
        rc = exemplar_decode(w, outer, f.bytes, &e, err);
        if (rc || outer->error) break;
        if (series)
            rc = write_exemplar_push(w, series, &e, err);
        else
            w->exemplars_refused++;
    }
    return rc;
}

static enum err_code series_samples(struct write_request *w, struct pb *outer, struct bytes rest,
                                    struct series *series, struct err *err)
{
    struct pb pb = pb_init(rest, "TimeSeries");
    struct pb_field f;
    while (outer->error == PB_OK && pb_next(&pb, &f)) {
        enum err_code rc = ERR_OK;
        if (f.number == 2) {
            rc = write_sample_push(w, outer, f.bytes, series, 0, err);
        } else if (f.number == 4) {
            rc = write_histogram_push(w, outer, f.bytes, series, 0, err);
            if (rc == ERR_INVALID) {
                write_request_reject(w, REJECT_INVALID_HISTOGRAM, 1, err);
                rc = ERR_OK;
            }
        }
        if (rc) return rc;
    }
    return ERR_OK;
}

static enum err_code series_decode(struct write_request *w, struct pb *outer, struct bytes message,
                                   struct err *err)
{
    struct series_parts parts;
    enum err_code rc = series_split(w, outer, message, &parts, err);
    if (rc || outer->error) return rc;
    size_t n = parts.n_samples + parts.n_histograms;
    if (n + parts.n_exemplars == 0) return ERR_OK;
    uint64_t hash = hash_xxh3(parts.labels.p, parts.labels.len);
    struct series *series = w->source.find(w->source.ctx, hash, parts.labels, w->walk.last);
    if (UNLIKELY(!series) && n) { /* no series is made without samples */
        rc = write_series_add(w, outer, &parts, hash, &series, err);
        if (rc || outer->error) return rc;
    }
    if (LIKELY(series)) {
        w->walk.last = series;
        w->walk.n = 0;
        rc = series_samples(w, outer, parts.rest, series, err);
    }
    if (UNLIKELY(parts.n_exemplars) && !rc && !outer->error)
        rc = series_exemplars(w, outer, parts.rest, series, err);
    return rc;
}

/* ---- a known series in its usual place ---- */

/* The documented short cut past series_decode, which must find the same. False: it is something else. */
static bool series_decode_usual(struct write_request *w, struct bytes message)
{
    struct write_batch *b = &w->batch;
    size_t label_bytes;
    if (UNLIKELY(b->n == w->cap)) return false; /* series_decode makes room */
    struct series *last = w->walk.last;
    struct series *s = w->source.next(w->source.ctx, &w->walk, message, &label_bytes);
    if (!s) return false;
    struct bytes rest = bytes_of(message.p + label_bytes, message.len - label_bytes);
    if (UNLIKELY(!write_one_sample(rest, &b->t_ms[b->n], &b->v[b->n]))) {
        w->walk.last = last; /* more labels may follow: then it is another series */
        w->walk.n = 0;
        return false;
    }
    b->series[b->n++] = s;
    return true;
}

/* ---- the message ---- */

const char *write_metadata_type(uint64_t type)
{
    static const char *const NAMES[] = {"unknown",        "counter", "gauge", "histogram",
                                        "gaugehistogram", "summary", "info",  "stateset"};
    return type < COUNT_OF(NAMES) ? NAMES[type] : NAMES[0];
}

enum err_code write_metadata_push(struct write_request *w, const struct catalog_metadata *m,
                                  struct err *err)
{
    if (m->family.len == 0 || m->family.len > w->limits->value_bytes_max ||
        m->help.len > w->limits->value_bytes_max || m->unit.len > w->limits->value_bytes_max ||
        !utf8_valid(m->family) || !utf8_valid(m->help) || !utf8_valid(m->unit))
        return ERR_OK;
    if (w->n_metadata == w->metadata_cap) {
        size_t cap = w->metadata_cap ? w->metadata_cap * 2 : 64;
        void *grown = column_grow(w->arena, w->metadata, w->n_metadata, cap, sizeof(*m));
        if (!grown) return arena_fail(w->arena, err);
        w->metadata = grown;
        w->metadata_cap = cap;
    }
    w->metadata[w->n_metadata++] = *m;
    return ERR_OK;
}

static enum err_code metadata_decode(struct write_request *w, struct pb *outer,
                                     struct bytes message, struct err *err)
{
    struct catalog_metadata m = {.type = str_of(write_metadata_type(0))};
    struct pb pb = pb_init(message, "MetricMetadata");
    struct pb_field f;
    while (pb_next(&pb, &f)) {
        if (f.number == 1 && pb_expect(&pb, &f, PB_VARINT, "Type"))
            m.type = str_of(write_metadata_type(f.u));
        if (f.number == 2 && pb_expect(&pb, &f, PB_LEN, "MetricFamilyName"))
            m.family = str_from_bytes(f.bytes);
        if (f.number == 4 && pb_expect(&pb, &f, PB_LEN, "Help")) m.help = str_from_bytes(f.bytes);
        if (f.number == 5 && pb_expect(&pb, &f, PB_LEN, "Unit")) m.unit = str_from_bytes(f.bytes);
    }
    if (pb.error) {
        *outer = pb;
        return ERR_OK;
    }
    return write_metadata_push(w, &m, err);
}

enum err_code write_request_decode(struct write_request *w, struct bytes message, struct err *err)
{
    struct pb pb = pb_init(message, "WriteRequest");
    struct pb_field f;
    enum err_code rc = ERR_OK;
    while (rc == ERR_OK && pb_next(&pb, &f)) {
        struct pb inner = {.error = PB_OK};
        if (f.number == 1 && f.wire == PB_LEN && series_decode_usual(w, f.bytes)) continue;
        if (f.number == 1 && pb_expect(&pb, &f, PB_LEN, "Timeseries"))
            rc = series_decode(w, &inner, f.bytes, err);
        else if (f.number == 3 && pb_expect(&pb, &f, PB_LEN, "Metadata"))
            rc = metadata_decode(w, &inner, f.bytes, err);
        if (rc == ERR_OK && inner.error) return pb_finish(&inner, err);
    }
    return rc ? rc : pb_finish(&pb, err);
}
