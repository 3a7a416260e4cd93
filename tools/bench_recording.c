/* tools/bench_recording.c: see bench_recording.h. */
#include "tools/bench_recording.h"

#include <inttypes.h>

#include "base/protobuf.h"
#include "base/snappy.h"

#define MESSAGE_BYTES_MAX ((size_t)256 << 20)

/* Field numbers of prometheus.WriteRequest, TimeSeries, Sample and Histogram. */
enum {
    REQUEST_SERIES = 1,
    SERIES_SAMPLE = 2,
    SERIES_HISTOGRAM = 4,
    SAMPLE_T = 2,
    HISTOGRAM_T = 15
};

/* ---- counting ---- */

static void count_time(struct recording_counts *counts, int64_t t_ms)
{
    bool first = counts->n_samples++ == 0;
    counts->first_ms = first ? t_ms : MIN_OF(counts->first_ms, t_ms);
    counts->last_ms = first ? t_ms : MAX_OF(counts->last_ms, t_ms);
}

static enum err_code count_sample(struct recording_counts *counts, struct bytes message,
                                  uint32_t t_number, struct err *err)
{
    struct pb pb = pb_init(message, "Sample");
    struct pb_field field;
    int64_t t_ms = 0;
    while (pb_next(&pb, &field))
        if (field.number == t_number && pb_expect(&pb, &field, PB_VARINT, "timestamp"))
            t_ms = (int64_t)field.u;
    count_time(counts, t_ms);
    return pb_finish(&pb, err);
}

static enum err_code count_series(struct recording_counts *counts, struct bytes message,
                                  struct err *err)
{
    struct pb pb = pb_init(message, "TimeSeries");
    struct pb_field field;
    enum err_code rc = ERR_OK;
    while (!rc && pb_next(&pb, &field)) {
        bool histogram = field.number == SERIES_HISTOGRAM;
        if (!histogram && field.number != SERIES_SAMPLE) continue;
        if (pb_expect(&pb, &field, PB_LEN, "samples"))
            rc = count_sample(counts, field.bytes, histogram ? HISTOGRAM_T : SAMPLE_T, err);
    }
    return rc ? rc : pb_finish(&pb, err);
}

enum err_code recording_count(struct recording_counts *counts, struct bytes body, struct err *err)
{
    struct arena arena;
    struct bytes message;
    struct pb_field field;
    arena_init(&arena, MEM_TOOLS, 0);
    enum err_code rc = snappy_decode(body, MESSAGE_BYTES_MAX, &arena, &message, err);
    if (!rc) {
        struct pb pb = pb_init(message, "WriteRequest");
        while (!rc && pb_next(&pb, &field))
            if (field.number == REQUEST_SERIES && pb_expect(&pb, &field, PB_LEN, "timeseries"))
                rc = count_series(counts, field.bytes, err);
        if (!rc) rc = pb_finish(&pb, err);
    }
    counts->n_requests += !rc;
    arena_release(&arena);
    return rc;
}

/* ---- the file ---- */

enum err_code recording_append(struct file *file, uint64_t *off, struct bytes body, struct err *err)
{
    uint8_t len[4];
    if (body.len == 0 || body.len > RECORDING_BODY_BYTES_MAX)
        return err_set(err, ERR_LIMIT, "a body of %zu bytes", body.len);
    put_u32_le(len, (uint32_t)body.len);
    enum err_code rc = file_write_at(file, *off, len, sizeof(len), err);
    if (!rc) rc = file_write_at(file, *off + sizeof(len), body.p, body.len, err);
    if (!rc) *off += sizeof(len) + body.len;
    return rc;
}

enum err_code recording_next(struct file *file, uint64_t *off, struct buf *body, struct err *err)
{
    uint8_t len_bytes[4];
    size_t n;
    buf_reset(body);
    enum err_code rc = file_read_at(file, *off, len_bytes, sizeof(len_bytes), &n, err);
    if (rc || n < sizeof(len_bytes)) return rc;
    uint32_t len = get_u32_le(len_bytes);
    if (len == 0 || len > RECORDING_BODY_BYTES_MAX)
        return err_set(err, ERR_CORRUPT, "%s: no request at offset %" PRIu64 ": a length of %u",
                       file->path, *off, len);
    uint8_t *p = buf_reserve(body, len);
    if (!p) return buf_finish(body, err);
    rc = file_read_at(file, *off + sizeof(len_bytes), p, len, &n, err);
    if (rc || n < len) return rc;
    body->len = len;
    *off += sizeof(len_bytes) + len;
    return ERR_OK;
}

/* ---- the load ---- */

struct recording_load {
    struct bench_load base; /* first */
    struct file *file;
    uint64_t off;
    struct buf body;
    struct recording_counts sent;
};

static enum err_code recording_round(struct bench_load *load, size_t *n_requests, struct err *err)
{
    struct recording_load *l = CONTAINER_OF(load, struct recording_load, base);
    enum err_code rc = recording_next(l->file, &l->off, &l->body, err);
    *n_requests = l->body.len > 0;
    return rc;
}

static enum err_code recording_body(struct bench_load *load, size_t i, struct bytes *body,
                                    size_t *n_samples, struct err *err)
{
    (void)i;
    struct recording_load *l = CONTAINER_OF(load, struct recording_load, base);
    uint64_t before = l->sent.n_samples;
    *body = buf_bytes(&l->body);
    enum err_code rc = recording_count(&l->sent, *body, err);
    *n_samples = (size_t)(l->sent.n_samples - before);
    return rc;
}

static void recording_free(struct bench_load *load)
{
    struct recording_load *l = CONTAINER_OF(load, struct recording_load, base);
    file_close(l->file);
    buf_release(&l->body);
    mem_free(l);
}

static enum err_code count_all(struct recording_load *l, struct err *err)
{
    struct recording_counts counts = {0};
    enum err_code rc;
    for (uint64_t off = 0;;) {
        uint64_t at = off;
        rc = recording_next(l->file, &off, &l->body, err);
        if (rc || l->body.len == 0) break;
        rc = recording_count(&counts, buf_bytes(&l->body), err);
        if (rc) {
            err_context(err, "%s: the request at offset %" PRIu64, l->file->path, at);
            break;
        }
    }
    if (!rc && counts.n_samples == 0)
        rc = err_set(err, ERR_INVALID, "%s: no samples", l->file->path);
    l->base.n_samples = counts.n_samples;
    l->base.first_ms = counts.first_ms;
    l->base.last_ms = counts.last_ms;
    return rc;
}

enum err_code bench_recording_new(struct io *io, const char *path, struct bench_load **out,
                                  struct err *err)
{
    static const struct bench_load_ops ops = {recording_round, recording_body, recording_free};
    struct recording_load *l = mem_calloc(MEM_TOOLS, 1, sizeof(*l));
    if (!l) return err_set(err, ERR_NO_MEMORY, "no memory for a load");
    l->base.ops = &ops;
    buf_init(&l->body, MEM_TOOLS);
    enum err_code rc = io_open(io, path, IO_READ, &l->file, err);
    if (!rc) rc = count_all(l, err);
    if (rc) {
        recording_free(&l->base);
        return rc;
    }
    *out = &l->base;
    return ERR_OK;
}
