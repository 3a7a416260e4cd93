#!/usr/bin/env python3
"""A Prometheus with its stock remote_write settings (no queue_config) that writes to a quipu which is overloaded, then has a full disk,
then is stopped for a while, has lost no sample afterwards: what the two answer for the whole time is compared, sample by
sample, through the same API."""
import argparse
import os
import shutil
import signal
import sys
import tempfile
import threading
import time

import faults as ft
from faults import MIB, qc

CONFIG = """
global: {{scrape_interval: 1s, scrape_timeout: 1s, external_labels: {{}}}}
scrape_configs:
  - job_name: self
    static_configs: [{{targets: ["127.0.0.1:{prometheus}"]}}]
  - job_name: quipu
    static_configs: [{{targets: ["127.0.0.1:{quipu}"]}}]
remote_write:
  - url: http://127.0.0.1:{quipu}/api/v1/write
"""


def compare(prometheus, quipu, start, end):
    """(samples compared, problems): each raw sample of Prometheus in [start, end] is in quipu with its value."""
    problems, n = [], 0
    # (left-open in Prometheus 3, closed before: a millisecond off every sample of both)
    expr = '{job=~"self|quipu"}[%ds]' % int(end - start)
    ours, theirs = ({tuple(sorted(s["metric"].items())): dict((round(t * 1000), v) for t, v in s["values"])
                     for s in client.query(expr, "%.3f" % end)} for client in (quipu, prometheus))
    for key, samples in theirs.items():
        mine = ours.get(key, {})
        n += len(samples)
        missing = sorted(t for t in samples if t not in mine)
        other = [t for t in samples if t in mine and mine[t] != samples[t] and float(mine[t]) != float(samples[t])
                 and mine[t] != "NaN"]
        if missing:
            problems.append("%s: %d of %d samples missing, the first at %d, the last at %d" %
                            (dict(key).get("__name__"), len(missing), len(samples), missing[0], missing[-1]))
        if other:
            problems.append("%s: %d samples with another value" % (dict(key).get("__name__"), len(other)))
    return n, problems


def newest(client, at):
    """When the newest sample was taken that a server has of Prometheus itself."""
    try:
        found = client.query('max(timestamp(up{job="self"}))', "%.3f" % at)
        return float(found[0]["value"][1]) if found else 0
    except RuntimeError:
        return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quipud", required=True)
    parser.add_argument("--prometheus", default=shutil.which("prometheus"))
    parser.add_argument("--down", type=float, default=8, help="seconds that quipu is stopped; 300 in the long form")
    parser.add_argument("--full", type=float, default=6, help="seconds that its disk is full")
    parser.add_argument("--overload", type=float, default=6, help="seconds that others flood it")
    o = parser.parse_args()
    if not o.prometheus:
        ft.skip("there is no prometheus here")
    folder = tempfile.mkdtemp(prefix="quipu-prometheus-")
    disk = ft.SmallDisk.make(os.path.join(folder, "disk"), 256 * MIB)
    try:
        problems = run(o, folder, disk)
    finally:
        if disk:
            disk.unmount()
    if not problems:
        shutil.rmtree(folder)
    ft.report(problems, "a stock Prometheus")


def run(o, folder, disk):
    ports = {"prometheus": qc.free_port(), "quipu": qc.free_port()}
    config = os.path.join(folder, "prometheus.yml")
    with open(config, "w") as f:
        f.write(CONFIG.format(**ports))
    data = os.path.join(disk.folder if disk else folder, "data")
    args = [o.quipud, "--data-dir", data, "--listen", "127.0.0.1:%d" % ports["quipu"], "--memory-limit", "256MiB"]
    log = lambda name: os.path.join(folder, name + ".log")
    qc.print_version(o.prometheus)
    server = qc.Process(args, log("quipud"), ports["quipu"]).wait_ready()
    prometheus = qc.Process([o.prometheus, "--config.file=" + config, "--storage.tsdb.path=" + os.path.join(folder, "tsdb"),
                             "--web.listen-address=127.0.0.1:%d" % ports["prometheus"]], log("prometheus"), ports["prometheus"])
    problems, floods = [], []
    quipu = qc.Client(ports["quipu"], timeout=60)
    try:
        prometheus.wait_ready(60)
        theirs = qc.Client(ports["prometheus"], timeout=60)
        began = time.time()
        time.sleep(5)

        floods = [ft.Writer(ports["quipu"], name="flood", tenant="flood", series=1000, seed=i, step_ms=1) for i in range(8)]
        for i, w in enumerate(floods):
            w.t0_ms += i * 1000
            w.start()
        time.sleep(o.overload)
        for w in floods:
            w.stop.set()
        for w in floods:
            w.finish()
        outcomes = [w.outcomes for w in floods]
        print("overloaded for %.0f s: %d requests of others" % (o.overload, sum(sum(x.values()) for x in outcomes)), flush=True)

        if disk:
            # Somebody else uses up what the log has allocated ahead.
            floods = [ft.Writer(ports["quipu"], name="more", tenant="flood", series=1000, seed=9, step_ms=1)]
            floods[0].start()
            disk.fill(0)
            ft.wait_until("a full disk", lambda: ft.get(ports["quipu"], "/-/ready")[0] == 503, 60)
            floods[0].finish()
            time.sleep(o.full)
            disk.unfill()
            ft.wait_until("space", lambda: ft.get(ports["quipu"], "/-/ready")[0] == 200, 30)
            print("full for %.0f s" % o.full, flush=True)
        else:
            print("the disk is not filled: no file system can be mounted here (it takes root)")

        status = server.terminate()
        print("stopped for %.0f s (exit %d)" % (o.down, status), flush=True)
        time.sleep(o.down)
        server = qc.Process(args, log("quipud"), ports["quipu"]).wait_ready()
        quipu.close()
        time.sleep(2)
        end = time.time()
        ft.wait_until("Prometheus to catch up", lambda: newest(quipu, time.time()) > end + 2, 120)
        # Series are sent by several shards: what one has sent does not say that all have.
        n = 0
        for _ in range(60):
            n, problems = compare(theirs, quipu, began, end)
            if not problems:
                break
            time.sleep(1)
        print("%d samples of Prometheus compared over %.0f s" % (n, end - began), flush=True)
        if n < 1000:
            problems.append("only %d samples were compared" % n)
        for what in ("dropped", "failed"):
            found = theirs.query("sum(prometheus_remote_storage_samples_%s_total)" % what, "%.3f" % time.time())
            value = float(found[0]["value"][1]) if found else 0
            print("prometheus_remote_storage_samples_%s_total %d" % (what, value))
            if value:
                problems.append("Prometheus says that it %s %d samples" % (what, value))
        return problems
    finally:
        for w in floods:
            w.stop.set()
        prometheus.kill()
        server.kill()


if __name__ == "__main__":
    main()
