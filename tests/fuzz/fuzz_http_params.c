/* Any text as a URL query or form, as a path segment, as an Accept-Encoding header, and as a duration or time. */
#include <stdlib.h>

#include "base/http.h"
#include "tools/cli.h"
#include "tools/config.h"
#include "tools/server.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
    if (!ok) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str text = {(const char *)data, size};
    struct http_params params = {0};
    struct arena arena;
    struct err err;
    struct str path;
    arena_init(&arena, MEM_HTTP, 16u << 20);
    if (http_params_parse(text, &arena, &params, &err) == ERR_OK) {
        check(params.n <= HTTP_PARAMS_MAX);
        for (size_t i = 0; i < params.n; i++) /* decoding never makes a text longer */
            check(params.items[i].name.len + params.items[i].value.len <= size);
        (void)http_param(&params, "query");
    }
    if (http_unescape_path(text, &arena, &path)) check(path.len <= size);
    const char *encoding = server_pick_encoding(text);
    check(!encoding || strcmp(encoding, "gzip") == 0 || strcmp(encoding, "deflate") == 0);
    int64_t ms = 0;
    uint64_t bytes;
    if (config_parse_duration(text, &ms, &err) == ERR_OK) check(ms >= 0);
    err_ignore(config_parse_size(text, &bytes, &err));
    err_ignore(cli_parse_time(text, 1800000000000, &ms, &err));
    arena_release(&arena);
    return 0;
}
