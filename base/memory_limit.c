/* base/memory_limit.c: see the header. A group's folder is looked for under the mount point at the path that
 * /proc/self/cgroup names, and at every parent of it: within a container that path may be the host's, of which only
 * the end of the way, the mount point itself, is there. */
#include "base/memory_limit.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define FILE_BYTES 4096
#define LINE_BYTES 1024

/* Files of /proc have no size: reads what there is, up to FILE_BYTES - 1. */
static bool read_text(struct io *io, const char *path, char *text)
{
    struct file *file;
    struct err ignored; /* a missing file is an answer */
    size_t n = 0;
    if (io_open(io, path, IO_READ, &file, &ignored)) return false;
    bool ok = file_read_at(file, 0, text, FILE_BYTES - 1, &n, &ignored) == ERR_OK;
    file_close(file);
    text[ok ? n : 0] = 0;
    return ok;
}

/* A plain number of bytes; 0 for "max" and anything else. */
static uint64_t read_bytes(struct io *io, const char *path)
{
    char text[FILE_BYTES];
    if (!read_text(io, path, text) || text[0] < '0' || text[0] > '9') return 0;
    return strtoull(text, NULL, 10);
}

static void take_least(struct memory_limit *least, uint64_t bytes, const char *source)
{
    if (bytes == 0 || (least->bytes && least->bytes <= bytes)) return;
    *least = (struct memory_limit){bytes, source};
}

struct group_kind {
    const char *mount, *file, *source;
};
static const struct group_kind kind_v2 = {"/sys/fs/cgroup", "memory.max", "cgroup v2"};
static const struct group_kind kind_v2_beside_v1 = {"/sys/fs/cgroup/unified", "memory.max",
                                                    "cgroup v2"};
static const struct group_kind kind_v1 = {"/sys/fs/cgroup/memory", "memory.limit_in_bytes",
                                          "cgroup v1"};

/* `group`, "/a/b", is cut off part by part. */
static void look_upwards(struct io *io, const char *root, const struct group_kind *kind,
                         char *group, struct memory_limit *least)
{
    for (;;) {
        char path[IO_PATH_BYTES];
        int n = snprintf(path, sizeof(path), "%s%s%s/%s", root, kind->mount, group, kind->file);
        if (n > 0 && (size_t)n < sizeof(path))
            take_least(least, read_bytes(io, path), kind->source);
        char *slash = strrchr(group, '/');
        if (!slash) return;
        *slash = 0;
    }
}

static bool names_memory(const char *controllers, size_t len)
{
    static const char word[] = "memory";
    for (size_t at = 0; at < len;) {
        size_t n = 0;
        while (at + n < len && controllers[at + n] != ',') n++;
        if (n == sizeof(word) - 1 && memcmp(controllers + at, word, n) == 0) return true;
        at += n + 1;
    }
    return false;
}

/* "ID:CONTROLLERS:PATH"; no controllers: version 2. */
static void look_at_group(struct io *io, const char *root, const char *line, size_t len,
                          struct memory_limit *least)
{
    char group[LINE_BYTES];
    const char *first = memchr(line, ':', len);
    const char *second = first ? memchr(first + 1, ':', len - (size_t)(first + 1 - line)) : NULL;
    if (!second) return;
    const char *path = second + 1;
    size_t n_controllers = (size_t)(second - first - 1), n_path = len - (size_t)(path - line);
    if (n_path >= sizeof(group) || n_path == 0 || path[0] != '/') return;
    bool v1 = names_memory(first + 1, n_controllers);
    if (!v1 && n_controllers) return;
    const struct group_kind *kinds[2] = {v1 ? &kind_v1 : &kind_v2, v1 ? NULL : &kind_v2_beside_v1};
    for (size_t i = 0; i < COUNT_OF(kinds) && kinds[i]; i++) {
        memcpy(group, path, n_path);
        group[n_path == 1 ? 0 : n_path] = 0; /* "/" is the mount point itself */
        look_upwards(io, root, kinds[i], group, least);
    }
}

static void look_at_groups(struct io *io, const char *root, struct memory_limit *least)
{
    char path[IO_PATH_BYTES], text[FILE_BYTES];
    snprintf(path, sizeof(path), "%s/proc/self/cgroup", root);
    if (!read_text(io, path, text)) return;
    for (const char *line = text; *line;) {
        size_t len = strcspn(line, "\n");
        look_at_group(io, root, line, len, least);
        line += len + (line[len] == '\n');
    }
}

static uint64_t machine_bytes(struct io *io, const char *root)
{
    char path[IO_PATH_BYTES], text[FILE_BYTES];
    snprintf(path, sizeof(path), "%s/proc/meminfo", root);
    const char *at = read_text(io, path, text) ? strstr(text, "MemTotal:") : NULL;
    return at ? strtoull(at + strlen("MemTotal:"), NULL, 10) * 1024 : 0;
}

struct memory_limit memory_limit_find(struct io *io, const char *root)
{
    struct memory_limit least = {0, "unknown"};
    take_least(&least, machine_bytes(io, root), "machine");
    look_at_groups(io, root, &least);
    return least;
}

uint64_t memory_resident_bytes(struct io *io)
{
    char text[FILE_BYTES];
    if (!read_text(io, "/proc/self/statm", text)) return 0;
    const char *second = strchr(text, ' ');
    long page = sysconf(_SC_PAGESIZE);
    return second && page > 0 ? strtoull(second + 1, NULL, 10) * (uint64_t)page : 0;
}
