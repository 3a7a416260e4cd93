/* ingest/write_request_v2.c: message 2.0 (io/prometheus/write/v2/types.proto, up to 2.0-rc.4).
 *
 * Labels are references into a table of strings that is another one in each request, so a series cannot be known by
 * its references. They are written out as message 1.0 has them: then a series is found by the very bytes by which 1.0
 * finds it, in the order of the sender, verified in full, and a sender may change from one message to the other. Most
 * labels of a series are those of the one before it, and are copied from there in one piece. */
#include "ingest/write_request_private.h"

#define REFS_TAG 0x0a /* number 1, PB_LEN */
#define PAIRS_FIRST 64
/* Of one series, names and values: no limit of ours lets more pass. */
#define SERIES_LABEL_BYTES_MAX ((size_t)1 << 20)

/* The labels of one series. */
struct sent_labels {
    uint32_t *refs; /* name, value, name, value, .. */
    uint32_t *ends; /* where pair i ends in bytes */
    size_t n_refs, refs_cap;
    uint8_t *bytes; /* as message 1.0 has them */
    size_t len, cap;
};

struct request_v2 {
    struct write_request *w;
    struct bytes *symbols;
    size_t n_symbols, symbols_cap;
    struct sent_labels sent[2]; /* of this series and of the one before: series_walk wants both */
    unsigned turn;
    size_t label_bytes; /* of all series so far */
    struct {
        uint64_t type;
        uint32_t help, unit;
        struct bytes name;
    } described; /* the last description: the series of a family say the same */
};

/* ---- the table of strings ---- */

static enum err_code symbol_push(struct request_v2 *r, struct bytes symbol, struct err *err)
{
    if (r->n_symbols == r->symbols_cap) {
        size_t cap = r->symbols_cap ? r->symbols_cap * 2 : 1024;
        struct bytes *grown = ARENA_ARRAY(r->w->arena, struct bytes, cap);
        if (!grown) return arena_fail(r->w->arena, err);
        if (r->n_symbols) memcpy(grown, r->symbols, r->n_symbols * sizeof(*grown));
        r->symbols = grown;
        r->symbols_cap = cap;
    }
    r->symbols[r->n_symbols++] = symbol;
    return ERR_OK;
}

/* It may come after the series. */
static enum err_code symbols_collect(struct request_v2 *r, struct bytes message, struct err *err)
{
    struct pb pb = pb_init(message, "Request");
    struct pb_field f;
    enum err_code rc = ERR_OK;
    while (rc == ERR_OK && pb_next(&pb, &f)) {
        if (f.number == 4 && pb_expect(&pb, &f, PB_LEN, "Symbols"))
            rc = symbol_push(r, f.bytes, err);
        if (f.number == 5) (void)pb_expect(&pb, &f, PB_LEN, "Timeseries");
    }
    return rc ? rc : pb_finish(&pb, err);
}

static struct str symbol(const struct request_v2 *r, uint32_t ref)
{
    return ref < r->n_symbols ? str_from_bytes(r->symbols[ref]) : STR("");
}

/* ---- references ---- */

static enum err_code refs_reserve(struct request_v2 *r, struct sent_labels *to, size_t extra,
                                  struct err *err)
{
    if (LIKELY(to->n_refs + extra <= to->refs_cap)) return ERR_OK;
    size_t cap = MAX_OF(to->n_refs + extra, MAX_OF(to->refs_cap * 2, (size_t)2 * PAIRS_FIRST));
    uint32_t *refs = ARENA_ARRAY(r->w->arena, uint32_t, cap);
    uint32_t *ends = ARENA_ARRAY(r->w->arena, uint32_t, cap / 2 + 1);
    if (!refs || !ends) return arena_fail(r->w->arena, err);
    if (to->n_refs) memcpy(refs, to->refs, to->n_refs * sizeof(*refs));
    to->refs = refs;
    to->ends = ends; /* filled when all references are known */
    to->refs_cap = cap;
    return ERR_OK;
}

/* One packed field as senders write it. False: it is something else, or there is no room. */
static inline bool refs_usual(struct sent_labels *to, struct bytes packed)
{
    const uint8_t *p = packed.p, *end = p + packed.len;
    size_t n = 0;
    if (UNLIKELY(packed.len > to->refs_cap)) return false; /* a reference has a byte at least */
    while (p < end) {
        uint32_t u = *p & 0x7f;
        for (unsigned shift = 7; UNLIKELY(*p++ & 0x80); shift += 7) {
            if (p == end || shift > 21) return false;
            u |= (uint32_t)(*p & 0x7f) << shift;
        }
        to->refs[n++] = u;
    }
    to->n_refs = n;
    return true;
}

static enum err_code refs_push(struct request_v2 *r, struct pb *pb, const struct pb_field *f,
                               struct sent_labels *to, struct err *err)
{
    struct pb_packed packed;
    if (!pb_packed_init(pb, f, PB_VARINT, "LabelsRefs", &packed)) return ERR_OK;
    enum err_code rc = refs_reserve(r, to, packed.single ? 1 : f->bytes.len, err);
    if (rc) return rc;
    uint64_t u;
    while (pb_packed_next(&packed, PB_VARINT, &u))
        to->refs[to->n_refs++] = u > UINT32_MAX ? UINT32_MAX : (uint32_t)u;
    if (packed.pb.error) *pb = packed.pb;
    return ERR_OK;
}

/* Why the references of a series are bad; false: they are not. */
static bool refs_bad(const struct request_v2 *r, const struct sent_labels *to, struct err *why)
{
    if (to->n_refs % 2) {
        err_set(why, ERR_INVALID, "invalid labelRefs length %zu", to->n_refs);
        return true;
    }
    for (size_t i = 0; i < to->n_refs; i++) {
        if (LIKELY(to->refs[i] < r->n_symbols)) continue;
        err_set(why, ERR_INVALID, "labelRefs %zu (%s) = %u outside of symbols table (size %zu)",
                i / 2, i % 2 ? "value" : "name", to->refs[i], r->n_symbols);
        return true;
    }
    return false;
}

/* ---- labels as message 1.0 has them ---- */

static size_t text_field_bytes(size_t len)
{
    size_t prefix = 2; /* tag and length */
    for (size_t more = len >> 7; more; more >>= 7) prefix++;
    return len ? prefix + len : 0; /* an empty one is left out */
}

static inline uint8_t *put_len(uint8_t *p, size_t len)
{
    if (UNLIKELY(len >= 0x80)) return p + put_varint(p, len);
    *p = (uint8_t)len;
    return p + 1;
}

static uint8_t *put_text_field(uint8_t *p, uint8_t tag, struct bytes text)
{
    if (!text.len) return p;
    *p++ = tag;
    p = put_len(p, text.len);
    memcpy(p, text.p, text.len);
    return p + text.len;
}

static bool bytes_reserve(struct request_v2 *r, struct sent_labels *to, size_t extra)
{
    if (LIKELY(extra <= to->cap - to->len)) return true;
    size_t cap = MAX_OF(to->len + extra, MAX_OF(to->cap * 2, (size_t)4096));
    uint8_t *grown = arena_alloc(r->w->arena, cap, 8);
    if (!grown) return false;
    if (to->len) memcpy(grown, to->bytes, to->len);
    to->bytes = grown;
    to->cap = cap;
    return true;
}

static bool put_pair(struct request_v2 *r, struct sent_labels *to, struct bytes name,
                     struct bytes value)
{
    size_t len = text_field_bytes(name.len) + text_field_bytes(value.len);
    if (!bytes_reserve(r, to, 1 + VARINT_BYTES_MAX + len)) return false;
    uint8_t *p = to->bytes + to->len;
    *p++ = 0x0a; /* TimeSeries.labels */
    p = put_len(p, len);
    p = put_text_field(p, 0x0a, name);  /* Label.name */
    p = put_text_field(p, 0x12, value); /* Label.value */
    to->len = (size_t)(p - to->bytes);
    return true;
}

/* How many pairs from i on are the same, at the same place, as those before. */
static size_t same_pairs(const struct sent_labels *a, const struct sent_labels *b, size_t i)
{
    size_t end = MIN_OF(a->n_refs, b->n_refs) / 2, from = i;
    while (i < end && a->refs[2 * i] == b->refs[2 * i] && a->refs[2 * i + 1] == b->refs[2 * i + 1])
        i++;
    return i - from;
}

/* Writes out good references. ERR_LIMIT, ERR_NO_MEMORY. *too_long: the series alone is more than any may be. */
static enum err_code labels_expand(struct request_v2 *r, struct sent_labels *to,
                                   const struct sent_labels *before, bool *too_long,
                                   struct err *err)
{
    size_t n = to->n_refs / 2;
    to->len = 0;
    *too_long = false;
    for (size_t i = 0; i < n;) {
        size_t run = same_pairs(to, before, i);
        if (run) {
            size_t from = i ? before->ends[i - 1] : 0, len = before->ends[i + run - 1] - from;
            size_t at = to->len;
            if (!bytes_reserve(r, to, len)) return arena_fail(r->w->arena, err);
            memcpy(to->bytes + at, before->bytes + from, len);
            for (size_t k = i; k < i + run; k++)
                to->ends[k] = (uint32_t)(before->ends[k] - from + at);
            to->len += len;
            i += run;
        } else {
            struct bytes name = r->symbols[to->refs[2 * i]];
            struct bytes value = r->symbols[to->refs[2 * i + 1]];
            *too_long = name.len > SERIES_LABEL_BYTES_MAX || value.len > SERIES_LABEL_BYTES_MAX;
            if (*too_long) break;
            if (!put_pair(r, to, name, value)) return arena_fail(r->w->arena, err);
            to->ends[i++] = (uint32_t)to->len;
        }
        *too_long = to->len > SERIES_LABEL_BYTES_MAX;
        if (*too_long) break;
    }
    if (*too_long) to->n_refs = to->len = 0; /* nothing to copy from */
    r->label_bytes += to->len;
    if (r->label_bytes <= WRITE_V2_LABEL_BYTES_MAX) return ERR_OK;
    return err_set(err, ERR_LIMIT, "labels of more than %zu bytes in one request",
                   WRITE_V2_LABEL_BYTES_MAX);
}

/* ---- one series ---- */

struct series_v2 {
    struct series_parts parts;
    int64_t st_ms; /* of all its samples that do not have their own */
    bool has_metadata;
    uint64_t type;
    uint32_t help, unit;
};

static void metadata_fields(struct pb *outer, struct bytes message, struct series_v2 *s)
{
    struct pb pb = pb_init(message, "Metadata");
    struct pb_field f;
    s->has_metadata = true;
    while (pb_next(&pb, &f)) {
        if (f.number == 1 && pb_expect(&pb, &f, PB_VARINT, "Type")) s->type = f.u;
        if (f.number == 3 && pb_expect(&pb, &f, PB_VARINT, "HelpRef")) s->help = (uint32_t)f.u;
        if (f.number == 4 && pb_expect(&pb, &f, PB_VARINT, "UnitRef")) s->unit = (uint32_t)f.u;
    }
    if (pb.error) *outer = pb;
}

/* First pass: labels, and what else there is. */
static enum err_code series_look(struct request_v2 *r, struct pb *outer, struct bytes message,
                                 struct sent_labels *to, struct series_v2 *s, struct err *err)
{
    struct pb pb = pb_init(message, "TimeSeries");
    struct pb_field f;
    enum err_code rc = ERR_OK;
    *s = (struct series_v2){.parts.rest = message};
    to->n_refs = 0;
    while (rc == ERR_OK && pb_next(&pb, &f)) {
        switch (f.number) {
        case 1: rc = refs_push(r, &pb, &f, to, err); break;
        case 2: s->parts.n_samples += pb_expect(&pb, &f, PB_LEN, "Samples"); break;
        case 3: s->parts.n_histograms += pb_expect(&pb, &f, PB_LEN, "Histograms"); break;
        case 4: s->parts.n_exemplars += pb_expect(&pb, &f, PB_LEN, "Exemplars"); break;
        case 5:
            if (pb_expect(&pb, &f, PB_LEN, "Metadata")) metadata_fields(&pb, f.bytes, s);
            break;
        case 6:
            if (pb_expect(&pb, &f, PB_VARINT, "CreatedTimestamp")) s->st_ms = (int64_t)f.u;
            break;
        default: break;
        }
    }
    if (pb.error) *outer = pb;
    return rc;
}

/* Second pass. */
static enum err_code series_samples(struct request_v2 *r, struct pb *outer,
                                    const struct series_v2 *s, struct series *series,
                                    struct err *err)
{
    struct pb pb = pb_init(s->parts.rest, "TimeSeries");
    struct pb_field f;
    while (outer->error == PB_OK && pb_next(&pb, &f)) {
        enum err_code rc = ERR_OK;
        if (f.number == 2) {
            rc = write_sample_push(r->w, outer, f.bytes, series, s->st_ms, err);
        } else if (f.number == 3) {
            rc = write_histogram_push(r->w, outer, f.bytes, series, s->st_ms, err);
            if (rc == ERR_INVALID) {
                write_request_reject(r->w, REJECT_INVALID_HISTOGRAM, 1, err);
                rc = ERR_OK;
            }
        }
        if (rc) return rc;
    }
    return ERR_OK;
}

static enum err_code exemplar_decode(struct request_v2 *r, struct pb *outer, struct bytes message,
                                     struct sent_labels *refs, struct sent_exemplar *e,
                                     struct err *err)
{
    struct pb pb = pb_init(message, "Exemplar");
    struct pb_field f;
    enum err_code rc = ERR_OK;
    refs->n_refs = 0;
    while (!rc && pb_next(&pb, &f)) {
        if (f.number == 1) rc = refs_push(r, &pb, &f, refs, err);
        write_exemplar_field(e, &pb, &f);
    }
    if (pb.error) *outer = pb;
    return rc;
}

/* series NULL: they are only looked at, as a malformed one is a malformed message. */
static enum err_code series_exemplars(struct request_v2 *r, struct pb *outer,
                                      const struct series_v2 *s, struct series *series,
                                      struct err *err)
{
    struct pb pb = pb_init(s->parts.rest, "TimeSeries");
    struct pb_field f;
    struct sent_labels refs = {.refs = NULL};
    struct sent_exemplar e = {.labels = NULL};
    struct err why; /* of bad references: they cost the exemplar */
    enum err_code rc = ERR_OK;
    while (!rc && outer->error == PB_OK && pb_next(&pb, &f)) {
        if (f.number != 4) continue;
        write_exemplar_reset(&e);
        rc = exemplar_decode(r, outer, f.bytes, &refs, &e, err);
        if (rc || outer->error) break;
        if (!series || refs_bad(r, &refs, &why)) {
            r->w->exemplars_refused++;
            continue;
        }
        for (size_t i = 0; !rc && i < refs.n_refs; i += 2)
            rc = write_exemplar_label(
                r->w, &e, (struct label){symbol(r, refs.refs[i]), symbol(r, refs.refs[i + 1])},
                err);
        if (!rc) rc = write_exemplar_push(r->w, series, &e, err);
    }
    return rc;
}

static bool drop_suffix(struct str *name, const char *suffix)
{
    size_t len = strlen(suffix);
    if (name->len <= len || memcmp(name->p + name->len - len, suffix, len) != 0) return false;
    name->len -= len;
    return true;
}

/* The family that a series' description is about; by its type, as 1.0 would name it. */
static struct str family_of(struct str name, uint64_t type)
{
    bool histogram = type == 3 || type == 4, summary = type == 5;
    if (histogram && drop_suffix(&name, "_bucket")) return name;
    if ((histogram || summary) && !drop_suffix(&name, "_count")) (void)drop_suffix(&name, "_sum");
    return name;
}

static enum err_code describe(struct request_v2 *r, const struct sent_labels *sent,
                              const struct series_v2 *s, struct err *err)
{
    /* A sender that knows nothing says so: that replaces no description. */
    if (!s->type && !symbol(r, s->help).len && !symbol(r, s->unit).len) return ERR_OK;
    struct str name = STR("");
    for (size_t i = 0; i + 1 < sent->n_refs && !name.len; i += 2)
        if (str_eq(symbol(r, sent->refs[i]), STR(LABEL_NAME))) name = symbol(r, sent->refs[i + 1]);
    bool same = r->described.name.p && str_eq(str_from_bytes(r->described.name), name) &&
                r->described.type == s->type && r->described.help == s->help &&
                r->described.unit == s->unit;
    if (same) return ERR_OK;
    r->described.name = bytes_of(name.p, name.len);
    r->described.type = s->type;
    r->described.help = s->help;
    r->described.unit = s->unit;
    struct catalog_metadata m = {.family = family_of(name, s->type),
                                 .type = str_of(write_metadata_type(s->type)),
                                 .help = symbol(r, s->help),
                                 .unit = symbol(r, s->unit)};
    return write_metadata_push(r->w, &m, err);
}

/* Finds a known series by its labels. */
static struct series *series_find(struct request_v2 *r, struct bytes labels, uint64_t *hash)
{
    struct write_request *w = r->w;
    size_t label_bytes;
    struct series *last = w->walk.last;
    struct series *s = w->source.next(w->source.ctx, &w->walk, labels, &label_bytes);
    if (LIKELY(s && label_bytes == labels.len)) return s;
    w->walk.last = last;
    w->walk.n = 0;
    *hash = hash_xxh3(labels.p, labels.len);
    s = w->source.find(w->source.ctx, *hash, labels, last);
    if (s) w->walk.last = s;
    return s;
}

static enum err_code series_refuse(struct request_v2 *r, const struct series_v2 *s,
                                   enum reject_reason reason, const struct err *why)
{
    write_request_reject(r->w, reason, s->parts.n_samples + s->parts.n_histograms, why);
    r->w->walk.n = 0; /* what it remembers is written over */
    return ERR_OK;
}

static enum err_code series_decode(struct request_v2 *r, struct pb *outer, struct bytes message,
                                   struct err *err)
{
    struct sent_labels *to = &r->sent[r->turn], *before = &r->sent[r->turn ^ 1];
    struct series_v2 s;
    struct err why;
    bool too_long;
    enum err_code rc = series_look(r, outer, message, to, &s, err);
    if (rc || outer->error) return rc;
    if (refs_bad(r, to, &why)) {
        to->n_refs = 0; /* nobody copies from it */
        return series_refuse(r, &s, REJECT_INVALID_LABEL, &why);
    }
    if (s.has_metadata) rc = describe(r, to, &s, err);
    size_t n = s.parts.n_samples + s.parts.n_histograms;
    if (rc || n + s.parts.n_exemplars == 0) return rc;
    rc = labels_expand(r, to, before, &too_long, err);
    if (rc) return rc;
    if (too_long) {
        err_set(&why, ERR_INVALID,
                "received a series whose label value length exceeds the limit, labels of more "
                "than %zu bytes (err-quipu-label-value-too-long)",
                SERIES_LABEL_BYTES_MAX);
        return series_refuse(r, &s, REJECT_VALUE_TOO_LONG, &why);
    }
    r->turn ^= 1;
    s.parts.labels = bytes_of(to->bytes, to->len);
    s.parts.n_labels = to->n_refs / 2;
    uint64_t hash;
    struct series *series = series_find(r, s.parts.labels, &hash);
    if (UNLIKELY(!series) && n) { /* no series is made without samples */
        rc = write_series_add(r->w, outer, &s.parts, hash, &series, err);
        if (rc || outer->error) return rc;
        if (series) r->w->walk.last = series;
    }
    if (LIKELY(series)) rc = series_samples(r, outer, &s, series, err);
    if (UNLIKELY(s.parts.n_exemplars) && !rc && !outer->error)
        rc = series_exemplars(r, outer, &s, series, err);
    return rc;
}

/* The documented short cut past series_decode, which must find the same: all references first, one sample, and a
 * series that is known. False: it is something else, and nothing has changed. */
static bool series_decode_usual(struct request_v2 *r, struct bytes message)
{
    struct write_batch *b = &r->w->batch;
    struct sent_labels *to = &r->sent[r->turn], *before = &r->sent[r->turn ^ 1];
    const uint8_t *p = message.p;
    if (UNLIKELY(b->n == r->w->cap || b->st_ms)) return false; /* series_decode makes room */
    if (message.len < 2 || p[0] != REFS_TAG || p[1] >= 0x80 || p[1] > message.len - 2) return false;
    struct bytes refs = bytes_of(p + 2, p[1]);
    struct bytes rest = bytes_of(refs.p + refs.len, message.len - 2 - refs.len);
    if (!write_one_sample(rest, &b->t_ms[b->n], &b->v[b->n]) || !refs_usual(to, refs)) return false;
    struct err ignored; /* the long way says it */
    bool too_long;
    size_t label_bytes = r->label_bytes;
    struct series *s = NULL;
    uint64_t hash;
    if (!refs_bad(r, to, &ignored) && !labels_expand(r, to, before, &too_long, &ignored) &&
        !too_long)
        s = series_find(r, bytes_of(to->bytes, to->len), &hash);
    if (!s) {
        r->label_bytes = label_bytes;
        return false;
    }
    r->turn ^= 1;
    b->series[b->n++] = s;
    return true;
}

/* ---- the message ---- */

enum err_code write_request_decode_v2(struct write_request *w, struct bytes message,
                                      struct err *err)
{
    struct request_v2 r = {.w = w};
    w->v2 = true;
    enum err_code rc = symbols_collect(&r, message, err);
    for (unsigned i = 0; !rc && i < 2; i++) rc = refs_reserve(&r, &r.sent[i], 2 * PAIRS_FIRST, err);
    if (rc) return rc;
    struct pb pb = pb_init(message, "Request");
    struct pb_field f;
    while (rc == ERR_OK && pb_next(&pb, &f)) {
        struct pb inner = {.error = PB_OK};
        if (f.number != 5 || series_decode_usual(&r, f.bytes)) continue;
        rc = series_decode(&r, &inner, f.bytes, err);
        if (rc == ERR_OK && inner.error) return pb_finish(&inner, err);
    }
    w->walk.n = 0;
    return rc ? rc : pb_finish(&pb, err);
}
