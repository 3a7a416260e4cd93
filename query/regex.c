#include "query/regex.h"

#include <stdlib.h>

#include "query/lexer.h"
#include "query/regex_literal.h"
#include "query/regex_re2.h"

/* Of the tables made at compile time: literals, names, the rewritten pattern */
#define ARENA_BYTES_MAX (8u << 20)

struct group_name {
    struct str name;
    size_t idx; /* from 1 */
};

struct regex {
    struct arena arena;
    struct regex_re2 *re2; /* NULL: the literals say it all, and there are no groups */
    struct regex_facts facts;
    struct group_name *names;
    size_t n_names, n_groups;
};

/* --- from Go's syntax to RE2's --------------------------------------------------------------------- */

/* RE2 and Go's regexp share their syntax but for trifles: Go also takes (?<name>…), allows a name twice and does not know
 * \C. So names are taken out and kept here; RE2 sees plain groups. */
struct rewrite {
    struct str in;
    size_t i;
    char *out; /* at most as long as `in` */
    size_t n_out;
    struct regex *re;
    size_t cap_names;
    struct err *err;
};

static enum err_code syntax_error(struct err *err, const char *what, struct str part)
{
    return err_set(err, ERR_INVALID, "error parsing regexp: %s: `%.*s`", what, STR_ARG(part));
}

static struct str rest(const struct rewrite *rw)
{
    return (struct str){rw->in.p + rw->i, rw->in.len - rw->i};
}

static void copy(struct rewrite *rw, size_t n)
{
    n = MIN_OF(n, rw->in.len - rw->i);
    memcpy(rw->out + rw->n_out, rw->in.p + rw->i, n);
    rw->n_out += n;
    rw->i += n;
}

static void copy_class(struct rewrite *rw)
{
    copy(rw, 1);
    if (str_has_prefix(rest(rw), STR("^"))) copy(rw, 1);
    if (str_has_prefix(rest(rw), STR("]"))) copy(rw, 1);
    while (rw->i < rw->in.len && rw->in.p[rw->i] != ']') {
        struct str left = rest(rw);
        const char *end =
            str_has_prefix(left, STR("[:")) ? memmem(left.p + 2, left.len - 2, ":]", 2) : NULL;
        copy(rw, left.p[0] == '\\' ? 2 : end ? (size_t)(end - left.p) + 2 : 1);
    }
    copy(rw, 1);
}

static enum err_code copy_escape(struct rewrite *rw)
{
    struct str left = rest(rw);
    if (str_has_prefix(left, STR("\\C")))
        return syntax_error(rw->err, "invalid escape sequence", (struct str){left.p, 2});
    const char *end = str_has_prefix(left, STR("\\Q")) ? memmem(left.p, left.len, "\\E", 2) : NULL;
    if (str_has_prefix(left, STR("\\Q")))
        copy(rw, end ? (size_t)(end - left.p) + 2 : left.len);
    else
        copy(rw, 2);
    return ERR_OK;
}

static bool name_ok(struct str name)
{
    for (size_t i = 0; i < name.len; i++) {
        char c = name.p[i];
        bool fine =
            c == '_' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!fine) return false;
    }
    return name.len > 0;
}

static enum err_code keep_name(struct rewrite *rw, struct str name)
{
    struct regex *re = rw->re;
    if (re->n_names == rw->cap_names) {
        size_t cap = rw->cap_names ? 2 * rw->cap_names : 4;
        struct group_name *names = ARENA_ARRAY(&re->arena, struct group_name, cap);
        if (!names) return arena_fail(&re->arena, rw->err);
        if (re->n_names) memcpy(names, re->names, re->n_names * sizeof *names);
        re->names = names;
        rw->cap_names = cap;
    }
    struct str kept = arena_str(&re->arena, name);
    if (!kept.p) return arena_fail(&re->arena, rw->err);
    re->names[re->n_names++] = (struct group_name){kept, re->n_groups};
    return ERR_OK;
}

static enum err_code copy_paren(struct rewrite *rw)
{
    struct str left = rest(rw);
    size_t head = str_has_prefix(left, STR("(?P<")) ? 4 : str_has_prefix(left, STR("(?<")) ? 3 : 0;
    if (!head) {
        if (!str_has_prefix(left, STR("(?"))) rw->re->n_groups++;
        copy(rw, 1);
        return ERR_OK;
    }
    const char *end = memchr(left.p, '>', left.len);
    size_t len = end ? (size_t)(end - left.p) + 1 : left.len;
    struct str name = {left.p + head, end ? len - head - 1 : 0};
    if (!name_ok(name))
        return syntax_error(rw->err, "invalid named capture", (struct str){left.p, len});
    copy(rw, 1);
    rw->i += len - 1;
    rw->re->n_groups++;
    return keep_name(rw, name);
}

static enum err_code rewrite(struct rewrite *rw)
{
    enum err_code rc = ERR_OK;
    while (!rc && rw->i < rw->in.len) {
        switch (rw->in.p[rw->i]) {
        case '\\': rc = copy_escape(rw); break;
        case '[': copy_class(rw); break;
        case '(': rc = copy_paren(rw); break;
        default: copy(rw, 1);
        }
    }
    return rc;
}

/* --- errors ---------------------------------------------------------------------------------------- */

static enum err_code error_of(enum regex_re2_error error, struct str pattern, const char *arg,
                              struct err *err)
{
    struct str part = str_of(arg);
    switch (error) {
    case REGEX_RE2_OK: return ERR_OK;
    case REGEX_RE2_NO_MEMORY:
        return err_set(err, ERR_NO_MEMORY, "no memory for a regular expression");
    case REGEX_RE2_BAD_ESCAPE: return syntax_error(err, "invalid escape sequence", part);
    case REGEX_RE2_BAD_CHAR_CLASS: return syntax_error(err, "invalid character class", part);
    case REGEX_RE2_BAD_CHAR_RANGE: return syntax_error(err, "invalid character class range", part);
    case REGEX_RE2_MISSING_BRACKET: return syntax_error(err, "missing closing ]", part);
    case REGEX_RE2_MISSING_PAREN: return syntax_error(err, "missing closing )", pattern);
    case REGEX_RE2_UNEXPECTED_PAREN: return syntax_error(err, "unexpected )", pattern);
    case REGEX_RE2_TRAILING_BACKSLASH:
        return syntax_error(err, "trailing backslash at end of expression", STR(""));
    case REGEX_RE2_REPEAT_ARGUMENT:
        return syntax_error(err, "missing argument to repetition operator", part);
    case REGEX_RE2_REPEAT_SIZE: return syntax_error(err, "invalid repeat count", part);
    case REGEX_RE2_REPEAT_OP: return syntax_error(err, "invalid nested repetition operator", part);
    case REGEX_RE2_BAD_PERL_OP:
        return syntax_error(err, "invalid or unsupported Perl syntax", part);
    case REGEX_RE2_BAD_UTF8: return syntax_error(err, "invalid UTF-8", pattern);
    case REGEX_RE2_BAD_NAMED_CAPTURE: return syntax_error(err, "invalid named capture", part);
    case REGEX_RE2_TOO_LARGE: return syntax_error(err, "expression too large", pattern);
    case REGEX_RE2_INTERNAL: break;
    }
    return syntax_error(err, "regexp/syntax: internal error", pattern);
}

/* --- public ---------------------------------------------------------------------------------------- */

static enum err_code compile(struct regex *re, struct str pattern, struct err *err)
{
    char arg[256];
    /* Literals point into the pattern, which the caller may free: they are made from a copy. */
    struct str own = arena_str(&re->arena, pattern);
    char *text = arena_alloc(&re->arena, pattern.len + 1, 1);
    if (!own.p || !text) return arena_fail(&re->arena, err);
    if (!utf8_valid(pattern)) return error_of(REGEX_RE2_BAD_UTF8, pattern, "", err);
    struct rewrite rw = {.in = own, .out = text, .re = re, .err = err};
    enum err_code rc = rewrite(&rw);
    if (rc) return rc;
    if (re->n_groups > REGEX_GROUPS_MAX) return error_of(REGEX_RE2_TOO_LARGE, pattern, "", err);
    regex_analyse(own, &re->arena, &re->facts);
    if (re->facts.exact && !re->n_groups) return ERR_OK;
    enum regex_re2_error error =
        regex_re2_compile(text, rw.n_out, REGEX_MEMORY_BYTES_MAX, &re->re2, arg, sizeof arg);
    return error_of(error, pattern, arg, err);
}

enum err_code regex_compile(struct str pattern, struct regex **out, struct err *err)
{
    *out = NULL;
    struct regex *re = mem_calloc(MEM_QUERY, 1, sizeof *re);
    if (!re) return err_set(err, ERR_NO_MEMORY, "no memory for a regular expression");
    arena_init(&re->arena, MEM_QUERY, ARENA_BYTES_MAX);
    enum err_code rc = compile(re, pattern, err);
    if (rc) {
        regex_free(re);
        return rc;
    }
    ASSERT(!re->re2 || regex_re2_n_groups(re->re2) == re->n_groups);
    *out = re;
    return ERR_OK;
}

void regex_free(struct regex *re)
{
    if (!re) return;
    regex_re2_free(re->re2);
    arena_release(&re->arena);
    mem_free(re);
}

static int compare(const void *key, const void *item)
{
    return str_cmp(*(const struct str *)key, *(const struct str *)item);
}

bool regex_match(const void *opaque, struct str text)
{
    const struct regex *re = opaque;
    const struct regex_facts *f = &re->facts;
    if (f->exact) return bsearch(&text, f->literals, f->n_literals, sizeof text, compare) != NULL;
    if (!str_has_prefix(text, f->prefix)) return false;
    return regex_re2_match(re->re2, text.p, text.len, NULL, 0);
}

size_t regex_bytes(const struct regex *re)
{
    return sizeof *re + re->arena.used_bytes + (re->re2 ? regex_re2_bytes(re->re2) : 0);
}

const struct str *regex_literals(const struct regex *re, size_t *n)
{
    *n = re->facts.n_literals;
    return re->facts.literals;
}

struct str regex_prefix(const struct regex *re)
{
    return re->facts.prefix;
}

size_t regex_n_groups(const struct regex *re)
{
    return re->n_groups;
}

bool regex_match_groups(const struct regex *re, struct str text, struct str *groups, size_t n)
{
    struct regex_re2_span spans[REGEX_GROUPS_MAX + 1];
    n = MIN_OF(n, re->n_groups + 1);
    if (!n || !re->re2) {
        if (!regex_match(re, text)) return false;
        if (n) groups[0] = text;
        return true;
    }
    if (!regex_re2_match(re->re2, text.p ? text.p : "", text.len, spans, n)) return false;
    for (size_t i = 0; i < n; i++) groups[i] = (struct str){spans[i].p, spans[i].len};
    return true;
}

/* --- templates ------------------------------------------------------------------------------------- */

static void put_group(const struct regex *re, struct str name, const struct str *groups, size_t n,
                      struct buf *out)
{
    size_t idx = 0;
    bool number = name.len > 0;
    for (size_t i = 0; i < name.len && number; i++) {
        number = name.p[i] >= '0' && name.p[i] <= '9' && idx < 100000000;
        if (number) idx = idx * 10 + (size_t)(name.p[i] - '0');
    }
    if (number && name.len > 1 && name.p[0] == '0') number = false; /* a name to Go */
    if (number) {
        if (idx < n && groups[idx].p) buf_text(out, groups[idx]);
        return;
    }
    for (size_t i = 0; i < re->n_names; i++) {
        size_t at = re->names[i].idx;
        if (!str_eq(re->names[i].name, name) || at >= n || !groups[at].p) continue;
        return buf_text(out, groups[at]);
    }
}

/* The name at s, behind its "$": in braces, or as many word characters as come. 0: none. */
static size_t scan_name(struct str s, struct str *name)
{
    bool braces = s.len && s.p[0] == '{';
    size_t i = braces;
    while (i < s.len) {
        /* Go takes letters and digits of any script here; group names, though, are ASCII. */
        uint32_t rune;
        unsigned len = rune_next(s, i, &rune);
        bool word = rune == '_' || (rune < 0x80 && name_ok((struct str){s.p + i, 1}));
        if (!word) break;
        i += len;
    }
    *name = (struct str){s.p + braces, i - braces};
    if (!name->len) return 0;
    if (!braces) return i;
    return i < s.len && s.p[i] == '}' ? i + 1 : 0;
}

void regex_expand(const struct regex *re, struct str template, const struct str *groups, size_t n,
                  struct buf *out)
{
    for (size_t i = 0; i < template.len;) {
        struct str left = {template.p + i, template.len - i};
        const char *dollar = memchr(left.p, '$', left.len);
        size_t plain = dollar ? (size_t)(dollar - left.p) : left.len;
        buf_text(out, (struct str){left.p, plain});
        i += plain;
        if (!dollar) return;
        i++;
        struct str after = {template.p + i, template.len - i}, name;
        if (str_has_prefix(after, STR("$"))) {
            buf_u8(out, '$');
            i++;
            continue;
        }
        size_t len = scan_name(after, &name);
        if (len)
            put_group(re, name, groups, n, out);
        else
            buf_u8(out, '$'); /* malformed: the dollar stands for itself */
        i += len;
    }
}
