/* base/env.h: what is not deterministic, handed to every constructor. Owned by the composition root
 * (tools/ or a test); outlives everything built on it. */
#ifndef QUIPU_BASE_ENV_H
#define QUIPU_BASE_ENV_H

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "base/rng.h"

struct metrics;

struct env {
    struct io *io;
    struct clock *clock;
    struct log *log;
    struct metrics *metrics; /* never NULL */
    struct rng *rng; /* used only by constructors and background work, one thread at a time */
    bool threads;    /* false: no background threads; the owner calls the step functions
                              * (wal_commit, engine_step) itself, as the simulator does */
};

#endif
