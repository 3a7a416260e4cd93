/* tests/wal/wal_fixture.h: a log in a folder of a simulated disk (thousands of openings, no real fsync) or, with
 * threads, of a real one; and a list of what a replay delivered. */
#ifndef QUIPU_WAL_FIXTURE_H
#define QUIPU_WAL_FIXTURE_H

#include "base/metric.h"
#include "tests/quipu_test.h"
#include "tests/sim/io_sim.h"
#include "wal/format.h"

struct fixture {
    char dir[256];
    struct io_sim *sim; /* NULL: the real disk */
    struct env env;
    struct wal_config config;
    struct wal *wal;
    struct err err;
};

static inline void fixture_init(struct fixture *f, bool threads)
{
    memset(f, 0, sizeof(*f));
    if (threads) {
        test_temp_dir(f->dir, sizeof(f->dir));
    } else {
        f->sim = io_sim_new(1);
        snprintf(f->dir, sizeof(f->dir), "/wal");
        CHECK_OK(io_mkdir_all(io_sim_io(f->sim), f->dir, &f->err), &f->err);
    }
    f->env = (struct env){.io = f->sim ? io_sim_io(f->sim) : io_posix(),
                          .clock = clock_system(),
                          .metrics = metrics_new(),
                          .threads = threads};
    f->config = wal_config_default(f->dir);
}
static inline void fixture_release(struct fixture *f)
{
    wal_close(f->wal);
    metrics_free(f->env.metrics);
    if (f->sim)
        io_sim_free(f->sim);
    else
        test_remove_dir(f->dir);
}

struct seen_record {
    enum wal_type type;
    uint64_t pos, end_pos;
    uint8_t *p;
    size_t len;
};
struct seen {
    struct seen_record *items;
    size_t n, cap;
    struct wal_replay_stats stats;
};
static inline void seen_release(struct seen *s)
{
    for (size_t i = 0; i < s->n; i++) free(s->items[i].p);
    free(s->items);
    memset(s, 0, sizeof(*s));
}
static inline enum err_code seen_add(void *ctx, const struct wal_record *r, struct err *err)
{
    (void)err;
    struct seen *s = ctx;
    if (s->n == s->cap) {
        s->cap = s->cap ? s->cap * 2 : 16;
        s->items = realloc(s->items, s->cap * sizeof(*s->items));
        CHECK(s->items);
    }
    uint8_t *copy = malloc(r->payload.len);
    CHECK(copy);
    memcpy(copy, r->payload.p, r->payload.len);
    s->items[s->n++] = (struct seen_record){r->type, r->pos, r->end_pos, copy, r->payload.len};
    return ERR_OK;
}

static inline enum err_code fixture_open(struct fixture *f, uint64_t from_pos, struct seen *seen)
{
    memset(seen, 0, sizeof(*seen));
    enum err_code rc = wal_open(&f->env, &f->config, &f->wal, &f->err);
    if (rc == ERR_OK) rc = wal_replay(f->wal, from_pos, seen_add, seen, &seen->stats, &f->err);
    if (rc) {
        wal_close(f->wal);
        f->wal = NULL;
    }
    return rc;
}
static inline void fixture_close(struct fixture *f)
{
    wal_close(f->wal);
    f->wal = NULL;
}
/* For tests that do not look at what is replayed. */
static inline void fixture_start(struct fixture *f)
{
    struct seen seen;
    CHECK_OK(fixture_open(f, 0, &seen), &f->err);
    seen_release(&seen);
}

static inline uint64_t fixture_append(struct fixture *f, const char *text)
{
    uint64_t pos;
    CHECK_OK(
        wal_append(f->wal, WAL_SAMPLES, bytes_of(text, strlen(text)), NULL, NULL, &pos, &f->err),
        &f->err);
    return pos;
}
static inline bool seen_is(const struct seen_record *r, const char *text)
{
    return r->len == strlen(text) && memcmp(r->p, text, r->len) == 0;
}

static inline void fixture_path(const struct fixture *f, unsigned index, char *path, size_t size)
{
    CHECK((size_t)snprintf(path, size, "%s/%08u.wal", f->dir, index) < size);
}
static inline uint8_t *fixture_read(const struct fixture *f, unsigned index, size_t *len)
{
    char path[512];
    struct err err;
    uint8_t *p;
    fixture_path(f, index, path, sizeof(path));
    CHECK_OK(io_read_file(f->env.io, path, (size_t)1 << 30, &p, len, &err), &err);
    return p;
}
static inline void fixture_write(const struct fixture *f, unsigned index, const void *p, size_t len)
{
    char path[512];
    struct err err;
    struct file *file;
    fixture_path(f, index, path, sizeof(path));
    CHECK_OK(io_open(f->env.io, path, IO_WRITE | IO_CREATE | IO_TRUNCATE, &file, &err), &err);
    CHECK_OK(file_write_at(file, 0, p, len, &err), &err);
    file_close(file);
}
/* The newest is the process's own: each opening starts one. */
static inline void fixture_remove(const struct fixture *f, unsigned index)
{
    char path[512];
    fixture_path(f, index, path, sizeof(path));
    struct err err;
    CHECK_OK(io_unlink(f->env.io, path, &err), &err);
}
static inline bool fixture_has(const struct fixture *f, unsigned index)
{
    char path[512];
    fixture_path(f, index, path, sizeof(path));
    return io_exists(f->env.io, path);
}

#endif
