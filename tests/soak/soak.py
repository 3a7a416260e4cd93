#!/usr/bin/env python3
"""Ingest, queries, flushes, compactions and retention at the same time, for minutes or hours, with answers checked all
the while; for the TSan build (no finding) and the release build (stable memory).

    tests/soak/soak.py --bin build/tsan/bin --minutes 30

Checked writers send one sample per series every 10 ms of real time, and late ones; each value is a function of
series and time, so that the model is no more than how far each writer was acknowledged. Checkers ask for random
ranges and compare every sample. Beside them runs a fleet whose pods are replaced every minute, and queries over it.
Prints a line a minute.
"""
import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
import quipu_client as qc

SERIES = 20         # of a writer
STEP_MS = 10
BATCH_STEPS = 10
LATE_STEPS = 300    # how far behind the newest a late sample is
LATE_EVERY = 7      # steps; such a step's late sample lies half a step beside it
RETENTION_S = 600
CHECKED_S = 420     # how far back ranges reach: well within retention
MASK = (1 << 40) - 1
CONFIG = """
retention: %ds
log_level: info
head:
  window: 10s
wal:
  segment_size: 4MiB
storage:
  page_cache: 16MiB
""" % RETENTION_S


def value(writer, series, t_ms):
    """An integer below 2^40: sums of them are exact in any order."""
    x = (t_ms * 0x9E3779B97F4A7C15 + (writer * SERIES + series) * 0xBF58476D1CE4E5B9) & ((1 << 64) - 1)
    x = ((x ^ (x >> 30)) * 0x94D049BB133111EB) & ((1 << 64) - 1)
    return float((x ^ (x >> 31)) & MASK)


class Writer:
    def __init__(self, index, port, t0_ms):
        self.index, self.port, self.t0_ms = index, port, t0_ms
        self.tenant = "soak%d" % (index % 2)
        self.labels = [qc.encode_labels({"__name__": "soak", "writer": str(index), "series": str(s)})
                       for s in range(SERIES)]
        self.acked_ms = t0_ms       # all times before it are acknowledged; late ones LATE_STEPS earlier
        self.n_samples = self.n_busy = 0
        self.problems = []

    def times(self, begin_ms):
        """Of the batch that begins there: its own and the late ones."""
        steps = range(begin_ms, begin_ms + BATCH_STEPS * STEP_MS, STEP_MS)
        late = [t - LATE_STEPS * STEP_MS + STEP_MS // 2 for t in steps if (t - self.t0_ms) // STEP_MS % LATE_EVERY == 0]
        return list(steps) + [t for t in late if t >= self.t0_ms]

    def expected(self, begin_ms, end_ms):
        """Times of (begin, end] that must be there; both before the acknowledged end of the late ones."""
        first = self.t0_ms + ((begin_ms - self.t0_ms) // STEP_MS + 1) * STEP_MS
        out = []
        for t in range(first - STEP_MS, end_ms + 1, STEP_MS):
            if t > begin_ms:
                out.append(t)
            half = t + STEP_MS // 2
            late = (half - STEP_MS // 2 + LATE_STEPS * STEP_MS - self.t0_ms) // STEP_MS % LATE_EVERY == 0
            if late and half >= self.t0_ms and begin_ms < half <= end_ms:
                out.append(half)
        return out

    def run(self, over):
        client = qc.Client(self.port, self.tenant, timeout=120)
        while not over.is_set() and not self.problems:
            end_ms = self.acked_ms + BATCH_STEPS * STEP_MS
            if over.wait(max(0, end_ms / 1000 - time.time())):
                break
            times = self.times(self.acked_ms)
            body = b"".join(qc.encode_series(self.labels[s], [(t, value(self.index, s, t)) for t in times])
                            for s in range(SERIES))
            status, text = client.write(body)
            if status == 204:
                self.acked_ms = end_ms
                self.n_samples += len(times) * SERIES
            elif status == 503:
                self.n_busy += 1
                over.wait(0.2)
            else:
                self.problems.append("write answered %d: %s" % (status, text[:300]))
        client.close()


class Checker:
    """Random ranges of random writers, every sample compared; and sums over them."""

    def __init__(self, index, seed, port, writers):
        self.rng = random.Random(seed * 1000 + index)
        self.port, self.writers = port, writers
        self.n_ranges = self.n_samples = 0
        self.problems = []

    def check_range(self, client, w, end_ms):
        span_ms = self.rng.randrange(1, 20_000)
        begin_ms = max(w.t0_ms, end_ms - span_ms)
        if begin_ms >= end_ms:
            return
        expr = 'soak{writer="%d"}[%dms]' % (w.index, end_ms - begin_ms)
        result = client.query(expr, "%.3f" % (end_ms / 1000))
        expected = w.expected(begin_ms, end_ms)
        seen = {int(s["metric"]["series"]): s["values"] for s in result}
        for s in range(SERIES):
            values = [(round(t * 1000), float(v)) for t, v in seen.get(s, [])]
            if values != [(t, value(w.index, s, t)) for t in sorted(expected)]:
                got, want = dict(values), {t: value(w.index, s, t) for t in expected}
                self.problems.append(
                    "writer %d, series %d, (%d, %d]: %d samples lost, %d invented, %d wrong" % (
                        w.index, s, begin_ms, end_ms, len(want.keys() - got.keys()), len(got.keys() - want.keys()),
                        sum(want[t] != got[t] for t in want.keys() & got.keys())))
                return
        self.n_samples += SERIES * len(expected)

    def check_sum(self, client, w, end_ms):
        newest = max(w.expected(end_ms - LATE_EVERY * STEP_MS, end_ms), default=None)
        if newest is None:
            return
        result = client.query('sum(soak{writer="%d"})' % w.index, "%.3f" % (end_ms / 1000))
        want = sum(value(w.index, s, newest) for s in range(SERIES))
        if len(result) != 1 or float(result[0]["value"][1]) != want:
            self.problems.append("sum of writer %d at %d: %r instead of %r" % (w.index, end_ms, result, want))

    def run(self, over):
        while not over.wait(self.rng.random() * 0.3) and not self.problems:
            w = self.rng.choice(self.writers)
            newest_ms = w.acked_ms - (LATE_STEPS + 1) * STEP_MS
            oldest_ms = max(w.t0_ms + 1000, newest_ms - CHECKED_S * 1000)
            if newest_ms <= oldest_ms:
                continue
            client = qc.Client(self.port, w.tenant, timeout=120)
            end_ms = self.rng.randrange(oldest_ms, newest_ms)
            try:
                self.check_range(client, w, end_ms)
                self.check_sum(client, w, end_ms)
                self.n_ranges += 1
            except RuntimeError as e:
                if ": 503 " not in str(e):
                    self.problems.append(str(e))
            client.close()


class Operator:
    """Flushes and compactions at random."""

    def __init__(self, seed, port):
        self.rng = random.Random(seed * 1000 + 999)
        self.port = port
        self.n_done = 0
        self.problems = []

    def run(self, over):
        client = qc.Client(self.port, timeout=600)
        while not over.wait(self.rng.expovariate(0.3)):
            path = "flush" if self.rng.random() < 0.5 else "compact?level=%d" % self.rng.choice((1, 1, 2))
            client.tenant = self.rng.choice(("soak0", "soak1", "fleet"))
            status, text = client.request("POST", "/api/v1/admin/tsdb/" + path)
            self.n_done += status < 300
            if status >= 300 and status not in (404, 503):
                self.problems.append("%s answered %d: %s" % (path, status, text[:300]))
        client.close()


class Fleet:
    """`quipu bench` beside it all, for load: a churning fleet in real time, and the queries over it."""

    def __init__(self, quipu, port, minutes):
        self.args = [quipu, "bench"]
        self.target = ["--server", "http://127.0.0.1:%d" % port, "--tenant", "fleet", "--timeout", "10m"]
        self.load = ["--preset", "small", "--instances", "4", "--realtime", "--interval", "1s", "--lifetime", "1m",
                     "--retries", "100", "--scrapes", str(int(minutes * 60) + 5)]
        self.problems = []
        self.n_queries = 0

    def start(self, command, more):
        return subprocess.Popen([*self.args, command, *self.target, *more], stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True)

    def run(self, over):
        ingest = self.start("ingest", self.load)
        while not over.wait(2):
            query = self.start("query", ["--n", "3"])
            text = query.communicate()[0]
            if query.returncode and " 503" not in text:
                self.problems.append("queries over the fleet: %s" % text[-500:])
                break
            self.n_queries += 1
            if ingest.poll():
                self.problems.append("ingest of the fleet: %s" % ingest.communicate()[0][-500:])
                break
        ingest.kill()
        ingest.wait()


def memory_mib(pid, field):
    with open("/proc/%d/status" % pid) as f:
        return next(int(line.split()[1]) / 1024 for line in f if line.startswith(field))


def report_line(o, began, server, data, writers, checkers, operator, fleet):
    blocks = [os.path.join(p, n) for p, _, names in os.walk(data) for n in names if n.endswith(".block")]
    size = 0
    for path in blocks:
        try:
            size += os.stat(path).st_size
        except FileNotFoundError:
            pass
    rss = memory_mib(server.proc.pid, "VmRSS")
    print("%5.1f min  RSS %4.0f MiB, peak %4.0f  %3d blocks, %4.0f MiB  %8d samples in, %d times busy  %6d ranges, "
          "%9d samples checked  %d flushes and compactions  %d rounds of queries" % (
              (time.time() - began) / 60, rss, memory_mib(server.proc.pid, "VmHWM"), len(blocks), size / 2**20,
              sum(w.n_samples for w in writers), sum(w.n_busy for w in writers), sum(c.n_ranges for c in checkers),
              sum(c.n_samples for c in checkers), operator.n_done, fleet.n_queries), flush=True)
    return rss


def is_sanitized(binary):
    """Shadow memory grows with every page that was ever touched: it tells nothing of the server."""
    with open(binary, "rb") as f:
        text = f.read()
    return b"__tsan_init" in text or b"__asan_init" in text


def judge_memory(rss):
    """The last third against the second: what still grows after half of the time would not stop."""
    third = len(rss) // 3
    if third < 3:
        return []
    before, after = max(rss[third:2 * third]), max(rss[2 * third:])
    print("memory: at most %.0f MiB in the second third, %.0f in the last" % (before, after))
    return ["memory grows: %.0f, then %.0f MiB" % (before, after)] if after > 1.25 * before + 16 else []


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", required=True, help="folder of quipud and quipu")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--writers", type=int, default=4)
    parser.add_argument("--checkers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--keep", action="store_true", help="leave the data folder behind")
    o = parser.parse_args()
    print("seed %d" % o.seed, flush=True)
    folder = tempfile.mkdtemp(prefix="quipu-soak-")
    config, log, data = (os.path.join(folder, n) for n in ("quipu.yaml", "quipud.log", "data"))
    with open(config, "w") as f:
        f.write(CONFIG)
    port = qc.free_port()
    server = qc.Process([os.path.join(o.bin, "quipud"), "--config", config, "--data-dir", data, "--listen",
                         "127.0.0.1:%d" % port], log, port)
    over, problems, rss = threading.Event(), [], []
    with server:
        server.wait_ready()
        began = time.time()
        t0_ms = int(began) * 1000
        writers = [Writer(i, port, t0_ms) for i in range(o.writers)]
        checkers = [Checker(i, o.seed, port, writers) for i in range(o.checkers)]
        operator, fleet = Operator(o.seed, port), Fleet(os.path.join(o.bin, "quipu"), port, o.minutes)
        actors = [*writers, *checkers, operator, fleet]
        threads = [threading.Thread(target=guarded, args=(a, over)) for a in actors]
        for t in threads:
            t.start()
        end, line = began + o.minutes * 60, min(60, o.minutes * 20)
        while time.time() < end and not problems and server.proc.poll() is None:
            time.sleep(max(0, min(line, end - time.time())))
            if server.proc.poll() is None:
                rss.append(report_line(o, began, server, data, writers, checkers, operator, fleet))
            problems = [p for a in actors for p in a.problems]
        over.set()
        for t in threads:
            t.join()
        problems = [p for a in actors for p in a.problems]
        if not problems and o.minutes >= 10 and not is_sanitized(os.path.join(o.bin, "quipud")):
            problems += judge_memory(rss)
        status = server.terminate(600)
        if status != 0:
            problems.append("quipud ended with %d" % status)
    with open(log, errors="replace") as f:
        text = f.read()
    for word in ("ThreadSanitizer", "AddressSanitizer", "runtime error:", "assertion"):
        if word in text:
            problems.append("%s in the log:\n%s" % (word, text[text.index(word) - 200:][:6000]))
    if not sum(c.n_samples for c in checkers):
        problems.append("nothing was checked")
    if problems:
        print("\n".join(problems[:10]))
        sys.exit("%d problems, seed %d, data and log in %s" % (len(problems), o.seed, folder))
    if not o.keep:
        shutil.rmtree(folder)
    print("soak: fine")


def guarded(actor, over):
    """A thread that dies is a problem, not silence."""
    try:
        actor.run(over)
    except Exception as e:
        actor.problems.append("%s: %r" % (type(actor).__name__, e))


if __name__ == "__main__":
    main()
