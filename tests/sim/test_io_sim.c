/* The simulated disk: in fair weather it is the real one call by call; in foul weather it takes just what was
 * not synced, and every allowed outcome does come up. */
#include "tests/quipu_test.h"

#include <pthread.h>

#include "tests/sim/io_sim.h"

/* ---- fair weather: the same calls on both disks ---- */

struct twin {
    struct io *io[2]; /* real, simulated */
    char dir[2][256];
    struct file *files[2][6];
};

static const char *const twin_names[] = {"a",   "b",     "d", "d/a",       "d/b",
                                         "d/e", "d/e/a", ".", "d/e/none/x"};

static void twin_path(const struct twin *t, int side, const char *name, char *out, size_t size)
{
    struct err err;
    CHECK_OK(io_path(out, size, &err, t->dir[side], name), &err);
}

struct step {
    unsigned op, slot, flags;
    const char *from, *to;
    uint64_t off;
    size_t len;
    const uint8_t *bytes;
};

struct outcome {
    enum err_code rc;
    uint64_t number;
    struct buf bytes;
};

static bool collect_name(void *ctx, const char *name, bool is_dir)
{
    struct buf *b = ctx; /* the order is the disk's: a sum that does not depend on it */
    uint64_t sum = is_dir;
    for (; *name; name++) sum = sum * 31 + (uint8_t)*name;
    buf_u64(b, sum);
    return true;
}

static void sum_names(struct outcome *out)
{
    uint64_t sum = 0;
    for (size_t i = 0; i + 8 <= out->bytes.len; i += 8) sum += get_u64_le(out->bytes.p + i);
    out->number = sum;
    buf_reset(&out->bytes);
}

static void run_on_file(struct file *file, const struct step *s, struct outcome *out)
{
    struct err err;
    size_t n;
    switch (s->op) {
    case 0: {
        uint8_t *p = buf_reserve(&out->bytes, s->len);
        out->rc = file_read_at(file, s->off, p, s->len, &n, &err);
        out->bytes.len = n;
        break;
    }
    case 1: out->rc = file_write_at(file, s->off, s->bytes, s->len, &err); break;
    case 2: out->rc = file_truncate(file, s->off, &err); break;
    case 3: out->rc = file_allocate(file, s->off, &err); break;
    case 4: out->rc = file_sync(file, &err); break;
    case 5: out->rc = file_lock(file, &err); break;
    default: out->rc = file_size(file, &out->number, &err); break;
    }
}

static void run_on_names(struct twin *t, int side, const struct step *s, struct outcome *out)
{
    char from[512], to[512];
    struct err err;
    bool is_dir = false;
    struct io *io = t->io[side];
    twin_path(t, side, s->from, from, sizeof(from));
    twin_path(t, side, s->to, to, sizeof(to));
    switch (s->op) {
    case 7: {
        struct file **slot = &t->files[side][s->slot];
        file_close(*slot);
        out->rc = io_open(io, from, s->flags, slot, &err);
        break;
    }
    case 8: out->rc = io_rename(io, from, to, &err); break;
    case 9: out->rc = io_unlink(io, from, &err); break;
    case 10: out->rc = io_link(io, from, to, &err); break;
    case 11: out->rc = io_mkdir(io, from, &err); break;
    case 12: out->rc = io_rmdir(io, from, &err); break;
    case 13: out->rc = io_sync_dir(io, from, &err); break;
    case 14:
        out->rc = io_list(io, from, collect_name, &out->bytes, &err);
        sum_names(out);
        break;
    default:
        out->rc = io_stat(io, from, &out->number, &is_dir, &err);
        out->number = out->number * 2 + is_dir;
        break;
    }
}

static void run_step(struct twin *t, int side, const struct step *s, struct outcome *out)
{
    buf_init(&out->bytes, MEM_BASE);
    out->rc = ERR_OK;
    out->number = 0;
    if (s->op >= 7)
        run_on_names(t, side, s, out);
    else if (t->files[side][s->slot])
        run_on_file(t->files[side][s->slot], s, out);
}

static struct step gen_step(struct rng *rng, const uint8_t *bytes, size_t n_bytes)
{
    static const unsigned modes[] = {IO_READ, IO_WRITE, IO_READ | IO_WRITE};
    struct step s = {.op = (unsigned)rng_below(rng, 16), .slot = (unsigned)rng_below(rng, 6)};
    s.from = twin_names[rng_below(rng, COUNT_OF(twin_names))];
    s.to = twin_names[rng_below(rng, COUNT_OF(twin_names))];
    /* What the system says of changes to "." is its own affair. */
    if (s.op < 13 && strcmp(s.from, ".") == 0) s.from = "a";
    if (strcmp(s.to, ".") == 0) s.to = "a";
    s.flags = modes[rng_below(rng, 3)];
    if (rng_chance(rng, 0.5)) s.flags |= IO_CREATE;
    if ((s.flags & IO_CREATE) && rng_chance(rng, 0.3)) s.flags |= IO_EXCL;
    /* Truncating what is opened for reading alone is not defined. */
    if ((s.flags & IO_WRITE) && rng_chance(rng, 0.2)) s.flags |= IO_TRUNCATE;
    s.off = rng_below(rng, 3 * n_bytes);
    s.len = rng_below(rng, n_bytes);
    s.bytes = bytes;
    return s;
}

static void like_the_real_disk(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 60)
    {
        struct twin t = {.io = {io_posix(), NULL}};
        struct io_sim *sim = io_sim_new(1);
        struct err err;
        uint8_t bytes[5000];
        test_fill(&rng, bytes, sizeof(bytes));
        t.io[1] = io_sim_io(sim);
        test_temp_dir(t.dir[0], sizeof(t.dir[0]));
        snprintf(t.dir[1], sizeof(t.dir[1]), "/sim");
        CHECK_OK(io_mkdir(t.io[1], t.dir[1], &err), &err);
        for (int i = 0; i < 400; i++) {
            struct step s = gen_step(&rng, bytes, sizeof(bytes));
            struct outcome real, simulated;
            run_step(&t, 0, &s, &real);
            run_step(&t, 1, &s, &simulated);
            if (real.rc != simulated.rc || real.number != simulated.number ||
                !str_eq(str_from_bytes(buf_bytes(&real.bytes)),
                        str_from_bytes(buf_bytes(&simulated.bytes))))
                test_fail(__FILE__, __LINE__,
                          "step %d, op %u of %s, %s: %s, %" PRIu64 " instead of %s, %" PRIu64, i,
                          s.op, s.from, s.to, err_code_name(simulated.rc), simulated.number,
                          err_code_name(real.rc), real.number);
            buf_release(&real.bytes);
            buf_release(&simulated.bytes);
        }
        for (int side = 0; side < 2; side++)
            for (int slot = 0; slot < 6; slot++) file_close(t.files[side][slot]);
        test_remove_dir(t.dir[0]);
        io_sim_free(sim);
    }
}

/* ---- helpers ---- */

static struct file *must_open(struct io *io, const char *path, unsigned flags)
{
    struct file *file;
    struct err err;
    CHECK_OK(io_open(io, path, flags, &file, &err), &err);
    return file;
}

#define RW_CREATE (IO_READ | IO_WRITE | IO_CREATE)

static void must_write(struct file *file, uint64_t off, const void *p, size_t len)
{
    struct err err;
    CHECK_OK(file_write_at(file, off, p, len, &err), &err);
}

static void must_sync(struct file *file)
{
    struct err err;
    CHECK_OK(file_sync(file, &err), &err);
}

/* A file with these bytes, wholly durable. */
static void put_file(struct io *io, const char *path, const char *text)
{
    struct err err;
    struct file *file = must_open(io, path, RW_CREATE | IO_TRUNCATE);
    must_write(file, 0, text, strlen(text));
    must_sync(file);
    file_close(file);
    CHECK_OK(io_sync_dir(io, "/", &err), &err);
}

static bool has_text(struct io_sim *sim, const char *path, const char *text)
{
    struct buf b;
    buf_init(&b, MEM_BASE);
    bool found = io_sim_copy_out(sim, path, false, &b);
    found = found && str_eq(str_from_bytes(buf_bytes(&b)), str_of(text));
    buf_release(&b);
    return found;
}

/* ---- power cuts and bytes ---- */

/* Writes, syncs and a cut against a model: what was synced is there; a byte that was not is old or new. */
static void synced_bytes_survive(void **state)
{
    (void)state;
    struct rng rng;
    enum { MAX = 12000 };
    static uint8_t old[MAX], now[MAX], p[MAX];
    PROPERTY_LOOP(&rng, 400)
    {
        struct io_sim *sim = io_sim_new(rng_u64(&rng));
        struct io *io = io_sim_io(sim);
        struct err err;
        struct file *file = must_open(io, "/f", RW_CREATE);
        CHECK_OK(io_sync_dir(io, "/", &err), &err);
        memset(old, 0, MAX);
        memset(now, 0, MAX);
        uint64_t old_size = 0, now_size = 0, cut_to = UINT64_MAX;
        for (uint64_t i = rng_below(&rng, 30); i; i--) {
            uint64_t off = rng_below(&rng, MAX);
            size_t len = rng_below(&rng, MIN_OF((uint64_t)3000, MAX - off) + 1);
            if (rng_chance(&rng, 0.2)) {
                must_sync(file);
                memcpy(old, now, MAX);
                old_size = now_size;
                cut_to = UINT64_MAX;
            } else if (rng_chance(&rng, 0.1)) {
                CHECK_OK(file_truncate(file, off, &err), &err);
                memset(now + off, 0, MAX - off);
                now_size = off;
                cut_to = MIN_OF(cut_to, off);
            } else if (len) {
                test_fill(&rng, p, len);
                must_write(file, off, p, len);
                memcpy(now + off, p, len);
                now_size = MAX_OF(now_size, off + len);
            }
        }
        io_sim_power_cut(sim);
        size_t n;
        CHECK_ERR(file_read_at(file, 0, p, MAX, &n, &err), ERR_IO); /* a dead handle */
        CHECK_ERR(file_sync(file, &err), ERR_IO);
        file_close(file);
        file = must_open(io, "/f", IO_READ);
        CHECK_OK(file_read_at(file, 0, p, MAX, &n, &err), &err);
        bool was_cut = cut_to < old_size;
        bool undone = was_cut && n == old_size; /* or grown back to the same size: see below */
        CHECK(undone || (n >= MIN_OF(cut_to, old_size) && n <= now_size));
        for (size_t i = 0; i < n; i++) {
            bool is_old = p[i] == old[i] && (!was_cut || undone || i < cut_to);
            CHECK(is_old || p[i] == now[i] || (p[i] == 0 && i >= MIN_OF(cut_to, old_size)));
        }
        if (undone && now_size < old_size) /* then all of it, and nothing newer behind the cut */
            CHECK(memcmp(p + cut_to, old + cut_to, (size_t)(old_size - cut_to)) == 0);
        file_close(file);
        io_sim_free(sim);
    }
}

enum { KEPT = 1, DROPPED = 2, TORN = 4 };

static void unsynced_sectors_are_kept_dropped_or_torn(void **state)
{
    (void)state;
    unsigned seen = 0;
    for (uint64_t seed = 0; seed < 100; seed++) {
        struct io_sim *sim = io_sim_new(seed);
        struct io *io = io_sim_io(sim);
        char a[5120], p[5120];
        struct err err;
        struct file *file = must_open(io, "/f", RW_CREATE);
        memset(a, 'a', sizeof(a));
        must_write(file, 0, a, sizeof(a));
        must_sync(file);
        CHECK_OK(io_sync_dir(io, "/", &err), &err);
        memset(a, 'b', sizeof(a));
        must_write(file, 0, a, sizeof(a));
        io_sim_power_cut(sim);
        file_close(file);
        file = must_open(io, "/f", IO_READ);
        CHECK_OK(file_read_exact(file, 0, p, sizeof(p), &err), &err);
        for (size_t s = 0; s < sizeof(p); s += 512) {
            size_t n_new = 0;
            for (size_t i = 0; i < 512; i++) n_new += p[s + i] == 'b';
            seen |= n_new == 512 ? KEPT : n_new == 0 ? DROPPED : TORN;
        }
        file_close(file);
        io_sim_free(sim);
    }
    CHECK_U64(seen, KEPT | DROPPED | TORN);
}

static void a_failed_sync_loses_pages(void **state)
{
    (void)state;
    size_t n_lost = 0;
    for (uint64_t seed = 0; seed < 50; seed++) {
        struct io_sim *sim = io_sim_new(seed);
        struct io *io = io_sim_io(sim);
        struct err err;
        char p[3];
        put_file(io, "/f", "old");
        struct file *file = must_open(io, "/f", IO_READ | IO_WRITE);
        must_write(file, 0, "new", 3);
        io_sim_fail(sim, 1, IO_SIM_EIO);
        CHECK_ERR(file_sync(file, &err), ERR_IO);
        CHECK_OK(file_read_exact(file, 0, p, 3, &err), &err);
        CHECK(memcmp(p, "new", 3) == 0); /* the cache still has it … */
        must_sync(file);                 /* … and this proves nothing */
        io_sim_power_cut(sim);
        file_close(file);
        if (!has_text(sim, "/f", "new")) n_lost++;

        /* Writing it again is what helps. */
        file = must_open(io, "/f", IO_READ | IO_WRITE);
        must_write(file, 0, "xyz", 3);
        io_sim_fail(sim, 1, IO_SIM_EIO);
        CHECK_ERR(file_sync(file, &err), ERR_IO);
        must_write(file, 0, "xyz", 3);
        must_sync(file);
        io_sim_power_cut(sim);
        file_close(file);
        CHECK(has_text(sim, "/f", "xyz"));
        io_sim_free(sim);
    }
    CHECK(n_lost > 10);
}

/* A sync after a failed one saves what was written since, and nothing of what the failed one lost. */
static void lost_sectors_stay_lost(void **state)
{
    (void)state;
    size_t n_lost = 0;
    for (uint64_t seed = 0; seed < 50; seed++) {
        struct io_sim *sim = io_sim_new(seed);
        struct io *io = io_sim_io(sim);
        struct err err;
        char a[1024], p[1024];
        struct file *file = must_open(io, "/f", RW_CREATE);
        memset(a, 'a', sizeof(a));
        must_write(file, 0, a, sizeof(a));
        must_sync(file);
        CHECK_OK(io_sync_dir(io, "/", &err), &err);
        memset(a, 'b', sizeof(a));
        must_write(file, 0, a, sizeof(a));
        io_sim_fail(sim, 1, IO_SIM_EIO);
        CHECK_ERR(file_sync(file, &err), ERR_IO);
        must_write(file, 512, a, 512); /* the second sector alone */
        must_sync(file);
        io_sim_power_cut(sim);
        file_close(file);
        file = must_open(io, "/f", IO_READ);
        CHECK_OK(file_read_exact(file, 0, p, sizeof(p), &err), &err);
        CHECK(memcmp(p + 512, a, 512) == 0);
        n_lost += memcmp(p, a, 512) != 0;
        file_close(file);
        io_sim_free(sim);
    }
    CHECK(n_lost > 10);
}

/* ---- power cuts and names ---- */

static void rename_is_old_or_new(void **state)
{
    (void)state;
    size_t n_new = 0;
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct io_sim *sim = io_sim_new(seed);
        struct io *io = io_sim_io(sim);
        struct err err;
        put_file(io, "/f", "old");
        struct file *file;
        CHECK_OK(io_create_temp(io, "/f", &file, &err), &err);
        must_write(file, 0, "new", 3);
        must_sync(file);
        CHECK_OK(io_rename(io, "/f.tmp", "/f", &err), &err);
        io_sim_power_cut(sim);
        file_close(file);
        bool is_new = has_text(sim, "/f", "new");
        CHECK(is_new || has_text(sim, "/f", "old"));
        if (is_new) CHECK(!io_exists(io, "/f.tmp"));
        n_new += is_new;
        io_sim_free(sim);
    }
    CHECK(n_new > 20 && n_new < 180);
}

static void a_published_file_is_there(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct io_sim *sim = io_sim_new(seed);
        struct io *io = io_sim_io(sim);
        struct err err;
        struct file *file;
        CHECK_OK(io_mkdir_all(io, "/data/tenants/t", &err), &err);
        CHECK_OK(io_create_temp(io, "/data/tenants/t/f", &file, &err), &err);
        must_write(file, 0, "new", 3);
        must_sync(file);
        CHECK_OK(io_publish(io, file, "/data/tenants/t/f", &err), &err);
        io_sim_power_cut(sim);
        file_close(file);
        CHECK(has_text(sim, "/data/tenants/t/f", "new"));
        CHECK(!io_exists(io, "/data/tenants/t/f.tmp"));
        io_sim_free(sim);
    }
}

/* A process made the folders and died before it synced: the next one finds them, and must not rely on that. */
static void found_folders_are_synced_again(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 50; seed++) {
        struct io_sim *sim = io_sim_new(seed);
        struct io *io = io_sim_io(sim);
        struct err err;
        CHECK_OK(io_mkdir(io, "/data", &err), &err);
        CHECK_OK(io_mkdir_all(io, "/data", &err), &err);
        struct file *file;
        CHECK_OK(io_create_temp(io, "/data/f", &file, &err), &err);
        must_write(file, 0, "new", 3);
        must_sync(file);
        CHECK_OK(io_publish(io, file, "/data/f", &err), &err);
        io_sim_power_cut(sim);
        file_close(file);
        CHECK(has_text(sim, "/data/f", "new"));
        io_sim_free(sim);
    }
}

static void unsynced_names_may_go_or_come_back(void **state)
{
    (void)state;
    size_t n_created = 0, n_unlinked = 0, n_differ = 0;
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct io_sim *sim = io_sim_new(seed);
        struct io *io = io_sim_io(sim);
        struct err err;
        put_file(io, "/old", "x");
        struct file *file = must_open(io, "/created", RW_CREATE);
        must_write(file, 0, "y", 1);
        must_sync(file); /* the bytes are safe, the name is not */
        CHECK_OK(io_unlink(io, "/old", &err), &err);
        io_sim_power_cut(sim);
        file_close(file);
        bool created = io_exists(io, "/created"), unlinked = !io_exists(io, "/old");
        if (created) CHECK(has_text(sim, "/created", "y"));
        if (!unlinked) CHECK(has_text(sim, "/old", "x"));
        n_created += created;
        n_unlinked += unlinked;
        n_differ += unlinked && !created; /* the later one without the earlier */
        io_sim_free(sim);
    }
    CHECK(n_created > 20 && n_created < 180);
    CHECK(n_unlinked > 20 && n_unlinked < 180);
    CHECK(n_differ > 0);
}

static void a_journal_keeps_the_order(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct io_sim *sim = io_sim_new(seed);
        struct io *io = io_sim_io(sim);
        io_sim_set_ordered_dirs(sim, true);
        for (int i = 0; i < 5; i++) {
            char path[16];
            snprintf(path, sizeof(path), "/%d", i);
            file_close(must_open(io, path, RW_CREATE));
        }
        io_sim_power_cut(sim);
        bool gone = false;
        for (int i = 0; i < 5; i++) {
            char path[16];
            snprintf(path, sizeof(path), "/%d", i);
            bool there = io_exists(io, path);
            CHECK(!(gone && there));
            gone = !there;
        }
        io_sim_free(sim);
    }
}

/* Moving a file aside and making a new one under its name: never neither. */
static void operations_on_one_name_stay_in_order(void **state)
{
    (void)state;
    unsigned seen = 0;
    for (uint64_t seed = 0; seed < 300; seed++) {
        struct io_sim *sim = io_sim_new(seed);
        struct io *io = io_sim_io(sim);
        struct err err;
        put_file(io, "/f", "old");
        CHECK_OK(io_rename(io, "/f", "/f.bak", &err), &err);
        struct file *file = must_open(io, "/f", RW_CREATE | IO_EXCL);
        must_write(file, 0, "new", 3);
        must_sync(file);
        file_close(file);
        io_sim_power_cut(sim);
        bool moved = has_text(sim, "/f.bak", "old");
        if (has_text(sim, "/f", "old")) {
            CHECK(!io_exists(io, "/f.bak"));
            seen |= 1;
        } else if (io_exists(io, "/f")) {
            CHECK(moved);
            CHECK(has_text(sim, "/f", "new"));
            seen |= 2;
        } else {
            CHECK(moved);
            seen |= 4;
        }
        io_sim_free(sim);
    }
    CHECK_U64(seen, 7);
}

static void syncing_a_folder_takes_along_what_it_builds_on(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 100; seed++) {
        struct io_sim *sim = io_sim_new(seed);
        struct io *io = io_sim_io(sim);
        struct err err;
        CHECK_OK(io_mkdir(io, "/a", &err), &err);
        CHECK_OK(io_mkdir(io, "/b", &err), &err);
        CHECK_OK(io_sync_dir(io, "/", &err), &err);
        struct file *file = must_open(io, "/a/f", RW_CREATE);
        must_write(file, 0, "1", 1);
        must_sync(file);
        file_close(file);
        CHECK_OK(io_rename(io, "/a/f", "/b/f", &err), &err);
        CHECK_OK(io_sync_dir(io, "/b", &err), &err); /* the target's folder is enough */
        io_sim_power_cut(sim);
        CHECK(has_text(sim, "/b/f", "1"));
        CHECK(!io_exists(io, "/a/f"));

        /* A folder whose own name was not synced goes with all it holds, or stays with it. */
        CHECK_OK(io_mkdir(io, "/c", &err), &err);
        put_file(io, "/x", "x"); /* syncs the root: now /c is safe, too */
        CHECK_OK(io_mkdir(io, "/c/d", &err), &err);
        file_close(must_open(io, "/c/d/f", RW_CREATE));
        CHECK_OK(io_sync_dir(io, "/c/d", &err), &err);
        io_sim_power_cut(sim);
        CHECK(io_exists(io, "/c"));
        CHECK(io_exists(io, "/c/d") == io_exists(io, "/c/d/f"));
        io_sim_free(sim);
    }
}

static void removed_folders_do_not_take_files_along(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct io_sim *sim = io_sim_new(seed);
        struct io *io = io_sim_io(sim);
        struct err err;
        CHECK_OK(io_mkdir_all(io, "/d", &err), &err);
        file_close(must_open(io, "/d/f", RW_CREATE));
        CHECK_OK(io_sync_dir(io, "/d", &err), &err);
        CHECK_OK(io_rename(io, "/d/f", "/f", &err), &err);
        CHECK_OK(io_rmdir(io, "/d", &err), &err);
        io_sim_power_cut(sim);
        CHECK(io_exists(io, "/f") || io_exists(io, "/d/f"));
        io_sim_free(sim);
    }
}

/* ---- faults ---- */

static void the_kth_call_fails(void **state)
{
    (void)state;
    struct io_sim *sim = io_sim_new(1);
    struct io *io = io_sim_io(sim);
    struct err err;
    struct file *file = must_open(io, "/f", RW_CREATE);
    io_sim_fail(sim, 3, IO_SIM_EIO);
    must_write(file, 0, "a", 1);
    must_write(file, 1, "b", 1);
    CHECK_ERR(file_write_at(file, 2, "c", 1, &err), ERR_IO);
    CHECK(strstr(err.text, "/f") != NULL && err.file[0]);
    must_write(file, 2, "d", 1); /* one time */
    CHECK(has_text(sim, "/f", "abd"));

    io_sim_fail(sim, 1, IO_SIM_ENOSPC);
    CHECK_ERR(file_write_at(file, 3, "e", 1, &err), ERR_NO_SPACE);
    io_sim_fail(sim, 1, IO_SIM_ENOSPC);
    CHECK_ERR(io_unlink(io, "/f", &err), ERR_IO); /* needs no space */
    CHECK(io_exists(io, "/f"));
    io_sim_fail(sim, 1, IO_SIM_EIO);
    CHECK_ERR(io_rename(io, "/f", "/g", &err), ERR_IO);
    CHECK(io_exists(io, "/f"));

    bool was_part = false;
    for (int i = 0; i < 20; i++) {
        CHECK_OK(file_truncate(file, 0, &err), &err);
        io_sim_fail(sim, 1, IO_SIM_SHORT);
        CHECK_ERR(file_write_at(file, 0, "0123456789", 10, &err), ERR_IO);
        uint64_t size;
        CHECK_OK(file_size(file, &size, &err), &err);
        CHECK(size < 10);
        was_part |= size > 0;
    }
    CHECK(was_part);

    io_sim_break(sim, 2);
    CHECK_OK(io_sync_dir(io, "/", &err), &err);
    CHECK_ERR(io_sync_dir(io, "/", &err), ERR_IO);
    CHECK_ERR(file_sync(file, &err), ERR_IO);
    io_sim_heal(sim);
    CHECK_OK(io_sync_dir(io, "/", &err), &err);
    io_sim_fail(sim, 1, IO_SIM_EIO);
    io_sim_heal(sim);
    must_sync(file);
    file_close(file);
    io_sim_free(sim);
}

static void power_goes_at_a_call(void **state)
{
    (void)state;
    unsigned seen = 0;
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct io_sim *sim = io_sim_new(seed);
        struct io *io = io_sim_io(sim);
        struct err err;
        uint64_t size;
        bool is_dir;
        put_file(io, "/f", "old");
        struct file *other, *file = must_open(io, "/f", IO_READ | IO_WRITE);
        io_sim_power_cut_at(sim, 2);
        must_write(file, 0, "n", 1);
        CHECK(!io_sim_is_off(sim));
        CHECK_ERR(file_write_at(file, 1, "ew", 2, &err), ERR_IO);
        CHECK(io_sim_is_off(sim));
        CHECK_ERR(io_open(io, "/f", IO_READ, &other, &err), ERR_IO); /* dead for everyone */
        CHECK_ERR(io_stat(io, "/f", &size, &is_dir, &err), ERR_IO);
        CHECK_ERR(file_sync(file, &err), ERR_IO);
        io_sim_power_cut(sim);
        file_close(file);
        if (has_text(sim, "/f", "old")) seen |= 1;
        if (has_text(sim, "/f", "new")) seen |= 2; /* the call was done, though it did not return */
        if (has_text(sim, "/f", "nld")) seen |= 4;
        io_sim_free(sim);
    }
    CHECK_U64(seen, 7);
}

static void the_disk_fills_up(void **state)
{
    (void)state;
    struct io_sim *sim = io_sim_new(1);
    struct io *io = io_sim_io(sim);
    struct err err;
    static char page[4096];
    uint64_t free_bytes, total, size;
    io_sim_set_capacity(sim, 10 * 4096);
    struct file *a = must_open(io, "/a", RW_CREATE), *b = must_open(io, "/b", RW_CREATE);
    CHECK_OK(file_allocate(a, 6 * 4096, &err), &err);
    CHECK_ERR(file_allocate(b, 5 * 4096, &err), ERR_NO_SPACE);
    CHECK_OK(file_size(b, &size, &err), &err);
    CHECK_U64(size, 0);
    for (int i = 0; i < 4; i++) must_write(b, (uint64_t)i * 4096, page, 4096);
    CHECK_OK(io_disk_space(io, "/", &free_bytes, &total, &err), &err);
    CHECK_U64(free_bytes, 0);
    CHECK_U64(total, 40960);
    CHECK_ERR(file_write_at(b, 4 * 4096, page, 1, &err), ERR_NO_SPACE);
    CHECK_ERR(file_write_at(b, 100 * 4096, page, 1, &err), ERR_NO_SPACE);
    must_write(b, 0, page, 4096); /* over old bytes it goes on */
    must_write(a, 5 * 4096, page, 4096);
    CHECK_OK(io_unlink(io, "/a", &err), &err);
    CHECK_U64(io_sim_used(sim), 40960); /* still open */
    file_close(a);
    CHECK_U64(io_sim_used(sim), 4 * 4096);
    CHECK_ERR(file_write_at(b, 3 * 4096, (char[10 * 4096]){0}, 10 * 4096, &err), ERR_NO_SPACE);
    CHECK_OK(file_size(b, &size, &err), &err);
    CHECK_U64(size, 40960); /* a part of it fitted */
    CHECK_OK(file_truncate(b, 1, &err), &err);
    CHECK_U64(io_sim_used(sim), 4096);
    file_close(b);
    io_sim_power_cut(sim);
    CHECK(io_sim_used(sim) <= 40960);
    io_sim_free(sim);
}

static void bits_flip(void **state)
{
    (void)state;
    struct io_sim *sim = io_sim_new(1);
    struct io *io = io_sim_io(sim);
    put_file(io, "/f", "abc");
    io_sim_flip_bit(sim, "/f", 1, 0);
    CHECK(has_text(sim, "/f", "acc"));
    io_sim_power_cut(sim);
    CHECK(has_text(sim, "/f", "acc"));
    io_sim_free(sim);
}

static void locks(void **state)
{
    (void)state;
    struct io_sim *sim = io_sim_new(1);
    struct io *io = io_sim_io(sim);
    struct err err;
    put_file(io, "/LOCK", "");
    struct file *a = must_open(io, "/LOCK", RW_CREATE), *b = must_open(io, "/LOCK", RW_CREATE);
    CHECK_OK(file_lock(a, &err), &err);
    CHECK_ERR(file_lock(b, &err), ERR_BUSY);
    file_close(a);
    CHECK_OK(file_lock(b, &err), &err);
    io_sim_power_cut(sim);
    a = must_open(io, "/LOCK", RW_CREATE);
    CHECK_OK(file_lock(a, &err), &err); /* the dead handle holds nothing */
    file_close(b);
    CHECK_OK(file_lock(a, &err), &err);
    b = must_open(io, "/LOCK", RW_CREATE);
    CHECK_ERR(file_lock(b, &err), ERR_BUSY); /* closing the dead one did not free it */
    file_close(a);
    file_close(b);
    io_sim_free(sim);
}

/* All helpers of base/io.h in a row. */
static enum err_code use_helpers(struct io *io, struct err *err)
{
    struct file *file = NULL;
    uint8_t *p = NULL;
    size_t len;
    enum err_code rc = io_mkdir_all(io, "/data/x", err);
    if (!rc) rc = io_remove_temps(io, "/data/x", err);
    if (!rc) rc = io_create_temp(io, "/data/x/f", &file, err);
    if (!rc) rc = file_allocate(file, 4096, err);
    if (!rc) rc = file_write_at(file, 0, "new", 3, err);
    if (!rc) rc = file_truncate(file, 3, err);
    if (!rc) rc = file_sync(file, err);
    if (!rc) rc = io_publish(io, file, "/data/x/f", err);
    io_discard(io, file);
    if (!rc) rc = io_read_file(io, "/data/x/f", 100, &p, &len, err);
    if (!rc) CHECK(len == 3 && memcmp(p, "new", 4) == 0);
    mem_free(p);
    return rc;
}

struct countdown {
    uint64_t left;
    bool hit;
};
static bool fail_at_zero(void *ctx, size_t size)
{
    struct countdown *c = ctx;
    (void)size;
    c->hit |= c->left == 0;
    return c->left-- == 0;
}

/* Leftovers of an earlier life included, so that each branch runs. */
static struct io_sim *sim_with_leftovers(uint64_t seed)
{
    struct io_sim *sim = io_sim_new(seed);
    struct err err;
    CHECK_OK(io_mkdir_all(io_sim_io(sim), "/data/x", &err), &err);
    put_file(io_sim_io(sim), "/data/x/f", "old");
    put_file(io_sim_io(sim), "/data/x/f.tmp", "leftover");
    put_file(io_sim_io(sim), "/data/x/g.tmp", "leftover");
    CHECK_OK(io_sync_dir(io_sim_io(sim), "/data/x", &err), &err);
    return sim;
}

static void every_call_and_allocation_fails_in_turn(void **state)
{
    (void)state;
    size_t before = mem_bytes_total();
    struct err err;
    bool done = false;
    for (uint64_t k = 1; !done; k++) {
        struct io_sim *sim = sim_with_leftovers(k);
        uint64_t calls = io_sim_counts(sim).calls;
        io_sim_fail(sim, k, (enum io_sim_failure)(k % 3));
        enum err_code rc = use_helpers(io_sim_io(sim), &err);
        done = io_sim_counts(sim).calls < calls + k;
        if (done) CHECK_OK(rc, &err);
        if (rc) CHECK(rc == ERR_IO || rc == ERR_NO_SPACE);
        io_sim_power_cut(sim);
        CHECK(has_text(sim, "/data/x/f", "new") || has_text(sim, "/data/x/f", "old"));
        CHECK_OK(use_helpers(io_sim_io(sim), &err), &err); /* and it can be done again */
        io_sim_free(sim);
        CHECK_U64(mem_bytes_total(), before);
        CHECK(k < 100);
    }
    done = false;
    for (uint64_t k = 0; !done; k++) {
        struct io_sim *sim = sim_with_leftovers(k);
        struct countdown c = {k, false};
        mem_set_fail_hook(fail_at_zero, &c);
        enum err_code rc = use_helpers(io_sim_io(sim), &err);
        mem_set_fail_hook(NULL, NULL);
        CHECK_ERR(rc, c.hit ? ERR_NO_MEMORY : ERR_OK);
        done = !c.hit;
        CHECK_OK(use_helpers(io_sim_io(sim), &err), &err);
        io_sim_free(sim);
        CHECK_U64(mem_bytes_total(), before);
    }
}

/* ---- repeatability, threads ---- */

static bool add_path(void *ctx, const char *path, uint64_t size)
{
    buf_printf(ctx, "%s %" PRIu64 "\n", path, size);
    return true;
}

/* A few hundred random calls with faults and cuts; all that can be seen goes into `out`. */
static void storm(uint64_t seed, struct buf *out)
{
    static const char *const paths[] = {"/a", "/b", "/d", "/d/a", "/d/b"};
    struct io_sim *sim = io_sim_new(seed);
    struct io *io = io_sim_io(sim);
    struct rng rng;
    struct err err;
    rng_seed(&rng, seed);
    for (int i = 0; i < 300; i++) {
        const char *path = paths[rng_below(&rng, COUNT_OF(paths))];
        struct file *file = NULL;
        uint8_t bytes[3000];
        test_fill(&rng, bytes, sizeof(bytes));
        if (rng_chance(&rng, 0.05)) io_sim_fail(sim, 1 + rng_below(&rng, 5), IO_SIM_SHORT);
        enum err_code rc = ERR_OK;
        switch (rng_below(&rng, 8)) {
        case 0: rc = io_mkdir(io, path, &err); break;
        case 1: rc = io_sync_dir(io, rng_chance(&rng, 0.5) ? "/" : "/d", &err); break;
        case 2: rc = io_rename(io, path, paths[rng_below(&rng, COUNT_OF(paths))], &err); break;
        case 3: rc = io_unlink(io, path, &err); break;
        case 4:
            if (rng_chance(&rng, 0.3)) io_sim_power_cut(sim);
            break;
        default:
            rc = io_open(io, path, RW_CREATE, &file, &err);
            if (!rc) rc = file_write_at(file, rng_below(&rng, 5000), bytes, sizeof(bytes), &err);
            if (!rc && rng_chance(&rng, 0.5)) rc = file_sync(file, &err);
            file_close(file);
        }
        buf_printf(out, "%d ", (int)rc);
    }
    io_sim_power_cut(sim);
    io_sim_paths(sim, add_path, out);
    for (size_t i = 0; i < COUNT_OF(paths); i++) (void)io_sim_copy_out(sim, paths[i], false, out);
    struct io_sim_counts counts = io_sim_counts(sim);
    buf_put(out, &counts, sizeof(counts));
    io_sim_free(sim);
}

static void the_seed_decides_everything(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 30; seed++) {
        struct buf first, second, other;
        buf_init(&first, MEM_BASE);
        buf_init(&second, MEM_BASE);
        buf_init(&other, MEM_BASE);
        storm(seed, &first);
        storm(seed, &second);
        storm(seed + 1000, &other);
        CHECK_BYTES(buf_bytes(&second), buf_bytes(&first));
        CHECK(!str_eq(str_from_bytes(buf_bytes(&other)), str_from_bytes(buf_bytes(&first))));
        buf_release(&first);
        buf_release(&second);
        buf_release(&other);
    }
}

static void durable_view(void **state)
{
    (void)state;
    struct io_sim *sim = io_sim_new(1);
    struct io *io = io_sim_io(sim);
    put_file(io, "/f", "safe");
    struct file *file = must_open(io, "/f", IO_READ | IO_WRITE);
    must_write(file, 4, " and not", 8);
    struct buf b;
    buf_init(&b, MEM_BASE);
    CHECK(io_sim_copy_out(sim, "/f", true, &b));
    CHECK_STR(str_from_bytes(buf_bytes(&b)), "safe");
    buf_reset(&b);
    CHECK(io_sim_copy_out(sim, "/f", false, &b));
    CHECK_STR(str_from_bytes(buf_bytes(&b)), "safe and not");
    CHECK(!io_sim_copy_out(sim, "/none", false, &b));
    buf_release(&b);
    file_close(file);
    io_sim_free(sim);
}

static void *write_own_file(void *arg)
{
    struct io *io = ((void **)arg)[0];
    const char *path = ((void **)arg)[1];
    struct err err;
    struct file *file = must_open(io, path, RW_CREATE);
    for (uint64_t i = 0; i < 500; i++) {
        must_write(file, i * 8, &i, 8);
        if (i % 50 == 0) must_sync(file);
        if (i % 100 == 0) CHECK_OK(io_sync_dir(io, "/", &err), &err);
    }
    must_sync(file);
    file_close(file);
    return NULL;
}

static void usable_from_threads(void **state)
{
    (void)state;
    struct io_sim *sim = io_sim_new(1);
    static char paths[4][3] = {"/0", "/1", "/2", "/3"};
    void *args[4][2];
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) {
        args[i][0] = io_sim_io(sim);
        args[i][1] = paths[i];
        CHECK(pthread_create(&threads[i], NULL, write_own_file, args[i]) == 0);
    }
    for (int i = 0; i < 4; i++) CHECK(pthread_join(threads[i], NULL) == 0);
    io_sim_power_cut(sim);
    for (int i = 0; i < 4; i++) {
        struct buf b;
        buf_init(&b, MEM_BASE);
        CHECK(io_sim_copy_out(sim, paths[i], true, &b));
        CHECK_U64(b.len, 4000);
        for (uint64_t k = 0; k < 500; k++) CHECK_U64(get_u64_le(b.p + 8 * k), k);
        buf_release(&b);
    }
    io_sim_free(sim);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(like_the_real_disk),
        cmocka_unit_test(synced_bytes_survive),
        cmocka_unit_test(unsynced_sectors_are_kept_dropped_or_torn),
        cmocka_unit_test(a_failed_sync_loses_pages),
        cmocka_unit_test(lost_sectors_stay_lost),
        cmocka_unit_test(rename_is_old_or_new),
        cmocka_unit_test(a_published_file_is_there),
        cmocka_unit_test(found_folders_are_synced_again),
        cmocka_unit_test(unsynced_names_may_go_or_come_back),
        cmocka_unit_test(a_journal_keeps_the_order),
        cmocka_unit_test(operations_on_one_name_stay_in_order),
        cmocka_unit_test(syncing_a_folder_takes_along_what_it_builds_on),
        cmocka_unit_test(removed_folders_do_not_take_files_along),
        cmocka_unit_test(the_kth_call_fails),
        cmocka_unit_test(power_goes_at_a_call),
        cmocka_unit_test(every_call_and_allocation_fails_in_turn),
        cmocka_unit_test(the_disk_fills_up),
        cmocka_unit_test(bits_flip),
        cmocka_unit_test(locks),
        cmocka_unit_test(the_seed_decides_everything),
        cmocka_unit_test(durable_view),
        cmocka_unit_test(usable_from_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
