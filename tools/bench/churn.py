#!/usr/bin/env python3
"""What label churn costs quipud: a fleet whose pods are all replaced every hour, for a simulated week (60,000 live series 60 s
apart, 10 million in all), beside the same fleet without churn.

    tools/bench/churn.py --bin build/release/bin

Prints memory as the week goes by, the bytes of index per series on disk, the CPU of queries over the last hour, and what
retention gives back. A week passes in minutes: --window is the flush window of that time (1 s is about half an hour of the
week).
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

DATA_SECTIONS = {"chunks", "times", "columns"}   # all others are index


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


def snapshot(server):
    """One line of the course of the week."""
    m = server.metrics()
    total = lambda name: sum(v for k, v in m.items() if k.split("{")[0] == name)
    return {"samples": total("quipu_samples_stored_total"), "active": total("quipu_tenant_active_series"),
            "registry": m.get('quipu_memory_bytes{owner="registry"}', 0),
            "head": m.get('quipu_memory_bytes{owner="head"}', 0),
            "rss": sv.memory_bytes(server.proc.pid, "VmRSS"), "peak": sv.memory_bytes(server.proc.pid, "VmHWM"),
            "blocks": len(server.blocks()), "disk": server.disk_bytes()}


def print_course(o, seen, expected):
    rows = [["hours", "active series", "registry MiB", "head MiB", "RSS MiB", "peak MiB", "blocks", "disk MiB"]]
    last = seen[-1]
    for s in seen[::max(1, len(seen) // 12)] + [last]:
        rows.append(["%.0f" % (o.hours * s["samples"] / expected), "%.0f" % s["active"], mib(s["registry"]),
                     mib(s["head"]), mib(s["rss"]), mib(s["peak"]), str(s["blocks"]), mib(s["disk"])])
    print("\n" + sv.table(rows), flush=True)


def index_bytes(o, server):
    """(bytes of all sections that are no samples, series summed over blocks, by section)"""
    sections, n_series = {}, 0
    for path in server.blocks():
        text = subprocess.run([o.quipu, "inspect", "block", path], stdout=subprocess.PIPE, text=True).stdout
        n_series += int(re.search(r"(\d+) series", text).group(1))
        for name, size in re.findall(r"^(\S+) +\d+ +(\d+) +\d+$", text, re.M):
            sections[name] = sections.get(name, 0) + int(size)
    index = {name: size for name, size in sections.items() if name not in DATA_SECTIONS}
    return sum(index.values()), n_series, sections


def run(o, title, lifetime, end):
    server = Quipu(os.path.join(o.bin, "quipud"), os.path.join(o.folder, title), o.port, o.window)
    server.wipe()
    server.configure("0")
    try:
        server.start()
        with sv.Sampler(lambda: snapshot(server), 1) as sampler:
            report = sv.ingest(o.quipu, server, "--preset", "churn-week", "--instances", str(o.instances), "--scrapes",
                               str(o.hours * 60), "--lifetime", lifetime, "--end", end)
        sampler.seen.append(snapshot(server))
        print("\n## %s: %.1f M samples, %.2f M per CPU-second" % (
            title, report["samples"] / 1e6, report["samples_per_cpu_second"] / 1e6))
        print_course(o, sampler.seen, report["expected"])
        server.settle()
        if lifetime != "0":
            size, n, sections = index_bytes(o, server)
            print("\nindex: %.0f MiB, %.1f bytes for each of %d series in all blocks, %.1f for each of %d names" % (
                size / 2**20, size / max(n, 1), n, size / (o.hours * o.instances * 500), o.hours * o.instances * 500))
            print("sections: " + ", ".join("%s %s MiB" % (k, mib(v)) for k, v in sections.items()), flush=True)
        rows = sv.run_quipu(o.quipu, "bench", "query", "--server", server.url, "--pid", str(server.proc.pid),
                            "--end", end, "--n", str(o.n))
        give_back(server)
        return {row["name"]: row for row in rows}
    finally:
        server.stop()
        shutil.rmtree(server.folder)


def give_back(server):
    """Retention of a day, then of a minute, which nothing of the week is within: what is left after each."""
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


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default="build/release/bin", help="folder of quipud and quipu")
    parser.add_argument("--instances", type=int, default=120, help="pods at a time, of 500 series each")
    parser.add_argument("--hours", type=int, default=168)
    parser.add_argument("--window", default="1s", help="head.window")
    parser.add_argument("--n", type=int, default=5, help="repetitions of each query")
    parser.add_argument("--no-control", action="store_true", help="leave out the run without churn")
    parser.add_argument("--data", default=None, help="folder for data (a temporary one)")
    parser.add_argument("--port", type=int, default=19545)
    o = parser.parse_args()
    o.quipu = os.path.join(o.bin, "quipu")
    o.folder = o.data or tempfile.mkdtemp(prefix="quipu-churn-")
    os.makedirs(o.folder, exist_ok=True)
    end = "%d" % time.time()
    print("%s; data on %s" % (sv.machine(), sv.file_system(o.folder)))
    churn = run(o, "churn", "1h", end)
    control = {} if o.no_control else run(o, "no churn", "0", end)
    rows = [["CPU per query over the last hour, ms", "churn", "no churn", "churn : no churn"]]
    for name, row in churn.items():
        other = control.get(name, {}).get("cpu_ms")
        rows.append([name, "%.1f" % row["cpu_ms"], "%.1f" % other if other else "-",
                     "%.2f" % (row["cpu_ms"] / other) if other else "-"])
    print("\n" + sv.table(rows))
    if not o.data:
        os.rmdir(o.folder)


if __name__ == "__main__":
    main()
