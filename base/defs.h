/* base/defs.h: the few macros and the two string types that every file uses. */
#ifndef QUIPU_BASE_DEFS_H
#define QUIPU_BASE_DEFS_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define MUST_USE __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))
/* For functions that only prefetch: gcc 12 takes them for functions without effect, and drops the calls. */
#define PREFETCHES __attribute__((always_inline)) static inline
#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)
#define COUNT_OF(a) (sizeof(a) / sizeof((a)[0]))
#define MIN_OF(a, b) ((a) < (b) ? (a) : (b))
#define MAX_OF(a, b) ((a) > (b) ? (a) : (b))
#define CONTAINER_OF(p, type, member) ((type *)(void *)((char *)(p)-offsetof(type, member)))

/* States what only our own bug can break; on in every build. One condition each.
 * Never for what comes from disk, network, user or configuration: those get an error. */
#define ASSERT(cond) (LIKELY(cond) ? (void)0 : assert_failed(#cond, __FILE__, __LINE__, __func__))
_Noreturn void assert_failed(const char *cond, const char *file, int line, const char *func);

/* Bytes that somebody else owns; may hold NUL. {NULL, 0} is the empty one. */
struct bytes {
    const uint8_t *p;
    size_t len;
};

/* Text that somebody else owns: UTF-8 once checked, not NUL-terminated. */
struct str {
    const char *p;
    size_t len;
};

#define STR(literal) ((struct str){("" literal), sizeof(literal) - 1})
/* For printf's %.*s */
#define STR_ARG(s) ((int)MIN_OF((s).len, (size_t)INT32_MAX)), ((s).len ? (s).p : "")

static inline struct str str_of(const char *z)
{
    return (struct str){z, z ? strlen(z) : 0};
}
static inline struct bytes bytes_of(const void *p, size_t len)
{
    return (struct bytes){(const uint8_t *)p, len};
}
static inline struct str str_from_bytes(struct bytes b)
{
    return (struct str){(const char *)b.p, b.len};
}
static inline bool str_eq(struct str a, struct str b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.p, b.p, a.len) == 0);
}
/* Bytewise; a prefix sorts first. <0, 0, >0. */
static inline int str_cmp(struct str a, struct str b)
{
    size_t n = MIN_OF(a.len, b.len);
    int c = n ? memcmp(a.p, b.p, n) : 0;
    return c ? c : (a.len > b.len) - (a.len < b.len);
}
static inline bool str_has_prefix(struct str s, struct str prefix)
{
    return s.len >= prefix.len && (prefix.len == 0 || memcmp(s.p, prefix.p, prefix.len) == 0);
}
static inline bool str_has_suffix(struct str s, struct str suffix)
{
    return s.len >= suffix.len &&
           (suffix.len == 0 || memcmp(s.p + s.len - suffix.len, suffix.p, suffix.len) == 0);
}

#endif
