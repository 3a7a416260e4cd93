#!/usr/bin/env python3
"""Files that fail under a running server. A block that is cut short: the query that meets it names the file, all else goes on,
and no signal ends the process, as no file of data is mapped. Too few descriptors for all blocks and connections: blocks are
opened when they are read, connections wait or are refused, and it is over when they go."""
import argparse
import os
import resource
import shutil
import socket
import subprocess
import tempfile
import time

import faults as ft
from faults import qc

TENANTS = 60
DESCRIPTORS = 160


def block_files(data):
    return [os.path.join(at, name) for at, _, names in os.walk(os.path.join(data, "tenants")) for name in names
            if name.endswith(".block")]


def mapped(pid, data):
    """Files of the data folder that are mapped into the process: bytes that vanish from such a file are a SIGBUS."""
    with open("/proc/%d/maps" % pid) as f:
        return [line.strip() for line in f if data in line]


def write_some(port, tenant, series=40, samples=200):
    client = qc.Client(port, tenant=tenant, timeout=60)
    t0 = (int(time.time()) - 1800) * 1000
    for i in range(series):
        labels = qc.encode_labels({"__name__": "files", "s": str(i)})
        status, text = client.write(qc.encode_series(labels, [(t0 + k * 1000, float(k * i)) for k in range(samples)]))
        if status != 204:
            raise RuntimeError("write: %d %s" % (status, text))
    client.close()


def ask(port, tenant, expr="sum(count_over_time(files[2h]))"):
    client = qc.Client(port, tenant=tenant, timeout=60)
    status, answer = client.get_json("/api/v1/query", query=expr)
    client.close()
    return status, answer


def value_of(answer):
    result = answer.get("data", {}).get("result")
    return float(result[0]["value"][1]) if result else None


def cut_block(o, folder):
    port, data = qc.free_port(), os.path.join(folder, "cut")
    args = [o.quipud, "--data-dir", data, "--listen", "127.0.0.1:%d" % port, "--head.window", "1s",
            "--storage.page_cache", "0", "--compaction.enabled", "false"]
    server = qc.Process(args, os.path.join(folder, "cut.log"), port).wait_ready()
    problems = []
    try:
        for tenant in ("good", "bad"):
            write_some(port, tenant)
        ft.wait_until("blocks of both", lambda: len(block_files(data)) >= 2 and ft.metric(port, "quipu_head_bytes") == 0)
        problems += ["mapped: " + line for line in mapped(server.proc.pid, data)]
        bad = [path for path in block_files(data) if "/bad/" in path]
        for path in bad:
            os.truncate(path, os.path.getsize(path) // 3)
        status, answer = ask(port, "bad")
        print("a query of the block that was cut: %d %s" % (status, answer.get("error")), flush=True)
        if status == 200 and value_of(answer) == 40 * 200:
            problems.append("the block is cut, and all of it is answered")
        if status < 400 or not any(os.path.basename(path) in answer.get("error", "") for path in bad):
            problems.append("the answer does not name the file: %d %s" % (status, answer))
        status, answer = ask(port, "good")
        if status != 200 or value_of(answer) != 40 * 200:
            problems.append("another tenant: %d %s" % (status, answer))
        write_some(port, "bad", series=2, samples=2)
        if server.proc.poll() is not None:
            problems.append("the server ended: %s" % server.tail())
    finally:
        server.kill()
    return problems


def few_descriptors(o, folder):
    port, data = qc.free_port(), os.path.join(folder, "few")
    args = [o.quipud, "--data-dir", data, "--listen", "127.0.0.1:%d" % port, "--head.window", "1s",
            "--storage.page_cache", "0"]
    limit = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
    log = open(os.path.join(folder, "few.log"), "ab")
    server = qc.Process.__new__(qc.Process)
    server.args, server.log_path, server.log = args, log.name, log
    server.ready_port, server.ready_path = port, "/-/ready"
    server.proc = subprocess.Popen(args, stdout=log, stderr=log, stdin=subprocess.DEVNULL, preexec_fn=limit)
    problems = []
    try:
        server.wait_ready()
        tenants = ["t%d" % i for i in range(TENANTS)]
        for tenant in tenants:
            write_some(port, tenant, series=3, samples=20)
        ft.wait_until("blocks of all", lambda: len(block_files(data)) >= TENANTS and
                      ft.metric(port, "quipu_head_bytes") == 0)
        for round_no in range(2):
            for tenant in tenants:
                status, answer = ask(port, tenant)
                if status != 200 or value_of(answer) != 60:
                    problems.append("tenant %s: %d %s" % (tenant, status, answer))
        n_fds = len(os.listdir("/proc/%d/fd" % server.proc.pid))
        print("%d blocks, %d descriptors of %d in use, %d of them blocks" % (
            len(block_files(data)), n_fds, DESCRIPTORS, ft.metric(port, "quipu_block_files_open")), flush=True)
        if n_fds > DESCRIPTORS - 10:
            problems.append("%d descriptors are in use, %d allowed" % (n_fds, DESCRIPTORS))
        # More connections than there can be: the oldest give way, and those who ask get answers.
        idle = []
        for _ in range(DESCRIPTORS * 2):
            s = socket.create_connection(("127.0.0.1", port))
            idle.append(s)
        ft.wait_until("an answer beside idle connections", lambda: ask_quietly(port, "t1") == 60, 30)
        write_some(port, "t1", series=1, samples=1)
        for s in idle:
            s.close()
        for tenant in tenants[:10]:
            status, answer = ask(port, tenant)
            if status != 200:
                problems.append("afterwards, tenant %s: %d %s" % (tenant, status, answer))
    finally:
        server.kill()
    return problems


def ask_quietly(port, tenant):
    try:
        return value_of(ask(port, tenant)[1])
    except (OSError, ValueError, qc.http.client.HTTPException):
        return None


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quipud", required=True)
    o = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="quipu-files-")
    problems = cut_block(o, folder) + few_descriptors(o, folder)
    if not problems:
        shutil.rmtree(folder)
    ft.report(problems, "files that fail")


if __name__ == "__main__":
    main()
