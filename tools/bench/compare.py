#!/usr/bin/env python3
"""Measures quipud, and its peers where their programs are given, one after the other on this machine with the same
load, and prints markdown tables: ingest, disk, queries (with a comparison of all answers), and the time to be ready
after kill -9 with a cold page cache.

    tools/bench/compare.py --bin build/release/bin --victoria .../victoria-metrics --prometheus .../prometheus

Ready times: a first run learns how large the head becomes; a second one kills the server as soon as its head is that
large again, which is just before a flush. A peer that does not tell its head's size is killed at the last answer.
"""
import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import servers as sv

PRESETS = {"fleet-hour": [], "fleet-day": ["--day"], "million": None, "small": []}  # flags of `quipu bench query`
TOLERANCE = 1e-9
# What quipu is to reach, by load and row.
TARGETS = {
    "fleet-hour": {"samples per CPU-second, M, until settled": ">= 6", "peak memory, MiB": "<= 64",
                   "ready again, s": "<= 1", "rate-by-route": "<= 35", "fleet-p99": "<= 80",
                   "p99-by-region-route": "<= 55", "topk-pods": "<= 25", "errors-by-job": "<= 40", "wide": "<= 15",
                   "count-http": "<= 5"},
    "fleet-day": {"on disk, bytes per sample": "<= 1.0", "day-p99": "<= 40", "day-increase": "<= 4"},
    "million": {"peak memory, MiB": "<= 400", "ready again, s": "<= 2"},
    "recording": {"on disk, bytes per sample": "<= 0.20"},
}


def mib(n):
    return "%.0f" % (n / 2**20)


def number(x, digits=3):
    """Three digits that matter."""
    if x is None or math.isnan(x):
        return "-"
    if x == 0:
        return "0"
    return "%.*f" % (max(0, digits - 1 - math.floor(math.log10(abs(x)))), x)


# ---- what is measured ----

def measure_ingest(o, server, load, end):
    """Ingest, then everything into its form on the disk; CPU of the background counts."""
    server.wipe()
    server.start()
    began = server.cpu()
    report = sv.ingest(o.quipu, server, *load, "--end", end)
    ended = server.cpu()
    if isinstance(server, sv.Quipu):
        report["fsync_ms"] = [server.histogram_ms("quipu_wal_fsync_seconds", q) for q in (0.5, 0.99)]
    pid = server.proc.pid
    server.settle()
    restarted = server.proc.pid != pid
    report["cpu_ingest"] = ended - began
    report["cpu_settled"] = math.nan if restarted else server.cpu() - began
    report["peak"] = report["server_rss_peak_bytes"] if restarted else sv.memory_bytes(server.proc.pid, "VmHWM")
    report["disk"] = server.disk_bytes()
    report["counted"] = count_samples(server, report)
    return report


def measure_queries(o, server, flags, end):
    answers = os.path.join(server.folder, "answers")
    os.makedirs(answers, exist_ok=True)
    rows = sv.run_quipu(o.quipu, "bench", "query", "--server", server.url, "--pid", str(server.proc.pid),
                        "--end", end, "--n", str(o.n), "--save", answers, *flags)
    for row in rows:
        path = os.path.join(answers, row["name"] + ".json")
        row["answer"] = None
        if os.path.exists(path):
            with open(path) as f:
                row["answer"] = json.load(f)["data"]
    return {row["name"]: row for row in rows}


def count_samples(server, report):
    """Of one metric: that is quick, and tells what share of all is there."""
    seconds = (report["end_ms"] - report["first_ms"]) // 1000 + 60
    result = server.query('sum(count_over_time({__name__=~"http_requests_total|up"}[%ds]))' % seconds,
                          "%d" % (report["end_ms"] // 1000 + 30))
    return float(result[0]["value"][1]) if result else 0


def measure_ready(o, server, load, end, complete):
    """Seconds until ready after kill -9, and the share of the acknowledged samples that is then missing; `complete`:
    count_samples() with all of the load."""
    args = ["bench", "ingest", "--server", server.url, "--end", end, *load]
    largest = 0
    if server.tells_head:
        server.wipe()
        server.start()
        with sv.Sampler(server.head_bytes, 0.1) as sampler:
            sv.run_quipu(o.quipu, *args)
        server.kill()
        largest = max(sampler.seen, default=0)
    server.wipe()
    server.start()
    sender = subprocess.Popen([o.quipu, *args, "--json"], stdout=subprocess.PIPE, text=True)
    while sender.poll() is None and not (largest and server.head_bytes() >= 0.97 * largest):
        time.sleep(0.02)
    server.kill()
    finished = sender.poll() is not None
    sender.kill()
    output = sender.communicate()[0]
    cold = not o.warm and sv.drop_page_cache()
    result = {"seconds": server.start(), "cold": cold, "head_bytes": largest}
    if finished and complete:
        result["lost"] = 1 - count_samples(server, json.loads(output)) / complete
    server.stop()
    return result


# ---- comparing answers ----

def series_of(answer):
    """{labels: [(t, value)]}; a vector's sample is a series of one."""
    out = {}
    for series in answer["result"]:
        values = series["values"] if "values" in series else [series["value"]]
        out[tuple(sorted(series["metric"].items()))] = [(float(t), float(v)) for t, v in values]
    return out


def near(a, b):
    return a == b or (math.isnan(a) and math.isnan(b)) or abs(a - b) <= TOLERANCE * max(abs(a), abs(b))


def disagreement(answer, reference):
    """None when they say the same; else the first difference in words."""
    if answer is None or reference is None:
        return "no answer"
    mine, theirs = series_of(answer), series_of(reference)
    if mine.keys() != theirs.keys():
        return "%d series, %d expected" % (len(mine), len(theirs))
    worst = 0.0
    for labels, points in theirs.items():
        if [t for t, _ in points] != [t for t, _ in mine[labels]]:
            return "other times in %s" % (dict(labels),)
        for (_, a), (_, b) in zip(mine[labels], points):
            if not near(a, b):
                worst = max(worst, abs(a - b) / max(abs(a), abs(b)))
    return "values differ by up to %.2g" % worst if worst else None


# ---- tables ----

def ratio(peer, own):
    return "-" if math.isnan(peer) or math.isnan(own) else number(peer / own)


def print_table(load, title, names, rows):
    """rows: (what, {name: value or None}, how to print it)."""
    targets = TARGETS.get(load, {})
    out = [["", *names, "target", *["%s : quipu" % name for name in names[1:]]]]
    for what, values, show in rows:
        cells = ["-" if values.get(n) is None else show(values[n]) for n in names]
        ratios = [ratio(values.get(n) or math.nan, values.get(names[0]) or math.nan) for n in names[1:]]
        out.append([what, *cells, targets.get(what, ""), *ratios])
    print("\n### %s: %s\n\n%s" % (load, title, sv.table(out)), flush=True)


def ingest_rows(results):
    def row(what, fn, form=number):
        return what, {n: fn(r["ingest"]) for n, r in results.items()}, form
    return [
        row("samples per second, M", lambda r: r["samples_per_second"] / 1e6),
        row("samples per CPU-second, M, while sending", lambda r: r["samples"] / max(r["cpu_ingest"], 1e-9) / 1e6),
        row("samples per CPU-second, M, until settled", lambda r: r["samples"] / max(r["cpu_settled"], 1e-9) / 1e6),
        row("peak memory, MiB", lambda r: r["peak"], mib),
        row("on disk, bytes per sample", lambda r: r["disk"] / r["samples"]),
        row("latency p50, ms", lambda r: r["latency_p50_ms"]),
        row("latency p99, ms", lambda r: r["latency_p99_ms"]),
        row("fsync p50, ms", lambda r: r.get("fsync_ms", [None])[0]),
        row("fsync p99, ms", lambda r: r.get("fsync_ms", [None, None])[1]),
    ]


def print_queries(preset, names, results):
    queries = list(results[names[0]]["queries"])
    print_table(preset, "CPU per query, ms", names, [
        (q, {n: results[n]["queries"][q]["cpu_ms"] for n in names}, number) for q in queries])
    reference = "Prometheus" if "Prometheus" in names else None
    for n in names:
        for q in queries:
            row = results[n]["queries"][q]
            if "failure" in row:
                print("%s: %s failed with %s" % (n, q, row["failure"]))
            elif reference and n != reference:
                why = disagreement(row["answer"], results[reference]["queries"][q]["answer"])
                if why:
                    print("%s: %s is not Prometheus's answer: %s" % (n, q, why))
    if reference:
        print("(answers compared with Prometheus's, to %g)" % TOLERANCE, flush=True)


def run_load(o, all_servers, title, load, query_flags, end):
    """Each server with the load, one after the other; prints the tables."""
    names, results = [s.name for s in all_servers], {}
    for server in all_servers:
        print("… %s: %s" % (title, server.name), file=sys.stderr, flush=True)
        result = results[server.name] = {}
        try:
            result["ingest"] = measure_ingest(o, server, load, end)
            if query_flags is not None and "query" not in o.skip:
                result["queries"] = measure_queries(o, server, query_flags, end)
            server.stop()
            if "ready" not in o.skip:
                result["ready"] = measure_ready(o, server, load, end, result["ingest"]["counted"])
        finally:
            server.stop()
    print_table(title, "ingest", names, ingest_rows(results))
    if "ready" not in o.skip:
        ready = {n: results[n]["ready"] for n in names}
        print_table(title, "after kill -9, page cache %s" % ("cold" if ready[names[0]]["cold"] else "warm"), names, [
            ("ready again, s", {n: r["seconds"] for n, r in ready.items()}, number),
            ("acknowledged samples lost, %", {n: r["lost"] * 100 for n, r in ready.items() if "lost" in r}, number)])
    if "queries" in results[names[0]]:
        print_queries(title, names, results)
    for result in results.values():
        for row in result.get("queries", {}).values():
            row.pop("answer")
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default="build/release/bin", help="folder of quipud and quipu")
    parser.add_argument("--victoria", help="path of victoria-metrics")
    parser.add_argument("--prometheus", help="path of prometheus")
    parser.add_argument("--presets", default="fleet-hour,fleet-day,million")
    parser.add_argument("--recording", help="of `quipu bench record`: measured as well")
    parser.add_argument("--n", type=int, default=5, help="repetitions of each query")
    parser.add_argument("--skip", default="", help="query, ready or both: query,ready")
    parser.add_argument("--warm", action="store_true", help="leave the machine's page cache alone before ready times")
    parser.add_argument("--data", default=None, help="folder for the servers' data (a temporary one)")
    parser.add_argument("--port", type=int, default=19540)
    parser.add_argument("--json", help="file for all figures")
    o = parser.parse_args()
    o.quipu = os.path.join(o.bin, "quipu")
    folder = o.data or tempfile.mkdtemp(prefix="quipu-bench-")
    kinds = [(sv.Quipu, os.path.join(o.bin, "quipud")), (sv.VictoriaMetrics, o.victoria),
             (sv.Prometheus, o.prometheus)]
    all_servers = [kind(binary, os.path.join(folder, kind.name), o.port + i)
                   for i, (kind, binary) in enumerate(kinds) if binary]
    print("%s; data on %s" % (sv.machine(), sv.file_system(folder)))
    results = {}
    for preset in [p for p in o.presets.split(",") if p]:
        # One end for all servers, so that their answers can be compared.
        results[preset] = run_load(o, all_servers, preset, ["--preset", preset], PRESETS[preset],
                                   "%d" % time.time())
    if o.recording:
        results["recording"] = run_load(o, all_servers, "recording", ["--recording", o.recording], None, "now")
    for server in all_servers:
        server.wipe()
        os.rmdir(server.folder)
    if not o.data:
        os.rmdir(folder)
    if o.json:
        with open(o.json, "w") as f:
            json.dump(results, f, indent=1)


if __name__ == "__main__":
    main()
