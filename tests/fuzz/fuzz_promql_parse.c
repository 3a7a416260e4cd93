/* Any bytes as a query: refused with a text, or a tree whose printed form gives the same printed form again. */
#include <stdio.h>
#include <stdlib.h>

#include "query/duration.h"
#include "query/parser.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef void print_fn(const struct node *root, struct buf *out);

/* False: refused. */
static bool print_query(struct str text, print_fn *print, struct buf *out)
{
    struct arena arena;
    struct parse_result result;
    struct err err;
    arena_init(&arena, MEM_QUERY, 64u << 20);
    enum err_code rc = parse_expr(text, &arena, &result, &err);
    if (!rc) {
        print(result.root, out);
        rc = durations_resolve(result.root, (struct duration_times){15000, 3600000}, &err);
        if (rc && !err.text[0]) abort();
        rc = ERR_OK;
    } else if (!err.text[0]) {
        abort();
    }
    parse_release(&result);
    arena_release(&arena);
    return rc == ERR_OK;
}

static void check(struct str text, print_fn *print)
{
    struct buf once, twice;
    buf_init(&once, MEM_QUERY);
    buf_init(&twice, MEM_QUERY);
    if (print_query(text, print, &once)) {
        struct str printed = str_from_bytes(buf_bytes(&once));
        /* The printed form may be longer than what is read (0x1p… grows, indentation adds up). */
        bool fits = printed.len <= PARSER_BYTES_MAX;
        bool accepted = fits && print_query(printed, print, &twice);
        if (fits && (!accepted || !str_eq(printed, str_from_bytes(buf_bytes(&twice))))) {
            fprintf(stderr, "printed %.*s\nthen    %.*s\n", STR_ARG(printed), (int)twice.len,
                    (const char *)twice.p);
            abort();
        }
    }
    buf_release(&once);
    buf_release(&twice);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str text = str_from_bytes(bytes_of(data, size));
    struct buf json;
    check(text, ast_print);
    check(text, ast_print_pretty);
    buf_init(&json, MEM_QUERY);
    (void)print_query(text, ast_print_json, &json); /* just that it can */
    buf_release(&json);
    struct arena arena;
    struct parse_result result;
    struct err err;
    arena_init(&arena, MEM_QUERY, 64u << 20);
    if (!parse_selector(text, &arena, &result, &err)) parse_release(&result);
    arena_release(&arena);
    return 0;
}
