#!/usr/bin/env python3
"""How quipud fares in the course of long loads:

  churn-week   a fleet whose pods are all replaced every hour, for a simulated week: 60,000 live series 60 s apart, 10
               million in all; beside the same fleet without churn
  year-import  a year of old samples, 105 million, series after series
  shuffled     the same, all samples in random order

    tools/bench/long.py --bin build/release/bin churn-week year-import shuffled

Prints memory as the load goes by, the blocks that are left, the bytes of index per series, what queries over the
last hour cost, and what retention gives back. The weeks pass in minutes, so their flush window (--window) is 1 s,
about half an hour of such a week; an import has the default, since real ones are as quick.
"""
import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import servers as sv

LOADS = ("churn-week", "year-import", "shuffled")
DATA_SECTIONS = {"chunks", "times", "columns"}   # all others are index
CHURN_SERIES, CHURN_HOURS, YEAR_STEPS = 60_000, 168, 365 * 24 * 60


def mib(n):
    return "%.0f" % (n / 2**20)


class Quipu(sv.Quipu):
    """With its settings in a file, so that retention can be changed while it runs."""

    def __init__(self, binary, folder, port, window):
        super().__init__(binary, folder, port)
        self.window, self.config = window, os.path.join(folder, "quipu.yaml")

    def flags(self):
        return ["--data-dir", self.data, "--listen", "127.0.0.1:%d" % self.port, "--config", self.config]

    def configure(self, retention):
        with open(self.config, "w") as f:
            f.write("retention: %s\nhead.window: %s\n" % (retention, self.window))

    def blocks(self):
        return [os.path.join(parent, name) for parent, _, names in os.walk(self.data) for name in names
                if name.endswith(".block")]


# ---- the course of a load ----

def snapshot(server):
    m = server.metrics()
    total = lambda name: sum(v for k, v in m.items() if k.split("{")[0] == name)
    return {"samples": total("quipu_samples_stored_total"), "active": total("quipu_tenant_active_series"),
            "registry": m.get('quipu_memory_bytes{owner="registry"}', 0),
            "head": m.get('quipu_memory_bytes{owner="head"}', 0),
            "rss": sv.memory_bytes(server.proc.pid, "VmRSS"), "peak": sv.memory_bytes(server.proc.pid, "VmHWM"),
            "blocks": len(server.blocks()), "disk": server.disk_bytes()}


def print_course(seen):
    rows = [["samples, M", "active series", "registry MiB", "head MiB", "RSS MiB", "peak MiB", "blocks", "disk MiB"]]
    for s in seen[:-1:max(1, len(seen) // 12)] + seen[-1:]:
        rows.append(["%.0f" % (s["samples"] / 1e6), "%.0f" % s["active"], mib(s["registry"]), mib(s["head"]),
                     mib(s["rss"]), mib(s["peak"]), str(s["blocks"]), mib(s["disk"])])
    print("\n" + sv.table(rows), flush=True)


def run(o, title, window, load, fn):
    """A new server with the load; then fn(server, report), settled."""
    server = Quipu(os.path.join(o.bin, "quipud"), os.path.join(o.folder, "quipu"), o.port, o.window or window)
    server.wipe()
    server.configure("0")
    try:
        server.start()
        with sv.Sampler(lambda: snapshot(server), 1) as sampler:
            report = sv.ingest(o.quipu, server, *load, "--end", o.end)
        sampler.seen.append(snapshot(server))
        print("\n## %s: %.1f M samples, %.2f M per CPU-second" % (
            title, report["samples"] / 1e6, report["samples_per_cpu_second"] / 1e6))
        print_course(sampler.seen)
        server.settle()
        print_blocks(o, server, report)
        return fn(server, report)
    finally:
        server.stop()
        shutil.rmtree(server.folder)


# ---- what is left ----

def print_blocks(o, server, report):
    sections, n_series, sizes = {}, 0, []
    for path in server.blocks():
        sizes.append(os.stat(path).st_size)
        text = subprocess.run([o.quipu, "inspect", "block", path], stdout=subprocess.PIPE, text=True).stdout
        n_series += int(re.search(r"(\d+) series", text).group(1))
        for name, size in re.findall(r"^(\S+) +\d+ +(\d+) +\d+$", text, re.M):
            sections[name] = sections.get(name, 0) + int(size)
    index = sum(size for name, size in sections.items() if name not in DATA_SECTIONS)
    print("\nsettled: %d blocks (%d below 1 MiB), %s MiB, %.3f bytes per sample" % (
        len(sizes), sum(size < 2**20 for size in sizes), mib(sum(sizes)), sum(sizes) / report["samples"]))
    print("index: %s MiB for %d series in all blocks, %.1f bytes each" % (
        mib(index), n_series, index / max(n_series, 1)))
    print("sections: " + ", ".join("%s %s MiB" % (k, mib(v)) for k, v in sections.items()), flush=True)
    return index


def give_back(server):
    """Retention of a day, then of a minute, which nothing of the load is within: what is left after each."""
    rows = [["retention", "disk MiB", "blocks", "registry MiB", "RSS MiB"]]
    for retention in ("0", "1d", "1m"):
        server.configure(retention)
        server.request("/-/reload", "POST")
        least, since = None, time.monotonic()
        # Until nothing has shrunk for longer than the server's round of a minute.
        while retention != "0" and time.monotonic() - since < 70:
            size = server.disk_bytes()
            if least is None or size < least:
                least, since = size, time.monotonic()
            time.sleep(0.5)
        s = snapshot(server)
        rows.append([retention, mib(s["disk"]), str(s["blocks"]), mib(s["registry"]), mib(s["rss"])])
    print("\n" + sv.table(rows), flush=True)


# ---- the loads ----

def churn(o, lifetime):
    hours = max(2, round(CHURN_HOURS * o.share))

    def after(server, report):
        rows = sv.run_quipu(o.quipu, "bench", "query", "--server", server.url, "--pid", str(server.proc.pid),
                            "--end", o.end, "--n", str(o.n))
        if lifetime != "0":
            give_back(server)
        return {row["name"]: row["cpu_ms"] for row in rows}

    title = "churn-week" if lifetime != "0" else "the same without churn"
    print("\n%s: %d hours, %.2f M names" % (title, hours, CHURN_SERIES * (hours if lifetime != "0" else 1) / 1e6))
    return run(o, title, "1s", ["--preset", "churn-week", "--scrapes", str(hours * 60), "--lifetime", lifetime], after)


def churn_and_control(o):
    with_churn = churn(o, "1h")
    without = {} if o.no_control else churn(o, "0")
    rows = [["CPU per query over the last hour, ms", "churn", "no churn", "churn : no churn"]]
    for name, ms in with_churn.items():
        other = without.get(name)
        rows.append([name, "%.1f" % ms, "%.1f" % other if other else "-", "%.2f" % (ms / other) if other else "-"])
    print("\n" + sv.table(rows), flush=True)


def year(o, order):
    steps = max(1, round(YEAR_STEPS * o.share))

    def after(server, report):
        # Counts what is there, month by month: a query over a year would be over its limit of samples.
        n, end, month = 0, report["end_ms"] // 1000, 30 * 86400
        for t in range(end, report["first_ms"] // 1000 - 1, -month):
            for kind in ("energy_joules_total", "temperature_celsius", "state", "voltage_volts"):
                result = server.query("sum(count_over_time(meter_%s[%ds]))" % (kind, month), str(t))
                n += int(float(result[0]["value"][1])) if result else 0
        print("counted: %d samples of %d" % (n, report["samples"]), flush=True)

    run(o, "year-import, %s" % order, "30m",
        ["--preset", "year-import", "--order", order, "--scrapes", str(steps)], after)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("loads", nargs="+", choices=LOADS)
    parser.add_argument("--bin", default="build/release/bin", help="folder of quipud and quipu")
    parser.add_argument("--share", type=float, default=1, help="of a load's length, for a shorter run")
    parser.add_argument("--window", help="head.window instead of the load's own")
    parser.add_argument("--n", type=int, default=5, help="repetitions of each query")
    parser.add_argument("--no-control", action="store_true", help="leave out the week without churn")
    parser.add_argument("--data", default=None, help="folder for data (a temporary one)")
    parser.add_argument("--port", type=int, default=19545)
    o = parser.parse_args()
    o.quipu = os.path.join(o.bin, "quipu")
    o.folder = o.data or tempfile.mkdtemp(prefix="quipu-long-")
    os.makedirs(o.folder, exist_ok=True)
    o.end = "%d" % time.time()
    print("%s; data on %s" % (sv.machine(), sv.file_system(o.folder)))
    for load in o.loads:
        if load == "churn-week":
            churn_and_control(o)
        else:
            year(o, "series" if load == "year-import" else "shuffled")
    if not o.data:
        os.rmdir(o.folder)


if __name__ == "__main__":
    main()
