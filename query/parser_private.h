/* query/parser_private.h: what the files of the parser share. A recursive-descent parser with one token of look-ahead
 * that stops at the first error.
 *
 * Error texts name what was being parsed ("… in aggregation"). `context` is that: each rule with a name of
 * its own sets it and puts the outer one back, so the innermost open rule is named, as in Prometheus, whose texts clients
 * compare. A token is fetched only when a decision needs it: then an error of the lexer comes before or after one
 * of the parser exactly as there. */
#ifndef QUIPU_QUERY_PARSER_PRIVATE_H
#define QUIPU_QUERY_PARSER_PRIVATE_H

#include "query/lexer.h"
#include "query/parser.h"
#include "query/regex.h"

/* In the arena; what it points to is freed by parse_release(). */
struct regex_list {
    struct regex *re;
    struct regex_list *next;
};

struct context {
    const char *in;       /* NULL: none */
    const char *expected; /* NULL: not said */
};

struct parser {
    struct lexer lexer;
    struct token token; /* the look-ahead, if has_token */
    bool has_token;
    struct str text;
    struct arena *arena;
    const struct context *context;
    struct regex_list *regexes;
    size_t regex_bytes;
    uint32_t last_end; /* behind the token taken last */
    unsigned depth;    /* of the recursion: at most PARSER_DEPTH_MAX */
    struct err *err;
};

/* The look-ahead. TOK_ERROR: the error is set. */
const struct token *parser_peek(struct parser *p);
struct token parser_take(struct parser *p); /* after a peek */
static inline bool parser_is(struct parser *p, enum token_kind kind)
{
    return parser_peek(p)->kind == kind;
}
/* Takes a token of that kind, or fails as unexpected. */
MUST_USE bool parser_expect(struct parser *p, enum token_kind kind);

/* All of these set the error unless one is set already, and return NULL. */
void *parser_fail(struct parser *p, uint32_t pos, const char *fmt, ...) PRINTF_LIKE(3, 4);
void *parser_unexpected(struct parser *p); /* the look-ahead */
void *parser_no_memory(struct parser *p);
void *parser_too_deep(struct parser *p);
static inline bool parser_failed(const struct parser *p)
{
    return p->err->code != ERR_OK;
}

/* parser_selector.c */
/* After the name, if any: `{…}`, if there is one. `name` is empty for a selector without. */
struct node *parser_selector(struct parser *p, struct str name, uint32_t pos);
/* "(" labels ")" after by, without, on, ignoring, group_left, group_right */
MUST_USE bool parser_grouping(struct parser *p, struct str_list *out);
MUST_USE bool parser_unquote(struct parser *p, const struct token *tok, struct str *out);

/* parser_duration.c */
/* The value of a number or duration token, in seconds. */
MUST_USE bool parser_number(struct parser *p, const struct token *tok, double *out);
/* In brackets: a whole expression that must be positive. */
MUST_USE bool parser_positive_duration(struct parser *p, struct duration *out);
/* After `offset`: signs and one operand. */
MUST_USE bool parser_offset_duration(struct parser *p, struct duration *out);

/* parser_check.c: types and all else that needs a whole tree. Sets node->type. What is wrong stands in err. */
void parser_check(struct node *root, struct str text, struct err *err);
/* "1:5: parse error: " and the text. */
void parser_error(struct err *err, struct str text, uint32_t pos, struct str message);

#endif
