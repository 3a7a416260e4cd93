/* query/lexer.h: PromQL text to tokens, one at a time. Rules and error texts: Prometheus's
 * lexer. Keywords are found outside braces only, whatever their case.
 * Nothing is copied: token texts point into the query. */
#ifndef QUIPU_QUERY_LEXER_H
#define QUIPU_QUERY_LEXER_H

#include "base/bytes.h"
#include "query/ast.h"

enum token_kind {
    TOK_END,
    TOK_ERROR, /* the text is in lexer->error, the place in lexer->error_pos */
    TOK_IDENT,
    TOK_METRIC_IDENT, /* an identifier with a colon in it */
    TOK_STRING,       /* with its quotes */
    TOK_NUMBER,
    TOK_DURATION,
    TOK_LEFT_PAREN,
    TOK_RIGHT_PAREN,
    TOK_LEFT_BRACE,
    TOK_RIGHT_BRACE,
    TOK_LEFT_BRACKET,
    TOK_RIGHT_BRACKET,
    TOK_COMMA,
    TOK_COLON,
    TOK_AT,
    TOK_EQL,       /* = */
    TOK_NEQ,       /* != inside braces */
    TOK_EQL_REGEX, /* =~ */
    TOK_NEQ_REGEX, /* !~ */
    TOK_OPERATOR,  /* token.op */
    TOK_AGGREGATE, /* token.aggregate */
    /* keywords */
    TOK_BY,
    TOK_WITHOUT,
    TOK_ON,
    TOK_IGNORING,
    TOK_GROUP_LEFT,
    TOK_GROUP_RIGHT,
    TOK_BOOL,
    TOK_OFFSET,
    TOK_ANCHORED,
    TOK_SMOOTHED,
    TOK_FILL, /* these three only in front of a parenthesis, else identifiers */
    TOK_FILL_LEFT,
    TOK_FILL_RIGHT,
    TOK_START,
    TOK_END_WORD, /* "end" */
    TOK_STEP,
    TOK_RANGE,
    TOK_MIN_OF,
    TOK_MAX_OF
};

struct token {
    enum token_kind kind;
    enum binary_op op;           /* TOK_OPERATOR */
    enum aggregate_op aggregate; /* TOK_AGGREGATE */
    uint32_t pos;
    struct str text; /* as written */
};

struct lexer {
    struct str text;
    uint32_t start, pos; /* the token in the making is [start, pos) */
    bool in_braces, in_brackets;
    bool before_number; /* in brackets, nothing but signs, operators and parentheses so far */
    bool got_colon;
    uint32_t n_parens; /* open ones */
    uint32_t error_pos;
    struct buf error;
};

void lexer_init(struct lexer *lx, struct str text);
void lexer_release(struct lexer *lx);
/* TOK_END repeats; after TOK_ERROR do not ask again. */
void lexer_next(struct lexer *lx, struct token *out);
/* How error texts name the token: identifier "x", <op:+>, … */
void token_describe(const struct token *tok, struct buf *out);
/* Can the token stand as a metric name, as a label in a grouping list? */
bool token_is_metric_name(const struct token *tok);
bool token_is_label_name(const struct token *tok);

/* The value of a string token; never NULL-terminated. False when it is malformed (then the lexer is at fault). */
MUST_USE bool string_unquote(struct str quoted, struct arena *arena, struct str *out,
                             bool *no_memory);
/* One code point from s at `off`: its length in bytes, 1 and *rune = U+FFFD for a malformed byte, 0 at the end. */
unsigned rune_next(struct str s, size_t off, uint32_t *rune);
/* As UTF-8; the rune must be valid. */
bool rune_valid(uint32_t rune);
void rune_put(uint32_t rune, struct buf *out);
/* Go's %q of a rune: 'x', '\'', '\x00'; RUNE_END gives the replacement character. */
#define RUNE_END UINT32_MAX
#define RUNE_BAD 0xfffdu
void rune_quote(uint32_t rune, struct buf *out);

#endif
