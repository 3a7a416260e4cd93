/* tools/process_metrics.h: metrics of the process itself, under the names that client libraries use for them:
 * process_* from /proc/self, quipu_memory_bytes by owner, quipu_build_info. */
#ifndef QUIPU_TOOLS_PROCESS_METRICS_H
#define QUIPU_TOOLS_PROCESS_METRICS_H

#include "base/clock.h"
#include "base/metric.h"

void process_metrics_register(struct metrics *metrics, struct clock *clock);

/* Of any process, for `quipu bench --pid`. False when there is none. */
struct process_usage {
    double cpu_seconds;  /* user and system */
    uint64_t rss_bytes;  /* now */
    uint64_t peak_bytes; /* VmHWM: the most it ever had */
};
bool process_usage(long pid, struct process_usage *out);

#endif
