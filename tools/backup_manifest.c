/* tools/backup_manifest.c. Positions of the log are written as text: a JSON number holds 53 bits only. */
#include "tools/backup_manifest.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/file_copy.h"

void manifest_init(struct manifest *m)
{
    *m = (struct manifest){0};
    arena_init(&m->arena, MEM_TOOLS, 0);
}

void manifest_release(struct manifest *m)
{
    mem_free(m->files);
    mem_free(m->missing);
    arena_release(&m->arena);
    manifest_init(m);
}

static enum err_code keep_text(struct manifest *m, struct str *text, struct err *err)
{
    if (text->len == 0) return ERR_OK;
    *text = arena_str(&m->arena, *text);
    return text->p ? ERR_OK : arena_fail(&m->arena, err);
}

enum err_code manifest_add(struct manifest *m, const struct manifest_file *file, struct err *err)
{
    void *items = m->files;
    enum err_code rc = mem_grow(MEM_TOOLS, &items, &m->cap, m->n + 1, sizeof(*m->files), err);
    m->files = items;
    if (rc) return rc;
    struct manifest_file *f = &m->files[m->n];
    *f = *file;
    rc = keep_text(m, &f->path, err);
    if (!rc) rc = keep_text(m, &f->tenant, err);
    if (!rc) m->n++;
    return rc;
}

enum err_code manifest_add_missing(struct manifest *m, struct str path, struct err *err)
{
    void *items = m->missing;
    enum err_code rc =
        mem_grow(MEM_TOOLS, &items, &m->missing_cap, m->n_missing + 1, sizeof(*m->missing), err);
    m->missing = items;
    if (!rc) rc = keep_text(m, &path, err);
    if (!rc) m->missing[m->n_missing++] = path;
    return rc;
}

struct str manifest_file_name(const struct manifest_file *file)
{
    size_t at = file->path.len;
    while (at && file->path.p[at - 1] != '/') at--;
    return (struct str){file->path.p + at, file->path.len - at};
}

/* ---- names of backups ---- */

void backup_name(int64_t moment_ms, char out[BACKUP_NAME_BYTES])
{
    time_t seconds = (time_t)(moment_ms / 1000);
    struct tm tm;
    char text[24] = "19700101T000000";
    if (gmtime_r(&seconds, &tm)) (void)strftime(text, sizeof(text), "%Y%m%dT%H%M%S", &tm);
    snprintf(out, BACKUP_NAME_BYTES, "%.15s.%03dZ", text, (int)(moment_ms % 1000));
}

bool backup_name_is(struct str name)
{
    static const char shape[] = "00000000T000000.000Z";
    if (name.len != sizeof(shape) - 1) return false;
    for (size_t i = 0; i < name.len; i++) {
        bool digit = name.p[i] >= '0' && name.p[i] <= '9';
        if (shape[i] == '0' ? !digit : name.p[i] != shape[i]) return false;
    }
    return true;
}

/* ---- writing ---- */

static void put_text(struct buf *out, struct str s)
{
    buf_u8(out, '"');
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c == '"' || c == '\\')
            buf_printf(out, "\\%c", c);
        else if (c < 0x20)
            buf_printf(out, "\\u%04x", c);
        else
            buf_u8(out, c);
    }
    buf_u8(out, '"');
}

static void put_file(struct buf *out, const struct manifest_file *f)
{
    buf_text(out, STR("    {\"path\": "));
    put_text(out, f->path);
    buf_printf(out, ", \"bytes\": %" PRIu64 ", \"sha256\": \"%s\"", f->bytes, f->sha256);
    if (f->shared) {
        buf_text(out, STR(", \"tenant\": "));
        put_text(out, f->tenant);
        buf_printf(out, ", \"incarnation\": %" PRIu64, f->incarnation);
    }
    buf_u8(out, '}');
}

static void put_manifest(struct buf *out, const struct manifest *m)
{
    char name[BACKUP_NAME_BYTES];
    backup_name(m->moment_ms, name);
    buf_printf(out, "{\n  \"format\": %d,\n  \"quipu\": \"%s\",\n", MANIFEST_FORMAT, QUIPU_VERSION);
    buf_printf(out, "  \"moment\": \"%s\",\n  \"momentMs\": %" PRId64 ",\n  \"source\": ", name,
               m->moment_ms);
    put_text(out, m->source);
    buf_printf(out, ",\n  \"logBegin\": \"%" PRIu64 "\",\n  \"logEnd\": \"%" PRIu64 "\",\n",
               m->log_begin, m->log_end);
    buf_text(out, STR("  \"missing\": ["));
    for (size_t i = 0; i < m->n_missing; i++) {
        if (i) buf_text(out, STR(", "));
        put_text(out, m->missing[i]);
    }
    buf_text(out, STR("],\n  \"files\": [\n"));
    for (size_t i = 0; i < m->n; i++) {
        put_file(out, &m->files[i]);
        buf_text(out, i + 1 < m->n ? STR(",\n") : STR("\n"));
    }
    buf_text(out, STR("  ]\n}\n"));
}

enum err_code manifest_write(struct io *io, const char *dir, const struct manifest *m,
                             struct err *err)
{
    char path[IO_PATH_BYTES];
    struct buf out;
    buf_init(&out, MEM_TOOLS);
    put_manifest(&out, m);
    enum err_code rc = buf_finish(&out, err);
    if (!rc) rc = io_path(path, sizeof(path), err, dir, MANIFEST_NAME);
    if (!rc) rc = file_replace(io, path, buf_bytes(&out), err);
    buf_release(&out);
    return rc;
}

/* ---- reading ---- */

static enum err_code bad(struct err *err, const char *what)
{
    return err_set(err, ERR_CORRUPT, "%s is missing, or makes no sense", what);
}

static bool get_text(const cJSON *object, const char *name, struct str *out)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    if (!cJSON_IsString(item)) return false;
    *out = str_of(item->valuestring);
    return true;
}

static bool get_u64(const cJSON *object, const char *name, uint64_t *out)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    if (!cJSON_IsNumber(item) || !(item->valuedouble >= 0 && item->valuedouble < 9e15))
        return false;
    *out = (uint64_t)item->valuedouble;
    return (double)*out == item->valuedouble;
}

static bool get_pos(const cJSON *object, const char *name, uint64_t *out)
{
    struct str text;
    char *end;
    if (!get_text(object, name, &text) || text.len == 0 || text.len > 19) return false;
    for (size_t i = 0; i < text.len; i++)
        if (text.p[i] < '0' || text.p[i] > '9') return false;
    *out = strtoull(text.p, &end, 10);
    return true;
}

/* Names of a data folder, none of which leads out of it. */
static bool path_is_safe(struct str path)
{
    if (path.len == 0 || path.len > 1024) return false;
    size_t begin = 0;
    for (size_t i = 0; i <= path.len; i++) {
        if (i < path.len && path.p[i] != '/') continue;
        struct str part = {path.p + begin, i - begin};
        if (part.len == 0 || str_eq(part, STR(".")) || str_eq(part, STR(".."))) return false;
        begin = i + 1;
    }
    return true;
}

static bool is_hex(struct str s)
{
    for (size_t i = 0; i < s.len; i++)
        if (!((s.p[i] >= '0' && s.p[i] <= '9') || (s.p[i] >= 'a' && s.p[i] <= 'f'))) return false;
    return s.len == SHA256_HEX_BYTES - 1;
}

static enum err_code parse_file(const cJSON *item, struct manifest *m, struct err *err)
{
    struct manifest_file f = {.bytes = 0};
    struct str sha;
    if (!get_text(item, "path", &f.path) || !path_is_safe(f.path)) return bad(err, "a path");
    if (!get_u64(item, "bytes", &f.bytes)) return bad(err, "a file's size");
    if (!get_text(item, "sha256", &sha) || !is_hex(sha)) return bad(err, "a file's SHA-256");
    memcpy(f.sha256, sha.p, sha.len);
    f.shared = get_text(item, "tenant", &f.tenant);
    if (f.shared && !get_u64(item, "incarnation", &f.incarnation))
        return bad(err, "a block's incarnation");
    if (f.shared && !str_has_suffix(f.path, STR(".block"))) return bad(err, "a block's path");
    return manifest_add(m, &f, err);
}

static enum err_code parse_root(const cJSON *root, struct manifest *m, struct err *err)
{
    uint64_t format = 0, moment = 0;
    const cJSON *item, *files = cJSON_GetObjectItemCaseSensitive(root, "files");
    if (!cJSON_IsObject(root) || !get_u64(root, "format", &format)) return bad(err, "the format");
    if (format != MANIFEST_FORMAT)
        return err_set(err, ERR_VERSION, "format %" PRIu64 "; this build knows %d", format,
                       MANIFEST_FORMAT);
    if (!get_u64(root, "momentMs", &moment)) return bad(err, "the moment");
    if (!get_pos(root, "logBegin", &m->log_begin) || !get_pos(root, "logEnd", &m->log_end))
        return bad(err, "a log position");
    if (!get_text(root, "source", &m->source)) return bad(err, "the source");
    m->moment_ms = (int64_t)moment;
    enum err_code rc = keep_text(m, &m->source, err);
    if (!cJSON_IsArray(files)) return bad(err, "the list of files");
    for (item = files->child; !rc && item; item = item->next) rc = parse_file(item, m, err);
    const cJSON *missing = cJSON_GetObjectItemCaseSensitive(root, "missing");
    for (item = cJSON_IsArray(missing) ? missing->child : NULL; !rc && item; item = item->next)
        if (cJSON_IsString(item)) rc = manifest_add_missing(m, str_of(item->valuestring), err);
    return rc;
}

enum err_code manifest_parse(struct bytes text, struct manifest *m, struct err *err)
{
    cJSON *root = cJSON_ParseWithLength((const char *)text.p, text.len);
    enum err_code rc =
        root ? parse_root(root, m, err) : err_set(err, ERR_CORRUPT, "this is no JSON");
    cJSON_Delete(root);
    return rc;
}

enum err_code manifest_read(struct io *io, const char *dir, struct manifest *m, struct err *err)
{
    char path[IO_PATH_BYTES];
    uint8_t *text = NULL;
    size_t len;
    enum err_code rc = io_path(path, sizeof(path), err, dir, MANIFEST_NAME);
    if (!rc) rc = io_read_file(io, path, MANIFEST_BYTES_MAX, &text, &len, err);
    if (rc) return rc;
    rc = manifest_parse(bytes_of(text, len), m, err);
    mem_free(text);
    if (rc) err_at(err, path, 0);
    return rc;
}
