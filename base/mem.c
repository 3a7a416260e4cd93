/* base/mem.c: malloc with a header of 16 bytes {size, owner, magic} in front of each allocation.
 * The counters are file-scope state on purpose: they mirror the process's one heap. */
#include "base/mem.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>

#ifdef __GLIBC__
#include <malloc.h>
#endif

#if defined(__SANITIZE_ADDRESS__)
#define MEM_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define MEM_ASAN 1
#endif
#endif
#ifndef MEM_ASAN
#define MEM_ASAN 0
#endif

struct mem_header {
    uint64_t size;
    uint32_t owner;
    uint32_t magic;
};
static_assert(sizeof(struct mem_header) == 16, "keeps what follows 16-aligned");

#define MEM_MAGIC_LIVE 0x51aa17e5u
#define MEM_MAGIC_DEAD 0xdeadbeefu

/* A line of its own per owner, since threads of different layers count at the same time. */
struct mem_counter {
    _Alignas(64) _Atomic size_t bytes; /* relaxed: a figure, it orders nothing */
    _Atomic size_t bytes_max;          /* 0: none. relaxed, likewise */
};
static struct mem_counter counters[MEM_OWNERS_N];

static bool (*fail_hook)(void *ctx, size_t size);
static void *fail_hook_ctx;

static bool may_alloc(size_t size)
{
    return !UNLIKELY(fail_hook != NULL) || !fail_hook(fail_hook_ctx, size);
}

static void count_sub(enum mem_owner owner, size_t n)
{
    atomic_fetch_sub_explicit(&counters[owner].bytes, n, memory_order_relaxed);
}

/* Counts `n` bytes that are about to be allocated; false: over the owner's limit. */
static bool count_add(enum mem_owner owner, size_t n)
{
    struct mem_counter *c = &counters[owner];
    size_t before = atomic_fetch_add_explicit(&c->bytes, n, memory_order_relaxed);
    size_t max = atomic_load_explicit(&c->bytes_max, memory_order_relaxed);
    if (LIKELY(max == 0 || n == 0 || (n <= max && before <= max - n))) return true;
    count_sub(owner, n);
    return false;
}

/* Before every allocation; what fails afterwards gives the count back. */
static bool charge(enum mem_owner owner, size_t size)
{
    return size <= SIZE_MAX / 2 && may_alloc(size) && count_add(owner, size);
}

static struct mem_header *header_of(void *p)
{
    struct mem_header *h = (struct mem_header *)p - 1;
    ASSERT(h->magic == MEM_MAGIC_LIVE);
    ASSERT(h->owner < MEM_OWNERS_N);
    return h;
}

static void *publish(struct mem_header *h, enum mem_owner owner, size_t size)
{
    h->size = size;
    h->owner = owner;
    h->magic = MEM_MAGIC_LIVE;
    return h + 1;
}

static void *publish_or_uncharge(struct mem_header *h, enum mem_owner owner, size_t size)
{
    if (h) return publish(h, owner, size);
    count_sub(owner, size);
    return NULL;
}

void *mem_alloc(enum mem_owner owner, size_t size)
{
    ASSERT(owner < MEM_OWNERS_N);
    if (!charge(owner, size)) return NULL;
    return publish_or_uncharge(malloc(sizeof(struct mem_header) + size), owner, size);
}

void *mem_calloc(enum mem_owner owner, size_t n, size_t size)
{
    ASSERT(owner < MEM_OWNERS_N);
    size_t total;
    if (!mem_mul(n, size, &total) || !charge(owner, total)) return NULL;
    return publish_or_uncharge(calloc(1, sizeof(struct mem_header) + total), owner, total);
}

void *mem_realloc(enum mem_owner owner, void *p, size_t size)
{
    if (!p) return mem_alloc(owner, size);
    struct mem_header *h = header_of(p);
    enum mem_owner old_owner = h->owner;
    size_t old_size = h->size, more = size > old_size ? size - old_size : 0;
    if (size > SIZE_MAX / 2 || !may_alloc(size) || !count_add(old_owner, more)) return NULL;
    struct mem_header *moved = realloc(h, sizeof(*h) + size);
    if (!moved) {
        count_sub(old_owner, more);
        return NULL;
    }
    if (size < old_size) count_sub(old_owner, old_size - size);
    return publish(moved, old_owner, size);
}

void mem_free(void *p)
{
    if (!p) return;
    struct mem_header *h = header_of(p);
    count_sub(h->owner, h->size);
    h->magic = MEM_MAGIC_DEAD; /* a second free meets the ASSERT, if the memory is still ours */
    free(h);
}

char *mem_strdup(enum mem_owner owner, const char *z)
{
    size_t n = strlen(z) + 1;
    char *copy = mem_alloc(owner, n);
    if (copy) memcpy(copy, z, n);
    return copy;
}

#if MEM_ASAN
/* From the heap, so that ASan guards the edges and LeakSanitizer follows pointers stored inside. */
static void *map_pages(size_t size, size_t align)
{
    void *p = aligned_alloc(align, size);
    if (p) memset(p, 0, size);
    return p;
}
static void advise_huge(void *p, size_t size)
{
    (void)p, (void)size;
}
static void unmap_pages(void *p, size_t size)
{
    (void)size;
    free(p);
}
#else
static void *map_pages(size_t size, size_t align)
{
    const int prot = PROT_READ | PROT_WRITE, flags = MAP_PRIVATE | MAP_ANONYMOUS;
    void *p = mmap(NULL, size, prot, flags, -1, 0);
    if (p == MAP_FAILED) return NULL;
    /* The kernel puts a mapping right below the one before, so all but the first are aligned. */
    if (((uintptr_t)p & (align - 1)) == 0) return p;
    munmap(p, size);
    size_t wide = size + align;
    uint8_t *start = mmap(NULL, wide, prot, flags, -1, 0);
    if (start == MAP_FAILED) return NULL;
    size_t head = (0 - (uintptr_t)start) & (align - 1);
    if (head) munmap(start, head);
    if (wide - head - size) munmap(start + head + size, wide - head - size);
    return start + head;
}
/* Only advice: a system without huge pages serves small ones. */
static void advise_huge(void *p, size_t size)
{
    (void)madvise(p, size, MADV_HUGEPAGE);
}
static void unmap_pages(void *p, size_t size)
{
    int rc = munmap(p, size);
    ASSERT(rc == 0);
}
#endif

static void *map_charged(enum mem_owner owner, size_t size, size_t align)
{
    ASSERT(owner < MEM_OWNERS_N);
    ASSERT(size > 0);
    ASSERT(size % align == 0);
    if (!charge(owner, size)) return NULL;
    void *p = map_pages(size, align);
    if (!p) count_sub(owner, size);
    return p;
}

void *mem_map(enum mem_owner owner, size_t size)
{
    return map_charged(owner, size, MEM_PAGE_BYTES);
}

void *mem_map_huge(enum mem_owner owner, size_t size)
{
    void *p = map_charged(owner, size, MEM_HUGE_BYTES);
    if (p) advise_huge(p, size);
    return p;
}

void mem_unmap(enum mem_owner owner, void *p, size_t size)
{
    if (!p) return;
    unmap_pages(p, size);
    count_sub(owner, size);
}

bool mem_mul(size_t a, size_t b, size_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

enum err_code mem_grow(enum mem_owner owner, void **items, size_t *cap, size_t n_needed,
                       size_t item_size, struct err *err)
{
    if (n_needed <= *cap) return ERR_OK;
    size_t wanted = *cap + *cap / 2;
    if (wanted < n_needed) wanted = n_needed;
    if (wanted < 8) wanted = 8;
    size_t bytes;
    void *grown = mem_mul(wanted, item_size, &bytes) ? mem_realloc(owner, *items, bytes) : NULL;
    if (!grown && wanted > n_needed) { /* the half more was a wish */
        wanted = n_needed;
        grown = mem_mul(wanted, item_size, &bytes) ? mem_realloc(owner, *items, bytes) : NULL;
    }
    if (!grown)
        return err_set(err, ERR_NO_MEMORY, "no memory for %zu items of %zu bytes (%s)", n_needed,
                       item_size, mem_owner_name(owner));
    *items = grown;
    *cap = wanted;
    return ERR_OK;
}

size_t mem_bytes(enum mem_owner owner)
{
    ASSERT(owner < MEM_OWNERS_N);
    return atomic_load_explicit(&counters[owner].bytes, memory_order_relaxed);
}

size_t mem_bytes_total(void)
{
    size_t total = 0;
    for (unsigned i = 0; i < MEM_OWNERS_N; i++) total += mem_bytes((enum mem_owner)i);
    return total;
}

void mem_set_limit(enum mem_owner owner, size_t bytes_max)
{
    ASSERT(owner < MEM_OWNERS_N);
    atomic_store_explicit(&counters[owner].bytes_max, bytes_max, memory_order_relaxed);
}

size_t mem_limit(enum mem_owner owner)
{
    ASSERT(owner < MEM_OWNERS_N);
    return atomic_load_explicit(&counters[owner].bytes_max, memory_order_relaxed);
}

#if defined(__GLIBC__) && !MEM_ASAN
/* An arena per thread would keep what each has freed: some 60 MiB at the 15 threads of a small server. Left to
 * itself the library also raises the size from which pieces are mapped, to 32 MiB, and keeps all that is smaller. */
#define HEAP_ARENAS 2
#define HEAP_MAP_BYTES (2 << 20)
#define HEAP_KEEP_BYTES (8 << 20)

void mem_tune_heap(void)
{
    mallopt(M_ARENA_MAX, HEAP_ARENAS);
    mallopt(M_MMAP_THRESHOLD, HEAP_MAP_BYTES);
    mallopt(M_TRIM_THRESHOLD, HEAP_KEEP_BYTES);
}

void mem_trim_heap(void)
{
    malloc_trim(0);
}
#else
void mem_tune_heap(void) {}
void mem_trim_heap(void) {}
#endif

const char *mem_owner_name(enum mem_owner owner)
{
    static const char *const names[MEM_OWNERS_N] = {
        [MEM_BASE] = "base",       [MEM_HTTP] = "http",       [MEM_WAL] = "wal",
        [MEM_STORAGE] = "storage", [MEM_CATALOG] = "catalog", [MEM_REGISTRY] = "registry",
        [MEM_HEAD] = "head",       [MEM_INGEST] = "ingest",   [MEM_QUERY] = "query",
        [MEM_TOOLS] = "tools",     [MEM_RESULTS] = "results",
    };
    return (unsigned)owner < MEM_OWNERS_N ? names[owner] : "unknown";
}

void mem_set_fail_hook(bool (*hook)(void *ctx, size_t size), void *ctx)
{
    fail_hook = hook;
    fail_hook_ctx = ctx;
}
