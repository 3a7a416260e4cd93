#!/usr/bin/env python3
"""A disk that fills under a server, on a real file system: writes get 503 with the reason and Retry-After, /-/ready and a
metric say so, queries go on, what waits in memory is still written to blocks; kill -9 and a start on the full disk answer
the same; when there is space again, writes go on by themselves, and every acknowledged sample is there."""
import argparse
import os
import shutil
import tempfile
import time

import faults as ft
from faults import MIB, qc


def blocks(data):
    return sorted(name for _, _, names in os.walk(os.path.join(data, "tenants")) for name in names
                  if name.endswith(".block"))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quipud", required=True)
    parser.add_argument("--size-mib", type=int, default=256)
    parser.add_argument("--seed", type=int, default=1)
    o = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="quipu-full-")
    disk = ft.SmallDisk.make(os.path.join(folder, "disk"), o.size_mib * MIB)
    if not disk:
        shutil.rmtree(folder)
        ft.skip("no file system can be mounted here (it takes root)")
    print("a disk of %d MiB, %s" % (o.size_mib, disk.kind), flush=True)
    try:
        problems = run(o, folder, disk)
    finally:
        disk.unmount()
    shutil.rmtree(folder)
    ft.report(problems, "disk full")


def check_refusals(port, writer):
    """What everybody is told while the disk is full."""
    problems = []
    status, headers, text = writer.refusal
    if status != 503 or "Retry-After" not in headers or "full" not in text:
        problems.append("a write got %d %s %s" % (status, headers, text))
    print("a write is told: %s" % text.strip(), flush=True)
    status, _, text = ft.get(port, "/-/ready")
    print("/-/ready says: %d %s" % (status, text.strip()), flush=True)
    if status != 503 or "full" not in text:
        problems.append("/-/ready says %d %s" % (status, text))
    if ft.metric(port, "quipu_disk_full") != 1 or ft.metric(port, "quipu_disk_reserve_bytes") != 0:
        problems.append("the metrics do not say that the disk is full")
    return problems


def run(o, folder, disk):
    port = qc.free_port()
    data = os.path.join(disk.folder, "data")
    log = os.path.join(folder, "quipud.log")
    args = [o.quipud, "--data-dir", data, "--listen", "127.0.0.1:%d" % port, "--wal.segment_size", "4MiB"]
    server = qc.Process(args, log, port).wait_ready()
    writer = ft.Writer(port, seed=o.seed)
    try:
        if not os.path.exists(os.path.join(data, "RESERVE")):
            return ["no reserve was made"]
        writer.start()
        ft.wait_until("some writes", lambda: len(writer.acked) > 100)
        disk.fill(4 * MIB)
        ft.wait_until("a refusal", lambda: ft.metric(port, "quipu_disk_full") == 1)
        time.sleep(0.5)
        full_at = len(writer.acked)
        problems = check_refusals(port, writer) + writer.check()
        ft.wait_until("the head in blocks", lambda: ft.metric(port, "quipu_flushes_total") > 0 and blocks(data))
        problems += writer.check()
        if len(writer.acked) != full_at:
            problems.append("writes were taken on a full disk")
        print("full after %d requests; %d blocks by then" % (full_at, len(blocks(data))), flush=True)

        disk.fill(0)    # also what the head's flush gave back
        there = blocks(data)
        server.kill()
        server = qc.Process(args, log, port, "/-/healthy").wait_ready()
        ft.wait_until("queries after a start on the full disk",
                      lambda: ft.get(port, "/api/v1/query?query=1")[0] == 200)
        problems += writer.check()
        if not set(there) <= set(blocks(data)):
            problems.append("a start on a full disk removed blocks")
        ft.wait_until("refusals again", lambda: writer.refusal and writer.refusal[0] == 503)
        time.sleep(0.5)
        problems += check_refusals(port, writer)
        print("started on the full disk, %d requests there" % len(writer.acked), flush=True)

        before = len(writer.acked)
        disk.unfill()
        began = time.time()
        ft.wait_until("writes by themselves", lambda: len(writer.acked) > before + 50)
        print("space is back: 50 more requests after %.1f s" % (time.time() - began), flush=True)
        ft.wait_until("ready", lambda: ft.get(port, "/-/ready")[0] == 200)
        if ft.metric(port, "quipu_disk_full") != 0 or not os.path.getsize(os.path.join(data, "RESERVE")):
            problems.append("the reserve is not back")
        writer.finish()
        problems += writer.check()
        server.kill()
        server = qc.Process(args, log, port).wait_ready()
        problems += writer.check()
        print("%d requests, answers %s" % (len(writer.acked), writer.outcomes), flush=True)
        return problems
    finally:
        writer.stop.set()
        server.kill()


if __name__ == "__main__":
    main()
