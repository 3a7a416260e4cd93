#!/usr/bin/env python3
"""Backup and restore of a real quipud, under load.

  full         while `quipu bench ingest` writes as fast as it can: what was acknowledged before the call is in the restored
               folder, and queries of the time before it get the source's answers
  killed       the CLI is killed at ten random points; the next run succeeds, no unfinished one looks like a backup
  incremental  a second backup copies new blocks alone; --keep removes the older one, and blocks that only it had
  tenant       one tenant alone: its data, nothing of the others
  until        by arrival, with the log's archive, to the record; by the samples' time without
  damage       a flipped byte, a lost file: restore refuses and names it; a folder in use, a full one: refused

usage: tests/e2e/backup.py --quipud PATH --quipu PATH [--port N] [--seed N]
"""
import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import quipu_client as qc

QUERIES = (
    "count({__name__!=\"\"})",
    "sum by (__name__) ({__name__=~\".+\"})",
    "count by (instance) ({__name__=~\".+\"})",
)


class Failure(Exception):
    pass


def check(ok, text, *args):
    if not ok:
        raise Failure(text % args)


class Test:
    def __init__(self, o, folder):
        self.o, self.folder = o, folder
        self.rng = random.Random(o.seed)
        self.n_servers = 0

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def server(self, data, port=None, **settings):
        self.n_servers += 1
        port = port or self.o.port or qc.free_port()
        args = [self.o.quipud, "--listen", "127.0.0.1:%d" % port, "--data-dir", data, "--log-level", "info"]
        for key, value in settings.items():
            args += ["--" + key.replace("_", "-").replace("--", "."), str(value)]
        log = self.path("quipud-%d.log" % self.n_servers)
        p = qc.Process(args, log, port)
        p.wait_ready()
        p.port = port
        return p

    def cli(self, *args, ok=True):
        p = subprocess.run([self.o.quipu, *args], capture_output=True, text=True)
        if ok:
            check(p.returncode == 0, "quipu %s: %d\n%s%s", " ".join(args), p.returncode, p.stdout, p.stderr)
        return p

    def backup(self, port, to, *args):
        p = self.cli("backup", "--server", "http://127.0.0.1:%d" % port, "--to", to, "--json", *args)
        return json.loads(p.stdout)

    def restore(self, to, *args, source="bk"):
        shutil.rmtree(to, ignore_errors=True)
        return json.loads(self.cli("restore", "--from", self.path(source), "--data-dir", to, "--json", *args).stdout)

    def bench(self, port, *args):
        return subprocess.Popen([self.o.quipu, "bench", "ingest", "--server", "http://127.0.0.1:%d" % port, *args],
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def put(client, name, t_ms, value, **labels):
    labels["__name__"] = name
    status, text = client.write(qc.encode_series(qc.encode_labels(labels), [(t_ms, value)]))
    check(status in (200, 204), "write: %d %s", status, text)


def answers(port, times, tenant=None):
    c = qc.Client(port, tenant)
    out = {}
    for q in QUERIES:
        for t in times:
            rows = c.query(q, t)
            out[q, t] = sorted((json.dumps(r["metric"], sort_keys=True), r["value"][1]) for r in rows)
    c.close()
    return out


def raw(port, end):
    """All samples of some of the load's series."""
    found = qc.Client(port).query('{instance=~".*[13]:.*"}[2h]', end)
    return {tuple(sorted(series["metric"].items())): series["values"] for series in found}


def backups(folder):
    return sorted(n for n in os.listdir(folder) if os.path.exists(os.path.join(folder, n, "manifest.json")))


def full(t, port, client):
    """Under load; and the counter that the writer had acknowledged before the call."""
    end = int(time.time())
    load = t.bench(port, "--preset", "fleet-hour", "--instances", "30", "--scrapes", "3600", "--interval", "1s",
                   "--connections", "4")     # far more than it will get to send
    time.sleep(1.5)
    for i in range(200):
        put(client, "acked", (end - 200 + i) * 1000, i, n=str(i % 7))
    before = client.query('count_over_time(acked[1h])', end)
    r = t.backup(port, t.path("bk"))
    check(load.poll() is None, "the load ended before the backup did: it must last longer")
    load.kill()
    load.wait()
    times = (end - 3595, end - 3590, end - 3580)
    # Not all of the load was there at the moment; what the restored server answers must be what the source had then,
    # and the source has at least that. Series by series: the log is a prefix.
    source, samples = answers(port, times), raw(port, end)
    t.restore(t.path("r"))
    with t.server(t.path("r")) as s:
        c = qc.Client(s.port)
        # Each series was sent in the order of time, so what it was at the moment is how it begins.
        then = raw(s.port, end)
        check(len(then) > 100 and sum(map(len, then.values())) > len(then), "too few samples to compare: %d series", len(then))
        for labels, values in then.items():
            check(values == samples.get(labels, [])[:len(values)], "%s is not how the source began: %s", labels, values[-3:])
        check(c.query('count_over_time(acked[1h])', end) == before, "acknowledged samples are missing after a restore")
        restored = answers(s.port, times)
        for key, rows in restored.items():
            if key[0] != QUERIES[0]:
                names = {m for m, _ in source[key]}
                check(all(m in names for m, _ in rows), "%s at %d: series that the source never had", *key)
        n = float(c.query("count(last_over_time({__name__!=\"\"}[2h]))", end)[0]["value"][1])
        check(n > 100, "only %g series: the backup was too early", n)
    # Quiet now: every answer is the source's.
    t.backup(port, t.path("bk"))
    t.restore(t.path("r"))
    times += (end - 600, end - 60, end)
    source = answers(port, times)
    with t.server(t.path("r")) as s:
        got = answers(s.port, times)
        for key in source:
            check(got[key] == source[key], "%s at %d differs after a restore", *key)
        check(sum(len(v) for v in source.values()) > 100, "the queries find %d rows", sum(len(v) for v in source.values()))
    return "%d MiB of blocks, %.1f s; %d answers alike" % (r["blockBytes"] >> 20, r["seconds"], len(source))


def killed(t, port, client):
    folder = t.path("bk-killed")
    client.request("POST", "/api/v1/admin/tsdb/flush")
    began = time.time()
    t.backup(port, t.path("bk-time"))
    usual = max(time.time() - began, 0.1)
    n_killed = n_tries = 0
    while n_killed < 10 and n_tries < 100:
        n_tries += 1
        p = subprocess.Popen([t.o.quipu, "backup", "--server", "http://127.0.0.1:%d" % port, "--to", folder],
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(usual * t.rng.random())
        if p.poll() is None:
            n_killed += 1
        p.kill()
        p.wait()
        for name in backups(folder) if os.path.isdir(folder) else []:
            t.restore(t.path("r"), source=os.path.join("bk-killed", name))
    check(n_killed == 10, "only %d of %d runs were killed in time", n_killed, n_tries)
    r = t.backup(port, folder)
    left = [n for n in os.listdir(folder) if n.endswith(".tmp")] + [
        n for n in os.listdir(os.path.join(folder, "blocks")) if n.endswith(".tmp")]
    check(not left, "left behind: %s", left)
    check(not os.listdir(t.path("d", "snapshots")), "snapshots left behind: %s", os.listdir(t.path("d", "snapshots")))
    t.restore(t.path("r"), source="bk-killed")
    return "%d killed, %d blocks copied by the last run of %d" % (n_killed, r["blocksCopied"], r["blocks"])


def incremental(t, port, client):
    folder = t.path("bk-inc")
    first = t.backup(port, folder)
    check(first["blocksCopied"] == first["blocks"] > 0, "the first backup copies all: %s", first)
    again = t.backup(port, folder)
    check(again["blocksCopied"] == 0 and again["blocks"] == first["blocks"], "nothing is new: %s", again)
    put(client, "later", int(time.time() * 1000), 1)
    client.request("POST", "/api/v1/admin/tsdb/flush")
    third = t.backup(port, folder)
    check(third["blocksCopied"] == 1, "one block is new: %s", third)
    client.request("POST", "/api/v1/admin/tsdb/compact?level=3")
    last = t.backup(port, folder, "--keep", "2")
    check(last["backupsRemoved"] == 2, "two are to be removed: %s", last)
    check(len(backups(folder)) == 2, "two are to be left: %s", backups(folder))
    used = set()
    for name in backups(folder):
        with open(os.path.join(folder, name, "manifest.json")) as f:
            used |= {os.path.basename(x["path"]) for x in json.load(f)["files"]}
    stored = set(os.listdir(os.path.join(folder, "blocks")))
    check(stored <= used, "blocks of no backup: %s", stored - used)
    for name in backups(folder):
        t.restore(t.path("r"), source=os.path.join("bk-inc", name))
    return "%d blocks, then 0, then 1; after a merge %d of %d" % (
        first["blocks"], last["blocksCopied"], last["blocks"])


def tenant(t, port, client):
    acme = qc.Client(port, "acme")
    now = int(time.time())
    for i in range(50):
        put(acme, "secret", (now - 100 + i) * 1000, i)
    acme.request("POST", "/api/v1/admin/tsdb/flush")
    for i in range(50, 100):
        put(acme, "secret", (now - 100 + i) * 1000, i)
        put(client, "public_marker", (now - 100 + i) * 1000, i)
    want = acme.query("secret[1h]", now)
    t.backup(port, t.path("bk"))
    t.restore(t.path("r"), "--tenant", "acme")
    names = os.listdir(t.path("r", "tenants"))
    check(names == ["acme"], "blocks of %s", names)
    grep = subprocess.run(["grep", "-rlaE", "public_marker", t.path("r")], capture_output=True, text=True)
    check(grep.returncode == 1, "another tenant's labels are in %s", grep.stdout)
    with t.server(t.path("r")) as s:
        check(qc.Client(s.port, "acme").query("secret[1h]", now) == want, "the tenant's samples differ")
        check(qc.Client(s.port).query("count({__name__!=\"\"})", now) == [], "there is another tenant's data")
    p = t.cli("restore", "--from", t.path("bk"), "--data-dir", t.path("r2"), "--tenant", "nobody", ok=False)
    check(p.returncode != 0 and "nobody" in p.stderr, "an unknown tenant: %s", p.stderr)
    return "alone, of 100 samples in block and log"


def until(t, *_):
    """Samples of old times, so that arrival and their own time differ."""
    old = int(time.time()) - 5000
    moments = []
    with t.server(t.path("u"), wal__segment_size="1MiB", wal__archive=t.path("arch")) as s:
        c = qc.Client(s.port)
        put(c, "step", old * 1000, 0)
        time.sleep(0.05)
        t.backup(s.port, t.path("bk-until"))
        # Padding fills some segments, so that the archive has them.
        for i in range(1, 301):
            series = b"".join(qc.encode_series(qc.encode_labels(
                {"__name__": "pad", "k": str(k), "p": t.rng.randbytes(600).hex()}),
                [(old * 1000, 1.0)]) for k in range(20))
            c.write(series)
            put(c, "step", (old + i) * 1000, i)
            if i == 200:
                put(qc.Client(s.port, "late"), "late", old * 1000, 7)
            time.sleep(0.003)
            moments.append(time.time())
            time.sleep(0.003)
        t.backup(s.port, t.path("bk-other"))    # brings the newest part into the archive
        s.terminate()
    for i in [0, 299] + [t.rng.randrange(300) for _ in range(4)]:
        r = t.restore(t.path("r"), "--archive", t.path("arch"), "--until", "%.3f" % moments[i], source="bk-until")
        check(r["cutBy"] == "arrival", "%s", r)
        with t.server(t.path("r")) as s:
            got = qc.Client(s.port).query("count_over_time(step[5000s])", old + 400)
            n = int(float(got[0]["value"][1])) if got else 0
            check(n == i + 2, "until the arrival of %d: %d samples", i + 1, n - 1)
            late = qc.Client(s.port, "late").query("late", old)
            check(len(late) == (i + 1 >= 200), "a tenant younger than the backup, at %d: %s", i + 1, late)
    r = t.restore(t.path("r"), "--until", str(old + 100), source="bk-other")
    check(r["cutBy"] == "sample time", "%s", r)
    with t.server(t.path("r")) as s:
        got = qc.Client(s.port).query("max_over_time(step[5000s])", old + 400)
        check(got and got[0]["value"][1] == "100", "until a sample's time: %s", got)
    os.remove(t.path("arch", sorted(os.listdir(t.path("arch")))[1]))
    p = t.cli("restore", "--from", t.path("bk-until"), "--data-dir", t.path("r3"), "--archive", t.path("arch"), ok=False)
    check(p.returncode != 0 and "missing" in p.stderr, "a gap in the archive: %s", p.stderr)
    check(not os.path.exists(t.path("r3")), "a folder of a failed restore")
    return "6 arrival times, to the record; by sample time; a gap is refused"


def damage(t, port, client):
    name = backups(t.path("bk"))[-1]
    with open(t.path("bk", name, "manifest.json")) as f:
        files = json.load(f)["files"]
    n = 0
    for kind in (".block", ".sqlite", ".wal"):
        path = next(x["path"] for x in files if x["path"].endswith(kind))
        whole = t.path("bk", "blocks", os.path.basename(path)) if kind == ".block" else t.path("bk", name, path)
        with open(whole, "r+b") as f:
            f.seek(os.path.getsize(whole) // 2)
            byte = f.read(1)
            f.seek(-1, os.SEEK_CUR)
            f.write(bytes([byte[0] ^ 4]))
        p = t.cli("restore", "--from", t.path("bk"), "--data-dir", t.path("r4"), ok=False)
        check(p.returncode == 6 and os.path.basename(path) in p.stderr, "a flipped bit in %s: %d %s", path,
              p.returncode, p.stderr)
        check(not os.path.exists(t.path("r4")), "a folder of a damaged backup")
        with open(whole, "r+b") as f:
            f.seek(os.path.getsize(whole) // 2)
            f.write(byte)
        n += 1
    os.rename(whole, whole + ".away")
    p = t.cli("restore", "--from", t.path("bk"), "--data-dir", t.path("r4"), ok=False)
    check(p.returncode == 6 and os.path.basename(whole) in p.stderr, "a lost file: %s", p.stderr)
    os.rename(whole + ".away", whole)
    p = t.cli("restore", "--from", t.path("bk"), "--data-dir", t.path("d"), "--force", ok=False)
    check(p.returncode == 3, "a folder in use: %d %s", p.returncode, p.stderr)
    t.restore(t.path("r"))
    p = t.cli("restore", "--from", t.path("bk"), "--data-dir", t.path("r"), ok=False)
    check(p.returncode != 0 and "not empty" in p.stderr, "a full folder: %s", p.stderr)
    t.cli("restore", "--from", t.path("bk"), "--data-dir", t.path("r"), "--force")
    check([x for x in os.listdir(t.folder) if x.startswith("r.replaced-")], "nothing was set aside")
    return "%d flipped bits and a lost file named" % n


def offline(t, *_):
    r = json.loads(t.cli("backup", "--data-dir", t.path("d"), "--to", t.path("bk-off"), "--json").stdout)
    t.restore(t.path("r"), source="bk-off")
    with t.server(t.path("r")) as s:
        n = qc.Client(s.port).query("count(count_over_time({__name__!=\"\"}[2h]))", time.time())
        check(n and float(n[0]["value"][1]) > 1000, "offline backup: %s", n)
    return "%d blocks" % r["blocks"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quipud", required=True)
    parser.add_argument("--quipu", required=True)
    parser.add_argument("--port", type=int, default=0, help="of the server that is backed up")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    o = parser.parse_args()
    port, o.port = o.port or qc.free_port(), 0
    folder = tempfile.mkdtemp(prefix="quipu-backup-")
    t = Test(o, folder)
    print("seed %d" % o.seed)
    try:
        with t.server(t.path("d"), port=port) as server:
            client = qc.Client(port)
            for part in (full, killed, incremental, tenant, damage):
                began = time.time()
                print("%-12s %s (%.1f s)" % (part.__name__, part(t, port, client), time.time() - began), flush=True)
            p = t.cli("backup", "--data-dir", t.path("d"), "--to", t.path("bk-off"), ok=False)
            check(p.returncode == 3, "offline, of a folder in use: %d %s", p.returncode, p.stderr)
            server.terminate()
        for part in (offline, until):
            began = time.time()
            print("%-12s %s (%.1f s)" % (part.__name__, part(t), time.time() - began), flush=True)
    except Failure as e:
        print("FAILED: %s\nfiles are in %s" % (e, folder))
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
