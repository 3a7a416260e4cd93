/* Copies of the log, its archive, and what restores make of them: on a simulated disk, with a clock that is set. */
#include "tests/wal/wal_fixture.h"
#include "wal/archive.h"
#include "wal/record.h"
#include "wal/wal_private.h"

#define T0 INT64_C(1767225600000)

struct log_fixture {
    struct fixture f; /* first */
    struct clock_fake clock;
};

static void open_marked(struct log_fixture *l, uint64_t segment_bytes)
{
    fixture_init(&l->f, false);
    clock_fake_init(&l->clock, T0);
    l->f.env.clock = &l->clock.clock;
    l->f.config.time_marks = true;
    l->f.config.segment_bytes = segment_bytes;
    fixture_start(&l->f);
    CHECK_OK(io_mkdir_all(l->f.env.io, "/copy", &l->f.err), &l->f.err);
}

static void commit(struct fixture *f)
{
    CHECK_OK(wal_commit(f->wal, &f->err), &f->err);
}

/* Records of a log elsewhere on the same disk, but for time marks. */
static void read_copy(const struct fixture *f, const char *dir, struct seen *out)
{
    struct fixture copy = *f;
    snprintf(copy.dir, sizeof(copy.dir), "%s", dir);
    copy.config.dir = copy.dir;
    CHECK_OK(fixture_open(&copy, 0, out), &copy.err);
    fixture_close(&copy);
    size_t n = 0;
    for (size_t i = 0; i < out->n; i++) {
        if (out->items[i].type == WAL_TIME)
            free(out->items[i].p);
        else
            out->items[n++] = out->items[i];
    }
    out->n = n;
}

static void test_marks(void **state)
{
    (void)state;
    struct log_fixture l;
    struct seen seen;
    int64_t t_ms;
    open_marked(&l, 1 << 20);
    struct fixture *f = &l.f;
    uint64_t first = fixture_append(f, "a");
    uint64_t same = fixture_append(f, "b"); /* the same millisecond: no mark */
    CHECK_U64(same - first, WAL_RECORD_HEADER_BYTES + 1);
    clock_fake_advance(&l.clock, 7);
    uint64_t later = fixture_append(f, "c");
    CHECK_U64(later - same, 2 * WAL_RECORD_HEADER_BYTES + WAL_TIME_BYTES + 1);
    l.clock.wall_ms -= 3600000; /* back: times in the log never fall */
    uint64_t back = fixture_append(f, "d");
    CHECK_U64(back - later, WAL_RECORD_HEADER_BYTES + 1);
    commit(f);
    fixture_close(f);
    CHECK_OK(fixture_open(f, 0, &seen), &f->err);
    CHECK_U64(seen.n, 6);
    CHECK_U64(seen.items[0].type, WAL_TIME);
    CHECK_OK(wal_decode_time(bytes_of(seen.items[0].p, seen.items[0].len), &t_ms, &f->err),
             &f->err);
    CHECK_I64(t_ms, T0);
    CHECK_U64(seen.items[3].type, WAL_TIME);
    CHECK_OK(wal_decode_time(bytes_of(seen.items[3].p, seen.items[3].len), &t_ms, &f->err),
             &f->err);
    CHECK_I64(t_ms, T0 + 7);
    CHECK_U64(seen.items[1].pos, first);
    CHECK_U64(seen.items[4].pos, later);
    seen_release(&seen);
    fixture_release(f);
}

/* Every position of a record as an end: the copy holds what is before it, and nothing else. */
static void test_save_up_to(void **state)
{
    (void)state;
    struct log_fixture l;
    uint64_t pos[40], bytes;
    char text[64];
    open_marked(&l, 256); /* some segments */
    struct fixture *f = &l.f;
    for (size_t i = 0; i < COUNT_OF(pos); i++) {
        snprintf(text, sizeof(text), "record %zu with some bytes", i);
        clock_fake_advance(&l.clock, (int64_t)(i % 3));
        pos[i] = fixture_append(f, text);
        if (i % 4 == 0) commit(f);
    }
    commit(f);
    for (size_t i = 1; i < COUNT_OF(pos); i++) {
        struct seen seen;
        char dir[32];
        snprintf(dir, sizeof(dir), "/save%zu", i);
        CHECK_OK(io_mkdir_all(f->env.io, dir, &f->err), &f->err);
        CHECK_OK(wal_save(f->wal, dir, 0, pos[i], &bytes, &f->err), &f->err);
        read_copy(f, dir, &seen);
        CHECK_U64(seen.n, i);
        for (size_t k = 0; k < i; k++) CHECK_U64(seen.items[k].pos, pos[k]);
        CHECK_U64(seen.stats.gaps, 0);
        seen_release(&seen);
    }
    fixture_release(f);
}

static void test_archive_and_extend(void **state)
{
    (void)state;
    struct log_fixture l;
    struct wal_extend_report report;
    struct seen seen;
    uint64_t pos, bytes, n, mid = 0, end_of_oldest;
    int64_t last_ms;
    bool more = true;
    open_marked(&l, 256);
    struct fixture *f = &l.f;
    for (size_t i = 0; i < 40; i++) {
        clock_fake_advance(&l.clock, 10);
        pos = fixture_append(f, "thirty bytes of a log's record");
        commit(f);
        if (i != 10) continue;
        mid = wal_end_pos(f->wal);
        CHECK_OK(wal_save(f->wal, "/copy", 0, mid, &bytes, &f->err), &f->err);
    }
    while (more) CHECK_OK(wal_archive(f->wal, "/archive", &pos, &more, &f->err), &f->err);
    CHECK(pos > mid);
    CHECK_OK(wal_archive_part(f->wal, "/archive", wal_end_pos(f->wal), &f->err), &f->err);
    /* To the record: 25 arrived by then. */
    CHECK_OK(wal_extend(f->env.io, "/copy", "/archive", &report, &f->err), &f->err);
    CHECK(report.segments > 1);
    CHECK_OK(wal_cut_after(f->env.io, "/copy", T0 + 255, &last_ms, &f->err), &f->err);
    CHECK_I64(last_ms, T0 + 250);
    read_copy(f, "/copy", &seen);
    CHECK_U64(seen.n, 25);
    seen_release(&seen);
    /* Another log's archive is refused. */
    f->wal->archived_index = 0;
    struct file *file;
    CHECK_OK(io_unlink(f->env.io, "/archive/00000001.wal", &f->err), &f->err);
    CHECK_OK(io_open(f->env.io, "/archive/00000001.wal", IO_WRITE | IO_CREATE, &file, &f->err),
             &f->err);
    CHECK_OK(file_write_at(file, 0, "x", 1, &f->err), &f->err);
    file_close(file);
    CHECK_ERR(wal_archive(f->wal, "/archive", &pos, &more, &f->err), ERR_EXISTS);
    CHECK_OK(io_unlink(f->env.io, "/archive/00000001.wal", &f->err), &f->err);
    CHECK_OK(wal_archive(f->wal, "/archive", &pos, &more, &f->err), &f->err);
    /* What is older than a position goes; a part of a segment keeps it. */
    CHECK_OK(wal_dir_span(f->env.io, "/archive", &pos, &end_of_oldest, &f->err), &f->err);
    CHECK_OK(wal_archive_cut(f->env.io, "/archive", mid, &n, &bytes, &f->err), &f->err);
    CHECK(n > 0);
    CHECK_OK(wal_dir_span(f->env.io, "/archive", &pos, &end_of_oldest, &f->err), &f->err);
    CHECK(pos <= mid);
    CHECK_U64(end_of_oldest, wal_end_pos(f->wal));
    fixture_release(f);
}

static void test_gap_in_archive(void **state)
{
    (void)state;
    struct log_fixture l;
    struct wal_extend_report report;
    uint64_t pos, bytes;
    bool more = true;
    open_marked(&l, 128);
    struct fixture *f = &l.f;
    fixture_append(f, "first");
    commit(f);
    CHECK_OK(wal_save(f->wal, "/copy", 0, wal_end_pos(f->wal), &bytes, &f->err), &f->err);
    for (size_t i = 0; i < 20; i++) fixture_append(f, "forty bytes of a record, or a few more");
    commit(f);
    while (more) CHECK_OK(wal_archive(f->wal, "/archive", &pos, &more, &f->err), &f->err);
    CHECK_OK(io_unlink(f->env.io, "/archive/00000003.wal", &f->err), &f->err);
    CHECK_ERR(wal_extend(f->env.io, "/copy", "/archive", &report, &f->err), ERR_NOT_FOUND);
    CHECK(strstr(f->err.text, "00000003") != NULL);
    fixture_release(f);
}

static void append_of(struct fixture *f, uint64_t incarnation, double v)
{
    uint64_t id = 1, pos;
    int64_t t_ms = T0;
    struct buf payload;
    struct wal_samples s = {.incarnation = incarnation, .n = 1, .id = &id, .t_ms = &t_ms, .v = &v};
    buf_init(&payload, MEM_WAL);
    wal_encode_samples(&payload, &s);
    CHECK_OK(wal_append(f->wal, WAL_SAMPLES, buf_bytes(&payload), NULL, NULL, &pos, &f->err),
             &f->err);
    buf_release(&payload);
}

static void test_one_tenant(void **state)
{
    (void)state;
    struct log_fixture l;
    struct seen seen;
    uint64_t bytes, incarnation;
    open_marked(&l, 512);
    struct fixture *f = &l.f;
    for (uint64_t i = 0; i < 60; i++) append_of(f, 1 + i % 3, (double)i);
    commit(f);
    CHECK_ERR(wal_save(f->wal, "/copy", 0, wal_end_pos(f->wal) - 1, &bytes, &f->err), ERR_CORRUPT);
    CHECK_OK(io_mkdir_all(f->env.io, "/all", &f->err), &f->err);
    CHECK_OK(wal_save(f->wal, "/all", 0, wal_end_pos(f->wal), &bytes, &f->err), &f->err);
    CHECK_OK(wal_keep_tenant(f->env.io, "/all", 2, &f->err), &f->err);
    read_copy(f, "/all", &seen);
    size_t n = 0;
    for (size_t i = 0; i < seen.n; i++) {
        if (seen.items[i].type == WAL_PAD) continue;
        CHECK_OK(wal_record_incarnation(bytes_of(seen.items[i].p, seen.items[i].len), &incarnation,
                                        &f->err),
                 &f->err);
        CHECK_U64(incarnation, 2);
        n++;
    }
    CHECK_U64(n, 20);
    CHECK_U64(seen.n, 60);
    CHECK_U64(seen.stats.gaps, 0);
    seen_release(&seen);
    fixture_release(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_marks),
        cmocka_unit_test(test_save_up_to),
        cmocka_unit_test(test_archive_and_extend),
        cmocka_unit_test(test_gap_in_archive),
        cmocka_unit_test(test_one_tenant),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
