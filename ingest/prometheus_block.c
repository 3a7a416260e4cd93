/* ingest/prometheus_block.c: see the header. Symbols are in memory, as are deleted ranges; all else is read through windows of
 * 64 KiB, mostly from front to back. */
#include "ingest/prometheus_block.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/crc32c.h"
#include "ingest/prometheus_chunk.h"

#define INDEX_MAGIC 0xbaaad700u
#define CHUNKS_MAGIC 0x85bd40ddu
#define TOMBSTONES_MAGIC 0x0130ba30u
#define TOC_BYTES (6 * 8 + 4)
#define WINDOW_BYTES 65536u
#define ENTRY_BYTES_MAX (64u << 20) /* of a series, of a chunk */
#define META_BYTES_MAX (1u << 20)
#define TOMBSTONES_BYTES_MAX (64u << 20)
#define CHUNK_FILES_MAX 10000
#define LABELS_MAX 10000
#define SERIES_MEMORY_MAX ((size_t)256 << 20) /* labels, chunks and one chunk's samples */

static uint32_t get_u32_be(const uint8_t *p)
{
    return __builtin_bswap32(get_u32_le(p));
}

static uint64_t get_u64_be(const uint8_t *p)
{
    return __builtin_bswap64(get_u64_le(p));
}

static bool crc_is(const void *p, size_t len, uint32_t stored)
{
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
    (void)p, (void)len, (void)stored; /* a fuzzer would never get past it */
    return true;
#else
    return crc32c(0, p, len) == stored;
#endif
}

/* ---- a file through a window ---- */

struct window {
    struct file *file;
    uint64_t size, at; /* of the file; of the window in it */
    uint8_t *p;
    size_t len, cap;
};

static void window_close(struct window *w)
{
    file_close(w->file);
    mem_free(w->p);
    *w = (struct window){0};
}

static enum err_code window_open(struct window *w, struct io *io, const char *path, struct err *err)
{
    *w = (struct window){0};
    enum err_code rc = io_open(io, path, IO_READ, &w->file, err);
    if (!rc) rc = file_size(w->file, &w->size, err);
    return rc;
}

static enum err_code corrupt(const struct window *w, uint64_t off, struct err *err,
                             const char *what)
{
    err_set(err, ERR_CORRUPT, "%s", what);
    return err_at(err, w->file->path, off);
}

/* The bytes at `off`: `want` of them, or as many as the file has. Valid until the next call. */
static enum err_code window_get(struct window *w, uint64_t off, size_t want, struct bytes *out,
                                struct err *err)
{
    *out = bytes_of(NULL, 0);
    if (off >= w->size) return ERR_OK;
    want = (size_t)MIN_OF((uint64_t)want, w->size - off);
    if (off < w->at || off - w->at > w->len || want > w->len - (size_t)(off - w->at)) {
        size_t len = (size_t)MIN_OF((uint64_t)MAX_OF(want, (size_t)WINDOW_BYTES), w->size - off);
        enum err_code rc = mem_grow(MEM_INGEST, (void **)&w->p, &w->cap, len, 1, err);
        if (rc) return rc;
        w->len = 0; /* nothing, if the read fails */
        rc = file_read_exact(w->file, off, w->p, len, err);
        if (rc) return rc;
        w->at = off;
        w->len = len;
    }
    *out = bytes_of(w->p + (off - w->at), want);
    return ERR_OK;
}

/* Exactly so many, or ERR_CORRUPT. */
static enum err_code window_exact(struct window *w, uint64_t off, size_t len, struct bytes *out,
                                  struct err *err)
{
    enum err_code rc = window_get(w, off, len, out, err);
    return rc || out->len == len ? rc : corrupt(w, off, err, "the file ends too early");
}

/* Checks a section's crc. *len: of its content, which begins at off + 4. */
static enum err_code section_check(struct window *w, uint64_t off, uint64_t *len, struct err *err)
{
    struct bytes b;
    uint32_t crc = 0;
    enum err_code rc = window_exact(w, off, 4, &b, err);
    if (rc) return rc;
    *len = get_u32_be(b.p);
    if (*len > w->size || off + 4 > w->size - *len || w->size - *len - off - 4 < 4)
        return corrupt(w, off, err, "a section reaches past the end of the file");
    for (uint64_t done = 0; done < *len; done += b.len) {
        size_t n = (size_t)MIN_OF(*len - done, (uint64_t)WINDOW_BYTES);
        rc = window_exact(w, off + 4 + done, n, &b, err);
        if (rc) return rc;
        crc = crc32c(crc, b.p, b.len);
    }
    rc = window_exact(w, off + 4 + *len, 4, &b, err);
    if (rc) return rc;
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
    return ERR_OK;
#else
    return crc == get_u32_be(b.p) ? ERR_OK : corrupt(w, off, err, "a section's checksum is wrong");
#endif
}

/* ---- the block ---- */

struct toc {
    uint64_t symbols, series, postings_table;
};

struct range {
    uint64_t ref;
    int64_t min_ms, max_ms;
};

struct prometheus_block {
    struct io *io;
    char dir[IO_PATH_BYTES];
    struct prometheus_block_info info;
    struct window index;
    unsigned version;
    struct toc toc;
    uint8_t *symbols; /* the content of the section, its count included */
    size_t symbols_len;
    uint32_t *symbol_at; /* where each begins in it; version 2 only */
    size_t n_symbols;
    uint64_t postings_at; /* of all series: the first reference */
    uint64_t n_postings;
    struct window *chunks;
    size_t n_chunks, chunks_cap;
    struct range *deleted; /* by reference */
    size_t n_deleted, deleted_cap;
};

void prometheus_block_info(const struct prometheus_block *block, struct prometheus_block_info *out)
{
    *out = block->info;
}

void prometheus_block_close(struct prometheus_block *block)
{
    if (!block) return;
    window_close(&block->index);
    for (size_t i = 0; i < block->n_chunks; i++) window_close(&block->chunks[i]);
    mem_free(block->chunks);
    mem_free(block->symbols);
    mem_free(block->symbol_at);
    mem_free(block->deleted);
    mem_free(block);
}

/* ---- meta.json ---- */

static double number_in(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsNumber(item) && item->valuedouble > -9e15 && item->valuedouble < 9e15
               ? item->valuedouble
               : 0;
}

static enum err_code read_meta(struct prometheus_block *b, struct err *err)
{
    char path[IO_PATH_BYTES];
    uint8_t *text = NULL;
    size_t len;
    enum err_code rc = io_path(path, sizeof(path), err, b->dir, "meta.json");
    if (!rc) rc = io_read_file(b->io, path, META_BYTES_MAX, &text, &len, err);
    if (rc) return rc;
    cJSON *root = cJSON_ParseWithLength((const char *)text, len);
    const cJSON *stats = cJSON_GetObjectItemCaseSensitive(root, "stats");
    double version = number_in(root, "version");
    if (!root) {
        rc = err_set(err, ERR_CORRUPT, "no JSON");
    } else if (version != 1) {
        rc = err_set(err, ERR_VERSION, "a block of version %.0f, where 1 is known", version);
    } else {
        b->info = (struct prometheus_block_info){
            .min_ms = (int64_t)number_in(root, "minTime"),
            .max_ms = (int64_t)number_in(root, "maxTime"),
            .n_series = (uint64_t)MAX_OF(number_in(stats, "numSeries"), 0.0),
            .n_samples = (uint64_t)MAX_OF(number_in(stats, "numSamples"), 0.0),
            .n_chunks = (uint64_t)MAX_OF(number_in(stats, "numChunks"), 0.0)};
    }
    if (rc) rc = err_at(err, path, 0);
    cJSON_Delete(root);
    mem_free(text);
    return rc;
}

/* ---- the index ---- */

static enum err_code read_toc(struct prometheus_block *b, struct err *err)
{
    struct window *w = &b->index;
    struct bytes head, toc;
    if (w->size < 5 + TOC_BYTES) return corrupt(w, 0, err, "too short for an index");
    enum err_code rc = window_exact(w, 0, 5, &head, err);
    if (rc) return rc;
    if (get_u32_be(head.p) != INDEX_MAGIC) return corrupt(w, 0, err, "no index of Prometheus");
    b->version = head.p[4];
    if (b->version != 1 && b->version != 2) {
        err_set(err, ERR_VERSION, "an index of version %u, where 1 and 2 are known", b->version);
        return err_at(err, w->file->path, 4);
    }
    uint64_t at = w->size - TOC_BYTES;
    rc = window_exact(w, at, TOC_BYTES, &toc, err);
    if (rc) return rc;
    if (!crc_is(toc.p, TOC_BYTES - 4, get_u32_be(toc.p + TOC_BYTES - 4)))
        return corrupt(w, at, err, "the checksum of the table of contents is wrong");
    b->toc = (struct toc){get_u64_be(toc.p), get_u64_be(toc.p + 8), get_u64_be(toc.p + 40)};
    return ERR_OK;
}

/* A string at `at` of the symbols. */
static bool symbol_read(const struct prometheus_block *b, size_t at, struct str *out, size_t *next)
{
    if (at >= b->symbols_len) return false;
    struct reader r = reader_init(bytes_of(b->symbols + at, b->symbols_len - at));
    *out = reader_str(&r);
    if (r.failed) return false;
    *next = at + reader_off(&r);
    return true;
}

static enum err_code read_symbols(struct prometheus_block *b, struct err *err)
{
    struct window *w = &b->index;
    struct str s;
    uint64_t len;
    enum err_code rc = section_check(w, b->toc.symbols, &len, err);
    if (rc) return rc;
    if (len < 4 || len > PROMETHEUS_SYMBOLS_BYTES_MAX)
        return corrupt(w, b->toc.symbols, err, "symbols of an impossible length");
    b->symbols_len = (size_t)len;
    b->symbols = mem_alloc(MEM_INGEST, b->symbols_len);
    if (!b->symbols) return err_set(err, ERR_NO_MEMORY, "no memory for %zu bytes", b->symbols_len);
    rc = file_read_exact(w->file, b->toc.symbols + 4, b->symbols, b->symbols_len, err);
    if (rc || b->version == 1) return rc;
    b->n_symbols = get_u32_be(b->symbols);
    if (b->n_symbols > b->symbols_len - 4) /* each has a byte at least */
        return corrupt(w, b->toc.symbols, err, "more symbols than bytes");
    b->symbol_at = mem_calloc(MEM_INGEST, b->n_symbols + 1, sizeof(*b->symbol_at));
    if (!b->symbol_at)
        return err_set(err, ERR_NO_MEMORY, "no memory for %zu symbols", b->n_symbols);
    size_t at = 4;
    for (size_t i = 0; i < b->n_symbols; i++) {
        b->symbol_at[i] = (uint32_t)at;
        if (!symbol_read(b, at, &s, &at))
            return corrupt(w, b->toc.symbols, err, "a symbol is cut off");
    }
    return ERR_OK;
}

/* Version 1 refers to symbols by their place in the file. */
static bool symbol_of(const struct prometheus_block *b, uint64_t ref, struct str *out)
{
    size_t next;
    if (b->version == 2) return ref < b->n_symbols && symbol_read(b, b->symbol_at[ref], out, &next);
    uint64_t first = b->toc.symbols + 4;
    return ref >= first + 4 && ref - first < b->symbols_len &&
           symbol_read(b, (size_t)(ref - first), out, &next);
}

/* Finds the entry of all series, which is the first as names are sorted. */
static enum err_code read_postings(struct prometheus_block *b, struct err *err)
{
    struct window *w = &b->index;
    struct bytes head;
    uint64_t len, at;
    enum err_code rc = section_check(w, b->toc.postings_table, &len, err);
    if (rc) return rc;
    /* u32 n, then u8 2, two empty strings and the offset */
    rc = window_get(w, b->toc.postings_table + 4, (size_t)MIN_OF(len, (uint64_t)17), &head, err);
    if (rc) return rc;
    struct reader r = reader_init(head);
    uint32_t n = __builtin_bswap32(reader_u32(&r));
    if (!r.failed && !n) return ERR_OK; /* an empty block */
    bool first = reader_u8(&r) == 2 && reader_str(&r).len == 0 && reader_str(&r).len == 0;
    at = reader_varint(&r);
    if (!first || r.failed)
        return corrupt(w, b->toc.postings_table, err, "there is no list of all series");
    rc = section_check(w, at, &len, err);
    if (!rc) rc = window_exact(w, at + 4, 4, &head, err);
    if (rc) return rc;
    b->n_postings = get_u32_be(head.p);
    b->postings_at = at + 8;
    if (len < 4 || b->n_postings > (len - 4) / 4)
        return corrupt(w, at, err, "more series than bytes");
    return ERR_OK;
}

static enum err_code read_index(struct prometheus_block *b, struct err *err)
{
    char path[IO_PATH_BYTES];
    enum err_code rc = io_path(path, sizeof(path), err, b->dir, "index");
    if (!rc) rc = window_open(&b->index, b->io, path, err);
    if (!rc) rc = read_toc(b, err);
    if (!rc) rc = read_symbols(b, err);
    if (!rc) rc = read_postings(b, err);
    return rc;
}

/* ---- tombstones ---- */

static int compare_ranges(const void *a, const void *b)
{
    const struct range *x = a, *y = b;
    return (x->ref > y->ref) - (x->ref < y->ref);
}

static enum err_code parse_tombstones(struct prometheus_block *b, struct bytes file,
                                      struct err *err)
{
    if (file.len < 9 || get_u32_be(file.p) != TOMBSTONES_MAGIC)
        return err_set(err, ERR_CORRUPT, "no tombstones of Prometheus");
    if (file.p[4] != 1)
        return err_set(err, ERR_VERSION, "tombstones of version %u, where 1 is known", file.p[4]);
    struct bytes stones = {file.p + 5, file.len - 9};
    if (!crc_is(stones.p, stones.len, get_u32_be(stones.p + stones.len)))
        return err_set(err, ERR_CORRUPT, "the checksum is wrong");
    struct reader r = reader_init(stones);
    while (reader_left(&r) && !r.failed) {
        struct range range = {.ref = reader_varint(&r)};
        range.min_ms = reader_zigzag(&r);
        range.max_ms = reader_zigzag(&r);
        enum err_code rc = mem_grow(MEM_INGEST, (void **)&b->deleted, &b->deleted_cap,
                                    b->n_deleted + 1, sizeof(range), err);
        if (rc) return rc;
        b->deleted[b->n_deleted++] = range;
    }
    if (b->n_deleted) qsort(b->deleted, b->n_deleted, sizeof(*b->deleted), compare_ranges);
    return reader_finish(&r, err);
}

static enum err_code read_tombstones(struct prometheus_block *b, struct err *err)
{
    char path[IO_PATH_BYTES];
    uint8_t *p = NULL;
    size_t len;
    enum err_code rc = io_path(path, sizeof(path), err, b->dir, "tombstones");
    if (rc || !io_exists(b->io, path)) return rc; /* older blocks have none */
    rc = io_read_file(b->io, path, TOMBSTONES_BYTES_MAX, &p, &len, err);
    if (rc) return rc;
    rc = parse_tombstones(b, bytes_of(p, len), err);
    if (rc) rc = err_at(err, path, 0);
    mem_free(p);
    return rc;
}

/* The ranges of a series: its first, and how many. */
static const struct range *deleted_of(const struct prometheus_block *b, uint64_t ref, size_t *n)
{
    size_t low = 0, high = b->n_deleted;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (b->deleted[middle].ref < ref)
            low = middle + 1;
        else
            high = middle;
    }
    *n = 0;
    while (low + *n < b->n_deleted && b->deleted[low + *n].ref == ref) (*n)++;
    return *n ? &b->deleted[low] : NULL;
}

/* ---- files of chunks ---- */

struct names {
    char (*items)[16];
    size_t n, cap;
    struct err err;
};

static bool take_chunk_file(void *ctx, const char *name, bool is_dir)
{
    struct names *names = ctx;
    size_t len = strlen(name);
    if (is_dir || len < 6 || len > 10 || strspn(name, "0123456789") != len) return true;
    if (names->n == CHUNK_FILES_MAX || mem_grow(MEM_INGEST, (void **)&names->items, &names->cap,
                                                names->n + 1, sizeof(*names->items), &names->err))
        return false;
    memcpy(names->items[names->n++], name, len + 1);
    return true;
}

/* By number: a longer one is larger. */
static int compare_names(const void *a, const void *b)
{
    size_t x = strlen(a), y = strlen(b);
    return x != y ? (x > y) - (x < y) : strcmp(a, b);
}

static enum err_code open_chunk_file(struct prometheus_block *b, const char *dir, const char *name,
                                     struct err *err)
{
    char path[IO_PATH_BYTES];
    struct window *w = &b->chunks[b->n_chunks];
    struct bytes head;
    enum err_code rc = io_path(path, sizeof(path), err, dir, name);
    if (rc) return rc;
    rc = window_open(w, b->io, path, err);
    b->n_chunks++; /* closed with the rest, also when it failed */
    if (!rc) rc = window_exact(w, 0, 8, &head, err);
    if (rc) return rc;
    if (get_u32_be(head.p) != CHUNKS_MAGIC) return corrupt(w, 0, err, "no chunks of Prometheus");
    if (head.p[4] == 1) return ERR_OK;
    err_set(err, ERR_VERSION, "chunks of version %u, where 1 is known", head.p[4]);
    return err_at(err, path, 4);
}

static enum err_code open_chunks(struct prometheus_block *b, struct err *err)
{
    char dir[IO_PATH_BYTES];
    struct names names = {.n = 0};
    enum err_code rc = io_path(dir, sizeof(dir), err, b->dir, "chunks");
    if (!rc) rc = io_list(b->io, dir, take_chunk_file, &names, err);
    if (names.n) qsort(names.items, names.n, sizeof(*names.items), compare_names);
    if (!rc) {
        b->chunks = mem_calloc(MEM_INGEST, names.n + 1, sizeof(*b->chunks));
        if (!b->chunks) rc = err_set(err, ERR_NO_MEMORY, "no memory for %zu files", names.n);
    }
    for (size_t i = 0; !rc && i < names.n; i++) rc = open_chunk_file(b, dir, names.items[i], err);
    mem_free(names.items);
    return rc;
}

enum err_code prometheus_block_open(struct io *io, const char *dir, struct prometheus_block **out,
                                    struct err *err)
{
    *out = NULL;
    struct prometheus_block *b = mem_calloc(MEM_INGEST, 1, sizeof(*b));
    if (!b) return err_set(err, ERR_NO_MEMORY, "no memory for a block");
    b->io = io;
    enum err_code rc = strlen(dir) < sizeof(b->dir)
                           ? ERR_OK
                           : err_set(err, ERR_LIMIT, "the name of the folder is too long");
    if (!rc) memcpy(b->dir, dir, strlen(dir) + 1);
    if (!rc) rc = read_meta(b, err);
    if (!rc) rc = read_index(b, err);
    if (!rc) rc = read_tombstones(b, err);
    if (!rc) rc = open_chunks(b, err);
    if (rc) {
        prometheus_block_close(b);
        return err_context(err, "block %s", dir);
    }
    *out = b;
    return ERR_OK;
}

/* ---- a series ---- */

struct chunk_ref {
    int64_t min_ms, max_ms;
    uint64_t ref;
};

struct series_entry {
    uint64_t ref; /* as postings and tombstones have it */
    struct label *labels;
    size_t n_labels;
    struct chunk_ref *chunks;
    size_t n_chunks;
};

/* The bytes of an entry without length and crc. */
static enum err_code series_bytes(struct prometheus_block *b, uint64_t off, struct bytes *out,
                                  struct err *err)
{
    struct window *w = &b->index;
    struct bytes all;
    enum err_code rc = window_get(w, off, VARINT_BYTES_MAX, &all, err);
    if (rc) return rc;
    struct reader r = reader_init(all);
    uint64_t len = reader_varint(&r);
    if (r.failed || len > ENTRY_BYTES_MAX) return corrupt(w, off, err, "a series of no length");
    size_t head = reader_off(&r);
    rc = window_exact(w, off, head + (size_t)len + 4, &all, err);
    if (rc) return rc;
    *out = bytes_of(all.p + head, (size_t)len);
    return crc_is(out->p, out->len, get_u32_be(out->p + len))
               ? ERR_OK
               : corrupt(w, off, err, "the checksum of a series is wrong");
}

static enum err_code parse_labels(const struct prometheus_block *b, struct reader *r,
                                  struct arena *arena, struct series_entry *s, struct err *err)
{
    uint64_t n = reader_varint(r);
    if (n > reader_left(r) / 2 || n > LABELS_MAX)
        return err_set(err, ERR_CORRUPT, "a series of %" PRIu64 " labels", n);
    s->labels = ARENA_ARRAY(arena, struct label, (size_t)n + 1);
    if (!s->labels) return arena_fail(arena, err);
    for (s->n_labels = 0; s->n_labels < n; s->n_labels++) {
        struct label *label = &s->labels[s->n_labels];
        bool known = symbol_of(b, reader_varint(r), &label->name);
        known = symbol_of(b, reader_varint(r), &label->value) && known;
        if (!known || r->failed) return err_set(err, ERR_CORRUPT, "a label that is no symbol");
    }
    return ERR_OK;
}

static enum err_code parse_chunks(struct reader *r, struct arena *arena, struct series_entry *s,
                                  struct err *err)
{
    uint64_t n = reader_varint(r), t = 0, ref = 0;
    if (n > reader_left(r) / 3) return err_set(err, ERR_CORRUPT, "%" PRIu64 " chunks", n);
    s->chunks = ARENA_ARRAY(arena, struct chunk_ref, (size_t)n + 1);
    if (!s->chunks) return arena_fail(arena, err);
    for (s->n_chunks = 0; s->n_chunks < n; s->n_chunks++) {
        struct chunk_ref *c = &s->chunks[s->n_chunks];
        bool first = s->n_chunks == 0;
        t = first ? (uint64_t)reader_zigzag(r) : t + reader_varint(r);
        c->min_ms = (int64_t)t;
        t += reader_varint(r);
        c->max_ms = (int64_t)t;
        ref = first ? reader_varint(r) : ref + (uint64_t)reader_zigzag(r);
        c->ref = ref;
    }
    return reader_finish(r, err);
}

static enum err_code read_series(struct prometheus_block *b, uint64_t ref, struct arena *arena,
                                 struct series_entry *s, struct err *err)
{
    uint64_t off = b->version == 2 ? ref * 16 : ref;
    struct bytes bytes;
    *s = (struct series_entry){.ref = ref};
    enum err_code rc = series_bytes(b, off, &bytes, err);
    if (rc) return rc;
    struct reader r = reader_init(bytes);
    rc = parse_labels(b, &r, arena, s, err);
    if (!rc) rc = parse_chunks(&r, arena, s, err);
    return rc ? err_at(err, b->index.file->path, off) : ERR_OK;
}

/* ---- a chunk ---- */

static enum err_code read_chunk(struct prometheus_block *b, uint64_t ref, struct arena *arena,
                                struct samples *out, struct err *err)
{
    uint64_t file = ref >> 32, off = ref & UINT32_MAX;
    struct bytes all;
    if (file >= b->n_chunks)
        return err_set(err, ERR_CORRUPT, "a chunk in file %" PRIu64 " of %zu", file + 1,
                       b->n_chunks);
    struct window *w = &b->chunks[file];
    enum err_code rc = window_get(w, off, VARINT_BYTES_MAX, &all, err);
    if (rc) return rc;
    struct reader r = reader_init(all);
    uint64_t len = reader_varint(&r);
    if (r.failed || len > ENTRY_BYTES_MAX) return corrupt(w, off, err, "a chunk of no length");
    size_t head = reader_off(&r), n = (size_t)len;
    rc = window_exact(w, off, head + 1 + n + 4, &all, err);
    if (rc) return rc;
    const uint8_t *p = all.p + head;
    if (!crc_is(p, n + 1, get_u32_be(p + n + 1)))
        return corrupt(w, off, err, "the checksum of a chunk is wrong");
    rc = prometheus_chunk_read(p[0], bytes_of(p + 1, n), arena, out, err);
    return rc ? err_at(err, w->file->path, off) : ERR_OK;
}

/* Leaves out what is not asked for and what was deleted. */
static void samples_cut(struct samples *s, const struct prometheus_walk *walk,
                        const struct range *deleted, size_t n_deleted)
{
    size_t n = 0;
    for (size_t i = 0; i < s->n; i++) {
        int64_t t = s->t_ms[i];
        bool keep = t >= walk->start_ms && t <= walk->end_ms;
        for (size_t k = 0; keep && k < n_deleted; k++)
            keep = t < deleted[k].min_ms || t > deleted[k].max_ms;
        if (!keep) continue;
        s->t_ms[n] = t;
        memmove(&s->v[n], &s->v[i], sizeof(*s->v));
        if (s->h) s->h[n] = s->h[i];
        n++;
    }
    s->n = n;
}

/* ---- all of it ---- */

/* What ends the walk; anything else is about one series or one chunk. */
static bool is_fatal(enum err_code rc)
{
    return rc == ERR_NO_MEMORY || rc == ERR_LIMIT || rc == ERR_CANCELED;
}

static enum err_code walk_series(struct prometheus_block *b, const struct prometheus_walk *walk,
                                 const struct series_entry *s, struct arena *arena,
                                 struct samples *samples, struct err *err)
{
    size_t n_deleted;
    struct labels labels = {s->labels, s->n_labels};
    const struct range *deleted = deleted_of(b, s->ref, &n_deleted);
    if (walk->wanted && !walk->wanted(walk->ctx, labels)) return ERR_OK;
    for (size_t i = 0; i < s->n_chunks; i++) {
        const struct chunk_ref *c = &s->chunks[i];
        if (c->max_ms < walk->start_ms || c->min_ms > walk->end_ms) continue;
        struct arena_mark mark = arena_mark(arena);
        samples_reset(samples);
        enum err_code rc = read_chunk(b, c->ref, arena, samples, err);
        if (rc) {
            if (is_fatal(rc)) return rc;
            walk->broken(walk->ctx, err);
            arena_rewind(arena, mark);
            continue;
        }
        samples_cut(samples, walk, deleted, n_deleted);
        if (samples->n) rc = walk->put(walk->ctx, labels, samples, err);
        if (rc) return rc;
        arena_rewind(arena, mark);
    }
    return ERR_OK;
}

enum err_code prometheus_block_walk(struct prometheus_block *b, const struct prometheus_walk *walk,
                                    struct err *err)
{
    struct arena arena;
    struct samples samples;
    struct window refs = b->index; /* of its own: entries are elsewhere in the file */
    enum err_code rc = ERR_OK;
    refs.p = NULL;
    refs.len = refs.cap = 0;
    arena_init(&arena, MEM_INGEST, SERIES_MEMORY_MAX);
    samples_init(&samples, MEM_INGEST, &arena);
    for (uint64_t i = 0; !rc && i < b->n_postings; i++) {
        struct series_entry s;
        struct bytes ref;
        arena_reset(&arena);
        rc = window_exact(&refs, b->postings_at + 4 * i, 4, &ref, err);
        if (rc) break;
        rc = read_series(b, get_u32_be(ref.p), &arena, &s, err);
        if (!rc) {
            rc = walk_series(b, walk, &s, &arena, &samples, err);
        } else if (!is_fatal(rc)) {
            walk->broken(walk->ctx, err);
            rc = ERR_OK;
        }
    }
    mem_free(refs.p);
    samples_release(&samples);
    arena_release(&arena);
    return rc;
}
