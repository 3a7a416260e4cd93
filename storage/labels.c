/* storage/labels.c: see the header. Sets are small (tens of labels): everything is a linear pass. */
#include "storage/labels.h"

#define XXH_STATIC_LINKING_ONLY /* for a state on the stack */
#include <xxhash.h>

#include "base/hash.h"

int labels_cmp(struct labels a, struct labels b)
{
    size_t n = MIN_OF(a.n, b.n);
    for (size_t i = 0; i < n; i++) {
        int c = str_cmp(a.items[i].name, b.items[i].name);
        if (c == 0) c = str_cmp(a.items[i].value, b.items[i].value);
        if (c) return c;
    }
    return (a.n > b.n) - (a.n < b.n);
}

bool labels_eq(struct labels a, struct labels b)
{
    if (a.n != b.n) return false;
    for (size_t i = 0; i < a.n; i++) {
        if (!str_eq(a.items[i].value, b.items[i].value) ||
            !str_eq(a.items[i].name, b.items[i].name))
            return false;
    }
    return true;
}

#define HASH_STACK_BYTES 1024 /* the encoded form of nearly every set in the field */

static uint8_t *put_str(uint8_t *p, struct str s)
{
    p += put_varint(p, s.len);
    if (s.len) memcpy(p, s.p, s.len);
    return p + s.len;
}

static void hash_str(XXH3_state_t *state, struct str s)
{
    uint8_t len[VARINT_BYTES_MAX];
    (void)XXH3_64bits_update(state, len, put_varint(len, s.len)); /* fails on NULL only */
    if (s.len) (void)XXH3_64bits_update(state, s.p, s.len);
}

/* The same value without the encoded form in memory. */
static uint64_t hash_streamed(struct labels labels)
{
    XXH3_state_t state;
    XXH3_INITSTATE(&state);
    (void)XXH3_64bits_reset(&state);
    uint8_t n[VARINT_BYTES_MAX];
    (void)XXH3_64bits_update(&state, n, put_varint(n, labels.n));
    for (size_t i = 0; i < labels.n; i++) {
        hash_str(&state, labels.items[i].name);
        hash_str(&state, labels.items[i].value);
    }
    return XXH3_64bits_digest(&state);
}

uint64_t labels_hash(struct labels labels)
{
    uint8_t bytes[HASH_STACK_BYTES];
    uint8_t *p = bytes + put_varint(bytes, labels.n);
    for (size_t i = 0; i < labels.n; i++) {
        const struct label *l = &labels.items[i];
        size_t left = (size_t)(bytes + sizeof(bytes) - p);
        if (l->name.len > left || l->value.len > left ||
            l->name.len + l->value.len + 2 * VARINT_BYTES_MAX > left)
            return hash_streamed(labels);
        p = put_str(put_str(p, l->name), l->value);
    }
    return hash_xxh3(bytes, (size_t)(p - bytes));
}

struct str labels_get(struct labels labels, struct str name)
{
    for (size_t i = 0; i < labels.n; i++) {
        if (str_eq(labels.items[i].name, name)) return labels.items[i].value;
    }
    return STR("");
}

bool labels_sort(struct label *items, size_t n)
{
    /* Insertion sort: senders deliver sorted sets, and the rest are short. A hostile set of many labels is
     * bounded by the label limit of ingest. */
    bool unique = true;
    for (size_t i = 1; i < n; i++) {
        struct label l = items[i];
        size_t k = i;
        int c = 1;
        while (k > 0 && (c = str_cmp(l.name, items[k - 1].name)) < 0) {
            items[k] = items[k - 1];
            k--;
        }
        if (k > 0 && c == 0) unique = false;
        items[k] = l;
    }
    return unique;
}

enum err_code labels_copy(struct arena *arena, struct labels in, struct labels *out,
                          struct err *err)
{
    struct label *items = ARENA_ARRAY(arena, struct label, in.n);
    if (!items) return arena_fail(arena, err);
    for (size_t i = 0; i < in.n; i++) {
        items[i].name = arena_str(arena, in.items[i].name);
        items[i].value = arena_str(arena, in.items[i].value);
        if (!items[i].name.p || !items[i].value.p) return arena_fail(arena, err);
    }
    *out = (struct labels){items, in.n};
    return ERR_OK;
}

void labels_encode(struct buf *out, struct labels labels)
{
    buf_varint(out, labels.n);
    for (size_t i = 0; i < labels.n; i++) {
        buf_str(out, labels.items[i].name);
        buf_str(out, labels.items[i].value);
    }
}

#define LABEL_BYTES_MIN 4 /* two lengths, two texts of one byte */

enum err_code labels_decode(struct reader *r, struct arena *arena, struct labels *out,
                            struct err *err)
{
    uint64_t n = reader_varint(r);
    if (r->failed || n > reader_left(r) / LABEL_BYTES_MIN)
        return err_set(err, ERR_CORRUPT, "%llu labels in %zu bytes", (unsigned long long)n,
                       reader_left(r));
    struct label *items = ARENA_ARRAY(arena, struct label, (size_t)n);
    if (!items) return arena_fail(arena, err);
    for (size_t i = 0; i < n; i++) {
        items[i].name = reader_str(r);
        items[i].value = reader_str(r);
        if (r->failed) return err_set(err, ERR_CORRUPT, "label %zu is cut short", i);
        if (items[i].name.len == 0 || items[i].value.len == 0)
            return err_set(err, ERR_CORRUPT, "label %zu has an empty name or value", i);
        if (i > 0 && str_cmp(items[i - 1].name, items[i].name) >= 0)
            return err_set(err, ERR_CORRUPT, "label %zu is out of order", i);
        if (!utf8_valid(items[i].name) || !utf8_valid(items[i].value))
            return err_set(err, ERR_CORRUPT, "label %zu is not UTF-8", i);
    }
    *out = (struct labels){items, (size_t)n};
    return ERR_OK;
}

static bool is_plain_name(struct str s)
{
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.p[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
        if (!letter && !(i > 0 && c >= '0' && c <= '9')) return false;
    }
    return s.len > 0;
}

void labels_print(struct buf *out, struct labels labels)
{
    buf_text(out, STR("{"));
    for (size_t i = 0; i < labels.n; i++) {
        if (i) buf_text(out, STR(", "));
        if (is_plain_name(labels.items[i].name))
            buf_text(out, labels.items[i].name);
        else
            str_quote(out, labels.items[i].name);
        buf_text(out, STR("="));
        str_quote(out, labels.items[i].value);
    }
    buf_text(out, STR("}"));
}

/* One UTF-8 sequence at p; its length, or 0 if it is malformed. */
static size_t utf8_next(const uint8_t *p, size_t left, uint32_t *rune)
{
    uint8_t c = p[0];
    size_t len = c < 0x80 ? 1 : c < 0xC0 ? 0 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : c < 0xF8 ? 4 : 0;
    if (len == 0 || len > left || !utf8_valid((struct str){(const char *)p, len})) return 0;
    uint32_t v = len == 1 ? c : c & (0xFFu >> (len + 1));
    for (size_t i = 1; i < len; i++) v = v << 6 | (p[i] & 0x3F);
    *rune = v;
    return len;
}

/* Controls, format characters, spaces and separators beyond ASCII, private use: what Go does not print as it
 * is. Code points that Unicode has not assigned inside its blocks count as printable here; Go escapes them. */
static bool rune_is_printable(uint32_t r)
{
    static const struct {
        uint32_t from, to;
    } hidden[] = {
        {0x0000, 0x001F},    {0x007F, 0x00A0},   {0x00AD, 0x00AD},   {0x0600, 0x0605},
        {0x061C, 0x061C},    {0x06DD, 0x06DD},   {0x070F, 0x070F},   {0x0890, 0x0891},
        {0x08E2, 0x08E2},    {0x1680, 0x1680},   {0x180E, 0x180E},   {0x2000, 0x200F},
        {0x2028, 0x202F},    {0x205F, 0x206F},   {0x3000, 0x3000},   {0xD800, 0xF8FF},
        {0xFDD0, 0xFDEF},    {0xFEFF, 0xFEFF},   {0xFFF0, 0xFFFB},   {0xFFFE, 0xFFFF},
        {0x110BD, 0x110BD},  {0x110CD, 0x110CD}, {0x13430, 0x1343F}, {0x1BCA0, 0x1BCA3},
        {0x1D173, 0x1D17A},  {0x1FFFE, 0x1FFFF}, {0x2FFFE, 0x2FFFF}, {0x323B0, 0xE00FF},
        {0xE01F0, 0x10FFFF},
    };
    for (size_t i = 0; i < COUNT_OF(hidden) && hidden[i].from <= r; i++) {
        if (r <= hidden[i].to) return false;
    }
    return true;
}

/* \a, \n, … or '\0' if the byte has no short escape. */
static char short_escape(uint32_t r)
{
    static const char letters[] = "abtnvfr"; /* 0x07 … 0x0D */
    if (r >= 0x07 && r <= 0x0D) return letters[r - 0x07];
    return r == '"' || r == '\\' ? (char)r : '\0';
}

void str_quote(struct buf *out, struct str s)
{
    buf_text(out, STR("\""));
    const uint8_t *p = (const uint8_t *)s.p;
    for (size_t i = 0; i < s.len;) {
        uint32_t rune;
        size_t len = utf8_next(p + i, s.len - i, &rune);
        char escape = len ? short_escape(rune) : '\0';
        if (len == 0)
            buf_printf(out, "\\x%02x", p[i]);
        else if (escape)
            buf_printf(out, "\\%c", escape);
        else if (rune_is_printable(rune))
            buf_put(out, p + i, len);
        else if (rune < 0x80)
            buf_printf(out, "\\x%02x", (unsigned)rune);
        else if (rune < 0x10000)
            buf_printf(out, "\\u%04x", (unsigned)rune);
        else
            buf_printf(out, "\\U%08x", (unsigned)rune);
        i += len ? len : 1;
    }
    buf_text(out, STR("\""));
}
