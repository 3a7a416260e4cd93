/* Any bytes as the matchers of a delete in the catalog: refused, or matchers that encode to what decodes equal. */
#include <stdlib.h>

#include "engine/tombstones.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool match_all(const void *re, struct str text)
{
    (void)re;
    return text.len > 0;
}

static enum err_code compile(struct matcher *m, void **owned, struct err *err)
{
    (void)err;
    m->re_match = match_all;
    *owned = NULL;
    return ERR_OK;
}

static void release(void *owned)
{
    (void)owned;
}

static struct tombstone *make(const struct engine_regex *regex, struct bytes matchers)
{
    struct catalog_tombstone row = {.id = 1, .incarnation = 1, .matchers = matchers};
    struct tombstone *t;
    struct err err;
    return tombstone_new(regex, &row, &t, &err) ? NULL : t;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct engine_regex regex = {compile, release};
    struct tombstone *t = make(&regex, bytes_of(data, size));
    if (!t) return 0;
    struct tombstone_view v = tombstone_view(t);
    struct label label = {STR("a"), STR("b")};
    struct buf again;
    buf_init(&again, MEM_BASE);
    tombstone_encode(v.matchers, v.n_matchers, &again);
    struct tombstone *u = make(&regex, buf_bytes(&again));
    if (!u) abort();
    struct tombstone_view w = tombstone_view(u);
    if (w.n_matchers != v.n_matchers) abort();
    struct labels labels = {&label, 1};
    if (matchers_match_labels(v.matchers, v.n_matchers, labels) !=
        matchers_match_labels(w.matchers, w.n_matchers, labels))
        abort();
    tombstone_free(u);
    tombstone_free(t);
    buf_release(&again);
    return 0;
}
