/* A line of JSON: refused with a text, or labels and samples that are written again and read as the same. */
#include "ingest/json_lines.h"
#include "query/export_format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ARENA_BYTES ((size_t)64 << 20)

static size_t count_histograms(const struct samples *s)
{
    size_t n = 0;
    for (size_t i = 0; s->h && i < s->n; i++) n += s->h[i] != NULL;
    return n;
}

/* An export takes it that names are unique and texts are UTF-8, which others check. */
static bool is_plain(struct labels labels)
{
    for (size_t i = 0; i < labels.n; i++)
        if (!utf8_valid(labels.items[i].name) || !utf8_valid(labels.items[i].value)) return false;
    return true;
}

static void check_again(struct labels labels, const struct samples *s, struct arena *arena)
{
    struct buf text;
    struct labels labels2;
    struct samples got;
    struct err err;
    buf_init(&text, MEM_INGEST);
    samples_init(&got, MEM_INGEST, arena);
    export_put_samples(&text, EXPORT_JSONL, labels, s, 0, s->n);
    struct str line = {(const char *)text.p, text.len - 1};
    enum err_code rc = json_line_parse(line, arena, &labels2, &got, &err);
    ASSERT(rc == ERR_OK || rc == ERR_LIMIT);
    ASSERT(rc || (labels_eq(labels, labels2) && got.n == s->n));
    for (size_t i = 0; !rc && i < s->n; i++) {
        ASSERT(got.t_ms[i] == s->t_ms[i]);
        ASSERT(double_bits(got.v[i]) == double_bits(s->v[i]));
        if (s->h && s->h[i]) ASSERT(histogram_same_bits(s->h[i], got.h[i]));
    }
    samples_release(&got);
    buf_release(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena;
    struct samples s;
    struct labels labels;
    struct err err;
    arena_init(&arena, MEM_INGEST, ARENA_BYTES);
    samples_init(&s, MEM_INGEST, &arena);
    enum err_code rc =
        json_line_parse((struct str){(const char *)data, size}, &arena, &labels, &s, &err);
    ASSERT(rc == ERR_OK || err.text[0]);
    ASSERT(rc == ERR_OK || s.n == 0);
    size_t n_histograms = count_histograms(&s);
    if (!rc && s.n && (n_histograms == 0 || n_histograms == s.n) && is_plain(labels))
        check_again(labels, &s, &arena);
    samples_release(&s);
    arena_release(&arena);
    return 0;
}
