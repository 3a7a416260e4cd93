/* The load generator: what it sends is read back by libsnappy and a plain protobuf walk. */
#include <snappy-c.h>

#include "tests/quipu_test.h"
#include "tools/fleet.h"

struct seen {
    size_t n;
    struct str labels; /* of the series being read, all of them as encoded */
};

/* One field: its number, and its bytes or number. False at the end. */
static bool next_field(struct reader *r, uint64_t *number, struct bytes *bytes, uint64_t *value)
{
    if (reader_left(r) == 0) return false;
    uint64_t tag = reader_varint(r);
    *number = tag >> 3;
    switch (tag & 7) {
    case 0: *value = reader_varint(r); break;
    case 1: *value = reader_u64(r); break;
    default: CHECK_U64(tag & 7, 2); *bytes = reader_bytes(r, (size_t)reader_varint(r));
    }
    CHECK(!r->failed);
    return true;
}

static void check_labels_sorted(struct bytes label, struct str *last)
{
    struct reader r = reader_init(label);
    uint64_t number, value;
    struct bytes name = {0}, text = {0};
    CHECK(next_field(&r, &number, &name, &value) && number == 1);
    CHECK(next_field(&r, &number, &text, &value) && number == 2);
    CHECK(reader_left(&r) == 0 && text.len > 0);
    CHECK(str_cmp(*last, str_from_bytes(name)) < 0);
    *last = str_from_bytes(name);
}

static void check_series(const struct fleet *fleet, size_t i, struct bytes series)
{
    struct reader r = reader_init(series);
    uint64_t number, value, v_bits = 0, t = 0;
    struct bytes bytes;
    struct str last = {"", 0};
    size_t n_samples = 0;
    while (next_field(&r, &number, &bytes, &value)) {
        if (number == 1) {
            check_labels_sorted(bytes, &last);
            continue;
        }
        CHECK_U64(number, 2);
        n_samples++;
        struct reader s = reader_init(bytes);
        while (next_field(&s, &number, &bytes, &value)) *(number == 1 ? &v_bits : &t) = value;
    }
    CHECK_U64(n_samples, 1);
    CHECK_U64(v_bits, double_bits(fleet_value(fleet, i)));
    CHECK_I64(t, fleet_time(fleet, i));
}

static void check_requests(const struct fleet *fleet)
{
    size_t i = 0;
    for (size_t k = 0; k < fleet_n_requests(fleet); k++) {
        size_t n_samples, begin = i, len;
        struct bytes body = fleet_request(fleet, k, &n_samples);
        CHECK(snappy_uncompressed_length((const char *)body.p, body.len, &len) == SNAPPY_OK);
        char *raw = malloc(len);
        CHECK(snappy_uncompress((const char *)body.p, body.len, raw, &len) == SNAPPY_OK);
        struct reader r = reader_init(bytes_of(raw, len));
        uint64_t number, value;
        struct bytes series;
        while (next_field(&r, &number, &series, &value)) check_series(fleet, i++, series);
        CHECK_U64(i - begin, n_samples);
        free(raw);
    }
    CHECK_U64(i, fleet_n_series(fleet));
}

static void requests_hold_what_they_should(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 6)
    {
        struct fleet_config config = {
            .first_instance = rng_below(&rng, 500),
            .n_instances = 1 + rng_below(&rng, 4),
            .series_per_instance = FLEET_SERIES_MIN + rng_below(&rng, 300),
            .samples_per_request = 1 + rng_below(&rng, 700),
            .interval_ms = 15000,
            .seed = rng_u64(&rng),
        };
        struct fleet *fleet;
        struct err err;
        CHECK_OK(fleet_new(&config, &fleet, &err), &err);
        int64_t t_ms =
            FLEET_T_MIN_MS + (int64_t)rng_below(&rng, FLEET_T_MAX_MS - FLEET_T_MIN_MS - 100000);
        for (int k = 0; k < 3; k++) {
            fleet_scrape(fleet, t_ms + k * 15000);
            check_requests(fleet);
        }
        fleet_free(fleet);
    }
}

/* The same values, however the fleet is divided among connections. */
static void parts_make_the_whole(void **state)
{
    (void)state;
    struct fleet_config config = {.n_instances = 3,
                                  .series_per_instance = 400,
                                  .samples_per_request = 100,
                                  .interval_ms = 15000,
                                  .seed = 7};
    struct fleet *whole, *part;
    struct err err;
    CHECK_OK(fleet_new(&config, &whole, &err), &err);
    config.first_instance = 1;
    config.n_instances = 2;
    CHECK_OK(fleet_new(&config, &part, &err), &err);
    double last[800] = {0};
    for (int k = 0; k < 20; k++) {
        fleet_scrape(whole, 1800000000000 + k * 15000);
        fleet_scrape(part, 1800000000000 + k * 15000);
        for (size_t i = 0; i < 800; i++) {
            CHECK_SAME_DOUBLE(fleet_value(part, i), fleet_value(whole, 400 + i));
            bool counter = i % 400 < FLEET_SERIES_MIN;
            CHECK(!counter || fleet_value(part, i) >= last[i]);
            last[i] = fleet_value(part, i);
        }
    }
    fleet_free(whole);
    fleet_free(part);
}

static void bad_sizes_are_refused(void **state)
{
    (void)state;
    struct fleet_config config = {.n_instances = 1,
                                  .series_per_instance = 379,
                                  .samples_per_request = 1,
                                  .interval_ms = 15000};
    struct fleet *fleet;
    struct err err;
    CHECK_ERR(fleet_new(&config, &fleet, &err), ERR_INVALID);
    config.series_per_instance = SIZE_MAX;
    config.n_instances = 2;
    CHECK_ERR(fleet_new(&config, &fleet, &err), ERR_LIMIT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_hold_what_they_should),
        cmocka_unit_test(parts_make_the_whole),
        cmocka_unit_test(bad_sizes_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
