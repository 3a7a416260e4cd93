/* storage/block.h: an immutable block file: all samples of one tenant in a span of time (storage/format.h).
 *
 * A file has sections (chunks, times, the index), each a run of checksummed pages of 16-64 KiB, and a footer with the
 * section table, the page table and the block's identity. Published by rename after an fsync, so that a block under
 * its final name is whole. Series are numbered in label order. Version 2 is written, 1 and 2 are read.
 * Errors: ERR_CORRUPT names file, section and offset. */
#ifndef QUIPU_STORAGE_BLOCK_H
#define QUIPU_STORAGE_BLOCK_H

#include "base/env.h"
#include "storage/chunk.h"
#include "storage/matcher.h"
#include "storage/page_cache.h"

#define ULID_CHARS 26
struct ulid {
    char text[ULID_CHARS + 1]; /* Crockford base 32, sortable by time; NUL-terminated */
};
/* t_ms and 80 random bits (the ULID specification). */
void ulid_make(struct ulid *out, int64_t t_ms, struct rng *rng);
bool ulid_parse(struct str text, struct ulid *out);

struct block_info {
    struct ulid ulid;
    uint64_t incarnation; /* of the tenant */
    uint64_t
        sequence;   /* of overlapping blocks, the one with the higher sequence wins a timestamp */
    uint32_t level; /* 0: from the head; compaction counts up */
    int64_t t_min_ms, t_max_ms; /* of samples, inclusive */
    uint64_t n_series, n_samples, n_chunks;
    uint64_t file_bytes;
    int64_t created_ms;
};

/* ---- writing: series in label order, each with its chunks in time order ---- */

struct block_writer;
/* Writes `dir`/<ulid>.block.tmp. info: ulid, incarnation, sequence, level, created_ms are taken from it. The level says
 * what effort goes into size: 0 and 1 fast encoders and LZ4, 2 the small ones and LZ4-HC, 3 and above zstd. */
MUST_USE enum err_code block_writer_open(const struct env *env, const char *dir,
                                         const struct block_info *info, struct block_writer **out,
                                         struct err *err);
/* Declares the next series: a later one must sort after the one before (ASSERT). *id: its number among those declared.
 * A series that gets no samples is left out of the block (what is published is numbered without gaps). */
MUST_USE enum err_code block_writer_series(struct block_writer *w, struct labels labels,
                                           uint32_t *id, struct err *err);
/* Encodes samples [from, from + n) of s, n >= 1, later than all that the series has (ASSERT), as one chunk or more
 * (1,025 floats each at level 2 and above, fewer below; constants in one). Series may take turns in any order. */
MUST_USE enum err_code block_writer_samples(struct block_writer *w, uint32_t id,
                                            const struct samples *s, size_t from, size_t n,
                                            struct err *err);
/* Members of a classic histogram with the same n times, all floats: written as one chunk where that is smaller (and
 * possible, family.h), else series by series. */
struct block_family {
    const uint32_t *
        ids; /* n_members, by rising bound, the last is +Inf; each counts as block_writer_samples */
    size_t n_members;  /* FAMILY_MEMBERS_MIN..FAMILY_MEMBERS_MAX */
    uint32_t count_id; /* the _count series; BLOCK_NO_SERIES: none */
    const int64_t *t_ms;
    const double *const *v; /* n_members columns of n values */
    const double *count;
    size_t n;
};
#define BLOCK_NO_SERIES UINT32_MAX
MUST_USE enum err_code block_writer_family(struct block_writer *w, const struct block_family *f,
                                           struct err *err);
/* A chunk as chunk_encode made it, later than all that the series has: taken over as it is, but for times that the
 * block can share. */
MUST_USE enum err_code block_writer_chunk(struct block_writer *w, uint32_t id,
                                          const struct chunk_meta *meta, struct bytes chunk,
                                          struct err *err);
/* Writes index and footer, fsyncs, publishes. `info` gets the counts. A block without samples is refused. */
MUST_USE enum err_code block_writer_finish(struct block_writer *w, struct block_info *info,
                                           struct err *err);
/* Frees; an unpublished file is removed. NULL: no-op. */
void block_writer_close(struct block_writer *w);

/* ---- reading ---- */

struct block; /* reference-counted */
MUST_USE enum err_code block_open(const struct env *env, const char *path, struct page_cache *cache,
                                  struct block **out, struct err *err);
struct block *block_ref(struct block *block);
void block_unref(struct block *block); /* the last one closes the file */
/* The file is unlinked when the last reference goes. */
void block_drop_file(struct block *block);
const struct block_info *block_info(const struct block *block);

/* Numbers of the series that satisfy all matchers, ascending (= label order). n_matchers 0: all. */
MUST_USE enum err_code block_select(struct block *block, const struct matcher *matchers,
                                    size_t n_matchers, struct arena *arena, uint32_t **ids,
                                    size_t *n, struct err *err);
/* Labels of a series; strings are copied to the arena. */
MUST_USE enum err_code block_labels(struct block *block, uint32_t id, struct arena *arena,
                                    struct labels *out, struct err *err);
/* Appends samples in [mint_ms, maxt_ms] to `out`. */
MUST_USE enum err_code block_read(struct block *block, uint32_t id, int64_t mint_ms,
                                  int64_t maxt_ms, struct samples *out, struct err *err);
/* Is there a chunk of the series that overlaps [mint_ms, maxt_ms]? */
MUST_USE enum err_code block_overlaps(struct block *block, uint32_t id, int64_t mint_ms,
                                      int64_t maxt_ms, bool *out, struct err *err);
/* All label names; sorted, strings copied to the arena. */
MUST_USE enum err_code block_label_names(struct block *block, struct arena *arena, struct str **out,
                                         size_t *n, struct err *err);
/* All values of one name, sorted, until fn says otherwise: *done, or an error. The value may not be kept. */
typedef enum err_code block_value_fn(void *ctx, struct str value, bool *done, struct err *err);
MUST_USE enum err_code block_each_value(struct block *block, struct str name, block_value_fn *fn,
                                        void *ctx, struct err *err);

/* Statistics of the chunks of a series that overlap [mint_ms, maxt_ms], in time order, without reading a chunk. */
typedef enum err_code block_meta_fn(void *ctx, const struct chunk_meta *meta, struct err *err);
MUST_USE enum err_code block_metas(struct block *block, uint32_t id, int64_t mint_ms,
                                   int64_t maxt_ms, block_meta_fn *fn, void *ctx, struct err *err);

/* Chunks of a series, in time order, as they are in the file: for `quipu inspect block`. */
struct block_chunk {
    struct chunk_meta meta;
    const char *kind;  /* "integers", "family", "histograms", ... */
    size_t bytes;      /* of the chunk, without its times if these are shared */
    uint32_t n_series; /* that share it: those of a family, else 1 */
};
typedef enum err_code block_chunk_fn(void *ctx, const struct block_chunk *chunk, struct err *err);
MUST_USE enum err_code block_chunks(struct block *block, uint32_t id, block_chunk_fn *fn, void *ctx,
                                    struct err *err);

struct block_section_info {
    char name[16];
    uint64_t off, bytes, n_pages;
};
/* For inspect: sections of the file; n at most cap. */
size_t block_sections(const struct block *block, struct block_section_info *out, size_t cap);
/* Reads and checks everything: checksums, order of series and samples, postings against series, chunk metadata
 * against contents. Each problem is reported; the code of the first is returned. */
typedef void block_problem_fn(void *ctx, const struct err *problem);
MUST_USE enum err_code block_verify(struct block *block, block_problem_fn *fn, void *ctx,
                                    struct err *err);

/* The checksums of all pages alone, past the cache. `read` is called after each page; an error of it ends the check and is
 * returned. Of problems the code of the first is. */
typedef enum err_code block_page_fn(void *ctx, uint64_t bytes, struct err *err);
MUST_USE enum err_code block_check_pages(struct block *block, block_page_fn *read, void *read_ctx,
                                         block_problem_fn *fn, void *ctx, struct err *err);

#endif
