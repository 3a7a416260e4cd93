/* Any text as a configuration file: refused with a reason, or taken; what is taken prints and reads back the same. */
#include <stdlib.h>

#include "tools/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
    if (!ok) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct config config, again;
    struct config_origin origin;
    struct err err;
    config_defaults(&config, &origin);
    enum err_code rc = config_parse(&config, &origin, bytes_of(data, size), "fuzz.yml", &err);
    if (rc) {
        check(err.code == rc && err.text[0]);
        config_release(&config);
        return 0;
    }
    config_defaults(&again, &origin);
    for (size_t i = 0; config_key_at(i); i++) {
        char text[CONFIG_TEXT_BYTES];
        const struct config_key *key = config_key_at(i);
        config_print(&config, key, text, sizeof(text));
        check(config_set(&again, key, str_of(text), &err) == ERR_OK);
        char back[CONFIG_TEXT_BYTES];
        check(strcmp(config_print(&again, key, back, sizeof(back)), text) == 0);
    }
    config_release(&config);
    return 0;
}
