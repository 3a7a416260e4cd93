/* tools/bench_report.c: what `quipu bench ingest` came to, for people and for scripts. */
#include "tools/bench_ingest.h"

#include <inttypes.h>

#include <cjson/cJSON.h>

#include "tools/cli.h"

enum err_code bench_add_up(struct bench *b, struct bench_totals *t, struct err *err)
{
    *t = (struct bench_totals){0};
    for (size_t i = 0; i < b->n_senders; i++) {
        const struct bench_sender *s = &b->senders[i];
        t->n_requests += s->n_requests;
        t->n_samples += s->n_samples;
        t->n_refused += s->n_refused;
        t->n_failed += s->n_failed;
        t->n_retries += s->n_retries;
        t->n_bytes += s->n_bytes;
        if (!t->refusal && s->first_refusal[0]) t->refusal = s->first_refusal;
        for (size_t k = 0; k < s->latency.n; k++) {
            enum err_code rc =
                bench_latency_add(&t->latency, (int64_t)s->latency.us[k] * 1000, err);
            if (rc) return rc;
        }
    }
    bench_latency_sort(&t->latency);
    t->seconds = (double)(b->ended_ns - b->begun_ns) / 1e9;
    t->server_cpu = b->after.cpu_seconds - b->before.cpu_seconds;
    t->own_cpu = b->own_cpu_after - b->own_cpu_before;
    return ERR_OK;
}

void bench_print_text(const struct bench *b, const struct bench_totals *t)
{
    char x[32], y[32];
    printf("samples       %s acknowledged of %s, %s/s\n",
           cli_human((double)t->n_samples, x, sizeof(x)),
           cli_human((double)b->n_expected, y, sizeof(y)),
           cli_human((double)t->n_samples / t->seconds, (char[32]){0}, 32));
    printf("requests      %" PRIu64 ", %" PRIu64 " refused, %" PRIu64 " failed, %" PRIu64
           " retries\n",
           t->n_requests, t->n_refused, t->n_failed, t->n_retries);
    printf("sent          %s, %.1f bytes per sample\n",
           cli_human_bytes((double)t->n_bytes, x, sizeof(x)),
           t->n_samples ? (double)t->n_bytes / (double)t->n_samples : 0);
    printf("time          %.2f s, generator %.2f s of CPU\n", t->seconds, t->own_cpu);
    printf("latency       p50 %.2f ms, p99 %.2f ms, max %.2f ms\n",
           bench_latency_ms(&t->latency, 0.5), bench_latency_ms(&t->latency, 0.99),
           bench_latency_ms(&t->latency, 1));
    if (b->settings.pid) {
        printf("server CPU    %.2f s, %s samples per CPU-second\n", t->server_cpu,
               t->server_cpu > 0 ? cli_human((double)t->n_samples / t->server_cpu, x, sizeof(x))
                                 : "?");
        printf("server memory %s, at most %s\n",
               cli_human_bytes((double)b->after.rss_bytes, x, sizeof(x)),
               cli_human_bytes((double)b->after.peak_bytes, y, sizeof(y)));
    }
    if (t->refusal) printf("first refusal %s\n", t->refusal);
}

void bench_print_json(const struct bench *b, const struct bench_totals *t)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddNumberToObject(o, "samples", (double)t->n_samples);
    cJSON_AddNumberToObject(o, "expected", (double)b->n_expected);
    cJSON_AddNumberToObject(o, "seconds", t->seconds);
    cJSON_AddNumberToObject(o, "samples_per_second", (double)t->n_samples / t->seconds);
    cJSON_AddNumberToObject(o, "requests", (double)t->n_requests);
    cJSON_AddNumberToObject(o, "refused", (double)t->n_refused);
    cJSON_AddNumberToObject(o, "failed", (double)t->n_failed);
    cJSON_AddNumberToObject(o, "retries", (double)t->n_retries);
    cJSON_AddNumberToObject(o, "sent_bytes", (double)t->n_bytes);
    cJSON_AddNumberToObject(o, "generator_cpu_seconds", t->own_cpu);
    cJSON_AddNumberToObject(o, "latency_p50_ms", bench_latency_ms(&t->latency, 0.5));
    cJSON_AddNumberToObject(o, "latency_p99_ms", bench_latency_ms(&t->latency, 0.99));
    cJSON_AddNumberToObject(o, "latency_max_ms", bench_latency_ms(&t->latency, 1));
    if (b->settings.pid) {
        cJSON_AddNumberToObject(o, "server_cpu_seconds", t->server_cpu);
        cJSON_AddNumberToObject(o, "samples_per_cpu_second",
                                t->server_cpu > 0 ? (double)t->n_samples / t->server_cpu : 0);
        cJSON_AddNumberToObject(o, "server_rss_bytes", (double)b->after.rss_bytes);
        cJSON_AddNumberToObject(o, "server_rss_peak_bytes", (double)b->after.peak_bytes);
    }
    cJSON_AddNumberToObject(o, "first_ms", (double)b->first_ms);
    cJSON_AddNumberToObject(o, "end_ms", (double)b->last_ms);
    if (t->refusal) cJSON_AddStringToObject(o, "first_refusal", t->refusal);
    char *text = cJSON_Print(o);
    printf("%s\n", text ? text : "{}");
    cJSON_free(text);
    cJSON_Delete(o);
}
