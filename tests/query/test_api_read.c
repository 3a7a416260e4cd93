/* POST /api/v1/read: requests good and bad, both forms of the answer. */
#include "base/crc32c.h"
#include "base/protobuf.h"
#include "base/snappy.h"
#include "query/read_request.h"
#include "tests/query/api_fixture.h"
#include "tests/ref/remote_chunk_ref.h"

/* --- requests -------------------------------------------------------------------------------------- */

struct matcher_text {
    unsigned op;
    const char *name, *value;
};
#define MATCHERS_MAX 3

static void put_query(struct buf *out, int64_t start_ms, int64_t end_ms,
                      const struct matcher_text *matchers)
{
    size_t query = pb_put_begin(out, 1);
    pb_put_varint(out, 1, (uint64_t)start_ms);
    pb_put_varint(out, 2, (uint64_t)end_ms);
    for (size_t i = 0; i < MATCHERS_MAX && matchers[i].name; i++) {
        size_t at = pb_put_begin(out, 3);
        if (matchers[i].op) pb_put_varint(out, 1, matchers[i].op);
        pb_put_text(out, 2, str_of(matchers[i].name));
        pb_put_text(out, 3, str_of(matchers[i].value));
        pb_put_end(out, at);
    }
    size_t hints = pb_put_begin(out, 4); /* known to nobody here */
    pb_put_varint(out, 1, 15000);
    pb_put_text(out, 2, STR("rate"));
    pb_put_end(out, hints);
    pb_put_end(out, query);
}

/* The answer is in f->fake. */
static void send(struct fixture *f, struct buf *message)
{
    static const char *HEADERS[][2] = {
        {"Content-Type", "application/x-protobuf"}, {"Content-Encoding", "snappy"}, {NULL, NULL}};
    struct buf body;
    struct err err;
    buf_init(&body, MEM_QUERY);
    CHECK_OK(snappy_encode(buf_bytes(message), &body, &err), &err);
    ask(f, &(struct ask){
               .method = HTTP_POST, .path = "read", .bytes = buf_bytes(&body), .headers = HEADERS});
    buf_release(&body);
    buf_reset(message);
}

/* --- answers --------------------------------------------------------------------------------------- */

/* "job=a name=up 60000:1 …" for each series, in lines */
static void print_label(struct buf *out, struct bytes message)
{
    struct pb pb = pb_init(message, "Label");
    struct pb_field f;
    while (pb_next(&pb, &f)) {
        if (f.number == 2) buf_u8(out, '=');
        buf_text(out, str_from_bytes(f.bytes));
    }
    buf_u8(out, ' ');
}

static void print_value(struct buf *out, int64_t t_ms, double v)
{
    if (is_stale_nan(v))
        buf_printf(out, "%lld:stale ", (long long)t_ms);
    else
        buf_printf(out, "%lld:%g ", (long long)t_ms, v);
}

/* A Sample (value field 1, time 2), or a Histogram (sum 3, time 15) */
static void print_sample(struct buf *out, struct bytes message, bool is_histogram)
{
    struct pb pb = pb_init(message, "Sample");
    struct pb_field f;
    int64_t t_ms = 0;
    double v = 0;
    while (pb_next(&pb, &f)) {
        if (f.number == (is_histogram ? 3 : 1) && f.wire == PB_FIXED64) v = double_from_bits(f.u);
        if (f.number == (is_histogram ? 15 : 2)) t_ms = (int64_t)f.u;
    }
    if (is_histogram) buf_u8(out, 'h');
    print_value(out, t_ms, v);
}

static void print_timeseries(struct buf *out, struct bytes message)
{
    struct pb pb = pb_init(message, "TimeSeries");
    struct pb_field f;
    while (pb_next(&pb, &f)) {
        if (f.number == 1) print_label(out, f.bytes);
        if (f.number == 2) print_sample(out, f.bytes, false);
        if (f.number == 4) print_sample(out, f.bytes, true);
    }
    buf_u8(out, '\n');
}

/* Each result begins with a line "-". */
static void print_samples(struct fixture *f, struct buf *out)
{
    struct bytes message;
    struct err err;
    struct arena arena;
    arena_init(&arena, MEM_QUERY, 0);
    CHECK_U64(f->fake.status, 200);
    CHECK_STR(str_of(f->fake.content_type), "application/x-protobuf");
    CHECK(memmem(f->fake.sent_headers.p, f->fake.sent_headers.len, "Content-Encoding: snappy", 24));
    CHECK_OK(snappy_decode(buf_bytes(&f->fake.body), 1 << 24, &arena, &message, &err), &err);
    struct pb pb = pb_init(message, "ReadResponse");
    struct pb_field result, series;
    while (pb_next(&pb, &result)) {
        struct pb inner = pb_init(result.bytes, "QueryResult");
        buf_text(out, STR("-\n"));
        while (pb_next(&inner, &series)) print_timeseries(out, series.bytes);
    }
    CHECK_OK(pb_finish(&pb, &err), &err);
    arena_release(&arena);
}

static void print_chunk(struct buf *out, struct bytes message)
{
    struct pb pb = pb_init(message, "Chunk");
    struct pb_field f;
    struct arena arena;
    struct samples samples;
    int64_t min_ms = 0, max_ms = 0;
    unsigned type = 0;
    struct bytes data = {NULL, 0};
    while (pb_next(&pb, &f)) {
        if (f.number == 1) min_ms = (int64_t)f.u;
        if (f.number == 2) max_ms = (int64_t)f.u;
        if (f.number == 3) type = (unsigned)f.u;
        if (f.number == 4) data = f.bytes;
    }
    arena_init(&arena, MEM_QUERY, 0);
    samples_init(&samples, MEM_QUERY, &arena);
    CHECK(ref_remote_chunk_read(type, data, &samples));
    CHECK(samples.n > 0);
    CHECK_I64(samples.t_ms[0], min_ms);
    CHECK_I64(samples.t_ms[samples.n - 1], max_ms);
    for (size_t i = 0; i < samples.n; i++) {
        if (type > 1) buf_u8(out, 'h');
        print_value(out, samples.t_ms[i], samples.v[i]);
    }
    samples_release(&samples);
    arena_release(&arena);
}

static void print_chunked_series(struct buf *out, struct bytes message)
{
    struct pb pb = pb_init(message, "ChunkedSeries");
    struct pb_field f;
    while (pb_next(&pb, &f)) {
        if (f.number == 1) print_label(out, f.bytes);
        if (f.number == 2) print_chunk(out, f.bytes);
    }
    buf_u8(out, '\n');
}

/* Each frame is a line that begins with the query's index. */
static void print_frames(struct fixture *f, struct buf *out)
{
    CHECK_U64(f->fake.status, 200);
    CHECK_STR(str_of(f->fake.content_type),
              "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse");
    struct reader r = reader_init(buf_bytes(&f->fake.body));
    while (reader_left(&r)) {
        size_t len = (size_t)reader_varint(&r);
        uint32_t crc = __builtin_bswap32(reader_u32(&r));
        struct bytes message = reader_bytes(&r, len);
        CHECK(!r.failed);
        CHECK_U64(crc, crc32c(0, message.p, message.len));
        struct pb pb = pb_init(message, "ChunkedReadResponse");
        struct pb_field field;
        struct bytes series = {NULL, 0};
        uint64_t query = 99;
        while (pb_next(&pb, &field)) {
            if (field.number == 1) series = field.bytes;
            if (field.number == 2) query = field.u;
        }
        buf_printf(out, "%llu ", (unsigned long long)query);
        print_chunked_series(out, series);
    }
}

/* --- tests ----------------------------------------------------------------------------------------- */

enum form { SAMPLES, CHUNKS };

static void put_type(struct buf *message, enum form form)
{
    if (form == CHUNKS) pb_put_text(message, 2, (struct str){"\1\0", 2}); /* packed: both */
}

static void check_read(struct fixture *f, struct buf *message, enum form form, const char *text,
                       int line)
{
    struct buf out;
    buf_init(&out, MEM_QUERY);
    put_type(message, form);
    send(f, message);
    if (form == SAMPLES)
        print_samples(f, &out);
    else
        print_frames(f, &out);
    if (!str_eq(str_from_bytes(buf_bytes(&out)), str_of(text)))
        test_fail(__FILE__, line, "is\n%.*s\nnot\n%s", (int)out.len, (const char *)out.p, text);
    answer_release(f);
    buf_release(&out);
}

#define UP                                                                                         \
    {                                                                                              \
        {                                                                                          \
            0, "__name__", "up"                                                                    \
        }                                                                                          \
    }

static void test_both_forms(void **state)
{
    (void)state;
    static const struct matcher_text up[MATCHERS_MAX] = UP, none[MATCHERS_MAX] = {{0}},
                                     nothing[MATCHERS_MAX] = {{0, "__name__", "nothing"}},
                                     odd[MATCHERS_MAX] = {{2, "__name__", "od+|hist"},
                                                          {1, "job", "a"},
                                                          {3, "job", "b.*"}};
    struct fixture f;
    struct buf m;
    fixture_open(&f);
    buf_init(&m, MEM_QUERY);
    put_query(&m, 60000, 120000, up); /* both ends belong to it */
    check_read(&f, &m, SAMPLES,
               "-\n__name__=up instance=1 job=a 60000:1 120000:2 \n"
               "__name__=up instance=<2> job=b 60000:1.5 120000:1.5 \n",
               __LINE__);
    put_query(&m, 60000, 120000, up);
    check_read(&f, &m, CHUNKS,
               "0 __name__=up instance=1 job=a 60000:1 120000:2 \n"
               "0 __name__=up instance=<2> job=b 60000:1.5 120000:1.5 \n",
               __LINE__);
    /* several queries, staleness markers, histograms */
    for (enum form form = SAMPLES; form <= CHUNKS; form++) {
        put_query(&m, 0, 600000, nothing);
        put_query(&m, 0, 600000, none);
        put_query(&m, 120000, 180000, odd);
        put_query(&m, 1, 0, up);
        check_read(&f, &m, form,
                   form == SAMPLES ? "-\n-\n-\n__name__=hist h120000:5 h180000:5 \n"
                                     "__name__=odd 120000:stale 180000:1e-07 \n-\n"
                                   : "2 __name__=hist h120000:5 h180000:5 \n"
                                     "2 __name__=odd 120000:stale 180000:1e-07 \n",
                   __LINE__);
    }
    check_read(&f, &m, SAMPLES, "", __LINE__);
    check_read(&f, &m, CHUNKS, "", __LINE__);
    buf_release(&m);
    fixture_close(&f);
}

/* Longer than a part that is read at once, and than a chunk. */
static void test_long_series(void **state)
{
    (void)state;
    static const struct matcher_text matchers[MATCHERS_MAX] = {{0, "__name__", "long"}};
    static const struct label label = {STR("__name__"), STR("long")};
    const int n = 20000;
    struct fixture f;
    struct buf m, got, want;
    fixture_open(&f);
    buf_init(&m, MEM_QUERY);
    buf_init(&got, MEM_QUERY);
    buf_init(&want, MEM_QUERY);
    buf_text(&want, STR("0 __name__=long "));
    for (int i = 0; i < n; i++) {
        int64_t t_ms = i * INT64_C(60000) + i % 7;
        source_mem_push(f.mem, (struct labels){&label, 1}, t_ms, i / 3, NULL, 0);
        print_value(&want, t_ms, i / 3);
    }
    buf_u8(&want, '\n');
    put_query(&m, INT64_MIN, INT64_MAX, matchers);
    put_type(&m, CHUNKS);
    send(&f, &m);
    print_frames(&f, &got);
    CHECK_STR(str_from_bytes(buf_bytes(&got)),
              (const char *)(buf_u8(&want, 0), want.len--, want.p));
    answer_release(&f);
    buf_release(&m);
    buf_release(&got);
    buf_release(&want);
    fixture_close(&f);
}

static void check_refused(struct fixture *f, struct buf *message, unsigned status, const char *text)
{
    send(f, message);
    CHECK_U64(f->fake.status, status);
    CHECK_STR(str_from_bytes(buf_bytes(&f->fake.body)), text);
    answer_release(f);
}

static void test_refused(void **state)
{
    (void)state;
    static const struct matcher_text up[MATCHERS_MAX] = UP,
                                     bad_type[MATCHERS_MAX] = {{4, "__name__", "up"}},
                                     bad_regex[MATCHERS_MAX] = {{2, "__name__", "("}};
    struct fixture f;
    struct buf m;
    fixture_open(&f);
    buf_init(&m, MEM_QUERY);
    put_query(&m, 0, 1, bad_type);
    check_refused(&f, &m, 400, "invalid matcher type\n");
    put_query(&m, 0, 1, bad_regex);
    check_refused(&f, &m, 400, "error parsing regexp: missing closing ): `(`\n");
    put_query(&m, 0, 1, up);
    pb_put_varint(&m, 2, 7);
    pb_put_text(&m, 2, (struct str){"\10\5", 2});
    check_refused(&f, &m, 400,
                  "server does not support any of the requested response types: [7 8 5]; "
                  "supported: map[SAMPLES:{} STREAMED_XOR_CHUNKS:{}]\n");
    pb_put_varint(&m, 1, 7);
    check_refused(&f, &m, 400, "proto: wrong wireType = 0 for field Queries\n");
    for (int i = 0; i <= READ_QUERIES_MAX; i++) pb_put_text(&m, 1, STR(""));
    check_refused(&f, &m, 400, "1001 queries, more than 1000\n");
    CHECK_ANSWER(&f, 400, "snappy: corrupt input\n", .method = HTTP_POST, .path = "read",
                 .bytes = bytes_of("abc", 3));
    CHECK_ANSWER(&f, 400, "snappy: decoded length 40000000 exceeds limit 33554432\n",
                 .method = HTTP_POST, .path = "read", .bytes = bytes_of("\x80\xb4\x89\x13x", 5));
    source_mem_fail_reads(f.mem, ERR_IO);
    put_query(&m, 0, 60000, up);
    check_refused(&f, &m, 500, "a read failed, as asked for\n");
    put_query(&m, 0, 60000, up);
    put_type(&m, CHUNKS);
    check_refused(&f, &m, 500, "a read failed, as asked for\n");
    buf_release(&m);
    fixture_close(&f);
}

static void test_sample_limit(void **state)
{
    (void)state;
    static const struct matcher_text up[MATCHERS_MAX] = UP;
    struct fixture f;
    struct buf m;
    fixture_open_with(&f,
                      &(struct query_limits){
                          .samples_max = 21, .memory_bytes_max = 1 << 20, .lookback_ms = 300000},
                      1);
    buf_init(&m, MEM_QUERY);
    put_query(&m, 0, 600000, up);
    check_refused(&f, &m, 400, "exceeded sample limit (21)\n");
    buf_release(&m);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_both_forms),
        cmocka_unit_test(test_long_series),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_sample_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
