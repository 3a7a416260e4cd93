/* engine/pressure.c: see the header. */
#include "engine/pressure.h"

#define SAMPLE_NS INT64_C(100000000)
#define LIVE_SHARE_MIN                                                                             \
    16 /* of live_bytes_max: the head has this much whatever the registry takes */
#define FLUSH_SHARE_MIN 64 /* of the ceiling; see pressure_flush_min */
/* Resident beside what is in use: the program, its stacks and libraries, and a share for the heap's own order. */
#define LOOSE_BYTES ((size_t)16 << 20)
#define LOOSE_SHARE 4

/* Per cent of the ceiling from which on a level holds. */
static const unsigned level_percent[] = {[PRESSURE_NONE] = 0,
                                         [PRESSURE_FLUSH] = 75,
                                         [PRESSURE_SERIES] = 85,
                                         [PRESSURE_WRITES] = 90,
                                         [PRESSURE_QUERIES] = 95};

void pressure_init(struct pressure *p, const struct memory_ceiling *ceiling, struct clock *clock)
{
    p->ceiling = *ceiling;
    p->clock = clock;
    atomic_init(&p->sampled_ns, 0);
    atomic_init(&p->resident, 0);
    atomic_init(&p->counted, 0);
}

static void sample(struct pressure *p)
{
    uint64_t resident = p->ceiling.resident ? p->ceiling.resident(p->ceiling.ctx) : 0;
    size_t counted = mem_bytes_total();
    /* Unknown: at least what we count. Pages of it that were never touched are rare. */
    if (resident == 0) resident = counted;
    atomic_store_explicit(&p->counted, counted, memory_order_relaxed);
    atomic_store_explicit(&p->resident, (size_t)resident, memory_order_relaxed);
}

/* Once in SAMPLE_NS by whoever comes first; the others go by the sample before. */
static void sample_if_old(struct pressure *p)
{
    int64_t last = atomic_load_explicit(&p->sampled_ns, memory_order_relaxed);
    int64_t now = MAX_OF(clock_mono_ns(p->clock), 1);
    if (last && now - last < SAMPLE_NS) return;
    if (atomic_compare_exchange_strong_explicit(&p->sampled_ns, &last, now, memory_order_relaxed,
                                                memory_order_relaxed))
        sample(p);
}

/* Memory that is freed may stay with the heap for a while, so the sum never falls between two samples. */
static size_t used_bytes(const struct pressure *p)
{
    size_t resident = atomic_load_explicit(&p->resident, memory_order_relaxed);
    size_t then = atomic_load_explicit(&p->counted, memory_order_relaxed);
    size_t now = mem_bytes_total();
    return resident + (now > then ? now - then : 0);
}

static enum pressure_level level_of(const struct pressure *p, size_t used)
{
    enum pressure_level level = PRESSURE_QUERIES;
    while (level > PRESSURE_NONE && used < p->ceiling.bytes_max / 100 * level_percent[level])
        level--;
    return level;
}

enum pressure_level pressure_level(struct pressure *p)
{
    if (p->ceiling.bytes_max == 0) return PRESSURE_NONE;
    sample_if_old(p);
    return level_of(p, used_bytes(p));
}

enum pressure_level pressure_level_now(struct pressure *p)
{
    atomic_store_explicit(&p->sampled_ns, 0, memory_order_relaxed);
    return pressure_level(p);
}

bool pressure_heap_is_loose(const struct pressure *p)
{
    size_t resident = atomic_load_explicit(&p->resident, memory_order_relaxed);
    size_t counted = atomic_load_explicit(&p->counted, memory_order_relaxed);
    return resident > counted + counted / LOOSE_SHARE + LOOSE_BYTES;
}

enum err_code pressure_check(struct pressure *p, enum pressure_level level, struct err *err)
{
    if (LIKELY(pressure_level(p) < level)) return ERR_OK;
    return err_set(err, ERR_NO_MEMORY,
                   "short of memory: %zu of %zu bytes are in use (memory.limit); try again",
                   used_bytes(p), p->ceiling.bytes_max);
}

size_t pressure_head_max(const struct pressure *p, size_t head_bytes_max)
{
    size_t live = p->ceiling.live_bytes_max;
    if (live == 0) return head_bytes_max;
    size_t registry = mem_bytes(MEM_REGISTRY), left = live - MIN_OF(live, registry);
    /* Half: while one generation is written, the next one grows. */
    return MIN_OF(head_bytes_max, MAX_OF(left, live / LIVE_SHARE_MIN) / 2);
}

size_t pressure_flush_min(const struct pressure *p)
{
    return p->ceiling.bytes_max / FLUSH_SHARE_MIN;
}
