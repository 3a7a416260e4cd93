#include "query/regex_literal.h"

#include <stdlib.h>

#include "query/lexer.h"
#include "query/regex.h"

#define PRODUCT_MAX 1024     /* of strings that a concatenation may multiply out to */
#define BYTES_MAX (1u << 20) /* of all strings; the arena's budget bounds the copying on the way */
#define DEPTH_MAX 64

/* Every match starts with one of these strings; if `exact`, it is one of them. */
struct set {
    struct str *items;
    size_t n, cap, bytes;
    bool exact;
};

struct scan {
    struct str s;
    size_t i;
    struct arena *arena;
    unsigned depth;
    bool lost; /* met something that is not understood, or ran out of memory: nothing can be said */
};

static struct set nothing_known(struct scan *sc)
{
    struct set set = {.exact = false};
    set.items = ARENA_NEW(sc->arena, struct str);
    set.n = set.cap = 1;
    if (!set.items) sc->lost = true;
    if (set.items) set.items[0] = (struct str){"", 0};
    return set;
}

static struct set give_up(struct scan *sc)
{
    sc->lost = true;
    return nothing_known(sc);
}

static struct set one_string(struct scan *sc, struct str s)
{
    struct set set = nothing_known(sc);
    if (!sc->lost) set.items[0] = s;
    set.bytes = s.len;
    set.exact = true;
    return set;
}

static void add(struct scan *sc, struct set *set, struct str s)
{
    if (sc->lost) return;
    if (set->n == set->cap) {
        size_t cap = set->cap ? 2 * set->cap : 8;
        struct str *items = ARENA_ARRAY(sc->arena, struct str, cap);
        if (!items || set->n >= REGEX_LITERALS_MAX || set->bytes + s.len > BYTES_MAX) {
            sc->lost = true;
            return;
        }
        if (set->n) memcpy(items, set->items, set->n * sizeof *items);
        set->items = items;
        set->cap = cap;
    }
    set->items[set->n++] = s;
    set->bytes += s.len;
}

static void unite(struct scan *sc, struct set *a, const struct set *b)
{
    for (size_t i = 0; i < b->n; i++) add(sc, a, b->items[i]);
    a->exact = a->exact && b->exact;
}

static struct str join(struct scan *sc, struct str a, struct str b)
{
    if (!a.len || !b.len) return a.len ? a : b;
    char *p = arena_alloc(sc->arena, a.len + b.len, 1);
    if (!p) {
        sc->lost = true;
        return a;
    }
    memcpy(p, a.p, a.len);
    memcpy(p + a.len, b.p, b.len);
    return (struct str){p, a.len + b.len};
}

/* a then b. What follows something inexact adds nothing to what is known of the beginning. */
static void append(struct scan *sc, struct set *a, const struct set *b)
{
    if (!a->exact || sc->lost) return;
    if (a->n * b->n > PRODUCT_MAX || a->bytes * b->n + b->bytes * a->n > BYTES_MAX) {
        a->exact = false;
        return;
    }
    if (a->n == 1 && b->n == 1) { /* the usual case, character by character */
        a->items[0] = join(sc, a->items[0], b->items[0]);
        a->bytes = a->items[0].len;
        a->exact = b->exact;
        return;
    }
    struct set product = {.exact = b->exact};
    for (size_t i = 0; i < a->n; i++)
        for (size_t j = 0; j < b->n; j++) add(sc, &product, join(sc, a->items[i], b->items[j]));
    *a = product;
}

/* --- syntax ---------------------------------------------------------------------------------------- */

static bool at_end(const struct scan *sc)
{
    return sc->i >= sc->s.len;
}

static char look(const struct scan *sc)
{
    return at_end(sc) ? 0 : sc->s.p[sc->i];
}

static bool is_repeat(char c)
{
    return c && strchr("*+?{", c);
}

static struct set scan_alternatives(struct scan *sc);

/* After "(": "?:", "?P<name>", "?<name>" or nothing. Flags and all else: false. */
static bool skip_group_head(struct scan *sc)
{
    if (look(sc) != '?') return true;
    sc->i++;
    if (look(sc) == ':') {
        sc->i++;
        return true;
    }
    if (look(sc) == 'P') sc->i++;
    if (look(sc) != '<') return false;
    while (!at_end(sc) && look(sc) != '>') sc->i++;
    if (at_end(sc)) return false;
    sc->i++;
    return true;
}

static struct set scan_group(struct scan *sc)
{
    sc->i++;
    if (sc->depth == DEPTH_MAX || !skip_group_head(sc)) return give_up(sc);
    sc->depth++;
    struct set set = scan_alternatives(sc);
    sc->depth--;
    if (look(sc) != ')') return give_up(sc);
    sc->i++;
    return set;
}

/* One character of a class, plain or escaped punctuation, ASCII. 0: something else. */
static char class_char(struct scan *sc)
{
    char c = look(sc);
    if (c == '\\') {
        sc->i++;
        c = look(sc);
        if (c <= ' ' || c > '~' || strchr("0123456789", c) || (c | 0x20) >= 'a') return 0;
    } else if (c <= 0 || c == '[' || c == ']' || c == '-') {
        return 0;
    }
    sc->i++;
    return c;
}

/* Any class, behind its "[": finds the end as the syntax has it, and says nothing about it. */
static struct set skip_class(struct scan *sc)
{
    if (look(sc) == '^') sc->i++;
    if (look(sc) == ']') sc->i++; /* an ordinary character in this place */
    for (; !at_end(sc) && look(sc) != ']'; sc->i++) {
        if (look(sc) == '\\') {
            sc->i++;
        } else if (look(sc) == '[' && sc->i + 1 < sc->s.len && sc->s.p[sc->i + 1] == ':') {
            const char *from = sc->s.p + sc->i + 2;
            const char *end = memmem(from, (size_t)(sc->s.p + sc->s.len - from), ":]", 2);
            if (!end) return give_up(sc);
            sc->i = (size_t)(end - sc->s.p) + 1;
        }
    }
    if (at_end(sc)) return give_up(sc);
    sc->i++;
    return nothing_known(sc);
}

/* [abc], [a-f0-9] are spelled out; negation, named classes and the like are not. */
static struct set scan_class(struct scan *sc)
{
    struct set set = {.exact = true};
    size_t from_idx = ++sc->i;
    while (look(sc) != ']' || sc->i == from_idx) {
        bool negated = look(sc) == '^' && sc->i == from_idx;
        char from = negated ? 0 : class_char(sc), to = from;
        if (from && look(sc) == '-') {
            sc->i++;
            to = class_char(sc);
        }
        if (!from || !to || to < from) {
            sc->i = from_idx;
            return skip_class(sc);
        }
        for (int c = (unsigned char)from; c <= (unsigned char)to; c++) {
            char *p = arena_alloc(sc->arena, 1, 1);
            if (!p) return give_up(sc);
            *p = (char)c;
            add(sc, &set, (struct str){p, 1});
        }
    }
    sc->i++;
    return set;
}

static struct set scan_escape(struct scan *sc)
{
    static const char NAMES[] = "fnrtv", VALUES[] = "\f\n\r\t\v";
    sc->i++;
    char c = look(sc);
    struct str s = {sc->s.p + sc->i, 1};
    const char *named = c ? strchr(NAMES, c) : NULL;
    bool punctuation =
        c > ' ' && c <= '~' && !(c >= '0' && c <= '9') && !((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
    sc->i++;
    if (named) return one_string(sc, (struct str){VALUES + (named - NAMES), 1});
    if (punctuation) return one_string(sc, s);
    return c && strchr("dDsSwWbB", c) ? nothing_known(sc) : give_up(sc);
}

/* ^ at the very beginning and $ at the very end say what the anchoring says anyway. */
static bool skip_anchor(struct scan *sc)
{
    if (sc->depth) return false;
    char before = sc->i ? sc->s.p[sc->i - 1] : '|';
    char after = sc->i + 1 < sc->s.len ? sc->s.p[sc->i + 1] : '|';
    bool escaped = sc->i >= 2 && sc->s.p[sc->i - 2] == '\\';
    bool begins = look(sc) == '^' && before == '|' && !escaped && !is_repeat(after);
    bool ends = look(sc) == '$' && after == '|';
    if (begins || ends) sc->i++;
    return begins || ends;
}

/* As many plain characters as come; but the last one is left for an atom of its own if it is repeated. */
static struct set scan_text(struct scan *sc)
{
    size_t from = sc->i;
    for (;;) {
        uint32_t rune;
        unsigned len = rune_next(sc->s, sc->i, &rune);
        if (rune == RUNE_BAD) return give_up(sc);
        bool special = !len || (rune < 0x80 && (!rune || strchr("\\^$.|?*+()[{", (int)rune)));
        if (special) break;
        bool repeated = sc->i + len < sc->s.len && is_repeat(sc->s.p[sc->i + len]);
        if (repeated && sc->i > from) break;
        sc->i += len;
        if (repeated) break;
    }
    if (sc->i == from) return give_up(sc); /* a NUL */
    return one_string(sc, (struct str){sc->s.p + from, sc->i - from});
}

static struct set scan_atom(struct scan *sc)
{
    switch (look(sc)) {
    case '(': return scan_group(sc);
    case '[': return scan_class(sc);
    case '\\': return scan_escape(sc);
    case '.': sc->i++; return nothing_known(sc);
    case '^':
    case '$': return skip_anchor(sc) ? one_string(sc, (struct str){"", 0}) : give_up(sc);
    case '*':
    case '+':
    case '?': return give_up(sc); /* nothing to repeat: an error */
    default: break;
    }
    return look(sc) == '{' ? give_up(sc) : scan_text(sc);
}

/* *, + or ?, lazy or not, behind the atom */
static struct set scan_repeat(struct scan *sc, struct set atom)
{
    char op = look(sc);
    if (!is_repeat(op)) return atom;
    sc->i++;
    if (op == '{') return nothing_known(sc); /* what is in the braces may pass for text */
    if (look(sc) == '?') sc->i++;
    if (is_repeat(look(sc))) return give_up(sc); /* a**: an error */
    if (op == '*') return nothing_known(sc);
    if (op == '+') {
        atom.exact = false;
        return atom;
    }
    add(sc, &atom, (struct str){"", 0});
    return atom;
}

static struct set scan_concatenation(struct scan *sc)
{
    struct set set = one_string(sc, (struct str){"", 0});
    while (!sc->lost && !at_end(sc) && look(sc) != '|' && look(sc) != ')') {
        struct set atom = scan_atom(sc);
        if (sc->lost) break;
        atom = scan_repeat(sc, atom);
        append(sc, &set, &atom);
    }
    return set;
}

static struct set scan_alternatives(struct scan *sc)
{
    struct set set = scan_concatenation(sc);
    while (!sc->lost && look(sc) == '|') {
        sc->i++;
        struct set other = scan_concatenation(sc);
        if (!sc->lost) unite(sc, &set, &other);
    }
    return set;
}

/* --- result ---------------------------------------------------------------------------------------- */

static struct str common_prefix(const struct set *set)
{
    struct str prefix = set->items[0];
    for (size_t i = 1; i < set->n; i++) {
        size_t n = 0;
        while (n < prefix.len && n < set->items[i].len && prefix.p[n] == set->items[i].p[n]) n++;
        prefix.len = n;
    }
    return prefix;
}

static int compare(const void *a, const void *b)
{
    return str_cmp(*(const struct str *)a, *(const struct str *)b);
}

static void sort_unique(struct set *set)
{
    qsort(set->items, set->n, sizeof *set->items, compare);
    size_t n = 1;
    for (size_t i = 1; i < set->n; i++)
        if (!str_eq(set->items[i], set->items[n - 1])) set->items[n++] = set->items[i];
    set->n = n;
}

void regex_analyse(struct str pattern, struct arena *arena, struct regex_facts *out)
{
    struct scan sc = {.s = pattern, .arena = arena};
    *out = (struct regex_facts){.prefix = {"", 0}};
    struct set set = scan_alternatives(&sc);
    if (sc.lost || !at_end(&sc)) return;
    out->prefix = common_prefix(&set);
    if (!set.exact) return;
    sort_unique(&set);
    out->exact = true;
    out->literals = set.items;
    out->n_literals = set.n;
}
