/* query/matcher_regex.c: see the header. */
#include "query/matcher_regex.h"

#include "query/regex.h"

static enum err_code compile(struct matcher *m, void **owned, struct err *err)
{
    struct regex *re;
    enum err_code rc = regex_compile(m->value, &re, err);
    if (rc) return rc;
    *owned = re;
    m->re = re;
    m->re_match = regex_match;
    m->literals = regex_literals(re, &m->n_literals);
    m->prefix = regex_prefix(re);
    return ERR_OK;
}

static void release(void *owned)
{
    regex_free(owned);
}

struct engine_regex matcher_regex(void)
{
    return (struct engine_regex){compile, release};
}
