#include "query/lexer.h"

#include "storage/labels.h"

/* --- characters ------------------------------------------------------------------------------------ */

static bool is_space(uint32_t c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool is_digit(uint32_t c)
{
    return c >= '0' && c <= '9';
}

static bool is_alpha(uint32_t c)
{
    return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_alnum(uint32_t c)
{
    return is_alpha(c) || is_digit(c);
}

/* Length of the sequence that the lead byte announces and the least code point it may encode. */
static unsigned utf8_lead(uint8_t lead, uint32_t *bits, uint32_t *least)
{
    if (lead >= 0xc2 && lead <= 0xdf) {
        *bits = lead & 0x1f;
        *least = 0x80;
        return 2;
    }
    if (lead >= 0xe0 && lead <= 0xef) {
        *bits = lead & 0x0f;
        *least = 0x800;
        return 3;
    }
    if (lead >= 0xf0 && lead <= 0xf4) {
        *bits = lead & 0x07;
        *least = 0x10000;
        return 4;
    }
    return 0;
}

unsigned rune_next(struct str s, size_t off, uint32_t *rune)
{
    *rune = RUNE_END;
    if (off >= s.len) return 0;
    uint8_t lead = (uint8_t)s.p[off];
    *rune = lead;
    if (lead < 0x80) return 1;
    *rune = RUNE_BAD;
    uint32_t value, least;
    unsigned n = utf8_lead(lead, &value, &least);
    if (!n || s.len - off < n) return 1;
    for (unsigned i = 1; i < n; i++) {
        uint8_t c = (uint8_t)s.p[off + i];
        if ((c & 0xc0) != 0x80) return 1;
        value = value << 6 | (c & 0x3f);
    }
    if (value < least || value > 0x10ffff || (value >= 0xd800 && value < 0xe000)) return 1;
    *rune = value;
    return n;
}

static unsigned rune_encode(uint32_t rune, char out[4])
{
    if (rune < 0x80) {
        out[0] = (char)rune;
        return 1;
    }
    if (rune < 0x800) {
        out[0] = (char)(0xc0 | rune >> 6);
        out[1] = (char)(0x80 | (rune & 0x3f));
        return 2;
    }
    if (rune < 0x10000) {
        out[0] = (char)(0xe0 | rune >> 12);
        out[1] = (char)(0x80 | (rune >> 6 & 0x3f));
        out[2] = (char)(0x80 | (rune & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | rune >> 18);
    out[1] = (char)(0x80 | (rune >> 12 & 0x3f));
    out[2] = (char)(0x80 | (rune >> 6 & 0x3f));
    out[3] = (char)(0x80 | (rune & 0x3f));
    return 4;
}

bool rune_valid(uint32_t rune)
{
    return rune <= 0x10ffff && !(rune >= 0xd800 && rune < 0xe000);
}

void rune_put(uint32_t rune, struct buf *out)
{
    char bytes[4];
    buf_text(out, (struct str){bytes, rune_encode(rune, bytes)});
}

void rune_quote(uint32_t rune, struct buf *out)
{
    if (rune > 0x10ffff) rune = RUNE_BAD;
    if (rune == '\'') return buf_text(out, STR("'\\''"));
    if (rune == '"') return buf_text(out, STR("'\"'"));
    char bytes[4];
    struct str s = {bytes, rune_encode(rune, bytes)};
    size_t from = out->len;
    str_quote(out, s); /* the escapes are those of strings; only the quotes differ */
    if (out->failed || out->len < from + 2) return;
    out->p[from] = '\'';
    out->p[out->len - 1] = '\'';
}

/* Go's %#U: U+0071 'q' */
static void rune_print_unicode(uint32_t rune, struct buf *out)
{
    if (rune > 0x10ffff) rune = RUNE_BAD;
    buf_printf(out, "U+%04X", (unsigned)rune);
    size_t from = out->len;
    char bytes[4];
    str_quote(out, (struct str){bytes, rune_encode(rune, bytes)});
    bool plain = !out->failed && (out->p[from + 1] != '\\' || rune == '\\' || rune == '"');
    out->len = out->failed ? out->len : from;
    if (plain) {
        buf_text(out, STR(" '"));
        buf_text(out, (struct str){bytes, rune_encode(rune, bytes)});
        buf_u8(out, '\'');
    }
}

/* --- the lexer ------------------------------------------------------------------------------------- */

void lexer_init(struct lexer *lx, struct str text)
{
    *lx = (struct lexer){.text = text};
    buf_init(&lx->error, MEM_QUERY);
}

void lexer_release(struct lexer *lx)
{
    buf_release(&lx->error);
}

static uint32_t next(struct lexer *lx)
{
    uint32_t rune;
    lx->pos += rune_next(lx->text, lx->pos, &rune);
    return rune;
}

static uint32_t peek(const struct lexer *lx)
{
    uint32_t rune;
    (void)rune_next(lx->text, lx->pos, &rune); /* its length does not matter here */
    return rune;
}

/* Takes the next byte if it is one of `set` (ASCII, not empty). */
static bool accept(struct lexer *lx, const char *set)
{
    if (lx->pos >= lx->text.len) return false;
    char c = lx->text.p[lx->pos];
    if (!c || !strchr(set, c)) return false;
    lx->pos++;
    return true;
}

static bool looking_at(const struct lexer *lx, const char *set)
{
    return lx->pos < lx->text.len && lx->text.p[lx->pos] && strchr(set, lx->text.p[lx->pos]);
}

static void accept_run(struct lexer *lx, const char *set)
{
    while (accept(lx, set)) continue;
}

static struct token emit(struct lexer *lx, enum token_kind kind)
{
    struct token tok = {
        .kind = kind, .pos = lx->start, .text = {lx->text.p + lx->start, lx->pos - lx->start}};
    lx->start = lx->pos;
    return tok;
}

static struct token emit_op(struct lexer *lx, enum binary_op op)
{
    struct token tok = emit(lx, TOK_OPERATOR);
    tok.op = op;
    return tok;
}

static struct token fail(struct lexer *lx, const char *text)
{
    buf_reset(&lx->error);
    buf_text(&lx->error, str_of(text));
    lx->error_pos = lx->start;
    return (struct token){.kind = TOK_ERROR, .pos = lx->start};
}

static struct token fail_rune(struct lexer *lx, const char *text, uint32_t rune)
{
    struct token tok = fail(lx, text);
    rune_quote(rune, &lx->error);
    return tok;
}

/* --- numbers and durations ------------------------------------------------------------------------- */

/* Scans what may be a number; whether it is one the parser finds out. False leaves pos where it went wrong,
 * and that is what the error text shows. */
static bool scan_number(struct lexer *lx)
{
    const char *digits = "0123456789";
    bool hex = accept(lx, "0") && accept(lx, "xX");
    if (hex) {
        accept(lx, "_");
        digits = "0123456789abcdefABCDEF";
    }
    accept(lx, ".");
    accept(lx, digits);
    bool got_dot = false, got_exp = false;
    while (looking_at(lx, digits) || looking_at(lx, "._eE")) {
        if (looking_at(lx, ".") && got_dot) {
            lx->pos++;
            return false;
        }
        if (looking_at(lx, "eE") && got_exp) {
            lx->pos++;
            return false;
        }
        if (accept(lx, ".")) {
            got_dot = true;
            if (accept(lx, "_.") || hex) return false;
        } else if (accept(lx, "eE")) { /* in hexadecimal, too: a trap that clients know */
            got_exp = true;
            accept(lx, "+-");
            if (accept(lx, "._eE") || lx->pos >= lx->text.len) return false;
        } else if (accept(lx, "_")) {
            if (accept(lx, "._eE") || lx->pos >= lx->text.len) return false;
        } else {
            accept_run(lx, digits);
        }
    }
    return !is_alnum(peek(lx));
}

/* What follows the first number of a duration: a unit, then numbers with units. */
static bool scan_duration_rest(struct lexer *lx)
{
    if (!accept(lx, "smhdwy")) return false;
    accept(lx, "s"); /* of ms */
    while (accept(lx, "0123456789")) {
        accept_run(lx, "0123456789");
        if (!accept(lx, "smhdw")) return false;
        accept(lx, "s");
    }
    if (!is_alnum(peek(lx))) return true;
    (void)next(lx); /* shown as part of the bad text */
    return false;
}

static struct token lex_number(struct lexer *lx)
{
    lx->before_number = false;
    if (scan_number(lx)) return emit(lx, TOK_NUMBER);
    if (scan_duration_rest(lx)) return emit(lx, TOK_DURATION);
    struct token tok = fail(lx, "bad number or duration syntax: ");
    str_quote(&lx->error, (struct str){lx->text.p + lx->start, lx->pos - lx->start});
    return tok;
}

/* --- strings --------------------------------------------------------------------------------------- */

static uint32_t hex_value(uint32_t c)
{
    if (is_digit(c)) return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : 16;
}

static struct token fail_escape(struct lexer *lx, const char *text, uint32_t rune,
                                const char *after)
{
    struct token tok = fail(lx, text);
    rune_print_unicode(rune, &lx->error);
    buf_text(&lx->error, str_of(after));
    return tok;
}

/* After the backslash. False: *out is the error. */
static bool scan_escape(struct lexer *lx, uint32_t quote, struct token *out)
{
    uint32_t c = next(lx);
    unsigned n_digits;
    uint32_t base = 16, max = 0xff;
    if (c == quote) return true;
    if (c == RUNE_END) {
        *out = fail(lx, "escape sequence not terminated");
        return false;
    } else if (c < 0x80 && c && strchr("abfnrtv\\", (int)c)) {
        return true;
    } else if (c >= '0' && c <= '7') {
        n_digits = 3;
        base = 8;
    } else if (c == 'x' || c == 'u' || c == 'U') {
        n_digits = c == 'x' ? 2 : c == 'u' ? 4 : 8;
        max = c == 'x' ? 0xff : 0x10ffff;
        c = next(lx);
    } else {
        *out = fail_escape(lx, "unknown escape sequence ", c, "");
        return false;
    }
    uint64_t value = 0;
    for (;; c = next(lx)) {
        if (c == RUNE_END) {
            *out = fail(lx, "escape sequence not terminated");
            return false;
        }
        uint32_t digit = c < 0x80 ? hex_value(c) : 16;
        if (digit >= base) {
            *out = fail_escape(lx, "illegal character ", c, " in escape sequence");
            return false;
        }
        value = value * base + digit;
        if (--n_digits == 0) break;
    }
    if (value <= max && !(value >= 0xd800 && value < 0xe000)) return true;
    *out = fail(lx, "escape sequence is an invalid Unicode code point");
    return false;
}

static struct token lex_string(struct lexer *lx, uint32_t quote)
{
    for (;;) {
        uint32_t c = next(lx);
        struct token error;
        if (c == quote) return emit(lx, TOK_STRING);
        if (c == RUNE_BAD) return fail(lx, "invalid UTF-8 rune");
        if (c == RUNE_END || c == '\n') return fail(lx, "unterminated quoted string");
        if (c == '\\' && !scan_escape(lx, quote, &error)) return error;
    }
}

static struct token lex_raw_string(struct lexer *lx)
{
    for (;;) {
        uint32_t c = next(lx);
        if (c == '`') return emit(lx, TOK_STRING);
        if (c == RUNE_BAD) return fail(lx, "invalid UTF-8 rune");
        if (c == RUNE_END) return fail(lx, "unterminated raw string");
    }
}

/* --- words ----------------------------------------------------------------------------------------- */

struct keyword {
    const char *word;
    enum token_kind kind;
    int sub; /* enum binary_op or aggregate_op */
};
static const struct keyword KEYWORDS[] = {
    {"and", TOK_OPERATOR, OP_AND},
    {"or", TOK_OPERATOR, OP_OR},
    {"unless", TOK_OPERATOR, OP_UNLESS},
    {"atan2", TOK_OPERATOR, OP_ATAN2},
    {"sum", TOK_AGGREGATE, AGG_SUM},
    {"avg", TOK_AGGREGATE, AGG_AVG},
    {"count", TOK_AGGREGATE, AGG_COUNT},
    {"min", TOK_AGGREGATE, AGG_MIN},
    {"max", TOK_AGGREGATE, AGG_MAX},
    {"group", TOK_AGGREGATE, AGG_GROUP},
    {"stddev", TOK_AGGREGATE, AGG_STDDEV},
    {"stdvar", TOK_AGGREGATE, AGG_STDVAR},
    {"topk", TOK_AGGREGATE, AGG_TOPK},
    {"bottomk", TOK_AGGREGATE, AGG_BOTTOMK},
    {"count_values", TOK_AGGREGATE, AGG_COUNT_VALUES},
    {"quantile", TOK_AGGREGATE, AGG_QUANTILE},
    {"limitk", TOK_AGGREGATE, AGG_LIMITK},
    {"limit_ratio", TOK_AGGREGATE, AGG_LIMIT_RATIO},
    {"by", TOK_BY, 0},
    {"without", TOK_WITHOUT, 0},
    {"on", TOK_ON, 0},
    {"ignoring", TOK_IGNORING, 0},
    {"group_left", TOK_GROUP_LEFT, 0},
    {"group_right", TOK_GROUP_RIGHT, 0},
    {"bool", TOK_BOOL, 0},
    {"offset", TOK_OFFSET, 0},
    {"anchored", TOK_ANCHORED, 0},
    {"smoothed", TOK_SMOOTHED, 0},
    {"fill", TOK_FILL, 0},
    {"fill_left", TOK_FILL_LEFT, 0},
    {"fill_right", TOK_FILL_RIGHT, 0},
    {"start", TOK_START, 0},
    {"end", TOK_END_WORD, 0},
    {"step", TOK_STEP, 0},
    {"range", TOK_RANGE, 0},
    {"min_of", TOK_MIN_OF, 0},
    {"max_of", TOK_MAX_OF, 0},
    {"inf", TOK_NUMBER, 0},
    {"nan", TOK_NUMBER, 0},
};

static bool word_is(struct str word, const char *lower)
{
    for (size_t i = 0; i < word.len; i++) {
        char c = word.p[i];
        if (c >= 'A' && c <= 'Z') c = (char)(c | 0x20);
        if (c != lower[i]) return false; /* also at the end of `lower` */
    }
    return !lower[word.len];
}

static const struct keyword *keyword_find(struct str word)
{
    for (size_t i = 0; i < COUNT_OF(KEYWORDS); i++)
        if (word_is(word, KEYWORDS[i].word)) return &KEYWORDS[i];
    return NULL;
}

static bool before_paren(const struct lexer *lx)
{
    size_t i = lx->pos;
    while (i < lx->text.len && is_space((uint8_t)lx->text.p[i])) i++;
    return i < lx->text.len && lx->text.p[i] == '(';
}

static struct token emit_word(struct lexer *lx, const struct keyword *keyword)
{
    struct token tok = emit(lx, keyword->kind);
    if (keyword->kind == TOK_OPERATOR) tok.op = (enum binary_op)keyword->sub;
    if (keyword->kind == TOK_AGGREGATE) tok.aggregate = (enum aggregate_op)keyword->sub;
    return tok;
}

static struct token lex_word(struct lexer *lx)
{
    bool colon = false;
    for (uint32_t c = peek(lx); is_alnum(c) || c == ':'; c = peek(lx)) {
        colon |= c == ':';
        lx->pos++;
    }
    struct str word = {lx->text.p + lx->start, lx->pos - lx->start};
    const struct keyword *keyword = keyword_find(word);
    bool fill = keyword && keyword->kind >= TOK_FILL && keyword->kind <= TOK_FILL_RIGHT;
    if (keyword && (!fill || before_paren(lx))) return emit_word(lx, keyword);
    return emit(lx, colon ? TOK_METRIC_IDENT : TOK_IDENT);
}

/* Words of duration expressions: step, range, min_of, max_of. pos is at the first letter; false leaves it. */
static bool lex_duration_word(struct lexer *lx, struct token *out)
{
    uint32_t from = lx->pos;
    while (is_alnum(peek(lx))) lx->pos++;
    struct str word = {lx->text.p + from, lx->pos - from};
    const struct keyword *keyword = keyword_find(word);
    if (keyword && keyword->kind >= TOK_STEP && keyword->kind <= TOK_MAX_OF) {
        *out = emit_word(lx, keyword);
        return true;
    }
    lx->pos = from;
    return false;
}

/* --- states ---------------------------------------------------------------------------------------- */

static void skip_comment(struct lexer *lx)
{
    while (lx->pos < lx->text.len && lx->text.p[lx->pos] != '\n' && lx->text.p[lx->pos] != '\r')
        lx->pos++;
    lx->start = lx->pos;
}

static struct token close_paren(struct lexer *lx)
{
    struct token tok = emit(lx, TOK_RIGHT_PAREN);
    if (lx->n_parens == 0) return fail_rune(lx, "unexpected right parenthesis ", ')');
    lx->n_parens--;
    return tok;
}

static struct token close_bracket(struct lexer *lx)
{
    if (!lx->in_brackets) return fail_rune(lx, "unexpected right bracket ", ']');
    lx->in_brackets = lx->before_number = false;
    return emit(lx, TOK_RIGHT_BRACKET);
}

static struct token open_paren(struct lexer *lx)
{
    lx->n_parens++;
    return emit(lx, TOK_LEFT_PAREN);
}

static struct token lex_in_braces(struct lexer *lx, uint32_t c)
{
    if (c == RUNE_END) return fail(lx, "unexpected end of input inside braces");
    if (is_alpha(c)) {
        while (is_alnum(peek(lx))) lx->pos++;
        return emit(lx, TOK_IDENT);
    }
    switch (c) {
    case ',': return emit(lx, TOK_COMMA);
    case '"':
    case '\'': return lex_string(lx, c);
    case '`': return lex_raw_string(lx);
    case '=': return emit(lx, accept(lx, "~") ? TOK_EQL_REGEX : TOK_EQL);
    case '!':
        if (accept(lx, "~")) return emit(lx, TOK_NEQ_REGEX);
        if (accept(lx, "=")) return emit(lx, TOK_NEQ);
        return fail_rune(lx, "unexpected character after '!' inside braces: ", peek(lx));
    case '{': return fail_rune(lx, "unexpected left brace ", c);
    case '}': lx->in_braces = false; return emit(lx, TOK_RIGHT_BRACE);
    default: return fail_rune(lx, "unexpected character inside braces: ", c);
    }
}

/* One-character operators; false if c is none. */
static bool lex_arithmetic(struct lexer *lx, uint32_t c, struct token *out)
{
    static const char CHARS[] = "+-*/%^";
    static const enum binary_op OPS[] = {OP_ADD, OP_SUB, OP_MUL, OP_DIV, OP_MOD, OP_POW};
    const char *at = c && c < 0x80 ? strchr(CHARS, (int)c) : NULL;
    if (!at) return false;
    *out = emit_op(lx, OPS[at - CHARS]);
    return true;
}

/* From '[' to the first number: what stands here cannot be the colon of a subquery. */
static struct token lex_before_number(struct lexer *lx, uint32_t c)
{
    struct token tok;
    if (c == RUNE_END) return fail(lx, "unexpected end of input in duration expression");
    if (lex_arithmetic(lx, c, &tok)) return tok;
    if (is_digit(c) || (c == '.' && is_digit(peek(lx)))) {
        lx->pos = lx->start;
        return lex_number(lx);
    }
    switch (c) {
    case ']': return close_bracket(lx);
    case '(': return open_paren(lx);
    case ')': return close_paren(lx);
    case ':':
        (void)emit(lx, TOK_COLON); /* the error stands behind it */
        return fail(lx, "unexpected colon before duration in duration expression");
    default: break;
    }
    if (is_alpha(c)) {
        lx->pos = lx->start;
        if (lex_duration_word(lx, &tok)) {
            lx->before_number = false;
            return tok;
        }
    }
    return fail_rune(lx, "unexpected character in duration expression: ", c);
}

static struct token lex_word_in_brackets(struct lexer *lx, uint32_t c)
{
    struct token tok;
    if (c == ':') {
        if (lx->got_colon) return fail_rune(lx, "unexpected colon ", c);
        lx->got_colon = true;
        return emit(lx, TOK_COLON);
    }
    lx->pos = lx->start;
    if (lex_duration_word(lx, &tok)) return tok;
    fail_rune(lx, "unexpected character: ", c);
    buf_text(&lx->error, STR(", expected ':'"));
    return (struct token){.kind = TOK_ERROR, .pos = lx->start};
}

static struct token lex_comparison(struct lexer *lx, uint32_t c)
{
    switch (c) {
    case '=':
        if (accept(lx, "=")) return emit_op(lx, OP_EQ);
        if (looking_at(lx, "~")) return fail_rune(lx, "unexpected character after '=': ", '~');
        return emit(lx, TOK_EQL);
    case '!':
        if (accept(lx, "=")) return emit_op(lx, OP_NEQ);
        return fail_rune(lx, "unexpected character after '!': ", peek(lx));
    case '<':
        if (accept(lx, "/")) return emit_op(lx, OP_TRIM_UPPER);
        return emit_op(lx, accept(lx, "=") ? OP_LTE : OP_LT);
    default:
        if (accept(lx, "/")) return emit_op(lx, OP_TRIM_LOWER);
        return emit_op(lx, accept(lx, "=") ? OP_GTE : OP_GT);
    }
}

static struct token lex_end(struct lexer *lx)
{
    if (lx->n_parens) return fail(lx, "unclosed left parenthesis");
    if (lx->in_brackets) return fail(lx, "unclosed left bracket");
    return emit(lx, TOK_END);
}

static struct token lex_statement(struct lexer *lx, uint32_t c)
{
    struct token tok;
    if (c == RUNE_END) return lex_end(lx);
    if (lex_arithmetic(lx, c, &tok)) return tok;
    if (is_digit(c) || (c == '.' && is_digit(peek(lx)))) {
        lx->pos = lx->start;
        return lex_number(lx);
    }
    if (is_alpha(c) || c == ':') {
        if (lx->in_brackets) return lex_word_in_brackets(lx, c);
        lx->pos = lx->start;
        return lex_word(lx);
    }
    switch (c) {
    case ',': return emit(lx, TOK_COMMA);
    case '=':
    case '!':
    case '<':
    case '>': return lex_comparison(lx, c);
    case '"':
    case '\'': return lex_string(lx, c);
    case '`': return lex_raw_string(lx);
    case '(': return open_paren(lx);
    case ')': return close_paren(lx);
    case '{': lx->in_braces = true; return emit(lx, TOK_LEFT_BRACE);
    case '[':
        if (lx->in_brackets) return fail_rune(lx, "unexpected left bracket ", c);
        lx->in_brackets = lx->before_number = true;
        lx->got_colon = false;
        return emit(lx, TOK_LEFT_BRACKET);
    case ']': return close_bracket(lx);
    case '@': return emit(lx, TOK_AT);
    default: return fail_rune(lx, "unexpected character: ", c);
    }
}

void lexer_next(struct lexer *lx, struct token *out)
{
    for (;;) {
        lx->start = lx->pos;
        uint32_t c = next(lx);
        if (is_space(c)) continue;
        if (c == '#' && !lx->before_number) {
            skip_comment(lx);
            continue;
        }
        *out = lx->in_braces       ? lex_in_braces(lx, c)
               : lx->before_number ? lex_before_number(lx, c)
                                   : lex_statement(lx, c);
        return;
    }
}

/* --- tokens ---------------------------------------------------------------------------------------- */

/* The first n characters of s, quoted. */
static void quote_prefix(struct str s, unsigned n, struct buf *out)
{
    size_t off = 0;
    uint32_t rune;
    for (unsigned len; n && (len = rune_next(s, off, &rune)); n--) off += len;
    str_quote(out, (struct str){s.p, off});
}

void token_describe(const struct token *tok, struct buf *out)
{
    switch (tok->kind) {
    case TOK_END: return buf_text(out, STR("end of input"));
    case TOK_IDENT: buf_text(out, STR("identifier ")); return str_quote(out, tok->text);
    case TOK_METRIC_IDENT:
        buf_text(out, STR("metric identifier "));
        return str_quote(out, tok->text);
    case TOK_STRING: buf_text(out, STR("string ")); break;
    case TOK_NUMBER: buf_text(out, STR("number ")); break;
    case TOK_DURATION: buf_text(out, STR("duration ")); break;
    case TOK_AT:
    case TOK_NEQ:
    case TOK_EQL_REGEX:
    case TOK_NEQ_REGEX:
    case TOK_OPERATOR: buf_printf(out, "<op:%.*s>", STR_ARG(tok->text)); return;
    case TOK_AGGREGATE: buf_printf(out, "<aggr:%.*s>", STR_ARG(tok->text)); return;
    case TOK_BY:
    case TOK_WITHOUT:
    case TOK_ON:
    case TOK_IGNORING:
    case TOK_GROUP_LEFT:
    case TOK_GROUP_RIGHT:
    case TOK_BOOL:
    case TOK_OFFSET:
    case TOK_ANCHORED:
    case TOK_SMOOTHED:
    case TOK_FILL:
    case TOK_FILL_LEFT:
    case TOK_FILL_RIGHT: buf_printf(out, "<%.*s>", STR_ARG(tok->text)); return;
    default: return str_quote(out, tok->text);
    }
    if (tok->text.len <= 10) return str_quote(out, tok->text);
    quote_prefix(tok->text, 10, out);
    buf_text(out, STR("..."));
}

bool token_is_metric_name(const struct token *tok)
{
    switch (tok->kind) {
    case TOK_IDENT:
    case TOK_METRIC_IDENT:
    case TOK_AGGREGATE:
    case TOK_BY:
    case TOK_WITHOUT:
    case TOK_OFFSET:
    case TOK_ANCHORED:
    case TOK_SMOOTHED:
    case TOK_START:
    case TOK_END_WORD:
    case TOK_STEP:
    case TOK_RANGE:
    case TOK_MIN_OF:
    case TOK_MAX_OF: return true;
    case TOK_OPERATOR: return tok->op >= OP_AND;
    default: return false;
    }
}

bool token_is_label_name(const struct token *tok)
{
    if (tok->kind == TOK_WITHOUT) return false;
    if (token_is_metric_name(tok)) return true;
    if (tok->kind == TOK_OPERATOR) return tok->op == OP_ATAN2;
    return (tok->kind >= TOK_ON && tok->kind <= TOK_BOOL) ||
           (tok->kind >= TOK_FILL && tok->kind <= TOK_FILL_RIGHT);
}

/* --- string values --------------------------------------------------------------------------------- */

static bool unquote_escape(struct str s, size_t *off, char quote, char *out, size_t *n)
{
    static const char NAMES[] = "abfnrtv\\", VALUES[] = "\a\b\f\n\r\t\v\\";
    if (*off >= s.len) return false;
    char c = s.p[(*off)++];
    const char *at = c ? strchr(NAMES, c) : NULL;
    if (at || c == quote) {
        out[(*n)++] = at ? VALUES[at - NAMES] : quote;
        return true;
    }
    bool octal = c >= '0' && c <= '7';
    unsigned n_digits = octal ? 3 : c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (octal) (*off)--;
    if (!n_digits || s.len - *off < n_digits) return false;
    uint32_t value = 0;
    for (unsigned i = 0; i < n_digits; i++) {
        uint32_t digit = hex_value((uint8_t)s.p[(*off)++]);
        if (digit >= (octal ? 8u : 16u)) return false;
        value = value * (octal ? 8 : 16) + digit;
    }
    if (c == 'u' || c == 'U') {
        if (value > 0x10ffff || (value >= 0xd800 && value < 0xe000)) return false;
        *n += rune_encode(value, out + *n);
        return true;
    }
    if (value > 0xff) return false;
    out[(*n)++] = (char)value;
    return true;
}

bool string_unquote(struct str quoted, struct arena *arena, struct str *out, bool *no_memory)
{
    *no_memory = false;
    *out = (struct str){"", 0};
    if (quoted.len < 2 || quoted.p[0] != quoted.p[quoted.len - 1]) return false;
    char quote = quoted.p[0];
    struct str s = {quoted.p + 1, quoted.len - 2};
    if (quote != '`' && quote != '"' && quote != '\'') return false;
    if (quote == '`' || !s.len || !memchr(s.p, '\\', s.len)) {
        *out = s; /* as it stands: points into the query */
        return true;
    }
    char *text =
        arena_alloc(arena, s.len, 1); /* an escape is never longer than what it stands for */
    if (!text) {
        *no_memory = true;
        return false;
    }
    size_t n = 0;
    for (size_t off = 0; off < s.len;) {
        char c = s.p[off++];
        if (c != '\\')
            text[n++] = c;
        else if (!unquote_escape(s, &off, quote, text, &n))
            return false;
    }
    *out = (struct str){text, n};
    return true;
}
