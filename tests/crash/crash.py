#!/usr/bin/env python3
"""kill -9 at random moments, under concurrent writers: what was acknowledged is there with its exact value, what was
deleted stays deleted, and nothing is there that nobody sent.

Each round starts quipud on the same data, lets writers send batches (new samples, late ones, repeats of what was
not answered, values written anew) and delete ranges of their series while flushes, compactions and clean-ups of
tombstones are asked for, kills it after a random time (often in replay, or just after one of these was asked for, so
that it dies in the middle of a block or of the catalog's transaction), starts it again, and compares what it holds with the model. With --quipu backups are taken
meanwhile, killed as well, and restored (backups.py). Every random choice comes from --seed; the moments of the
kernel do not.
"""
import argparse
import json
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
from backups import Backups

T0 = 1_700_000_000_000  # ms; all samples are from here on
SERIES_PER_WRITER = 20
CONFIG = """
retention: 0
log_level: info
head:
  window: 1s
deletes:
  rewrite_after: 0
"""
TENANTS = 2


def random_value(rng):
    """A finite double of any size, so that a wrong bit is seen; the API prints it exactly."""
    while True:
        v = struct.unpack("<d", struct.pack("<Q", rng.getrandbits(64)))[0] if rng.random() < 0.5 else \
            float(rng.randrange(1_000_000))
        if v == v and abs(v) != float("inf"):
            return v


class Cleans:
    """How many clean-ups of a tenant's tombstones were begun: from then on its deletes may be forgotten. And how many of
    them are not over: one that is on its way may also forget a delete that comes now."""

    def __init__(self):
        self.begun = [0] * TENANTS
        self.open = [0] * TENANTS

    def now(self, tenant):
        """To be remembered with a delete; None: it may be forgotten from the start."""
        return None if self.open[tenant] else self.begun[tenant]


class Writer:
    """One tenant's worth of series, one connection, one thread at a time. The model: for each series and time the
    values that may be seen. A sample not answered may be there or not; once answered, only it may be. What an answered
    delete covers may not, neither what is there nor what comes, until a clean-up is begun; then what comes may."""

    def __init__(self, index, seed, port, cleans):
        self.rng = random.Random(seed * 1000 + index)
        self.tenant_no = index % TENANTS
        self.tenant = "t%d" % self.tenant_no
        self.cleans = cleans
        self.deletes = []           # (series, from_ms, to_ms, clean-ups begun before; None: it was not answered)
        self.n_deleted = 0
        self.name = "w%d" % index
        self.port = port
        self.labels = [qc.encode_labels({"__name__": "crash", "writer": self.name, "series": str(s)})
                       for s in range(SERIES_PER_WRITER)]
        self.k = 0                  # next time, in seconds after T0
        self.may = {}               # (series, t_ms) -> set of values that may be seen (None: absent)
        self.sent = {}              # (series, t_ms) -> all values ever sent, in order
        self.pending = None         # batch without an answer
        self.answered = 0
        self.problems = []

    def make_batch(self):
        if self.pending and self.rng.random() < 0.7:
            return self.pending     # as a sender repeats it
        batch = []
        for s in range(SERIES_PER_WRITER):
            batch += [(s, T0 + (self.k + i) * 1000, random_value(self.rng)) for i in range(5)]
        self.k += 5
        if self.rng.random() < 0.3 and self.k > 50:     # late samples, at times not used yet
            for _ in range(10):
                t = T0 + self.rng.randrange(self.k) * 1000 + self.rng.randrange(1, 1000)
                batch.append((self.rng.randrange(SERIES_PER_WRITER), t, random_value(self.rng)))
        if self.rng.random() < 0.2 and self.may:        # values written anew
            for key in self.rng.sample(sorted(self.may), min(5, len(self.may))):
                batch.append(key + (random_value(self.rng),))
        last = {}                                       # one value per series and time in a batch
        for s, t, v in batch:
            last[(s, t)] = v
        return [(s, t, v) for (s, t), v in sorted(last.items())]

    def covered(self, key):
        """None: no delete covers it. "perhaps": one that may be in force, else "surely"."""
        found = None
        for s, from_ms, to_ms, begun in self.deletes:
            if s != key[0] or not from_ms <= key[1] <= to_ms:
                continue
            if begun == self.cleans.begun[self.tenant_no]:
                return "surely"
            found = "perhaps"
        return found

    def expect(self, key, value, answered):
        """A write is about to be sent, or was answered."""
        covered = self.covered(key)
        if not answered:
            sent = self.sent.setdefault(key, [])
            if not sent or sent[-1] != value:
                sent.append(value)
        may = self.may.setdefault(key, {None})
        if covered == "surely":
            may.add(None)
        elif answered:
            self.may[key] = {value, None} if covered else {value}
        else:
            may.add(value)

    def delete(self, client):
        """A range of one series, most of it written before."""
        s = self.rng.randrange(SERIES_PER_WRITER)
        from_ms = T0 + self.rng.randrange(self.k) * 1000
        to_ms = from_ms + self.rng.randrange(1, 60) * 1000
        gone = [key for key in self.may if key[0] == s and from_ms <= key[1] <= to_ms]
        for key in gone:
            self.may[key].add(None)
        self.deletes.append((s, from_ms, to_ms, None))
        form = qc.urllib.parse.urlencode({
            "match[]": 'crash{writer="%s",series="%d"}' % (self.name, s),
            "start": "%.3f" % (from_ms / 1000), "end": "%.3f" % (to_ms / 1000)})
        begun = self.cleans.now(self.tenant_no)
        status, text = client.request("POST", "/api/v1/admin/tsdb/delete_series", form.encode(),
                                      {"Content-Type": "application/x-www-form-urlencoded"})
        if status == 204:
            self.deletes[-1] = (s, from_ms, to_ms, begun)
            for key in gone:        # hidden, and removed by whatever clean-up forgets the delete
                self.may[key] = {None}
            self.n_deleted += 1
        elif status != 503:
            self.problems.append("delete answered %d: %s" % (status, text[:300]))

    def send(self, client, batch):
        """By remote write, or as an import of JSON lines."""
        by_series = {}
        for s, t, v in batch:
            by_series.setdefault(s, []).append((t, v))
        if self.rng.random() < 0.8:
            return client.write(b"".join(qc.encode_series(self.labels[s], samples)
                                         for s, samples in sorted(by_series.items())))
        lines = "".join(json.dumps({
            "metric": {"__name__": "crash", "writer": self.name, "series": str(s)},
            "values": [v for _, v in samples], "timestamps": [t for t, _ in samples]}) + "\n"
            for s, samples in sorted(by_series.items()))
        return client.request("POST", "/api/v1/import", lines.encode())

    def run(self, stop):
        client = qc.Client(self.port, self.tenant, timeout=10)
        while not stop.is_set():
            if self.answered and self.rng.random() < 0.05:
                try:
                    self.delete(client)
                except (OSError, qc.http.client.HTTPException):
                    break
            batch = self.make_batch()
            for s, t, v in batch:
                self.expect((s, t), v, False)
            self.pending = batch
            try:
                status, text = self.send(client, batch)
            except (OSError, qc.http.client.HTTPException):
                for s, t, v in batch:           # a clean-up may have begun meanwhile
                    self.expect((s, t), v, False)
                break               # killed; no answer
            if status == 204:
                for s, t, v in batch:
                    self.expect((s, t), v, True)
                self.pending = None
                self.answered += len(batch)
            elif status != 503:
                self.problems.append("write answered %d: %s" % (status, text[:300]))
                break
        client.close()

    def read(self, port, since_ms=T0):
        """All samples that a server has from since_ms on."""
        client = qc.Client(port, self.tenant, timeout=60)
        end_ms = T0 + (self.k + 10) * 1000
        seen = {}
        expr = 'crash{writer="%s"}[%dms]' % (self.name, end_ms - since_ms + 1)
        for series in client.query(expr, "%.3f" % (end_ms / 1000)):
            s = int(series["metric"]["series"])
            for t, v in series["values"]:
                seen[(s, round(t * 1000))] = float(v)
        client.close()
        return seen

    def check(self, since_ms):
        """Compares all samples from since_ms on; an unanswered sample that is found (or not) stays so."""
        seen = self.read(self.port, since_ms)
        for key, v in seen.items():
            may = self.may.get(key)
            if may is None:
                self.problems.append("%s %s: invented %r" % (self.name, key, v))
            elif v not in may:
                self.problems.append("%s %s: %r, may be %r" % (self.name, key, v, may))
        n = 0
        for key, may in self.may.items():
            if key[1] < since_ms:
                continue
            if None not in may and key not in seen:
                self.problems.append("%s %s: lost, was answered as %r" % (self.name, key, may))
            n += 1
        return n


class Operator:
    """Asks for flushes, compactions and clean-ups of tombstones, as an operator might, at any time."""

    def __init__(self, seed, port, cleans):
        self.cleans = cleans
        self.rng = random.Random(seed * 1000 + 999)
        self.port = port
        self.asked = self.done = 0
        self.problems = []

    def ask(self, client):
        tenant = self.rng.randrange(TENANTS)
        path = self.rng.choice(("flush", "flush", "compact?level=%d" % self.rng.choice((1, 1, 2, 3)),
                                "clean_tombstones"))
        client.tenant = "t%d" % tenant
        self.asked += 1
        cleans = path == "clean_tombstones"
        if cleans:
            self.cleans.open[tenant] += 1
            self.cleans.begun[tenant] += 1
        try:
            status, text = client.request("POST", "/api/v1/admin/tsdb/" + path)
        finally:                    # answered, or the server was killed
            self.cleans.open[tenant] -= cleans
        self.done += status < 300
        # 404: a tenant that nobody has written to yet. 503: another flush is under way, or the server is stopping.
        if status >= 300 and status not in (404, 503):
            self.problems.append("%s answered %d: %s" % (path, status, text[:300]))

    def run(self, stop):
        client = qc.Client(self.port, timeout=60)
        while not stop.wait(self.rng.expovariate(5)):
            try:
                self.ask(client)
            except (OSError, qc.http.client.HTTPException):
                break               # killed
        client.close()

    def ask_and_leave(self):
        """A call whose answer nobody waits for: the server is killed meanwhile."""
        client = qc.Client(self.port, timeout=60)
        thread = threading.Thread(target=self.swallow, args=(client,), daemon=True)
        thread.start()
        return thread

    def swallow(self, client):
        try:
            self.ask(client)
        except (OSError, qc.http.client.HTTPException):
            pass
        client.close()


def unfinished_blocks(folder):
    """Files that the killed server was still writing."""
    return sum(name.endswith(".tmp") for _, _, names in os.walk(folder) for name in names)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quipud", required=True)
    parser.add_argument("--quipu", help="path of quipu: backups, too")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--writers", type=int, default=4)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--keep", action="store_true", help="leave the data folder behind")
    o = parser.parse_args()
    print("seed %d" % o.seed, flush=True)
    rng = random.Random(o.seed)
    folder = tempfile.mkdtemp(prefix="quipu-crash-")
    config = os.path.join(folder, "quipu.yaml")
    with open(config, "w") as f:
        f.write(CONFIG)
    port = qc.free_port()
    args = [o.quipud, "--config", config, "--data-dir", os.path.join(folder, "data"),
            "--listen", "127.0.0.1:%d" % port]
    cleans = Cleans()
    writers = [Writer(i, o.seed, port, cleans) for i in range(o.writers)]
    operator = Operator(o.seed, port, cleans)
    backups = Backups(o.quipu, o.quipud, o.seed, port, folder, writers) if o.quipu else None
    log = os.path.join(folder, "quipud.log")
    killed_early = killed_writing = checked = 0
    since = T0
    for round_no in range(1, o.rounds + 1):
        server = qc.Process(args, log, port)
        if 1 < round_no < o.rounds and rng.random() < 0.3:     # in replay, or just after it
            time.sleep(rng.random() * 0.08)
            killed_early += not server.is_ready()
            server.kill()
            continue
        server.wait_ready()
        full = round_no % 20 == 0 or round_no == o.rounds
        for w in writers:
            checked += w.check(T0 if full else since)
        # What may be written late from now on can lie anywhere; the next rounds look back far enough for most,
        # the full checks for all.
        since = max(T0, T0 + (min(w.k for w in writers) - 300) * 1000)
        stop = threading.Event()
        threads = [threading.Thread(target=w.run, args=(stop,)) for w in
                   [*writers, operator, *([backups] if backups else [])]]
        for t in threads:
            t.start()
        time.sleep(rng.random() * (3 if full else 1.5))
        if rng.random() < 0.5:                      # in a flush, a compaction, or what follows it
            threads.append(operator.ask_and_leave())
            time.sleep(rng.random() * rng.choice((0.002, 0.01, 0.05)))
        server.kill()
        killed_writing += unfinished_blocks(folder) > 0
        stop.set()
        for t in threads:
            t.join()
        if backups and full:
            backups.check()
        problems = operator.problems + (backups.problems if backups else []) + [p for w in writers for p in w.problems]
        if problems:
            print("\n".join(problems[:20]))
            print("round %d: %d problems, seed %d, data in %s" % (round_no, len(problems), o.seed, folder))
            sys.exit(1)
    with qc.Process(args, log, port) as server:     # the last word
        server.wait_ready()
        for w in writers:
            checked += w.check(T0)
        problems = [p for w in writers for p in w.problems]
        if server.terminate() != 0:
            problems.append("SIGTERM: exit status %d\n%s" % (server.proc.returncode, server.tail()))
    answered = sum(w.answered for w in writers)
    if problems:
        print("\n".join(problems[:20]))
        print("%d problems, seed %d, data in %s" % (len(problems), o.seed, folder))
        sys.exit(1)
    if answered == 0:
        sys.exit("no write was answered: nothing was tested")
    if not o.keep:
        shutil.rmtree(folder)
    print("%d rounds (%d killed before ready, %d with a block half written), %d samples answered, %d deletes, %d of %d "
          "flushes, compactions and clean-ups done, %d comparisons: nothing lost, nothing invented, nothing returned"
          % (o.rounds, killed_early, killed_writing, answered, sum(w.n_deleted for w in writers), operator.done,
             operator.asked, checked))
    if backups:
        print(backups.summary())
        if not backups.restores:
            sys.exit("no backup was restored")


if __name__ == "__main__":
    main()
