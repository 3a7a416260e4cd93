/* tests/wal/test_wal.c: the log, and every way to find its files damaged. */
#include "wal_fixture.h"

#include "base/crc32c.h"

static void test_append_and_replay(void **state)
{
    (void)state;
    struct fixture f;
    struct seen seen;
    fixture_init(&f, false);
    fixture_start(&f);
    uint64_t a = fixture_append(&f, "first");
    uint64_t b = fixture_append(&f, "second");
    CHECK(a < b);
    CHECK_OK(wal_commit(f.wal, &f.err), &f.err);
    uint64_t end = wal_end_pos(f.wal);
    fixture_close(&f);

    CHECK_OK(fixture_open(&f, 0, &seen), &f.err);
    CHECK_U64(seen.n, 2);
    CHECK(seen_is(&seen.items[0], "first") && seen_is(&seen.items[1], "second"));
    CHECK_U64(seen.items[0].pos, a);
    CHECK_U64(seen.items[1].pos, b);
    CHECK_U64(seen.items[1].end_pos, end);
    CHECK_U64(seen.stats.torn_tails + seen.stats.gaps, 0);
    CHECK_U64(seen.stats.records, 2);
    seen_release(&seen);
    /* A new process never gives a position that an old one can have given. */
    CHECK(fixture_append(&f, "third") > end + f.config.queue_bytes_max);
    fixture_close(&f);

    CHECK_OK(fixture_open(&f, b, &seen), &f.err);
    CHECK_U64(seen.n, 2);
    CHECK(seen_is(&seen.items[0], "second") && seen_is(&seen.items[1], "third"));
    seen_release(&seen);
    /* Segments that held nothing go with the next cut. */
    fixture_close(&f);
    CHECK_OK(fixture_open(&f, 0, &seen), &f.err);
    CHECK_OK(wal_cut(f.wal, wal_end_pos(f.wal), &f.err), &f.err);
    CHECK(!fixture_has(&f, 1) && !fixture_has(&f, 3) && fixture_has(&f, 4));
    seen_release(&seen);
    fixture_release(&f);
}

static void test_compresses(void **state)
{
    (void)state;
    struct fixture f;
    struct seen seen;
    fixture_init(&f, false);
    fixture_start(&f);
    char text[20001];
    for (size_t i = 0; i < 20000; i++) text[i] = (char)('a' + i % 7);
    text[20000] = 0;
    fixture_append(&f, text);
    fixture_close(&f);
    size_t len;
    uint8_t *p = fixture_read(&f, 1, &len);
    CHECK(len < 500);
    mem_free(p);
    CHECK_OK(fixture_open(&f, 0, &seen), &f.err);
    CHECK_U64(seen.n, 1);
    CHECK(seen_is(&seen.items[0], text));
    seen_release(&seen);
    fixture_release(&f);
}

static void test_segments_and_cut(void **state)
{
    (void)state;
    struct fixture f;
    struct seen seen;
    fixture_init(&f, false);
    f.config.segment_bytes = 200;
    fixture_start(&f);
    uint64_t pos[40];
    char text[40][32];
    for (unsigned i = 0; i < 40; i++) {
        snprintf(text[i], sizeof(text[i]), "a record with number %u", i);
        pos[i] = fixture_append(&f, text[i]);
        if (i % 3 == 0) CHECK_OK(wal_commit(f.wal, &f.err), &f.err);
    }
    CHECK_OK(wal_commit(f.wal, &f.err), &f.err);
    CHECK(fixture_has(&f, 8) && wal_disk_bytes(f.wal) > 40 * 31);
    CHECK_U64(wal_begin_pos(f.wal), 0);
    CHECK_OK(wal_cut(f.wal, pos[20], &f.err), &f.err);
    CHECK(!fixture_has(&f, 1) && !fixture_has(&f, 3));
    CHECK(wal_begin_pos(f.wal) > 0 && wal_begin_pos(f.wal) <= pos[20]);
    fixture_close(&f);

    CHECK_OK(fixture_open(&f, pos[20], &seen), &f.err);
    CHECK_U64(seen.n, 20);
    for (unsigned i = 0; i < 20; i++) CHECK(seen_is(&seen.items[i], text[20 + i]));
    CHECK_U64(seen.stats.gaps + seen.stats.torn_tails, 0);
    seen_release(&seen);
    /* Everything is behind: but the newest segment stays, so that positions are not forgotten. */
    uint64_t end = wal_end_pos(f.wal);
    CHECK_OK(wal_cut(f.wal, UINT64_MAX, &f.err), &f.err);
    fixture_close(&f);
    CHECK_OK(fixture_open(&f, 0, &seen), &f.err);
    CHECK(wal_end_pos(f.wal) >= end);
    seen_release(&seen);
    fixture_release(&f);
}

static void test_large_records(void **state)
{
    (void)state;
    struct fixture f;
    struct seen seen;
    struct rng rng;
    test_rng(&rng);
    fixture_init(&f, false);
    f.config.segment_bytes = 100000; /* one record is larger */
    fixture_start(&f);
    size_t len = 1500000;
    uint8_t *p = malloc(len);
    CHECK(p);
    test_fill(&rng, p, len);
    uint64_t pos;
    for (unsigned i = 0; i < 3; i++) {
        CHECK_OK(wal_append(f.wal, WAL_SERIES, bytes_of(p, len - i), NULL, NULL, &pos, &f.err),
                 &f.err);
        fixture_append(&f, "small");
    }
    fixture_close(&f);
    CHECK_OK(fixture_open(&f, 0, &seen), &f.err);
    CHECK_U64(seen.n, 6);
    for (unsigned i = 0; i < 3; i++)
        CHECK(seen.items[2 * i].len == len - i && memcmp(seen.items[2 * i].p, p, len - i) == 0);
    seen_release(&seen);
    free(p);
    fixture_release(&f);
}

static void test_refuses(void **state)
{
    (void)state;
    struct fixture f;
    struct seen seen;
    fixture_init(&f, false);
    f.config.queue_bytes_max = 1000;
    fixture_start(&f);
    uint64_t pos;
    CHECK_ERR(wal_append(f.wal, WAL_SERIES, bytes_of("", 0), NULL, NULL, &pos, &f.err),
              ERR_INVALID);
    uint8_t big[991] = {0};
    struct rng rng;
    test_rng(&rng);
    test_fill(&rng, big, sizeof(big));
    CHECK_OK(wal_append(f.wal, WAL_SERIES, bytes_of(big, 991), NULL, NULL, &pos, &f.err), &f.err);
    uint64_t end = wal_end_pos(f.wal);
    CHECK_ERR(wal_append(f.wal, WAL_SERIES, bytes_of(big, 1), NULL, NULL, &pos, &f.err), ERR_LIMIT);
    CHECK_U64(wal_end_pos(f.wal), end);
    CHECK_OK(wal_commit(f.wal, &f.err), &f.err);
    CHECK_OK(wal_append(f.wal, WAL_SERIES, bytes_of(big, 1), NULL, NULL, &pos, &f.err), &f.err);
    fixture_close(&f);
    CHECK_OK(fixture_open(&f, 0, &seen), &f.err);
    CHECK_U64(seen.n, 2);
    seen_release(&seen);
    fixture_close(&f);
    f.config.queue_bytes_max = WAL_QUEUE_BYTES_LIMIT + 1;
    CHECK_ERR(fixture_open(&f, 0, &seen), ERR_INVALID);
    f.config = wal_config_default(f.dir);
    f.config.segment_bytes = WAL_SEGMENT_BYTES_LIMIT + 1;
    CHECK_ERR(fixture_open(&f, 0, &seen), ERR_INVALID);
    fixture_release(&f);
}

/* Every prefix of a segment that was being written: all whole records come back, the rest is cut once. */
static void test_torn_tail(void **state)
{
    (void)state;
    struct fixture f;
    struct seen seen;
    fixture_init(&f, false);
    fixture_start(&f);
    static const char *texts[] = {"one", "twotwo", "three three three", "4"};
    uint64_t end[4];
    for (unsigned i = 0; i < 4; i++)
        end[i] = fixture_append(&f, texts[i]) + WAL_RECORD_HEADER_BYTES + strlen(texts[i]);
    fixture_close(&f);
    size_t len;
    uint8_t *p = fixture_read(&f, 1, &len);
    CHECK_U64(len, end[3]);
    for (size_t cut = 0; cut <= len; cut++) {
        fixture_write(&f, 1, p, cut);
        size_t whole = 0;
        while (whole < 4 && end[whole] <= cut) whole++;
        CHECK_OK(fixture_open(&f, 0, &seen), &f.err);
        CHECK_U64(seen.n, whole);
        for (size_t i = 0; i < whole; i++) CHECK(seen_is(&seen.items[i], texts[i]));
        CHECK_U64(seen.stats.gaps, 0);
        bool torn =
            cut < WAL_HEADER_BYTES || (cut > WAL_HEADER_BYTES && cut != end[whole - !!whole]);
        CHECK_U64(seen.stats.torn_tails, torn);
        seen_release(&seen);
        fixture_close(&f);
        bool kept = cut >= WAL_HEADER_BYTES;
        CHECK(fixture_has(&f, 1) == kept);
        CHECK_OK(fixture_open(&f, 0, &seen), &f.err);
        CHECK_U64(seen.n, whole);
        CHECK_U64(seen.stats.torn_tails, 0);
        seen_release(&seen);
        fixture_close(&f);
        fixture_remove(&f, 2);
        fixture_remove(&f, 3);
    }
    mem_free(p);
    fixture_release(&f);
}

#define FLIP_RECORDS 6
struct flip_case {
    size_t payload_bytes; /* 0: all differ */
    bool followed;        /* by a second segment, into which the writer went on */
};

/* Records of one size, too: there a wrong length leads to the start of another record. */
static void flip_write(struct fixture *f, const struct flip_case *c, struct seen *all)
{
    f->config.segment_bytes = 1 << 20;
    fixture_start(f);
    struct rng rng;
    rng_seed(&rng, 7);
    for (unsigned i = 0; i < FLIP_RECORDS; i++) {
        uint8_t payload[64];
        size_t len = c->payload_bytes ? c->payload_bytes : 3 + 8 * i;
        test_fill(&rng, payload, len);
        uint64_t pos;
        CHECK_OK(wal_append(f->wal, (enum wal_type)(1 + i % 4), bytes_of(payload, len), NULL, NULL,
                            &pos, &f->err),
                 &f->err);
    }
    CHECK_OK(wal_commit(f->wal, &f->err), &f->err);
    fixture_close(f);
    if (c->followed) { /* as if the first had been full */
        size_t len;
        uint8_t *p = fixture_read(f, 1, &len), second[64] = {0};
        memcpy(second, p, WAL_HEADER_BYTES);
        put_u64_le(second + 8, len);
        put_u32_le(second + 16, crc32c(0, second, 16));
        put_u32_le(second + 20, 3);
        second[28] = WAL_SAMPLES;
        memcpy(second + 29, "end", 3);
        put_u32_le(second + 24, crc32c(crc32c(0, second + 20, 4), second + 28, 4));
        fixture_write(f, 2, second, 32);
        mem_free(p);
    }
    CHECK_OK(fixture_open(f, 0, all), &f->err);
    CHECK_U64(all->stats.gaps + all->stats.torn_tails, 0);
    CHECK_U64(all->n, FLIP_RECORDS + c->followed);
    fixture_close(f);
    fixture_remove(f, 2 + c->followed);
}

/* What came back is `all` without the record that holds byte `off` of the first segment. */
static void flip_check(const struct flip_case *c, const struct seen *all, const struct seen *got,
                       size_t off)
{
    size_t n = 0;
    bool last = false;
    for (size_t i = 0; i < all->n; i++) {
        const struct seen_record *want = &all->items[i];
        if (off >= WAL_HEADER_BYTES && want->pos <= off && off < want->end_pos) {
            last = i == FLIP_RECORDS - 1 && !c->followed;
            continue;
        }
        CHECK(n < got->n);
        const struct seen_record *have = &got->items[n++];
        CHECK(have->type == want->type && have->pos == want->pos && have->len == want->len);
        CHECK(memcmp(have->p, want->p, want->len) == 0);
    }
    CHECK_U64(got->n, n);
    CHECK_U64(got->stats.gaps + got->stats.torn_tails, 1);
    if (!last) CHECK_U64(got->stats.gaps, 1);
}

static void test_every_flipped_bit(void **state)
{
    (void)state;
    static const struct flip_case cases[] = {{0, false}, {0, true}, {55, false}, {23, true}};
    for (size_t k = 0; k < COUNT_OF(cases); k++) {
        struct fixture f;
        struct seen all, got;
        fixture_init(&f, false);
        flip_write(&f, &cases[k], &all);
        size_t len;
        uint8_t *p = fixture_read(&f, 1, &len);
        for (size_t bit = 0; bit < len * 8; bit++) {
            test_where = (struct test_where){true, bit, k};
            p[bit / 8] ^= (uint8_t)(1u << bit % 8);
            fixture_write(&f, 1, p, len);
            p[bit / 8] ^= (uint8_t)(1u << bit % 8);
            CHECK_OK(fixture_open(&f, 0, &got), &f.err);
            flip_check(&cases[k], &all, &got, bit / 8);
            seen_release(&got);
            fixture_close(&f);
            fixture_remove(&f, 2 + cases[k].followed);
        }
        test_where.in_property = false;
        mem_free(p);
        seen_release(&all);
        fixture_release(&f);
    }
}

/* A lost sector: all records that do not touch it come back, whatever it did to the header. */
static void test_lost_sector(void **state)
{
    (void)state;
    struct fixture f;
    struct seen all, got;
    struct rng rng;
    test_rng(&rng);
    fixture_init(&f, false);
    fixture_start(&f);
    uint8_t payload[300];
    uint64_t pos;
    for (unsigned i = 0; i < 60; i++) {
        size_t len = 1 + rng_below(&rng, sizeof(payload));
        test_fill(&rng, payload, len);
        CHECK_OK(wal_append(f.wal, WAL_SAMPLES, bytes_of(payload, len), NULL, NULL, &pos, &f.err),
                 &f.err);
    }
    fixture_close(&f);
    CHECK_OK(fixture_open(&f, 0, &all), &f.err);
    CHECK_U64(all.n, 60);
    fixture_close(&f);
    fixture_remove(&f, 2);
    size_t len;
    uint8_t *p = fixture_read(&f, 1, &len), *bad = malloc(len);
    CHECK(bad);
    for (size_t at = 0; at < len; at += 512) {
        for (unsigned kind = 0; kind < 2; kind++) {
            size_t n = MIN_OF(len - at, (size_t)512), m = 0;
            memcpy(bad, p, len);
            if (kind)
                test_fill(&rng, bad + at, n);
            else
                memset(bad + at, 0, n);
            fixture_write(&f, 1, bad, len);
            CHECK_OK(fixture_open(&f, 0, &got), &f.err);
            for (size_t i = 0; i < all.n; i++) {
                if (all.items[i].pos < at + n && at < all.items[i].end_pos) continue;
                CHECK(m < got.n && got.items[m].len == all.items[i].len);
                CHECK(memcmp(got.items[m].p, all.items[i].p, all.items[i].len) == 0);
                if (at) CHECK_U64(got.items[m].pos, all.items[i].pos);
                m++;
            }
            CHECK_U64(got.n, m);
            CHECK(got.stats.gaps + got.stats.torn_tails > 0);
            seen_release(&got);
            fixture_close(&f);
            fixture_remove(&f, 2);
        }
    }
    free(bad);
    mem_free(p);
    seen_release(&all);
    fixture_release(&f);
}

/* What a sender wrote into a payload is not a record, even after damage in front of it. */
static void test_no_smuggled_record(void **state)
{
    (void)state;
    struct fixture f;
    struct seen seen;
    fixture_init(&f, false);
    fixture_start(&f);
    uint8_t inner[40], outer[60];
    memset(outer, 'x', sizeof(outer));
    put_u32_le(inner, 31);
    inner[8] = WAL_TOMBSTONE;
    memset(inner + 9, 'e', 31);
    put_u32_le(inner + 4, crc32c(crc32c(0, inner, 4), inner + 8, 32));
    memcpy(outer + 20, inner, 40); /* ends where the outer record ends */
    uint64_t pos;
    CHECK_OK(wal_append(f.wal, WAL_SERIES, bytes_of(outer, 60), NULL, NULL, &pos, &f.err), &f.err);
    fixture_append(&f, "after");
    fixture_close(&f);
    size_t len;
    uint8_t *p = fixture_read(&f, 1, &len);
    p[WAL_HEADER_BYTES + 12] ^= 0x10;
    fixture_write(&f, 1, p, len);
    mem_free(p);
    CHECK_OK(fixture_open(&f, 0, &seen), &f.err);
    CHECK_U64(seen.n, 1);
    CHECK(seen_is(&seen.items[0], "after"));
    seen_release(&seen);
    fixture_release(&f);
}

static void test_other_version(void **state)
{
    (void)state;
    struct fixture f;
    struct seen seen;
    fixture_init(&f, false);
    uint8_t header[WAL_HEADER_BYTES] = WAL_MAGIC;
    put_u32_le(header + 4, 2);
    put_u32_le(header + 16, crc32c(0, header, 16));
    fixture_write(&f, 1, header, sizeof(header));
    CHECK_ERR(fixture_open(&f, 0, &seen), ERR_VERSION);
    CHECK(strstr(f.err.text, "version 2, this build reads 1"));
    header[16] ^= 0xff; /* a later version may place its checksum elsewhere */
    header[17] ^= 0xff;
    fixture_write(&f, 1, header, sizeof(header));
    CHECK_ERR(fixture_open(&f, 0, &seen), ERR_VERSION);
    fixture_release(&f);
}

static void test_mixed_logs(void **state)
{
    (void)state;
    struct fixture f;
    struct seen seen;
    fixture_init(&f, false);
    fixture_start(&f);
    fixture_append(&f, "something");
    fixture_close(&f);
    size_t len;
    uint8_t *p = fixture_read(&f, 1, &len);
    fixture_write(&f, 2, p, len);
    mem_free(p);
    CHECK_ERR(fixture_open(&f, 0, &seen), ERR_CORRUPT);
    seen_release(&seen);
    fixture_release(&f);
}

/* Repeated crashes in the middle of a segment: no position is ever given twice. */
static void test_positions_rise(void **state)
{
    (void)state;
    struct fixture f;
    struct seen seen;
    struct rng rng;
    test_rng(&rng);
    fixture_init(&f, false);
    f.config.segment_bytes = 500;
    uint64_t last = 0;
    for (unsigned round = 0; round < 30; round++) {
        CHECK_OK(fixture_open(&f, 0, &seen), &f.err);
        for (size_t i = 1; i < seen.n; i++) CHECK(seen.items[i - 1].end_pos <= seen.items[i].pos);
        seen_release(&seen);
        for (uint64_t i = rng_below(&rng, 40); i > 0; i--) {
            uint64_t pos = fixture_append(&f, "some record of some length");
            CHECK(pos > last);
            last = pos;
        }
        fixture_close(&f);
    }
    fixture_release(&f);
}

/* The caller remembers a position, and the log is gone. */
static void test_minimum_position(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, false);
    f.config.min_pos = 5 * WAL_JUMP_BYTES + 1;
    fixture_start(&f);
    CHECK(fixture_append(&f, "record") > f.config.min_pos);
    fixture_release(&f);
}

static enum err_code stop_at_second(void *ctx, const struct wal_record *r, struct err *err)
{
    (void)r;
    return ++*(int *)ctx == 2 ? err_set(err, ERR_CANCELED, "enough") : ERR_OK;
}

static void test_replay_can_be_stopped(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, false);
    fixture_start(&f);
    for (unsigned i = 0; i < 3; i++) fixture_append(&f, "record");
    fixture_close(&f);
    int n = 0;
    struct wal_replay_stats stats;
    CHECK_OK(wal_open(&f.env, &f.config, &f.wal, &f.err), &f.err);
    CHECK_ERR(wal_replay(f.wal, 0, stop_at_second, &n, &stats, &f.err), ERR_CANCELED);
    CHECK_U64(n, 2);
    fixture_release(&f);
}

struct inspected {
    unsigned good, bad;
    uint64_t last_off;
};
static bool inspect_count(void *ctx, const struct wal_inspect_item *item)
{
    struct inspected *in = ctx;
    if (item->bad)
        in->bad++;
    else
        in->good++;
    CHECK(item->file_off >= in->last_off && (item->text || !item->bad));
    in->last_off = item->file_off;
    return true;
}

static void test_inspect(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, false);
    fixture_start(&f);
    for (unsigned i = 0; i < 5; i++) fixture_append(&f, "record");
    fixture_close(&f);
    size_t len, same;
    uint8_t *p = fixture_read(&f, 1, &len);
    p[60] ^= 1;
    fixture_write(&f, 1, p, len);
    char path[512];
    fixture_path(&f, 1, path, sizeof(path));
    struct wal_segment_info info;
    struct inspected in = {0};
    CHECK_OK(wal_inspect(f.env.io, path, &info, inspect_count, &in, &f.err), &f.err);
    CHECK_U64(in.good, 4);
    CHECK_U64(in.bad, 1);
    CHECK_U64(info.version, 1);
    CHECK_U64(info.file_bytes, len);
    uint8_t *q = fixture_read(&f, 1, &same);
    CHECK_BYTES(bytes_of(q, same), bytes_of(p, len));
    mem_free(p);
    mem_free(q);
    fixture_release(&f);
}

/* Written by version 1 of the format; every later build must read it. */
#define GOLDEN_PATH "../golden/wal_v1.wal"

static void test_golden(void **state)
{
    (void)state;
    struct fixture f;
    struct seen seen;
    fixture_init(&f, false);
    char zeros[200];
    memset(zeros, 'z', sizeof(zeros));
    if (getenv("QUIPU_WRITE_GOLDEN")) {
        struct wal_replay_stats stats;
        CHECK_OK(wal_open(&f.env, &f.config, &f.wal, &f.err), &f.err);
        CHECK_OK(wal_replay(f.wal, 0x1000, seen_add, &seen, &stats, &f.err), &f.err);
        uint64_t pos;
        CHECK_OK(wal_append(f.wal, WAL_SERIES, bytes_of("\x07series", 7), NULL, NULL, &pos, &f.err),
                 &f.err);
        CHECK_OK(wal_append(f.wal, WAL_METADATA, bytes_of(zeros, sizeof(zeros)), NULL, NULL, &pos,
                            &f.err),
                 &f.err);
        fixture_append(&f, "the last");
        fixture_close(&f);
        size_t n;
        uint8_t *p = fixture_read(&f, 1, &n);
        FILE *out = fopen(GOLDEN_PATH, "wb");
        CHECK(out && fwrite(p, 1, n, out) == n && fclose(out) == 0);
        mem_free(p);
    }
    uint8_t *p;
    size_t len;
    CHECK_OK(io_read_file(io_posix(), GOLDEN_PATH, 10000, &p, &len, &f.err), &f.err);
    fixture_write(&f, 1, p, len);
    mem_free(p);
    CHECK_OK(fixture_open(&f, 0, &seen), &f.err);
    CHECK_U64(seen.n, 3);
    CHECK(seen.items[0].type == WAL_SERIES && seen_is(&seen.items[0], "\x07series"));
    CHECK(seen.items[1].type == WAL_METADATA && seen.items[1].len == sizeof(zeros));
    CHECK(memcmp(seen.items[1].p, zeros, sizeof(zeros)) == 0);
    CHECK(seen.items[2].type == WAL_SAMPLES && seen_is(&seen.items[2], "the last"));
    CHECK_U64(seen.items[0].pos, WAL_JUMP_BYTES + WAL_HEADER_BYTES);
    CHECK_U64(seen.stats.gaps + seen.stats.torn_tails, 0);
    seen_release(&seen);
    fixture_release(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_append_and_replay),
        cmocka_unit_test(test_compresses),
        cmocka_unit_test(test_segments_and_cut),
        cmocka_unit_test(test_large_records),
        cmocka_unit_test(test_refuses),
        cmocka_unit_test(test_torn_tail),
        cmocka_unit_test(test_every_flipped_bit),
        cmocka_unit_test(test_lost_sector),
        cmocka_unit_test(test_no_smuggled_record),
        cmocka_unit_test(test_other_version),
        cmocka_unit_test(test_mixed_logs),
        cmocka_unit_test(test_positions_rise),
        cmocka_unit_test(test_minimum_position),
        cmocka_unit_test(test_replay_can_be_stopped),
        cmocka_unit_test(test_inspect),
        cmocka_unit_test(test_golden),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
