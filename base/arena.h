/* base/arena.h: memory that is freed as a whole; a request or a query owns one, with a byte budget.
 * Threads: one at a time. */
#ifndef QUIPU_BASE_ARENA_H
#define QUIPU_BASE_ARENA_H

#include "base/mem.h"

struct arena_block;

struct arena {
    struct arena_block *head; /* newest block; private */
    uint8_t *next, *end;      /* free bytes of the newest block */
    size_t used_bytes;        /* of all blocks, as taken from mem_alloc */
    size_t budget_bytes;      /* 0 = none */
    enum mem_owner owner;
    bool over_budget; /* the last failure was the budget's, not the machine's */
};

struct arena_mark {
    struct arena_block *head;
    uint8_t *next;
};

/* No memory is taken before the first allocation. */
void arena_init(struct arena *arena, enum mem_owner owner, size_t budget_bytes);
void arena_release(struct arena *arena); /* frees all; the arena may be used again */
/* Forgets everything but keeps one block for reuse. */
void arena_reset(struct arena *arena);

void *arena_alloc_slow(struct arena *arena, size_t size, size_t align);
/* Uninitialised; NULL over the budget or when memory is out (see arena_fail). */
MUST_USE static inline void *arena_alloc(struct arena *arena, size_t size, size_t align)
{
    uintptr_t p = ((uintptr_t)arena->next + (align - 1)) & ~(uintptr_t)(align - 1);
    if (LIKELY(arena->next && p <= (uintptr_t)arena->end && size <= (uintptr_t)arena->end - p)) {
        arena->next = (uint8_t *)(p + size);
        return (void *)p;
    }
    return arena_alloc_slow(arena, size, align);
}
/* n items of `size` bytes, zeroed; NULL also when n * size overflows. */
MUST_USE void *arena_calloc(struct arena *arena, size_t n, size_t size, size_t align);
#define ARENA_NEW(arena, type) ((type *)arena_calloc((arena), 1, sizeof(type), _Alignof(type)))
#define ARENA_ARRAY(arena, type, n)                                                                \
    ((type *)arena_calloc((arena), (n), sizeof(type), _Alignof(type)))
/* Copies; NUL-terminated as well. p NULL when memory is out. */
MUST_USE struct str arena_str(struct arena *arena, struct str s);
MUST_USE struct str arena_printf(struct arena *arena, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* The error for a NULL: ERR_LIMIT naming the budget, or ERR_NO_MEMORY. */
enum err_code arena_fail(const struct arena *arena, struct err *err);

/* Everything allocated after the mark is freed by the rewind. */
struct arena_mark arena_mark(const struct arena *arena);
void arena_rewind(struct arena *arena, struct arena_mark mark);

#if defined(__clang_analyzer__) && !defined(ARENA_IMPLEMENTATION)
#define arena_fail(arena, err) (arena_fail((arena), (err)), ERR_NO_MEMORY) /* see base/err.h */
#endif

#endif
