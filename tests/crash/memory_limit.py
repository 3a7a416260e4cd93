#!/usr/bin/env python3
"""A server under a memory ceiling: loaded until it refuses work for lack of memory, killed there (kill -9), started
again, and again. It must never hold more than the ceiling, not while it runs, not while it starts, and have all that
it acknowledged.

The ceiling is --memory-limit. Where a control group can be made (as root), the server runs in one as well: then the
limit is what quipud derives from the group, and going over the group's own ends the process.

What is sent: new series without end, samples that do not compress, late samples, wide native histograms, by several
writers, with queries beside them. Every choice comes from --seed; the moments of the kernel do not.
"""
import argparse
import os
import random
import shutil
import struct
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
import quipu_client as qc

MIB = 1 << 20
GROUP_PERCENT = 75      # of a control group's limit, as quipud takes it (tools/memory_plan.h)
SERIES_PER_BATCH = 200
STEP_MS = 10_000


# ---- control groups ----

class Group:
    """A control group with a hard limit; None from make() where there cannot be one."""

    def __init__(self, path, procs):
        self.path, self.procs = path, procs

    @staticmethod
    def make(limit_bytes):
        v1 = os.path.exists("/sys/fs/cgroup/memory/memory.limit_in_bytes")
        path = os.path.join("/sys/fs/cgroup/memory" if v1 else "/sys/fs/cgroup", "quipu-test-%d" % os.getpid())
        try:
            os.mkdir(path)
        except OSError:
            return None
        try:
            with open(os.path.join(path, "memory.limit_in_bytes" if v1 else "memory.max"), "w") as f:
                f.write("%d" % limit_bytes)
        except OSError:
            os.rmdir(path)
            return None
        return Group(path, os.path.join(path, "cgroup.procs"))

    def wrap(self, args):
        return ["/bin/sh", "-c", 'echo $$ >"$0" && exec "$@"', self.procs] + args

    def remove(self):
        for _ in range(100):
            try:
                os.rmdir(self.path)
                return
            except OSError:
                time.sleep(0.05)


# ---- memory of the server ----

def status_bytes(pid, field):
    with open("/proc/%d/status" % pid) as f:
        for line in f:
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
    return 0


# ---- load ----

def zigzag(n):
    return qc.varint(n << 1 if n >= 0 else (-n << 1) - 1)


def encode_histogram(rng, t_ms, n_buckets):
    """A native histogram of integers, schema 8, one span of n_buckets."""
    counts = [rng.randrange(1, 1000) for _ in range(n_buckets)]
    deltas = b"".join(zigzag(c - p) for c, p in zip(counts, [0] + counts))
    span = zigzag(0)[:0] + b"\x08" + zigzag(rng.randrange(100)) + b"\x10" + qc.varint(n_buckets)
    body = (b"\x08" + qc.varint(sum(counts)) + b"\x19" + struct.pack("<d", sum(counts)) + b"\x20" + zigzag(8) +
            b"\x29" + struct.pack("<d", 0.0) + b"\x30" + qc.varint(0) + qc.field(11, span) + qc.field(12, deltas) +
            b"\x78" + qc.varint(t_ms))
    return qc.field(4, body)


class Batch:
    """Series that came together. `have`: samples acknowledged (count, sum of values); `maybe`: sent without an answer."""

    def __init__(self, name, labels):
        self.name, self.labels = name, labels
        self.have = [0, 0]
        self.maybe = [0, 0]


class Writer(threading.Thread):
    def __init__(self, index, seed, port, t0_ms, stop):
        super().__init__()
        self.rng = random.Random(seed * 1000 + index)
        self.index, self.port, self.t0_ms, self.stop = index, port, t0_ms, stop
        self.batches = []
        self.pending = None     # (body, batch, count, sum)
        self.n_refused = self.n_answered = self.n_requests = 0
        self.k = 0
        self.problems = []

    def new_batch(self):
        name = "%d-%d" % (self.index, len(self.batches))
        labels = [qc.encode_labels({"__name__": "mem", "b": name, "i": str(i), "w": str(self.index),
                                    "pod": "pod-%s-%016x" % (name, self.rng.getrandbits(64))})
                  for i in range(SERIES_PER_BATCH)]
        self.batches.append(Batch(name, labels))
        return self.batches[-1]

    def histograms(self):
        """Of a series of its own: only that they are taken counts here."""
        self.k += 1
        labels = qc.encode_labels({"__name__": "wide", "w": str(self.index), "i": str(self.rng.randrange(4))})
        return qc.field(1, labels + encode_histogram(self.rng, self.t0_ms + self.k * 1000, 4000)), None, 0, 0

    def samples(self):
        new = not self.batches or self.rng.random() < 0.5
        batch = self.new_batch() if new else self.rng.choice(self.batches)
        # Times that no other request for the batch has, some before what was there.
        self.k += 1
        n, total, body = 0, 0, b""
        first_ms = self.t0_ms + (self.k * (-1) ** self.rng.randrange(2)) * STEP_MS // 20
        for labels in batch.labels:
            points = []
            for i in range(3):
                v = self.rng.randrange(1 << 40)
                points.append((first_ms + i * 7, float(v)))
                total += v
                n += 1
            body += qc.encode_series(labels, points)
        batch.maybe[0] += n
        batch.maybe[1] += total
        return body, batch, n, total

    def run(self):
        client = qc.Client(self.port, timeout=30)
        while not self.stop.is_set():
            if not self.pending:
                self.pending = self.histograms() if self.rng.random() < 0.1 else self.samples()
            body, batch, n, total = self.pending
            try:
                status, text = client.write(body)
            except (OSError, qc.http.client.HTTPException):
                time.sleep(0.05)
                continue
            self.n_requests += 1
            if status == 204:
                if batch:
                    for i, add in enumerate((n, total)):
                        batch.have[i] += add
                        batch.maybe[i] -= add
                self.pending = None
                self.n_answered += n
            elif status == 503:
                self.n_refused += 1
                time.sleep(0.02)
            else:
                self.problems.append("write answered %d: %s" % (status, text[:300]))
                break
        client.close()


class Asker(threading.Thread):
    """Queries that take all they can get."""

    def __init__(self, index, port, stop):
        super().__init__()
        self.index, self.port, self.stop = index, port, stop
        self.outcomes = {}

    def run(self):
        client = qc.Client(self.port, timeout=60)
        while not self.stop.is_set():
            now = time.time()
            expr = ["sum by (pod) (rate(mem[10m]))", "mem", "count(mem) by (b)", "histogram_quantile(0.9, rate(wide[5m]))"]
            try:
                status, _ = client.get_json("/api/v1/query_range", query=expr[self.index % len(expr)],
                                            start="%.3f" % (now - 1800), end="%.3f" % now, step="15")
                self.outcomes[status] = self.outcomes.get(status, 0) + 1
            except (OSError, qc.http.client.HTTPException):
                time.sleep(0.05)
            time.sleep(0.05)
        client.close()


# ---- checking ----

def ask_until_answered(client, expr, t, patience_s=120):
    """The server may be short of memory for a while after its start; it has to get over it by itself."""
    end = time.time() + patience_s
    while True:
        status, answer = client.get_json("/api/v1/query", query=expr, time=t)
        if status == 200:
            return answer["data"]["result"]
        if status != 503 or time.time() > end:
            raise RuntimeError("%s: %d %s" % (expr, status, answer.get("error")))
        time.sleep(0.5)


def check_batches(port, batches, until_s):
    """Compares what is stored of each batch with what was acknowledged."""
    problems = []
    client = qc.Client(port, timeout=120)
    for at in range(0, len(batches), 20):
        part = batches[at:at + 20]
        found = {}
        for i, fn in enumerate(("count_over_time", "sum_over_time")):
            expr = 'sum by (b) (%s(mem{b=~"%s"}[4h]))' % (fn, "|".join(b.name for b in part))
            for series in ask_until_answered(client, expr, until_s):
                found.setdefault(series["metric"]["b"], [0, 0])[i] = int(float(series["value"][1]))
        for b in part:
            got = found.get(b.name, [0, 0])
            for i, what in enumerate(("samples", "sum")):
                if not b.have[i] <= got[i] <= b.have[i] + b.maybe[i]:
                    problems.append("batch %s: %s %d, acknowledged %d, unanswered %d" %
                                    (b.name, what, got[i], b.have[i], b.maybe[i]))
    client.close()
    return problems


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quipud", required=True)
    parser.add_argument("--limit-mib", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--writers", type=int, default=4)
    parser.add_argument("--askers", type=int, default=2)
    parser.add_argument("--refusals", type=int, default=100, help="503s to see before each kill")
    parser.add_argument("--max-seconds", type=float, default=120, help="of load in a round")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--no-group", action="store_true", help="--memory-limit alone")
    parser.add_argument("--keep", action="store_true", help="leave the data folder behind")
    parser.add_argument("extra", nargs="*", help="more flags of quipud, after --")
    o = parser.parse_args()
    print("seed %d" % o.seed, flush=True)
    folder = tempfile.mkdtemp(prefix="quipu-memory-")
    log = os.path.join(folder, "quipud.log")
    port = qc.free_port()
    limit = o.limit_mib * MIB
    args = [o.quipud, "--data-dir", os.path.join(folder, "data"), "--listen", "127.0.0.1:%d" % port,
            "--retention", "0"] + o.extra
    group = None if o.no_group else Group.make(limit * 100 // GROUP_PERCENT)
    if group:
        args = group.wrap(args)
    else:
        args += ["--memory-limit", "%dMiB" % o.limit_mib]
    print("limit %d MiB, %s" % (o.limit_mib, "control group " + group.path if group else "no control group"), flush=True)
    try:
        problems = run(o, args, log, port, limit)
    finally:
        if group:
            group.remove()
    if problems:
        print("\n".join(problems[:20]))
        print("%d problems, seed %d, data in %s" % (len(problems), o.seed, folder))
        sys.exit(1)
    if not o.keep:
        shutil.rmtree(folder)


def over(problems, pid, limit, when):
    peak = status_bytes(pid, "VmHWM")
    if peak > limit:
        problems.append("%s: %.1f MiB, the limit is %.1f" % (when, peak / MIB, limit / MIB))
    return peak / MIB


def run(o, args, log, port, limit):
    problems, batches, writers = [], [], []
    t0_ms = int(time.time() * 1000) - 3600 * 1000
    for round_no in range(1, o.rounds + 2):
        server = qc.Process(args, log, port)
        pid = server.proc.pid
        try:
            began = time.time()
            server.wait_ready(120)
            ready_s = time.time() - began
            at_start = over(problems, pid, limit, "start %d" % round_no)
            problems += check_batches(port, batches, "%.3f" % (t0_ms / 1000 + 7200))
            after_check = over(problems, pid, limit, "queries after start %d" % round_no)
            acknowledged = sum(b.have[0] for b in batches)
            print("start %d: ready in %.2f s at %.1f MiB, %d samples as acknowledged, %.1f MiB after the queries" %
                  (round_no, ready_s, at_start, acknowledged, after_check), flush=True)
            if round_no > o.rounds or problems:
                break
            problems += load(o, server, pid, port, t0_ms, batches, writers, round_no, limit)
        finally:
            if server.proc.poll() is not None and not server.log.closed:
                problems.append("the server ended with %d\n%s" % (server.proc.returncode, server.tail()))
            server.kill()
        if problems:
            break
    return problems


def load(o, server, pid, port, t0_ms, batches, writers, round_no, limit):
    stop = threading.Event()
    fresh = [Writer(i, o.seed, port, t0_ms, stop) for i in range(o.writers)]
    for w, old in zip(fresh, writers):
        w.rng, w.batches, w.pending, w.k = old.rng, old.batches, old.pending, old.k
    askers = [Asker(i, port, stop) for i in range(o.askers)]
    for thread in fresh + askers:
        thread.start()
    began, peak, nearest = time.time(), 0, 0
    while time.time() - began < o.max_seconds and server.proc.poll() is None:
        if sum(w.n_refused for w in fresh) >= o.refusals:
            # At a moment of much memory, if it comes.
            if status_bytes(pid, "VmRSS") >= limit * 0.85 or nearest > 200:
                break
            nearest += 1
        time.sleep(0.02)
    resident = status_bytes(pid, "VmRSS") / MIB if server.proc.poll() is None else 0
    problems = []
    if server.proc.poll() is None:
        peak = over(problems, pid, limit, "load %d" % round_no)
        server.kill()
    stop.set()
    for thread in fresh + askers:
        thread.join()
    problems += [p for w in fresh for p in w.problems]
    refused, requests = sum(w.n_refused for w in fresh), sum(w.n_requests for w in fresh)
    if refused == 0:
        problems.append("load %d: nothing was refused, so nothing was tested" % round_no)
    outcomes = {}
    for asker in askers:
        for status, n in asker.outcomes.items():
            outcomes[status] = outcomes.get(status, 0) + n
    print("load %d: %.1f s, %d requests, %d refused, queries %s; peak %.1f MiB, killed at %.1f MiB" %
          (round_no, time.time() - began, requests, refused,
           " ".join("%d: %d" % item for item in sorted(outcomes.items())), peak, resident), flush=True)
    writers[:] = fresh
    batches[:] = [b for w in fresh for b in w.batches]
    return problems


if __name__ == "__main__":
    main()
