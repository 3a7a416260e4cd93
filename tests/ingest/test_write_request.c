/* tests/ingest/test_write_request.c: bodies of remote write 1.0, decoded, into columns. */
#include "pb_write.h"
#include "series_table.h"
#include "tests/quipu_test.h"

static const struct label_limits LIMITS = {10, 100, 200};

struct decoded {
    struct series_table *table;
    struct arena arena;
    struct write_request w;
    struct err err;
};
static void decoded_init(struct decoded *d)
{
    memset(d, 0, sizeof(*d));
    d->table = table_new();
    arena_init(&d->arena, MEM_INGEST, (size_t)64 << 20);
}
static void decoded_release(struct decoded *d)
{
    table_free(d->table);
    arena_release(&d->arena);
}
static enum err_code decode(struct decoded *d, struct bytes message)
{
    arena_reset(&d->arena);
    err_clear(&d->err);
    write_request_init(&d->w, &d->arena, &LIMITS, table_source(d->table));
    return write_request_decode(&d->w, message, &d->err);
}

/* One TimeSeries of the fields in `series`; both are emptied at the next call. */
static struct bytes one_series(struct buf *message, struct buf *series)
{
    buf_reset(message);
    pb_put_message(message, 1, series);
    return buf_bytes(message);
}

struct fixture {
    struct buf message, series, part;
    struct decoded d;
};
static void fixture_init(struct fixture *f)
{
    buf_init(&f->message, MEM_INGEST);
    buf_init(&f->series, MEM_INGEST);
    buf_init(&f->part, MEM_INGEST);
    decoded_init(&f->d);
}
static void fixture_release(struct fixture *f)
{
    buf_release(&f->message);
    buf_release(&f->series);
    buf_release(&f->part);
    decoded_release(&f->d);
}

static void test_one_sample(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    pb_put_label(&f.series, "__name__", "up");
    pb_put_label(&f.series, "job", "api");
    pb_put_sample(&f.series, 1.25, 1700000000123);
    struct bytes message = one_series(&f.message, &f.series);
    for (unsigned i = 0; i < 2; i++) { /* parsed, then known by its bytes */
        CHECK_OK(decode(&f.d, message), &f.d.err);
        struct write_batch *b = &f.d.w.batch;
        CHECK_U64(b->n, 1);
        CHECK_STR(str_of(table_labels(b->series[0])), "{__name__=\"up\", job=\"api\"}");
        CHECK_I64(b->t_ms[0], 1700000000123);
        CHECK_SAME_DOUBLE(b->v[0], 1.25);
        CHECK_U64(f.d.table->n_found, i);
        CHECK_U64(f.d.table->n_added, 1);
    }
    fixture_release(&f);
}

/* Whatever a double or an int64 can be; zeros are absent on the wire. */
static void test_values_and_times(void **state)
{
    (void)state;
    static const double values[] = {0.0, -0.0, 1e308, -1.5, 0x1p-1074};
    static const int64_t times[] = {0, -1, INT64_MAX, INT64_MIN, 1};
    struct fixture f;
    fixture_init(&f);
    pb_put_label(&f.series, "__name__", "x");
    for (size_t i = 0; i < COUNT_OF(values); i++) pb_put_sample(&f.series, values[i], times[i]);
    static const uint64_t nans[] = {UINT64_C(0x7ff0000000000002), UINT64_C(0x7ff8000000000001),
                                    UINT64_C(0xfff0000000000000)};
    for (size_t i = 0; i < COUNT_OF(nans); i++)
        pb_put_sample(&f.series, double_from_bits(nans[i]), 5);
    pb_put_bytes(&f.series, 2, "", 0); /* value 0 at time 0: an empty message, and it counts */
    CHECK_OK(decode(&f.d, one_series(&f.message, &f.series)), &f.d.err);
    struct write_batch *b = &f.d.w.batch;
    CHECK_U64(b->n, COUNT_OF(values) + COUNT_OF(nans) + 1);
    for (size_t i = 0; i < COUNT_OF(values); i++) {
        CHECK_SAME_DOUBLE(b->v[i], values[i]);
        CHECK_I64(b->t_ms[i], times[i]);
    }
    for (size_t i = 0; i < COUNT_OF(nans); i++)
        CHECK_U64(double_bits(b->v[COUNT_OF(values) + i]), nans[i]);
    CHECK_SAME_DOUBLE(b->v[b->n - 1], 0);
    CHECK_I64(b->t_ms[b->n - 1], 0);
    fixture_release(&f);
}

/* Field order is free, unknown fields are nobody's business, repeats of a scalar: the last wins. */
static void test_order_and_unknown_fields(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    pb_put_sample(&f.series, 7, 70);
    pb_put_label(&f.series, "b", "2");
    pb_put_varint(&f.series, 15, 3);
    pb_put_tag(&f.part, 1, 1); /* value, twice */
    buf_double(&f.part, 1);
    pb_put_double(&f.part, 1, 8);
    pb_put_str(&f.part, 9, "?");
    pb_put_varint(&f.part, 2, 80);
    pb_put_message(&f.series, 2, &f.part);
    pb_put_label(&f.series, "__name__", "n");
    pb_put_tag(&f.series, 20, 3);
    pb_put_varint(&f.series, 1, 1); /* inside a group: no label */
    pb_put_tag(&f.series, 20, 4);
    pb_put_label(&f.series, "a", "1");
    buf_reset(&f.message);
    pb_put_varint(&f.message, 2, 1);
    pb_put_message(&f.message, 1, &f.series);
    pb_put_tag(&f.message, 77, 5);
    buf_u32(&f.message, 1);
    CHECK_OK(decode(&f.d, buf_bytes(&f.message)), &f.d.err);
    struct write_batch *b = &f.d.w.batch;
    CHECK_U64(b->n, 2);
    CHECK_STR(str_of(table_labels(b->series[0])), "{__name__=\"n\", a=\"1\", b=\"2\"}");
    CHECK(b->series[0] == b->series[1]);
    CHECK_SAME_DOUBLE(b->v[0], 7);
    CHECK_SAME_DOUBLE(b->v[1], 8);
    CHECK_I64(b->t_ms[1], 80);
    fixture_release(&f);
}

struct expect {
    char labels[200];
    double v;
    int64_t t_ms;
};

/* A random TimeSeries; appends what it holds to expect[]. */
static size_t gen_series(struct rng *rng, struct buf *series, struct expect *expect)
{
    char names[3][32], values[3][32];
    size_t n_labels = rng_below(rng, 4), n = 1 + rng_below(rng, 3), order[3] = {0, 1, 2};
    struct buf text;
    buf_init(&text, MEM_INGEST);
    buf_printf(&text, "{__name__=\"m%u\"", (unsigned)rng_below(rng, 5));
    char metric[32];
    snprintf(metric, sizeof(metric), "%.2s", (char *)text.p + 11);
    for (size_t i = 0; i < n_labels; i++) {
        snprintf(names[i], sizeof(names[i]), "l%zu", i);
        snprintf(values[i], sizeof(values[i]), "%u", (unsigned)rng_below(rng, 5));
        buf_printf(&text, ", %s=\"%s\"", names[i], values[i]);
    }
    buf_printf(&text, "}");
    for (size_t i = n_labels; i > 1; i--) {
        size_t j = rng_below(rng, i), swap = order[i - 1];
        order[i - 1] = order[j];
        order[j] = swap;
    }
    size_t name_at = rng_below(rng, n_labels + 1), sample_at = rng_below(rng, 4 * n_labels + 1);
    size_t n_put = 0;
    for (size_t i = 0; i <= n_labels; i++) {
        for (; n_put < n && sample_at <= i; n_put++) {
            expect[n_put].v = rng_unit(rng);
            expect[n_put].t_ms = (int64_t)rng_below(rng, 100000);
            pb_put_sample(series, expect[n_put].v, expect[n_put].t_ms);
        }
        if (i == name_at) pb_put_label(series, "__name__", metric);
        if (rng_chance(rng, 0.1)) pb_put_label(series, "gone", "");
        if (i < n_labels) pb_put_label(series, names[order[i]], values[order[i]]);
    }
    for (; n_put < n; n_put++) {
        expect[n_put].v = rng_unit(rng);
        expect[n_put].t_ms = (int64_t)rng_below(rng, 100000);
        pb_put_sample(series, expect[n_put].v, expect[n_put].t_ms);
    }
    for (size_t i = 0; i < n; i++)
        snprintf(expect[i].labels, sizeof(expect[i].labels), "%.*s", (int)text.len, (char *)text.p);
    buf_release(&text);
    return n;
}

static void test_random_requests(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 1000)
    {
        struct fixture f;
        fixture_init(&f);
        struct expect expect[300];
        size_t n = 0;
        for (uint64_t k = rng_below(&rng, 30); k > 0; k--) {
            n += gen_series(&rng, &f.series, expect + n);
            pb_put_message(&f.message, 1, &f.series);
        }
        for (unsigned round = 0; round < 2; round++) {
            CHECK_OK(decode(&f.d, buf_bytes(&f.message)), &f.d.err);
            struct write_batch *b = &f.d.w.batch;
            CHECK_U64(b->n, n);
            for (size_t i = 0; i < n; i++) {
                CHECK_STR(str_of(table_labels(b->series[i])), expect[i].labels);
                CHECK_SAME_DOUBLE(b->v[i], expect[i].v);
                CHECK_I64(b->t_ms[i], expect[i].t_ms);
            }
        }
        CHECK_U64(f.d.w.n_problems, 0);
        fixture_release(&f);
    }
}

/* Everything that the message can hold. */
static void put_everything(struct fixture *f)
{
    buf_reset(&f->message);
    pb_put_label(&f->series, "__name__", "everything");
    pb_put_label(&f->series, "a", "b");
    pb_put_sample(&f->series, 3, 1000);
    pb_put_label(&f->part, "trace_id", "abc");
    pb_put_double(&f->part, 2, 3);
    pb_put_varint(&f->part, 3, 1000);
    pb_put_message(&f->series, 3, &f->part);
    pb_put_message(&f->message, 1, &f->series);

    pb_put_label(&f->series, "__name__", "h");
    struct buf span;
    buf_init(&span, MEM_INGEST);
    pb_put_varint(&f->part, 1, 6);
    pb_put_double(&f->part, 3, 12.5);
    pb_put_varint(&f->part, 4, zigzag_encode(3));
    pb_put_double(&f->part, 5, 1e-128);
    pb_put_varint(&f->part, 6, 1);
    pb_put_varint(&span, 1, zigzag_encode(-2));
    pb_put_varint(&span, 2, 2);
    pb_put_message(&f->part, 11, &span);
    buf_varint(&span, zigzag_encode(2));
    buf_varint(&span, zigzag_encode(1));
    pb_put_message(&f->part, 12, &span);
    pb_put_varint(&f->part, 14, 2);
    pb_put_varint(&f->part, 15, 1000);
    pb_put_message(&f->series, 4, &f->part);
    pb_put_message(&f->message, 1, &f->series);
    buf_release(&span);

    pb_put_varint(&f->part, 1, 1);
    pb_put_str(&f->part, 2, "everything");
    pb_put_str(&f->part, 4, "All of it.");
    pb_put_str(&f->part, 5, "seconds");
    pb_put_message(&f->message, 3, &f->part);
}

static void test_everything(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    put_everything(&f);
    CHECK_OK(decode(&f.d, buf_bytes(&f.message)), &f.d.err);
    struct write_request *w = &f.d.w;
    CHECK_U64(w->n_problems, 0);
    CHECK_U64(w->batch.n, 1);
    CHECK_U64(w->batch.n_exemplars + w->exemplars_refused, 1);
    CHECK_U64(w->batch.n_histograms, 1);
    const struct histogram *h = w->batch.h[0];
    CHECK_STR(str_of(table_labels(w->batch.h_series[0])), "{__name__=\"h\"}");
    CHECK_I64(w->batch.h_t_ms[0], 1000);
    CHECK(h->is_int && h->schema == 3 && h->reset_hint == HISTOGRAM_RESET_NO);
    CHECK_SAME_DOUBLE(h->count, 6);
    CHECK_SAME_DOUBLE(h->sum, 12.5);
    CHECK_SAME_DOUBLE(h->zero_count, 1);
    CHECK_SAME_DOUBLE(h->zero_threshold, 1e-128);
    CHECK(h->n_pos_spans == 1 && h->pos_spans[0].offset == -2 && h->pos_spans[0].length == 2);
    CHECK(h->n_pos == 2 && h->pos[0] == 2 && h->pos[1] == 3 && h->n_neg == 0);
    CHECK_U64(w->n_metadata, 1);
    CHECK_STR(w->metadata[0].family, "everything");
    CHECK_STR(w->metadata[0].type, "counter");
    CHECK_STR(w->metadata[0].help, "All of it.");
    CHECK_STR(w->metadata[0].unit, "seconds");
    fixture_release(&f);
}

/* Cut at every byte: either between two fields of the outer message, or an error; never a part of a series. */
static void test_every_truncation(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    put_everything(&f);
    size_t n_whole = 0;
    for (size_t cut = 0; cut < f.message.len; cut++) {
        uint8_t *exact = malloc(cut + 1);
        CHECK(exact);
        memcpy(exact + 1, f.message.p, cut);
        enum err_code rc = decode(&f.d, bytes_of(exact + 1, cut));
        if (rc == ERR_OK) {
            n_whole++;
        } else {
            CHECK_ERR(rc, ERR_INVALID);
            CHECK_STR(str_of(f.d.err.text), "unexpected EOF");
        }
        free(exact);
    }
    CHECK_U64(n_whole, 3); /* before the first, second and third field */
    fixture_release(&f);
}

/* Every byte changed in turn to a few others: no crash, bounded memory, and at most an error. */
static void test_every_byte_changed(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    put_everything(&f);
    static const uint8_t masks[] = {0x01, 0x02, 0x04, 0x08, 0x10, 0x80, 0xff};
    for (size_t i = 0; i < f.message.len; i++) {
        for (size_t k = 0; k < COUNT_OF(masks); k++) {
            f.message.p[i] ^= masks[k];
            enum err_code rc = decode(&f.d, buf_bytes(&f.message));
            CHECK(rc == ERR_OK || rc == ERR_INVALID);
            CHECK(f.d.arena.used_bytes < 1 << 20);
            f.message.p[i] ^= masks[k];
        }
    }
    fixture_release(&f);
}

static void test_malformed_texts(void **state)
{
    (void)state;
    static const struct {
        const char *p;
        size_t len;
        const char *text;
    } cases[] = {
        {"\x08\x01", 2, "proto: wrong wireType = 0 for field Timeseries"},
        {"\x18\x01", 2, "proto: wrong wireType = 0 for field Metadata"},
        {"\x02\x00", 2, "proto: WriteRequest: illegal tag 0 (wire type 2)"},
        {"\x0a\x02\x08\x01", 4, "proto: wrong wireType = 0 for field Labels"},
        {"\x0a\x02\x10\x01", 4, "proto: wrong wireType = 0 for field Samples"},
        {"\x0a\x02\x20\x01", 4, "proto: wrong wireType = 0 for field Histograms"},
        {"\x0a\x02\x18\x01", 4, "proto: wrong wireType = 0 for field Exemplars"},
        {"\x0a\x02\x02\x00", 4, "proto: TimeSeries: illegal tag 0 (wire type 2)"},
        {"\x0a\x04\x1a\x02\x10\x01", 6, "proto: wrong wireType = 0 for field Value"},
        {"\x0a\x03\x0a\x05\x0a", 5, "unexpected EOF"},
        {"\x1a\x02\x0a\x00", 4, "proto: wrong wireType = 2 for field Type"},
    };
    struct fixture f;
    fixture_init(&f);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        CHECK_ERR(decode(&f.d, bytes_of(cases[i].p, cases[i].len)), ERR_INVALID);
        CHECK_STR(str_of(f.d.err.text), cases[i].text);
    }
    fixture_release(&f);
}

static void put_bad(struct fixture *f, const char *name, const char *value, size_t n_samples)
{
    pb_put_label(&f->series, "__name__", "m");
    pb_put_label(&f->series, name, value);
    for (size_t i = 0; i < n_samples; i++) pb_put_sample(&f->series, 1, 1000 + (int64_t)i);
    pb_put_message(&f->message, 1, &f->series);
}

/* Bad series among good ones: these are kept, those are counted by samples and named, the first few. */
static void test_bad_series(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    put_bad(&f, "good", "1", 1);
    put_bad(&f, "__name__", "twice", 2);
    put_bad(&f, "bad", "\xff\xff", 3);
    put_bad(&f, "good", "2", 1);
    pb_put_label(&f.series, "no_name", "x");
    pb_put_sample(&f.series, 1, 1);
    pb_put_message(&f.message, 1, &f.series);
    put_bad(&f, "", "nameless", 1);
    put_bad(&f, "good", "3", 1);
    CHECK_OK(decode(&f.d, buf_bytes(&f.message)), &f.d.err);
    struct write_request *w = &f.d.w;
    CHECK_U64(w->batch.n, 3);
    CHECK_U64(w->n_problems, 4);
    CHECK_U64(w->rejected[REJECT_DUPLICATE_LABEL], 2);
    CHECK_U64(w->rejected[REJECT_INVALID_LABEL], 4);
    CHECK_U64(w->rejected[REJECT_NO_NAME], 1);
    CHECK_STR(str_of(w->problems[0]),
              "invalid labels for series, labels {__name__=\"m\", __name__=\"twice\"}, duplicated "
              "label __name__");
    CHECK_STR(str_of(w->problems[1]),
              "invalid metric name or labels, got {__name__=\"m\", bad=\"\\xff\\xff\"}");
    CHECK_STR(str_of(w->problems[2]), "invalid metric name or labels, got {no_name=\"x\"}");
    CHECK_U64(f.d.table->n_series, 3);
    fixture_release(&f);
}

/* No room for a new series: what is known is taken, and the sender hears of it. */
static void test_no_room(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    f.d.table->n_series_max = 2;
    for (unsigned i = 0; i < 4; i++) {
        char value[8];
        snprintf(value, sizeof(value), "%u", i);
        put_bad(&f, "i", value, 1);
    }
    CHECK_OK(decode(&f.d, buf_bytes(&f.message)), &f.d.err);
    CHECK_U64(f.d.w.batch.n, 2);
    CHECK_U64(f.d.w.add_rc, ERR_LIMIT);
    CHECK_STR(str_of(f.d.w.add_err.text), "more than 2 series");
    CHECK_U64(f.d.w.n_problems, 0);
    fixture_release(&f);
}

static void test_series_without_samples(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    pb_put_label(&f.series, "__name__", "m");
    pb_put_message(&f.series, 3, &f.part); /* an empty exemplar */
    CHECK_OK(decode(&f.d, one_series(&f.message, &f.series)), &f.d.err);
    CHECK_U64(f.d.w.batch.n + f.d.w.n_problems, 0);
    CHECK_U64(f.d.w.batch.n_exemplars + f.d.w.exemplars_refused, 1);
    CHECK_U64(f.d.table->n_series, 0);
    CHECK_OK(decode(&f.d, (struct bytes){NULL, 0}), &f.d.err); /* the empty request */
    CHECK_U64(f.d.w.batch.n, 0);
    fixture_release(&f);
}

/* ---- histograms ---- */

static void put_packed_deltas(struct buf *to, uint32_t number, const int64_t *deltas, size_t n)
{
    struct buf packed;
    buf_init(&packed, MEM_INGEST);
    for (size_t i = 0; i < n; i++) buf_varint(&packed, zigzag_encode(deltas[i]));
    pb_put_message(to, number, &packed);
    buf_release(&packed);
}
static void put_packed_doubles(struct buf *to, uint32_t number, const double *v, size_t n)
{
    struct buf packed;
    buf_init(&packed, MEM_INGEST);
    for (size_t i = 0; i < n; i++) buf_double(&packed, v[i]);
    pb_put_message(to, number, &packed);
    buf_release(&packed);
}
static void put_span(struct buf *to, uint32_t number, int32_t offset, uint32_t length)
{
    struct buf span;
    buf_init(&span, MEM_INGEST);
    if (offset) pb_put_varint(&span, 1, zigzag_encode(offset));
    if (length) pb_put_varint(&span, 2, length);
    pb_put_message(to, number, &span);
    buf_release(&span);
}
static struct bytes histogram_message(struct fixture *f)
{
    buf_reset(&f->series);
    pb_put_label(&f->series, "__name__", "h");
    pb_put_message(&f->series, 4, &f->part);
    return one_series(&f->message, &f->series);
}

/* The same histogram packed, one by one, and in pieces with other fields between. */
static void test_histogram_pieces(void **state)
{
    (void)state;
    static const int64_t deltas[] = {5, -2, 4, INT64_C(1) << 40, -(INT64_C(1) << 40)};
    static const double counts[] = {5, 3, 7, 7 + 0x1p40, 7};
    for (unsigned kind = 0; kind < 3; kind++) {
        struct fixture f;
        fixture_init(&f);
        pb_put_varint(&f.part, 1, 29 + (UINT64_C(1) << 40));
        put_span(&f.part, 11, 0, 3);
        for (size_t i = 0; i < 5; i += kind == 0 ? 5 : 1) {
            if (kind == 0) put_packed_deltas(&f.part, 12, deltas, 5);
            if (kind == 1) pb_put_varint(&f.part, 12, zigzag_encode(deltas[i]));
            if (kind == 2) put_packed_deltas(&f.part, 12, deltas + i, 1);
            if (kind == 2 && i == 1) put_span(&f.part, 11, 10, 2);
        }
        if (kind != 2) put_span(&f.part, 11, 10, 2);
        CHECK_OK(decode(&f.d, histogram_message(&f)), &f.d.err);
        CHECK_U64(f.d.w.batch.n_histograms, 1);
        const struct histogram *h = f.d.w.batch.h[0];
        CHECK(h->n_pos == 5 && h->n_pos_spans == 2 && h->pos_spans[1].offset == 10);
        for (size_t i = 0; i < 5; i++) CHECK_SAME_DOUBLE(h->pos[i], counts[i]);
        fixture_release(&f);
    }
}

/* The limit is one of buckets, not of their bytes. */
static void test_histogram_large_deltas(void **state)
{
    (void)state;
    enum { BUCKETS = 30000 };
    struct fixture f;
    fixture_init(&f);
    int64_t *deltas = mem_calloc(MEM_INGEST, BUCKETS, sizeof(*deltas));
    CHECK(deltas != NULL);
    for (int i = 0; i < BUCKETS; i++) deltas[i] = i % 2 ? -100000 : 100000; /* three bytes each */
    pb_put_varint(&f.part, 1, UINT64_C(100000) * BUCKETS / 2);
    pb_put_varint(&f.part, 4, zigzag_encode(8));
    put_span(&f.part, 11, 0, BUCKETS);
    put_packed_deltas(&f.part, 12, deltas, BUCKETS);
    CHECK_OK(decode(&f.d, histogram_message(&f)), &f.d.err);
    CHECK_U64(f.d.w.batch.n_histograms, 1);
    CHECK_U64(f.d.w.batch.h[0]->n_pos, BUCKETS);
    mem_free(deltas);
    fixture_release(&f);
}

static void test_histogram_kinds(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    static const double counts[] = {1.5, 2.5}, bounds[] = {0.1, 1};
    static const int64_t deltas[] = {2, -1, 2};
    /* Floats; both sides. */
    pb_put_double(&f.part, 2, 8.5);
    pb_put_double(&f.part, 7, 0.5);
    put_span(&f.part, 8, 1, 2);
    put_packed_doubles(&f.part, 10, counts, 2);
    put_span(&f.part, 11, -1, 2);
    put_packed_doubles(&f.part, 13, counts, 2);
    pb_put_varint(&f.part, 17, 900);
    CHECK_OK(decode(&f.d, histogram_message(&f)), &f.d.err);
    CHECK_U64(f.d.w.batch.n_histograms, 1);
    const struct histogram *h = f.d.w.batch.h[0];
    CHECK(!h->is_int && h->start_ms == 900 && h->n_neg == 2 && h->n_pos == 2);
    CHECK_SAME_DOUBLE(h->neg[1], 2.5);
    /* Custom bounds. */
    pb_put_varint(&f.part, 1, 6);
    pb_put_varint(&f.part, 4, zigzag_encode(-53));
    put_span(&f.part, 11, 0, 3);
    put_packed_deltas(&f.part, 12, deltas, 3);
    put_packed_doubles(&f.part, 16, bounds, 2);
    CHECK_OK(decode(&f.d, histogram_message(&f)), &f.d.err);
    CHECK_U64(f.d.w.batch.n_histograms, 1);
    h = f.d.w.batch.h[0];
    CHECK(h->schema == HISTOGRAM_SCHEMA_CUSTOM && h->n_bounds == 2 && h->pos[2] == 3);
    /* A staleness marker, whatever else is in it. */
    pb_put_double(&f.part, 3, double_from_bits(STALE_NAN_BITS));
    pb_put_varint(&f.part, 1, 77);
    pb_put_varint(&f.part, 15, 5);
    CHECK_OK(decode(&f.d, histogram_message(&f)), &f.d.err);
    CHECK_U64(f.d.w.batch.n_histograms, 1);
    h = f.d.w.batch.h[0];
    CHECK(histogram_is_stale(h) && h->n_pos == 0 && f.d.w.batch.h_t_ms[0] == 5);
    /* Nothing at all: an integer histogram of no observations. */
    CHECK_OK(decode(&f.d, histogram_message(&f)), &f.d.err);
    CHECK_U64(f.d.w.batch.n_histograms, 1);
    CHECK(f.d.w.batch.h[0]->is_int);
    fixture_release(&f);
}

static void check_refused(struct fixture *f, const char *text)
{
    buf_reset(&f->series);
    pb_put_label(&f->series, "__name__", "h");
    pb_put_sample(&f->series, 1, 1); /* stays */
    pb_put_message(&f->series, 4, &f->part);
    CHECK_OK(decode(&f->d, one_series(&f->message, &f->series)), &f->d.err);
    CHECK_U64(f->d.w.batch.n, 1);
    CHECK_U64(f->d.w.batch.n_histograms, 0);
    CHECK_U64(f->d.w.n_problems, 1);
    CHECK_U64(f->d.w.rejected[REJECT_INVALID_HISTOGRAM], 1);
    CHECK(strstr(f->d.w.problems[0], text));
}

static void test_histogram_refused(void **state)
{
    (void)state;
    static const int64_t up[] = {1, 1}, down[] = {1, -5};
    static const double bounds[] = {2, 1};
    struct fixture f;
    fixture_init(&f);
    pb_put_varint(&f.part, 1, 9);
    put_span(&f.part, 11, 0, 2);
    put_packed_deltas(&f.part, 12, up, 2);
    check_refused(&f, "3 observations found in buckets, but the Count field is 9: histogram's "
                      "observation count should equal the number of observations found in the "
                      "buckets (in absence of NaN)");
    put_span(&f.part, 11, 0, 3);
    put_packed_deltas(&f.part, 12, up, 2);
    check_refused(&f,
                  "positive side: spans need 3 buckets, have 2 buckets: histogram spans specify "
                  "different number of buckets than provided");
    put_span(&f.part, 11, 0, 2);
    put_packed_deltas(&f.part, 12, down, 2);
    check_refused(&f, "positive side: bucket number 2 has observation count of -4: histogram has a "
                      "bucket whose observation count is negative");
    pb_put_varint(&f.part, 4, zigzag_encode(9));
    check_refused(&f, "schema");
    pb_put_varint(&f.part, 4, zigzag_encode(-53));
    put_packed_doubles(&f.part, 16, bounds, 2);
    check_refused(&f,
                  "custom buckets: previous bound is 2.000000 and current is 1.000000: histogram "
                  "custom bounds must be in strictly increasing order");
    pb_put_varint(&f.part, 1, (UINT64_C(1) << 53) + 2); /* would be rounded */
    check_refused(&f, "2^53");
    fixture_release(&f);
}

/* Numbers one by one cost no more than their place: memory stays near the body's size. */
static void test_many_single_numbers(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    for (unsigned i = 0; i < 60000; i++) pb_put_varint(&f.part, 12, 0);
    put_span(&f.part, 11, 0, 60000);
    pb_put_varint(&f.part, 4, zigzag_encode(8));
    CHECK_OK(decode(&f.d, histogram_message(&f)), &f.d.err);
    CHECK_U64(f.d.w.batch.n_histograms, 1);
    CHECK(f.d.arena.used_bytes < (size_t)3 << 20);
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS_MAX + 1; i++) pb_put_varint(&f.part, 12, 0);
    CHECK_OK(decode(&f.d, histogram_message(&f)), &f.d.err);
    CHECK_U64(f.d.w.rejected[REJECT_INVALID_HISTOGRAM], 1);
    for (unsigned i = 0; i < 20000; i++) put_span(&f.part, 11, 0, 0);
    CHECK_OK(decode(&f.d, histogram_message(&f)), &f.d.err);
    CHECK(f.d.arena.used_bytes < (size_t)3 << 20);
    fixture_release(&f);
}

static void test_metadata(void **state)
{
    (void)state;
    static const char *const types[] = {"unknown",        "counter", "gauge", "histogram",
                                        "gaugehistogram", "summary", "info",  "stateset"};
    struct fixture f;
    fixture_init(&f);
    for (unsigned i = 0; i < 9; i++) {
        if (i) pb_put_varint(&f.part, 1, i);
        pb_put_str(&f.part, 2, "family");
        pb_put_message(&f.message, 3, &f.part);
    }
    pb_put_str(&f.part, 4, "without a family");
    pb_put_message(&f.message, 3, &f.part);
    pb_put_str(&f.part, 2, "\xff");
    pb_put_message(&f.message, 3, &f.part);
    CHECK_OK(decode(&f.d, buf_bytes(&f.message)), &f.d.err);
    CHECK_U64(f.d.w.n_metadata, 9);
    for (unsigned i = 0; i < 9; i++) CHECK_STR(f.d.w.metadata[i].type, types[i % 8]);
    CHECK_U64(f.d.w.n_problems, 0);
    fixture_release(&f);
}

/* Out of memory at each allocation: told, and nothing leaks. */
static void test_small_budget(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    put_everything(&f);
    size_t n_failed = 0;
    for (size_t budget = 64; budget < 400000; budget += budget / 8) {
        struct arena arena;
        struct write_request w;
        struct err err;
        arena_init(&arena, MEM_INGEST, budget);
        write_request_init(&w, &arena, &LIMITS, table_source(f.d.table));
        enum err_code rc = write_request_decode(&w, buf_bytes(&f.message), &err);
        CHECK(rc == ERR_OK || rc == ERR_LIMIT);
        n_failed += rc != ERR_OK;
        arena_release(&arena);
    }
    CHECK(n_failed > 5 && n_failed < 70);
    fixture_release(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_sample),
        cmocka_unit_test(test_values_and_times),
        cmocka_unit_test(test_order_and_unknown_fields),
        cmocka_unit_test(test_random_requests),
        cmocka_unit_test(test_everything),
        cmocka_unit_test(test_every_truncation),
        cmocka_unit_test(test_every_byte_changed),
        cmocka_unit_test(test_malformed_texts),
        cmocka_unit_test(test_bad_series),
        cmocka_unit_test(test_no_room),
        cmocka_unit_test(test_series_without_samples),
        cmocka_unit_test(test_histogram_pieces),
        cmocka_unit_test(test_histogram_kinds),
        cmocka_unit_test(test_histogram_large_deltas),
        cmocka_unit_test(test_histogram_refused),
        cmocka_unit_test(test_many_single_numbers),
        cmocka_unit_test(test_metadata),
        cmocka_unit_test(test_small_budget),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
