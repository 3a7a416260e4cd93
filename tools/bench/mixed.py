#!/usr/bin/env python3
"""Dashboards beside ingest: ten dashboards of twelve panels that refresh every 10 s while 100,000 series are written
every 15 s. Latency of queries and of writes, CPU and memory; the same for VictoriaMetrics where its program is given.

usage: tools/bench/mixed.py --bin build/release/bin [--victoria PATH] [--minutes 5]
"""
import argparse
import http.client
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import servers

INTERVAL = 15
REFRESH = 10
SPANS = ((3600, 15), (3600, 15), (21600, 60), (900, 15))    # of a dashboard: an hour mostly
PANELS = (
    "sum by (job) (rate(http_requests_total[5m]))",
    'sum by (code) (rate(http_requests_total{instance=~"%s.*"}[5m]))',
    "histogram_quantile(0.99, sum by (le) (rate(http_request_duration_seconds_bucket[5m])))",
    "sum(rate(http_requests_total[1m])) / sum(rate(http_requests_total[5m]))",
    "topk(5, sum by (instance) (rate(http_requests_total[5m])))",
    'avg by (job) (app_buffer_bytes{instance=~"%s.*"})',
    "max(app_buffer_bytes)",
    'count(http_requests_total{code="500"})',
    'rate(http_requests_total{instance=~"%s:.*"}[5m])',
    "sum by (instance) (increase(http_requests_total[15m])) > 0",
    "quantile(0.9, rate(http_requests_total[5m]))",
    "avg_over_time(sum(rate(http_requests_total[1m]))[10m:1m])",
)


def percentile(values, q):
    values = sorted(values)
    return values[min(len(values) - 1, int(q * len(values)))] * 1000 if values else float("nan")


class Dashboard(threading.Thread):
    """Twelve panels, asked one after the other as a browser with one connection does, every REFRESH seconds."""

    def __init__(self, server, number, end, nocache):
        super().__init__(daemon=True)
        self.server, self.number, self.end, self.nocache = server, number, end, nocache
        self.times, self.failures = [], []
        self.rng = random.Random(number)

    def run(self):
        span, step = SPANS[self.number % len(SPANS)]
        conn = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=120)
        time.sleep(self.rng.uniform(0, REFRESH))
        while time.time() < self.end:
            began = time.time()
            for panel in PANELS:
                now = int(time.time() / step) * step
                expr = panel.replace("%s", "10[.]0[.]0[.]%d" % (self.number + 1))
                params = {"query": expr, "start": now - span, "end": now, "step": step}
                if self.nocache:
                    params["nocache"] = 1
                before = time.monotonic()
                try:
                    conn.request("GET", "/api/v1/query_range?" + urllib.parse.urlencode(params))
                    answer = conn.getresponse()
                    body = answer.read()
                    if answer.status != 200:
                        self.failures.append((answer.status, body[:200]))
                except (OSError, http.client.HTTPException) as e:
                    self.failures.append((0, repr(e)))
                    conn.close()
                self.times.append(time.monotonic() - before)
            time.sleep(max(0, REFRESH - (time.time() - began)))


def preload(args, server, now):
    """Two hours of the same fleet, so that the dashboards have something to show from the first refresh on."""
    subprocess.run(ingest(args, server) + ["--scrapes", str(args.history // INTERVAL), "--end", str(now)], check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def ingest(args, server):
    return [os.path.join(args.bin, "quipu"), "bench", "ingest", "--server", server.url, "--instances",
            str(args.series // 500), "--series", "500", "--interval", "%ds" % INTERVAL, "--retries", "10", "--json"]


def run(args, server):
    server.wipe()
    server.start()
    now = int(time.time())
    preload(args, server, now)
    end = time.time() + args.minutes * 60
    cpu = server.cpu()
    scrapes = max(int(args.minutes * 60 / INTERVAL), 1)
    writer = subprocess.Popen(ingest(args, server) + ["--scrapes", str(scrapes), "--realtime"], stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, text=True)
    dashboards = [Dashboard(server, i, end, args.nocache) for i in range(args.dashboards)]
    with servers.Sampler(lambda: servers.memory_bytes(server.proc.pid, "VmRSS"), 1) as memory:
        for d in dashboards:
            d.start()
        for d in dashboards:
            d.join()
        report = writer.communicate()[0]
    times = [t for d in dashboards for t in d.times]
    failures = [f for d in dashboards for f in d.failures]
    cpu = server.cpu() - cpu
    try:
        wrote = json.loads(report)
    except ValueError:
        wrote = {}
    extra = ""
    if server.name == "quipu":
        metrics = server.metrics()
        extra = "  cache: %s" % ", ".join("%s %d" % (r, metrics.get(
            'quipu_query_cache_requests_total{result="%s"}' % r, 0)) for r in ("hit", "partial", "miss", "uncacheable"))
    print("%-16s queries %6d  p50 %7.1f ms  p99 %8.1f ms  max %8.1f ms  failed %d" % (
        server.name + (" nocache" if args.nocache else ""), len(times), percentile(times, 0.5), percentile(times, 0.99),
        max(times or [0]) * 1000, len(failures)))
    print("%-16s writes %s  CPU %.2f processors  memory median %.0f MiB, peak %.0f MiB%s" % (
        "", describe_writes(wrote), cpu / (args.minutes * 60), median(memory.seen) / 2 ** 20,
        servers.memory_bytes(server.proc.pid, "VmHWM") / 2 ** 20, extra), flush=True)
    if failures:
        print("  e.g. %r" % (failures[0],))
    server.stop()


def median(values):
    return sorted(values)[len(values) // 2] if values else 0


def describe_writes(report):
    """Whatever of the report of `quipu bench ingest --json` tells of latency."""
    found = {k: v for k, v in report.items() if isinstance(v, (int, float)) and ("p50" in k or "p99" in k or "laten" in k)}
    for k, v in report.items():
        if isinstance(v, dict) and "laten" in k:
            found.update({"%s.%s" % (k, i): j for i, j in v.items()})
    return ", ".join("%s %.4g" % kv for kv in sorted(found.items())) or "?"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--bin", required=True, help="folder of quipud and quipu")
    parser.add_argument("--victoria", help="the program of VictoriaMetrics")
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--series", type=int, default=100000)
    parser.add_argument("--dashboards", type=int, default=10)
    parser.add_argument("--history", type=int, default=7200, help="seconds written before")
    parser.add_argument("--port", type=int, default=21790)
    parser.add_argument("--nocache", action="store_true", help="ask both to compute everything")
    args = parser.parse_args()
    print("%s\n%d dashboards of %d panels every %d s, %d series every %d s, %g min" % (
        servers.machine(), args.dashboards, len(PANELS), REFRESH, args.series, INTERVAL, args.minutes), flush=True)
    folder = tempfile.mkdtemp(prefix="quipu-mixed-")
    under_test = [servers.Quipu(os.path.join(args.bin, "quipud"), os.path.join(folder, "quipu"), args.port)]
    if args.victoria:
        under_test.append(servers.VictoriaMetrics(args.victoria, os.path.join(folder, "victoria"), args.port + 1))
    try:
        for server in under_test:
            try:
                run(args, server)
            finally:
                server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
