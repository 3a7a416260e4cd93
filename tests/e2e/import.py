#!/usr/bin/env python3
"""The data of a real Prometheus moves to quipud by `quipu import`, and every query answers as it did there: from blocks with
floats, staleness markers, native histograms of all kinds and deleted ranges, and from what promtool dumps. Then all of it goes
through `quipu export` and back in, and must come out the same to the byte. Broken blocks are named, the rest goes in.

With --reduced the Prometheus may be an older release, 2.42 say, which knows native histograms less well.
"""
import argparse
import glob
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import differential as df
import differential_data as dd
import quipu_client as qc
import remote_read as rr

SPAN = rr.SPAN
ALL = '{__name__!=""}'
EXPRESSIONS = (
    "requests_total", "temperature", "load", "up", "build_info", "slots", "visits", "target_info",
    "rate(requests_total[5m])", "sum by (job) (rate(requests_total[5m]))", "increase(requests_total[10m])",
    "irate(requests_total[2m])", "resets(requests_total[30m])", "changes(slots[10m])", "delta(temperature[5m])",
    "deriv(temperature[10m])", "avg_over_time(temperature[7m])", "min_over_time(temperature[7m])",
    "max_over_time(temperature[7m])", "quantile_over_time(0.3, temperature[9m])", "stddev_over_time(load[9m])",
    "last_over_time(load[3m])", "present_over_time(load[1m])", "absent_over_time(load[30s])",
    "count_over_time(requests_total[6m])", "sum(load)", "avg by (instance) (load)", "topk(2, load)", "bottomk(1, load)",
    "count_values(\"v\", up)", "quantile(0.5, temperature)", "stdvar(temperature)", "group by (zone) (temperature)",
    "histogram_quantile(0.9, sum by (le) (rate(latency_bucket[5m])))",
    "histogram_quantile(0.5, rate(latency_bucket{job=\"web\",handler=\"/\"}[5m]))",
    "requests_total / on (job, instance) group_left load", "load > 2", "load > bool 2", "up == 1 and load < 3",
    "load or up", "load unless up", "-temperature", "abs(temperature)", "clamp(temperature, -10, 10)",
    "label_replace(up, \"x\", \"$1\", \"instance\", \"(.*):1\")", "sort_desc(load)", "scalar(sum(up))",
    "timestamp(up)", "load offset 3m", "requests_total{code!~\"2..\",job!=\"web\"}", "max_over_time(load[5m:30s])",
    "count ({__name__=~\"l.*\"}) by (__name__)",
)
# Without rates of counters that begin at zero: releases differ in how far those are extrapolated.
HISTOGRAM_EXPRESSIONS = (
    "size", "whole", "sum by (job) (size)", "histogram_count(size)", "histogram_sum(size_gauge)",
    "histogram_quantile(0.9, size)", "histogram_fraction(1, 4, size)", "histogram_quantile(0.5, wait)",
    "resets(size[20m])", "resets(whole[20m])", "changes(whole[5m])", "delta(size_gauge[5m])", "whole_gauge",
    "histogram_count(whole) - histogram_count(whole offset 1m)", "mixed", "avg_over_time(size_gauge[4m])",
)


class Test:
    def __init__(self, o):
        self.o = o
        self.folder = tempfile.mkdtemp(prefix="quipu-import-")
        self.quipu = os.path.join(os.path.dirname(o.quipud), "quipu")
        self.bad = []
        self.n_points = 0

    def file(self, name):
        return os.path.join(self.folder, name)

    def prometheus(self, name, port):
        with open(self.file(name + ".yml"), "w") as f:
            f.write(rr.DIRECT)
        args = [self.o.prometheus, "--config.file=" + self.file(name + ".yml"), "--storage.tsdb.path=" + self.file(name),
                "--web.enable-remote-write-receiver", "--web.enable-admin-api", "--log.level=warn",
                "--storage.tsdb.retention.time=100y", "--web.listen-address=127.0.0.1:%d" % port]
        args += [] if self.o.reduced else ["--enable-feature=native-histograms"]
        return qc.Process(args, self.file(name + ".log"), port)

    def run(self, *args, status=0, stdin=None):
        done = subprocess.run([self.quipu, *args], capture_output=True, text=True, stdin=stdin)
        if done.returncode != status:
            self.bad.append("quipu %s: status %d, not %d\n%s%s" % (" ".join(args), done.returncode, status, done.stdout[-2000:],
                                                                  done.stderr[-2000:]))
        return done.stdout, done.stderr

    def expect(self, what, condition):
        if not condition:
            self.bad.append(what)


def ask(client, expressions, base):
    """All answers of a server, by expression."""
    out = {}
    for expr in expressions:
        params = {"query": expr, "start": base + 300.3, "end": base + SPAN, "step": 37}
        status, answer = client.get_json("/api/v1/query_range", **params)
        assert status == 200, (expr, answer)
        out[expr] = {json.dumps(s["metric"], sort_keys=True): s for s in answer["data"]["result"]}
    return out


def samples_of(client, metrics, base):
    out = {}
    for metric in metrics:
        status, answer = client.get_json("/api/v1/query", query=rr.selector(metric) + "[70m]", time=base + SPAN + 0.5)
        assert status == 200, (metric, answer)
        out[metric] = {json.dumps(s["metric"], sort_keys=True): s for s in answer["data"]["result"]}
    return out


def same_result(a, b):
    """Within rounding: servers add in other orders."""
    if a.keys() != b.keys():
        return False
    for key in a:
        x, y = df.points(a[key]), df.points(b[key])
        if x.keys() != y.keys() or not all(
                (df.same_number if k[1] == "value" else df.same_histogram)(x[k], y[k]) for k in x):
            return False
    return True


def compare(test, what, before, after):
    for key in before:
        test.n_points += sum(len(s.get("values", ())) + len(s.get("histograms", ())) for s in before[key].values())
        if not before[key] and not key.startswith("absent"):
            test.bad.append("%s: %s has no answer to compare" % (what, key))
        if not same_result(before[key], after[key]):
            test.bad.append("%s: %s\n    before %.500s\n    after  %.500s" % (what, key, before[key], after[key]))


def make_data(test, port, base):
    """Writes into a Prometheus and returns the folder of a snapshot of it."""
    with test.prometheus("origin", port) as origin:
        origin.wait_ready()
        client = qc.Client(port)
        data = dd.Data(test.o.seed, base, SPAN, test.o.reduced)
        data.make_floats()
        for labels, samples in data.floats:     # in order: what is late is not in a snapshot
            dd.send((client,), qc.encode_series(qc.encode_labels(labels), samples))
        if not test.o.reduced:
            data.make_histograms()
        for labels, samples in data.histograms:
            dd.send((client,), dd.encode_histograms(labels, samples))
        if not test.o.reduced:
            rr.write_integers((client,), test.o.seed, base)
        status, body = client.request("POST", "/api/v1/admin/tsdb/snapshot")
        assert status == 200, body
        client.close()
        return os.path.join(test.file("origin"), "snapshots", json.loads(body)["data"]["name"])


def delete_some(client, base):
    """Deleted ranges of a block are in a file of their own."""
    for match, start, end in (('visits{n="1"}', base + 600, base + 1800), ('slots{job="web"}', base, base + 1234.5)):
        status, body = client.request("POST", "/api/v1/admin/tsdb/delete_series?" + qc.urllib.parse.urlencode(
            {"match[]": match, "start": start, "end": end}))
        assert status == 204, body


def check_broken(test, server, data_dir):
    """A flipped byte costs a chunk, a cut index its block; both are named."""
    for what, pattern, cut in (("chunk", "chunks/000001", False), ("index", "index", True)):
        broken = test.file("broken-" + what)
        shutil.copytree(data_dir, broken, ignore=shutil.ignore_patterns("wal", "chunks_head", "lock", "queries.active"))
        path = sorted(glob.glob(os.path.join(broken, "0*", pattern)))[0]
        with open(path, "r+b") as f:
            size = os.path.getsize(path)
            f.seek(size // 2)
            byte = f.read(1)[0]
            f.seek(size // 2)
            f.write(bytes([byte ^ 0x40]))
            if cut:
                f.truncate(size // 2)
        out, err = test.run("import", *server, "--tenant", "broken-" + what, "--from-prometheus", broken, status=1)
        test.expect("a broken %s is not named: %s" % (what, err), path in err and "left out" in err and "left out" in out)


def check_round_trip(test, server):
    """Out and in again, twice: the same bytes, also through gzip and standard input."""
    first, second = test.file("first.jsonl"), test.file("second.jsonl")
    test.run("export", *server, "--match", ALL, "--output", first)
    test.run("import", *server, "--tenant", "again", first)
    test.run("export", *server, "--tenant", "again", "--match", ALL, "--output", second)
    with open(first, "rb") as a, open(second, "rb") as b:
        lines = a.read()
        test.expect("an export that was imported is not the same", lines == b.read() and len(lines) > 100000)
    test.expect("the export has no staleness markers", b"NaN:7ff0000000000002" in lines)
    packed = subprocess.run(["gzip", "-1", "-c", first], capture_output=True, check=True).stdout
    with open(first + ".gz", "wb") as f:
        f.write(packed)
    with open(first + ".gz", "rb") as f:
        test.run("import", *server, "--tenant", "again", "-", stdin=f)
    test.run("export", *server, "--tenant", "again", "--match", ALL, "--output", second)
    with open(second, "rb") as b:
        test.expect("an import that is repeated changes something", lines == b.read())
    return first


def check_texts(test, server, port, base, before):
    """OpenMetrics keeps what text can say."""
    om = test.file("all.om")
    test.run("export", *server, "--match", "up", "--match", "slots", "--format", "openmetrics", "--output", om)
    test.run("import", *server, "--tenant", "om", om)
    client = qc.Client(port, "om")
    for metric in ("slots",):
        after = samples_of(client, (metric,), base)
        compare(test, "OpenMetrics", {metric: before[metric]}, after)
    client.close()


def check_dump(test, server, port, base, data_dir, before):
    if not test.o.promtool:
        return
    dump = test.file("dump.txt")
    with open(dump, "w") as f:
        subprocess.run([test.o.promtool, "tsdb", "dump", "--match={__name__=~\"requests_total|visits|slots\"}", data_dir],
                       stdout=f, check=True)
    test.run("import", *server, "--tenant", "dump", "--from-promtool-dump", dump)
    client = qc.Client(port, "dump")
    names = ("slots", "visits")
    compare(test, "dump", {name: before[name] for name in names}, samples_of(client, names, base))
    client.close()


def check_victoria(test, server, first):
    """What VictoriaMetrics took from our export and exports itself comes back in; NaN of any bits is one NaN there."""
    if not test.o.victoria:
        return
    port = qc.free_port()
    args = [test.o.victoria, "-storageDataPath", test.file("victoria"), "-retentionPeriod", "100y",
            "-httpListenAddr", "127.0.0.1:%d" % port]
    floats = b"".join(line for line in open(first, "rb") if b'"histograms"' not in line and b"NaN:" not in line)
    with qc.Process(args, test.file("victoria.log"), port, "/health") as victoria:
        victoria.wait_ready()
        client = qc.Client(port)
        status, body = client.request("POST", "/api/v1/import", floats)
        assert status == 204, body
        client.request("GET", "/internal/force_flush")
        status, body = client.request("POST", "/api/v1/export?match[]=" + qc.urllib.parse.quote('{__name__=~"slots|up"}'))
        assert status == 200 and body, (status, body)
        client.close()
    exported = test.file("victoria.jsonl")
    with open(exported, "wb") as f:
        f.write(body)
    test.run("import", *server, "--tenant", "victoria", exported)
    theirs = test.file("theirs.jsonl")
    test.run("export", *server, "--tenant", "victoria", "--match", ALL, "--output", theirs)
    ours = [json.loads(line) for line in floats.decode().split("\n") if line]
    ours = [o for o in ours if o["metric"]["__name__"] in ("slots", "up")]
    back = [json.loads(line) for line in open(theirs)]
    test.expect("VictoriaMetrics gave back something else: %.300s\n%.300s" % (ours, back),
                len(ours) == len(back) > 0 and all(o in back for o in ours))


def move(test, base):
    """The whole way; returns after both servers are gone."""
    o, port, quipud_port = test.o, qc.free_port(), qc.free_port()
    snapshot = make_data(test, port, base)
    shutil.move(snapshot, test.file("moved"))
    metrics = rr.METRICS + (() if o.reduced else rr.NEW_METRICS)
    expressions = EXPRESSIONS + (() if o.reduced else HISTOGRAM_EXPRESSIONS)
    with test.prometheus("moved", port) as moved:
        moved.wait_ready()
        client = qc.Client(port)
        delete_some(client, base)
        before, samples = ask(client, expressions, base), samples_of(client, metrics, base)
        client.close()
        moved.terminate()
    args = [o.quipud, "--data-dir", test.file("quipu"), "--listen", "127.0.0.1:%d" % quipud_port, "--retention", "0"]
    server = ("--server", "http://127.0.0.1:%d" % quipud_port)
    with qc.Process(args, test.file("quipud.log"), quipud_port) as quipud:
        quipud.wait_ready()
        out, err = test.run("import", *server, "--from-prometheus", test.file("moved"))
        print(out.strip(), flush=True)
        test.expect("nothing is said of the head's log: " + err, "/api/v1/admin/tsdb/snapshot" in err)
        client = qc.Client(quipud_port)
        compare(test, "query", before, ask(client, expressions, base))
        compare(test, "samples", samples, samples_of(client, metrics, base))
        client.close()
        first = check_round_trip(test, server)
        check_texts(test, server, quipud_port, base, samples)
        check_dump(test, server, quipud_port, base, test.file("moved"), samples)
        check_broken(test, server, test.file("moved"))
        check_victoria(test, server, first)
        test.run("import", *server, "--tenant", "part", "--from-prometheus", test.file("moved"), "--match", 'up{job="web"}',
                 "--start", str(base + 600))
        part, _ = test.run("export", *server, "--tenant", "part", "--match", ALL)
        rows = [json.loads(line) for line in part.split("\n") if line]
        test.expect("--match or --start took something else", rows and all(
            r["metric"]["__name__"] == "up" and r["metric"]["job"] == "web" and min(r["timestamps"]) >= (base + 600) * 1000
            for r in rows))
        if quipud.terminate() != 0:
            test.bad.append("quipud failed: " + quipud.tail())
    return first


def check_folder(test, first):
    """Into a folder without a server, then out again by one."""
    port = qc.free_port()
    os.mkdir(test.file("folder"))
    test.run("import", "--data-dir", test.file("folder"), "--retention", "0", first)
    args = [test.o.quipud, "--data-dir", test.file("folder"), "--listen", "127.0.0.1:%d" % port, "--retention", "0"]
    with qc.Process(args, test.file("folder.log"), port) as quipud:
        quipud.wait_ready()
        test.run("export", "--server", "http://127.0.0.1:%d" % port, "--match", ALL, "--output", first + ".folder")
        quipud.terminate()
    with open(first, "rb") as a, open(first + ".folder", "rb") as b:
        test.expect("an import into a folder is not the same", a.read() == b.read())


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--quipud", required=True)
    parser.add_argument("--prometheus", default=shutil.which("prometheus"))
    parser.add_argument("--promtool", default=shutil.which("promtool"))
    parser.add_argument("--victoria", default=shutil.which("victoria-metrics"))
    parser.add_argument("--reduced", action="store_true", help="what releases since 2.42 know alone")
    parser.add_argument("--seed", type=int, default=1)
    o = parser.parse_args()
    if not o.prometheus:
        print("SKIPPED: prometheus is not installed")
        return
    qc.print_version(o.prometheus)
    test = Test(o)
    base = int(time.time()) // 60 * 60 - SPAN - 600
    first = move(test, base)
    check_folder(test, first)
    if test.bad:
        print("\n".join(test.bad))
        sys.exit("%d differences; logs in %s" % (len(test.bad), test.folder))
    shutil.rmtree(test.folder)
    print("import: %d samples and results as they were in Prometheus" % test.n_points)


if __name__ == "__main__":
    main()
