/* query/parser.h: PromQL text to a type-checked tree, and back.
 * Nesting is bounded by PARSER_DEPTH_MAX, text by PARSER_BYTES_MAX, compiled regular expressions by PARSER_REGEX_BYTES_MAX
 * in all: past any of them ERR_LIMIT. */
#ifndef QUIPU_QUERY_PARSER_H
#define QUIPU_QUERY_PARSER_H

#include "query/ast.h"

#define PARSER_DEPTH_MAX 1000
#define PARSER_BYTES_MAX (1u << 20)
#define PARSER_REGEX_BYTES_MAX (64u << 20)

/* ERR_INVALID: the text is Prometheus's own, "1:5: parse error: …". Regular expressions are compiled (RE2);
 * they live until parse_release. All else is in the arena or points into `text`, which must live as long.
 * Durations that are expressions wait for durations_resolve() (query/duration.h). */
struct parse_result {
    struct node *root;
    struct regex_list *regexes; /* private */
};
MUST_USE enum err_code parse_expr(struct str text, struct arena *arena, struct parse_result *out,
                                  struct err *err);
/* A series selector as match[] takes it: `up{a="b"}` and nothing else. */
MUST_USE enum err_code parse_selector(struct str text, struct arena *arena,
                                      struct parse_result *out, struct err *err);
void parse_release(struct parse_result *result);

/* One-line form, as Prometheus's String() */
void ast_print(const struct node *root, struct buf *out);
/* Several lines where one is over 100 bytes, as /api/v1/format_query */
void ast_print_pretty(const struct node *root, struct buf *out);
/* The JSON of /api/v1/parse_query */
void ast_print_json(const struct node *root, struct buf *out);

/* "5m", "1h30m", … the canonical form of a duration. */
void duration_print(int64_t ms, struct buf *out);
/* A Prometheus duration or a number of seconds, as the HTTP parameters take it. False if it is neither. */
MUST_USE bool duration_parse(struct str text, int64_t *ms, bool *overflow);
/* "line:col" of a byte offset, both from 1, columns in bytes. */
void position_print(struct str text, uint32_t pos, struct buf *out);

#endif
