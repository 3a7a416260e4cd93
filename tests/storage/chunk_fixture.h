/* tests/storage/chunk_fixture.h: samples, a chunk of them, and what is read from it. */
#ifndef QUIPU_TESTS_STORAGE_CHUNK_FIXTURE_H
#define QUIPU_TESTS_STORAGE_CHUNK_FIXTURE_H

#include "storage/chunk.h"
#include "tests/quipu_test.h"

struct fixture {
    struct arena arena, out_arena;
    struct samples in, out;
    struct buf chunk;
    struct err err;
};

static void fixture_init(struct fixture *f)
{
    arena_init(&f->arena, MEM_BASE, 0);
    arena_init(&f->out_arena, MEM_BASE, 0);
    samples_init(&f->in, MEM_BASE, &f->arena);
    samples_init(&f->out, MEM_BASE, &f->out_arena);
    buf_init(&f->chunk, MEM_BASE);
}

static void fixture_release(struct fixture *f)
{
    samples_release(&f->in);
    samples_release(&f->out);
    buf_release(&f->chunk);
    arena_release(&f->arena);
    arena_release(&f->out_arena);
}

#endif
