/* base/arena.c: a list of blocks, newest first, each twice the size of the one before up to 1 MiB. */
#define ARENA_IMPLEMENTATION
#include "base/arena.h"

#include <stdarg.h>
#include <stdio.h>

#define ARENA_BLOCK_BYTES_MIN 4096
#define ARENA_BLOCK_BYTES_MAX (1u << 20)

struct arena_block {
    struct arena_block *older;
    size_t size; /* of data[] */
    _Alignas(16) uint8_t data[];
};

void arena_init(struct arena *arena, enum mem_owner owner, size_t budget_bytes)
{
    *arena = (struct arena){.owner = owner, .budget_bytes = budget_bytes};
}

static size_t block_bytes(const struct arena_block *block)
{
    return sizeof(*block) + block->size;
}

static void drop_newest(struct arena *arena)
{
    struct arena_block *block = arena->head;
    arena->head = block->older;
    arena->used_bytes -= block_bytes(block);
    mem_free(block);
}

void arena_release(struct arena *arena)
{
    while (arena->head) drop_newest(arena);
    arena_init(arena, arena->owner, arena->budget_bytes);
}

void arena_reset(struct arena *arena)
{
    struct arena_block *kept = arena->head;
    if (!kept) return;
    /* The newest is the largest of the regular ones, hence the one that saves most allocations. */
    while (kept->older) {
        struct arena_block *older = kept->older;
        kept->older = older->older;
        arena->used_bytes -= block_bytes(older);
        mem_free(older);
    }
    arena->next = kept->data;
    arena->over_budget = false;
}

/* A block that holds `need` bytes; of the usual size if the budget allows, else just enough. */
static struct arena_block *new_block(struct arena *arena, size_t need)
{
    size_t size = arena->head ? block_bytes(arena->head) * 2 : 0;
    size = MAX_OF(size, (size_t)ARENA_BLOCK_BYTES_MIN); /* the head may be tiny: just enough */
    size = MIN_OF(size, (size_t)ARENA_BLOCK_BYTES_MAX) - sizeof(struct arena_block);
    size = MAX_OF(size, need);
    if (arena->budget_bytes) {
        size_t left = arena->budget_bytes - MIN_OF(arena->budget_bytes, arena->used_bytes);
        if (sizeof(struct arena_block) + size > left) size = need;
        if (sizeof(struct arena_block) + size > left) {
            arena->over_budget = true;
            return NULL;
        }
    }
    arena->over_budget = false;
    struct arena_block *block = mem_alloc(arena->owner, sizeof(*block) + size);
    if (block) block->size = size;
    return block;
}

void *arena_alloc_slow(struct arena *arena, size_t size, size_t align)
{
    ASSERT(align > 0);
    ASSERT((align & (align - 1)) == 0);
    arena->over_budget = false;
    if (size > SIZE_MAX / 4 || align > SIZE_MAX / 4) return NULL;
    /* data[] is 16-aligned; more needs slack. At least a byte, so that no two results are equal to
     * a block's end. */
    size_t need = MAX_OF(size, (size_t)1) + (align > 16 ? align - 16 : 0);
    struct arena_block *block = new_block(arena, need);
    if (!block) return NULL;
    block->older = arena->head;
    arena->head = block;
    arena->used_bytes += block_bytes(block);
    arena->end = block->data + block->size;
    uintptr_t p = ((uintptr_t)block->data + (align - 1)) & ~(uintptr_t)(align - 1);
    ASSERT(p + size <= (uintptr_t)arena->end);
    arena->next = (uint8_t *)(p + size);
    return (void *)p;
}

void *arena_calloc(struct arena *arena, size_t n, size_t size, size_t align)
{
    size_t total;
    if (!mem_mul(n, size, &total)) {
        arena->over_budget = false;
        return NULL;
    }
    void *p = arena_alloc(arena, total, align);
    if (p) memset(p, 0, total);
    return p;
}

struct str arena_str(struct arena *arena, struct str s)
{
    char *p = s.len < SIZE_MAX ? arena_alloc(arena, s.len + 1, 1) : NULL;
    if (!p) return (struct str){NULL, 0};
    if (s.len) memcpy(p, s.p, s.len);
    p[s.len] = 0;
    return (struct str){p, s.len};
}

struct str arena_printf(struct arena *arena, const char *fmt, ...)
{
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, fmt, args);
    ASSERT(n >= 0);
    char *p = arena_alloc(arena, (size_t)n + 1, 1);
    if (p) vsnprintf(p, (size_t)n + 1, fmt, again);
    va_end(again);
    va_end(args);
    return (struct str){p, p ? (size_t)n : 0};
}

enum err_code arena_fail(const struct arena *arena, struct err *err)
{
    if (arena->over_budget)
        return err_set(err, ERR_LIMIT, "over the memory budget of %zu bytes (%s)",
                       arena->budget_bytes, mem_owner_name(arena->owner));
    return err_set(err, ERR_NO_MEMORY, "out of memory (%s)", mem_owner_name(arena->owner));
}

struct arena_mark arena_mark(const struct arena *arena)
{
    return (struct arena_mark){arena->head, arena->next};
}

void arena_rewind(struct arena *arena, struct arena_mark mark)
{
    while (arena->head != mark.head) {
        ASSERT(arena->head != NULL); /* else the mark is of another arena, or older than a reset */
        drop_newest(arena);
    }
    arena->next = mark.next;
    arena->end = mark.head ? mark.head->data + mark.head->size : NULL;
}
