/* tools/process_metrics.c: read from /proc when a rendering asks. */
#include "tools/process_metrics.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

/* A small file of /proc, NUL-terminated; false when it cannot be read. */
static bool read_proc(const char *path, char *buf, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    ssize_t n = read(fd, buf, size - 1);
    close(fd);
    if (n <= 0) return false;
    buf[n] = 0;
    return true;
}

/* "VmHWM:     1234 kB" in bytes; 0 when it is not there. */
static uint64_t status_bytes(const char *status, const char *field)
{
    const char *at = strstr(status, field);
    return at ? strtoull(at + strlen(field), NULL, 10) * 1024 : 0;
}

/* Field `n` (from 1, as proc(5) counts) of /proc/PID/stat. The second may hold blanks and parentheses. */
static double stat_field(const char *stat, int n)
{
    const char *p = strrchr(stat, ')');
    for (int i = 2; p && i < n; i++) {
        p = strchr(p, ' ');
        if (p) p++;
    }
    return p ? strtod(p, NULL) : 0;
}

bool process_usage(long pid, struct process_usage *out)
{
    char path[64], status[4096];
    struct timespec cpu;
    clockid_t clock;
    /* Not from /proc/PID/stat, which counts in steps of 10 ms: short queries take less. */
    if (clock_getcpuclockid((pid_t)pid, &clock) != 0 || clock_gettime(clock, &cpu) != 0)
        return false;
    snprintf(path, sizeof(path), "/proc/%ld/status", pid);
    if (!read_proc(path, status, sizeof(status))) return false;
    out->cpu_seconds = (double)cpu.tv_sec + (double)cpu.tv_nsec / 1e9;
    out->rss_bytes = status_bytes(status, "VmRSS:");
    out->peak_bytes = status_bytes(status, "VmHWM:");
    return true;
}

static double cpu_seconds(void *ctx)
{
    (void)ctx;
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static double resident_bytes(void *ctx)
{
    (void)ctx;
    struct process_usage usage;
    return process_usage(getpid(), &usage) ? (double)usage.rss_bytes : 0;
}

static double peak_bytes(void *ctx)
{
    (void)ctx;
    struct process_usage usage;
    return process_usage(getpid(), &usage) ? (double)usage.peak_bytes : 0;
}

static double virtual_bytes(void *ctx)
{
    (void)ctx;
    char stat[1024];
    return read_proc("/proc/self/stat", stat, sizeof(stat)) ? stat_field(stat, 23) : 0;
}

static double n_threads(void *ctx)
{
    (void)ctx;
    char stat[1024];
    return read_proc("/proc/self/stat", stat, sizeof(stat)) ? stat_field(stat, 20) : 0;
}

static double open_fds(void *ctx)
{
    (void)ctx;
    DIR *dir = opendir("/proc/self/fd");
    if (!dir) return 0;
    double n = -1; /* the one that lists them */
    for (struct dirent *entry = readdir(dir); entry; entry = readdir(dir))
        if (entry->d_name[0] != '.') n++;
    closedir(dir);
    return n;
}

static double max_fds(void *ctx)
{
    (void)ctx;
    struct rlimit limit;
    return getrlimit(RLIMIT_NOFILE, &limit) == 0 ? (double)limit.rlim_cur : 0;
}

static double owner_bytes(void *ctx)
{
    return (double)mem_bytes((enum mem_owner)(uintptr_t)ctx);
}

void process_metrics_register(struct metrics *m, struct clock *clock)
{
    static const struct {
        const char *name, *help, *type;
        double (*fn)(void *ctx);
    } table[] = {
        {"process_cpu_seconds_total", "User and system CPU time spent.", "counter", cpu_seconds},
        {"process_resident_memory_bytes", "Resident memory.", "gauge", resident_bytes},
        {"process_resident_memory_peak_bytes", "Most resident memory so far.", "gauge", peak_bytes},
        {"process_virtual_memory_bytes", "Virtual memory.", "gauge", virtual_bytes},
        {"process_threads", "Threads.", "gauge", n_threads},
        {"process_open_fds", "Open file descriptors.", "gauge", open_fds},
        {"process_max_fds", "Most file descriptors allowed.", "gauge", max_fds},
    };
    for (size_t i = 0; i < COUNT_OF(table); i++)
        metric_callback(m, table[i].name, table[i].help, table[i].type, "", table[i].fn, NULL);
    metric_set(
        metric_gauge(m, "process_start_time_seconds", "When the process began, since 1970.", ""),
        (double)clock_wall_ms(clock) / 1000);
    metric_set(metric_gauge(m, "quipu_build_info", "Always 1; the version is in the label.",
                            "version=\"" QUIPU_VERSION "\""),
               1);
    for (uintptr_t owner = 0; owner < MEM_OWNERS_N; owner++) {
        char label[128];
        metric_label(label, sizeof(label), "owner", str_of(mem_owner_name((enum mem_owner)owner)));
        metric_callback(m, "quipu_memory_bytes", "Bytes allocated now, by the part that owns them.",
                        "gauge", label, owner_bytes, (void *)owner);
    }
}
