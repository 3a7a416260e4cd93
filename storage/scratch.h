/* storage/scratch.h: columns to work in for the length of one call: on the stack where they are short, as those of most
 * chunks are, else from mem_alloc. */
#ifndef QUIPU_STORAGE_SCRATCH_H
#define QUIPU_STORAGE_SCRATCH_H

#include "base/mem.h"

#define SCRATCH_STACK 1024

struct scratch {
    int64_t *p; /* room for what was asked for */
    int64_t *heap;
    int64_t stack[SCRATCH_STACK];
};

/* Room for n int64; false when memory is out. Either way scratch_release is due. */
MUST_USE static inline bool scratch_init(struct scratch *s, size_t n)
{
    size_t size;
    s->p = s->stack;
    s->heap = NULL;
    if (n <= SCRATCH_STACK) return true;
    if (!mem_mul(n, sizeof(int64_t), &size)) return false;
    s->p = s->heap = mem_alloc(MEM_STORAGE, size);
    return s->p != NULL;
}

static inline void scratch_release(struct scratch *s)
{
    mem_free(s->heap);
}

#endif
