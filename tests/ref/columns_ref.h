/* tests/ref/columns_ref.h: integer columns, time columns and value chunks, read as storage/format.h has them, one bit
 * and one value at a time. Bytes that break the format fail the test. */
#ifndef QUIPU_TESTS_REF_COLUMNS_REF_H
#define QUIPU_TESTS_REF_COLUMNS_REF_H

#include "tests/quipu_test.h"

/* ---- Integer columns ---- */

struct ref {
    const uint8_t *p;
    size_t len, at;
};

__attribute__((unused)) static uint64_t ref_byte(struct ref *r)
{
    CHECK(r->at < r->len);
    return r->p[r->at++];
}

__attribute__((unused)) static uint64_t ref_varint(struct ref *r)
{
    uint64_t v = 0;
    for (unsigned shift = 0;; shift += 7) {
        uint64_t byte = ref_byte(r);
        v |= (byte & 0x7f) << shift;
        if (byte < 0x80) return v;
    }
}

__attribute__((unused)) static uint64_t ref_zigzag(uint64_t u)
{
    return u % 2 ? ~(u / 2) : u / 2;
}

__attribute__((unused)) static uint64_t ref_packed(const uint8_t *p, size_t i, uint64_t width)
{
    uint64_t v = 0;
    for (size_t k = 0; k < width; k++) {
        size_t bit = i * width + k;
        v |= (uint64_t)(p[bit / 8] >> bit % 8 & 1) << k;
    }
    return v;
}

__attribute__((unused)) static void ref_frame(struct ref *r, uint64_t h, size_t n, uint64_t *base,
                                              int64_t *out)
{
    uint64_t width = h & 0x7f, n_exc = 0, exc_width = 0;
    size_t where[128], at_where, at_exc = 0;
    CHECK(width <= 64);
    *base += ref_zigzag(ref_varint(r));
    if (h & 0x80) {
        n_exc = ref_byte(r);
        exc_width = ref_byte(r);
        CHECK(n_exc >= 1 && n_exc <= n && exc_width >= 1 && exc_width <= 64);
        at_where = r->at;
        size_t k = 0;
        if (n_exc < 16) {
            for (; k < n_exc; k++) where[k] = ref_byte(r);
        } else {
            for (size_t i = 0; i < n; i++)
                if (r->p[at_where + i / 8] >> i % 8 & 1) where[k++] = i;
            r->at += (n + 7) / 8;
        }
        CHECK_U64(k, n_exc);
        at_exc = r->at;
        r->at += (n_exc * exc_width + 7) / 8;
    }
    for (size_t i = 0; i < n; i++) out[i] = (int64_t)(*base + ref_packed(r->p + r->at, i, width));
    for (size_t k = 0; k < n_exc; k++) {
        CHECK(where[k] < n && (k == 0 || where[k] > where[k - 1]));
        CHECK_U64(out[where[k]], *base); /* 0 in the body */
        out[where[k]] = (int64_t)(*base + ref_zigzag(ref_packed(r->p + at_exc, k, exc_width)));
    }
    r->at += (n * width + 7) / 8;
    CHECK(r->at <= r->len);
}

__attribute__((unused)) static void ref_column(struct ref *r, size_t n, int64_t *out)
{
    uint64_t base = 0;
    for (size_t i = 0; i < n;) {
        uint64_t h = ref_byte(r);
        if (h == 0x7f) {
            uint64_t frames = ref_varint(r) + 1;
            for (; frames; frames--) {
                CHECK(i < n);
                for (size_t end = i + 128 < n ? i + 128 : n; i < end; i++) out[i] = (int64_t)base;
            }
            continue;
        }
        size_t count = n - i < 128 ? n - i : 128;
        ref_frame(r, h, count, &base, out + i);
        i += count;
    }
}

/* ---- Time columns ---- */

__attribute__((unused)) static void ref_times(struct bytes b, int64_t *out, size_t n)
{
    struct ref r = {b.p, b.len, 0};
    CHECK_U64(ref_varint(&r), n);
    uint64_t kind = ref_byte(&r), t = ref_zigzag(ref_varint(&r)), step = 0;
    CHECK(kind <= 1);
    if (kind == 1) step = ref_varint(&r);
    out[0] = (int64_t)t;
    ref_column(&r, n - 1, out + 1);
    for (size_t i = 1; i < n; i++) {
        t = kind == 0 ? t + (uint64_t)out[i] : (uint64_t)out[i] + (uint64_t)out[0] + i * step;
        out[i] = (int64_t)t;
    }
    CHECK_U64(r.at, b.len);
}

/* ---- Value chunks ---- */

__attribute__((unused)) static double ref_double(struct ref *r)
{
    uint64_t bits = 0;
    for (unsigned i = 0; i < 8; i++) bits |= ref_byte(r) << (8 * i);
    double d;
    memcpy(&d, &bits, 8);
    return d;
}

__attribute__((unused)) static double ref_pow10(unsigned e, const char *sign)
{
    char text[16];
    snprintf(text, sizeof(text), "1e%s%u", sign, e);
    return strtod(text, NULL);
}

__attribute__((unused)) static double ref_decimal(int64_t k, unsigned e, unsigned mode)
{
    volatile double d = (double)k; /* each operation rounded on its own */
    if (mode == 0) return d / ref_pow10(e, "");
    if (mode == 1) return d * ref_pow10(e, "-");
    CHECK(mode == 2 && (e == 6 || e == 9));
    d = d / 1000;
    d = d / 1000;
    if (e == 9) d = d / 1000;
    return d;
}

struct ref_patches {
    size_t n, at[65536];
    uint8_t bits[65536][8];
};

__attribute__((unused)) static void ref_patches_read(struct ref *r, uint64_t tag, size_t n,
                                                     struct ref_patches *p)
{
    p->n = 0;
    if (!(tag & 0x10)) return;
    uint64_t head = ref_varint(r), at = 0;
    CHECK(head >= 2 && head / 2 <= n);
    for (; p->n < head / 2; p->n++, at++) {
        at += ref_varint(r);
        CHECK(at < n);
        p->at[p->n] = (size_t)at;
        if (p->n && head % 2)
            memcpy(p->bits[p->n], p->bits[0], 8);
        else
            for (unsigned i = 0; i < 8; i++) p->bits[p->n][i] = (uint8_t)ref_byte(r);
    }
}

__attribute__((unused)) static void ref_scaled(struct ref *r, uint64_t tag, size_t n, double *out,
                                               struct ref_patches *p)
{
    unsigned order = tag >> 5 & 3, scale = (unsigned)ref_byte(r);
    uint64_t gcd = ref_varint(r), first = 0, step = 0;
    CHECK(order <= 2 && gcd >= 1 && (order || gcd == 1));
    if (order >= 1) first = ref_zigzag(ref_varint(r));
    if (order == 2) step = ref_zigzag(ref_varint(r));
    ref_patches_read(r, tag, n, p);
    int64_t *x = malloc((n + 1) * sizeof(*x));
    CHECK(x != NULL);
    ref_column(r, n - order, x);
    uint64_t k = first;
    for (size_t i = 0; i < n; i++) {
        if (order == 0) k = (uint64_t)x[i];
        if (order == 1 && i >= 1) k += gcd * (uint64_t)x[i - 1];
        if (order == 2 && i >= 2) step += gcd * (uint64_t)x[i - 2];
        if (order == 2 && i >= 1) k += step;
        out[i] = ref_decimal((int64_t)k, scale / 4, scale % 4);
    }
    free(x);
}

__attribute__((unused)) static void ref_sum(struct ref *r, uint64_t tag, size_t n, double *out,
                                            struct ref_patches *p)
{
    unsigned scale = (unsigned)ref_byte(r);
    CHECK((tag >> 5 & 3) == 1 && scale % 4 == 0);
    double v = ref_double(r);
    ref_patches_read(r, tag, n, p);
    int64_t *k = malloc(n * sizeof(*k)), *c = malloc(n * sizeof(*c));
    CHECK(k && c);
    ref_column(r, n - 1, k);
    ref_column(r, n - 1, c);
    out[0] = v;
    for (size_t i = 1; i < n; i++) {
        volatile double step = (double)k[i - 1] / ref_pow10(scale / 4, "");
        volatile double sum = v + step;
        v = double_from_bits(double_bits(sum) + (uint64_t)c[i - 1]);
        out[i] = v;
    }
    free(k);
    free(c);
}

__attribute__((unused)) static void ref_bits(struct ref *r, uint64_t tag, size_t n, double *out,
                                             struct ref_patches *p)
{
    unsigned order = tag >> 5 & 3;
    CHECK(order <= 1);
    uint64_t o = 0;
    if (order == 1) {
        for (unsigned i = 0; i < 8; i++) o |= ref_byte(r) << (8 * i);
        if (o >> 63) o ^= INT64_MAX;
    }
    ref_patches_read(r, tag, n, p);
    int64_t *x = malloc((n + 1) * sizeof(*x));
    CHECK(x != NULL);
    ref_column(r, n - order, x);
    for (size_t i = 0; i < n; i++) {
        if (order == 0) o = (uint64_t)x[i];
        if (order == 1 && i >= 1) o += (uint64_t)x[i - 1];
        uint64_t bits = o >> 63 ? o ^ INT64_MAX : o;
        memcpy(out + i, &bits, 8);
    }
    free(x);
}

__attribute__((unused)) static void ref_values(struct bytes b, size_t n, double *out)
{
    struct ref r = {b.p, b.len, 0};
    struct ref_patches *p = malloc(sizeof(*p));
    uint64_t tag = ref_byte(&r);
    CHECK(p != NULL && n <= COUNT_OF(p->at));
    p->n = 0;
    switch (tag & 15) {
    case 0: {
        CHECK(tag == 0 || tag == 0x20);
        double v = tag ? ref_double(&r) : (double)(int64_t)ref_zigzag(ref_varint(&r));
        for (size_t i = 0; i < n; i++) memcpy(out + i, &v, 8);
        break;
    }
    case 1: ref_scaled(&r, tag, n, out, p); break;
    case 2: ref_sum(&r, tag, n, out, p); break;
    case 3: ref_bits(&r, tag, n, out, p); break;
    case 6:
        CHECK_U64(tag, 6);
        for (size_t i = 0; i < n; i++) out[i] = ref_double(&r);
        break;
    default: test_fail(__FILE__, __LINE__, "tag %u", (unsigned)tag);
    }
    for (size_t k = 0; k < p->n; k++) memcpy(out + p->at[k], p->bits[k], 8);
    CHECK_U64(r.at, b.len);
    free(p);
}

#endif
