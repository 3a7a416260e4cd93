/* POST /api/v1/read: remote read, as a Prometheus asks another store for series: whole, as samples in one message, or as
 * a stream of messages with chunks. What a stream needs at once is a part of one series' samples, and one frame. */
#include "base/crc32c.h"
#include "base/protobuf.h"
#include "base/snappy.h"
#include "engine/series_message.h"
#include "query/api_private.h"
#include "query/read_request.h"
#include "query/remote_chunk.h"

/* Of a decoded request: Prometheus's limit */
#define READ_REQUEST_BYTES_MAX (32u << 20)
/* A series that needs more goes on in another frame. Prometheus itself cuts at 1 MiB, but takes the parts that it gets
 * for two series with the same labels (seen in 2.42 and 3.5: "vector cannot contain metrics with the same labelset"); it
 * accepts frames of 50 MB. 16 MiB are a year of seconds of a counter. */
#define FRAME_BYTES (16u << 20)
/* A series is read in parts of about so many samples: the range of time of a part doubles below the first, and halves
 * above the second. */
#define PART_SAMPLES_MIN 4096
#define PART_SAMPLES_MAX 65536
#define PART_RANGE_MS (6 * INT64_C(3600000))

struct read_call {
    struct api_call call;
    struct read_request request;
    struct query_limits limits;
    size_t query_idx;
    int64_t range_ms;     /* of a part */
    uint64_t n_samples;   /* of the whole answer */
    struct buf frame;     /* a message */
    struct labels labels; /* of the series in the frame */
    size_t series_at, n_chunks;
    struct samples
        samples; /* of a part; histograms and what encoding needs are in the scratch arena */
    struct arena scratch;
};

/* --- series in parts ------------------------------------------------------------------------------- */

typedef enum err_code part_fn(struct read_call *r);

/* Calls put(r) with each part of a series in r->samples. */
static enum err_code read_parts(struct read_call *r, struct source_select *select, size_t i,
                                const struct read_query *q, part_fn *put)
{
    struct api_call *call = &r->call;
    /* Nothing older than 1970 is ever stored. */
    int64_t from = MAX_OF(q->start_ms, INT64_C(0));
    enum err_code rc = ERR_OK;
    while (!rc && from <= q->end_ms) {
        bool last = q->end_ms - from < r->range_ms;
        int64_t to = last ? q->end_ms : from + r->range_ms - 1;
        arena_reset(&r->scratch);
        samples_reset(&r->samples);
        rc = call->source->ops->read(select, i, from, to, &r->samples, &call->err);
        if (!rc && r->samples.n) rc = put(r);
        if (r->samples.n < PART_SAMPLES_MIN && r->range_ms < API_TIME_MAX / 2) r->range_ms *= 2;
        if (r->samples.n > PART_SAMPLES_MAX && r->range_ms > PART_RANGE_MS) r->range_ms /= 2;
        if (last) break;
        from = to + 1;
    }
    return rc;
}

static enum err_code check_gone(struct api_call *call, size_t i)
{
    if (i % 64 || !http_gone(call->req)) return ERR_OK;
    return err_set(&call->err, ERR_CANCELED, "the client is gone");
}

/* --- samples: one message -------------------------------------------------------------------------- */

static enum err_code put_samples(struct read_call *r)
{
    struct buf *out = &r->frame;
    const struct samples *s = &r->samples;
    r->n_samples += s->n;
    if (r->n_samples > r->limits.samples_max)
        return err_set(&r->call.err, ERR_INVALID, "exceeded sample limit (%llu)",
                       (unsigned long long)r->limits.samples_max);
    series_message_samples(out, s, 0, s->n, false);
    if (out->len > r->limits.memory_bytes_max)
        return err_set(&r->call.err, ERR_LIMIT,
                       "the answer has more than %zu bytes (query.memory_max); ask for "
                       "STREAMED_XOR_CHUNKS or for less",
                       r->limits.memory_bytes_max);
    return buf_finish(out, &r->call.err);
}

static enum err_code put_series(struct read_call *r, struct source_select *select, size_t i,
                                const struct read_query *q)
{
    struct buf *out = &r->frame;
    struct labels labels = r->call.source->ops->labels(select, i);
    size_t before = out->len, at = series_message_begin(out, labels);
    uint64_t n_before = r->n_samples;
    enum err_code rc = read_parts(r, select, i, q, put_samples);
    if (rc) return rc;
    series_message_end(out, at);
    if (r->n_samples == n_before) out->len = before; /* nothing within the range after all */
    return ERR_OK;
}

static enum err_code put_result(struct read_call *r, struct source_select *select,
                                const struct read_query *q)
{
    size_t n = select ? r->call.source->ops->count(select) : 0;
    size_t at = pb_put_begin(&r->frame, 1); /* also when it is empty: clients count them */
    enum err_code rc = ERR_OK;
    for (size_t i = 0; !rc && i < n; i++) {
        rc = put_series(r, select, i, q);
        if (!rc) rc = check_gone(&r->call, i);
    }
    pb_put_end(&r->frame, at);
    return rc ? rc : buf_finish(&r->frame, &r->call.err);
}

/* --- chunks: a stream ------------------------------------------------------------------------------ */

static void frame_begin(struct read_call *r)
{
    buf_reset(&r->frame);
    r->series_at = pb_put_begin(&r->frame, 1);
    series_message_labels(&r->frame, r->labels);
    r->n_chunks = 0;
}

/* varint length of the message, big-endian CRC-32C of it, the message */
static enum err_code frame_send(struct read_call *r)
{
    struct api_call *call = &r->call;
    pb_put_end(&r->frame, r->series_at);
    pb_put_varint(&r->frame, 2, r->query_idx);
    enum err_code rc = buf_finish(&r->frame, &call->err);
    if (rc) return rc;
    buf_varint(&call->out, r->frame.len);
    buf_u32(&call->out, __builtin_bswap32(crc32c(0, r->frame.p, r->frame.len)));
    buf_put(&call->out, r->frame.p, r->frame.len);
    if (api_part(call)) return ERR_OK;
    return err_set(&call->err, ERR_CANCELED, "the client is gone");
}

static enum err_code put_chunk(struct read_call *r, size_t from, size_t n,
                               enum remote_chunk_type type)
{
    const struct samples *s = &r->samples;
    struct buf *out = &r->frame;
    size_t chunk = pb_put_begin(out, 2);
    pb_put_varint(out, 1, (uint64_t)s->t_ms[from]);
    pb_put_varint(out, 2, (uint64_t)s->t_ms[from + n - 1]);
    pb_put_varint(out, 3, type);
    size_t data = pb_put_begin(out, 4);
    enum err_code rc = remote_chunk_write(out, s, from, n, &r->scratch, &r->call.err);
    pb_put_end(out, data);
    pb_put_end(out, chunk);
    r->n_chunks++;
    return rc;
}

static enum err_code put_chunks(struct read_call *r)
{
    enum remote_chunk_type type;
    enum err_code rc = ERR_OK;
    for (size_t from = 0, n; !rc && from < r->samples.n; from += n) {
        if (r->n_chunks && r->frame.len > FRAME_BYTES) {
            rc = frame_send(r);
            frame_begin(r);
        }
        n = remote_chunk_count(&r->samples, from, &type);
        if (!rc) rc = put_chunk(r, from, n, type);
    }
    return rc;
}

static enum err_code stream_result(struct read_call *r, struct source_select *select,
                                   const struct read_query *q)
{
    const struct query_source_ops *ops = r->call.source->ops;
    size_t n = select ? ops->count(select) : 0;
    enum err_code rc = ERR_OK;
    for (size_t i = 0; !rc && i < n; i++) {
        r->labels = ops->labels(select, i);
        frame_begin(r);
        rc = read_parts(r, select, i, q, put_chunks);
        if (!rc && r->n_chunks) rc = frame_send(r);
        if (!rc) rc = check_gone(&r->call, i);
    }
    return rc;
}

/* --- the request ----------------------------------------------------------------------------------- */

static enum err_code run_query(struct read_call *r, const struct read_query *q)
{
    struct api_call *call = &r->call;
    struct source_select *select = NULL;
    enum err_code rc = ERR_OK;
    /* A query without matchers finds nothing, as with Prometheus. */
    if (q->n_matchers && q->start_ms <= q->end_ms)
        rc = call->source->ops->select(call->source, q->matchers, q->n_matchers, q->start_ms,
                                       q->end_ms, &select, &call->err);
    if (rc) return rc;
    api_warn_missing(call, q->start_ms, q->end_ms);
    rc = r->request.type == READ_SAMPLES ? put_result(r, select, q) : stream_result(r, select, q);
    if (select) call->source->ops->release(select);
    return rc;
}

static void answer(struct read_call *r)
{
    struct api_call *call = &r->call;
    bool whole = r->request.type == READ_SAMPLES;
    enum err_code rc = ERR_OK;
    call->content_type =
        whole ? "application/x-protobuf"
              : "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse";
    for (size_t i = 0; !rc && i < r->request.n_queries; i++) {
        r->query_idx = i;
        rc = run_query(r, &r->request.queries[i]);
    }
    if (!rc && whole) rc = snappy_encode(buf_bytes(&r->frame), &call->out, &call->err);
    if (rc) {
        api_fail(call, &call->err);
        return;
    }
    if (whole) http_set_header(call->req, "Content-Encoding", "snappy");
    api_send(call);
}

static enum err_code read_body(struct read_call *r)
{
    struct api_call *call = &r->call;
    struct bytes message;
    enum err_code rc =
        snappy_decode(call->req->body, READ_REQUEST_BYTES_MAX, call->arena, &message, &call->err);
    if (!rc) rc = read_request_parse(message, call->arena, &r->request, &call->err);
    if (rc == ERR_LIMIT) call->err.code = ERR_INVALID; /* the request's own size is to blame */
    return rc;
}

void api_on_read(void *ctx, struct http_request *req)
{
    struct read_call r = {.range_ms = PART_RANGE_MS};
    if (!api_begin_plain(&r.call, ctx, req)) return;
    r.limits = api_limits(&r.call);
    buf_init(&r.frame, MEM_QUERY);
    arena_init(&r.scratch, MEM_QUERY, r.limits.memory_bytes_max);
    samples_init(&r.samples, MEM_QUERY, &r.scratch);
    if (read_body(&r))
        api_fail(&r.call, &r.call.err);
    else if (api_source(&r.call))
        answer(&r);
    read_request_release(&r.request);
    samples_release(&r.samples);
    arena_release(&r.scratch);
    buf_release(&r.frame);
    api_end(&r.call);
}
