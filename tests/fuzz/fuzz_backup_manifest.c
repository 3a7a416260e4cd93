/* Any bytes as the manifest of a backup: refused, or files none of which lies outside of a data folder. */
#include <stdlib.h>

#include "tools/backup_manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct manifest m;
    struct err err;
    manifest_init(&m);
    if (manifest_parse(bytes_of(data, size), &m, &err) == ERR_OK) {
        for (size_t i = 0; i < m.n; i++) {
            struct str path = m.files[i].path, name = manifest_file_name(&m.files[i]);
            if (path.len == 0 || path.p[0] == '/' || name.len == 0) abort();
            if (str_has_prefix(path, STR("../")) || str_eq(name, STR(".."))) abort();
        }
    }
    manifest_release(&m);
    return 0;
}
