/* engine/pressure.h: how near the process is to its memory ceiling, and so who gives way.
 *
 * What the kernel counts as ours is asked for a few times a second; in between, what base/mem.c has counted since is
 * added. Each level includes those before it; all end by themselves when memory is free again.
 * Samples and series share one part of the ceiling: what the registry takes, the head may not.
 * Threads: any after pressure_init(). */
#ifndef QUIPU_ENGINE_PRESSURE_H
#define QUIPU_ENGINE_PRESSURE_H

#include <stdatomic.h>

#include "base/env.h"
#include "base/mem.h"

enum pressure_level {
    PRESSURE_NONE,
    PRESSURE_FLUSH,   /* 75 %: large heads are flushed before their time, cached pages dropped */
    PRESSURE_SERIES,  /* 85 %: new series are refused */
    PRESSURE_WRITES,  /* 90 %: writes and new queries are refused */
    PRESSURE_QUERIES, /* 95 %: running queries, too */
};

struct memory_ceiling {
    size_t bytes_max;      /* of the whole process; 0: none, and no pressure ever */
    size_t live_bytes_max; /* head and registry together; 0: only their own limits hold */
    /* Resident bytes of the process; 0: unknown. NULL: what base/mem.c counts is all there is. */
    uint64_t (*resident)(void *ctx);
    void *ctx;
};

struct pressure {
    struct memory_ceiling ceiling;
    struct clock *clock;
    _Atomic int64_t
        sampled_ns; /* 0: never. Whoever advances it samples; relaxed, as all here: figures */
    _Atomic size_t resident, counted; /* of the last sample */
};

void pressure_init(struct pressure *p, const struct memory_ceiling *ceiling, struct clock *clock);
/* Some ten loads, and once in 100 ms a sample. */
enum pressure_level pressure_level(struct pressure *p);
/* With a sample of now: after memory was given back. */
enum pressure_level pressure_level_now(struct pressure *p);
/* Much more is resident than is in use: what was freed stays with the heap. By the last sample. */
bool pressure_heap_is_loose(const struct pressure *p);
/* Fine below `level`, else ERR_NO_MEMORY: try again later. */
MUST_USE enum err_code pressure_check(struct pressure *p, enum pressure_level level,
                                      struct err *err);
/* What the head may take before it is flushed: `head_bytes_max` or, if less, half of what the registry has left. */
size_t pressure_head_max(const struct pressure *p, size_t head_bytes_max);
/* Flushing a smaller head than this would make blocks faster than it makes room. */
size_t pressure_flush_min(const struct pressure *p);

#endif
