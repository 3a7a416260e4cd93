#!/usr/bin/env python3
"""A Prometheus without data of its own reads quipu's by remote read, in chunks, and must answer as one that has the same
samples itself: every sample to the bit, and what its engine makes of them. Also what a client that wants samples gets.

With --reduced the Prometheus may be an older release, 2.42 say, which knows native histograms less well.
"""
import argparse
import json
import os
import random
import shutil
import struct
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import differential_data as dd
import quipu_client as qc

DIRECT = "storage: {tsdb: {out_of_order_time_window: 36500d}}\n"
THROUGH = """
remote_read:
  - url: http://127.0.0.1:%d/api/v1/read
    read_recent: true
"""
TENANT = "    headers: {X-Scope-OrgID: reader}\n"     # which 2.42 reads, but does not send

SPAN = 3600
LONG = 250_000      # samples of 8 bytes: more than 1 MiB, at which Prometheus as a server cuts a series in two
METRICS = ("requests_total", "temperature", "load", "up", "build_info", "target_info", "slots", "latency_bucket",
           "latency_count", "visits")
NEW_METRICS = ("disk.used", "tiny", "huge", "size", "size_gauge", "changing", "wait", "mixed", "whole", "whole_gauge")
EXPRESSIONS = (
    "sum by (job) (rate(requests_total[5m]))",
    "histogram_quantile(0.9, sum by (le) (rate(latency_bucket[5m])))",
    "max_over_time(temperature[10m])",
    "load > 2",
    'count ({__name__=~"l.*"}) by (__name__)',
    'requests_total{code!~"2..",job!="web"}',
)
NEW_EXPRESSIONS = (
    "sum(rate(size[5m]))",
    "histogram_quantile(0.9, rate(whole[5m]))",
    "histogram_count(whole) - histogram_count(whole offset 1m)",
    "resets(whole[20m])",
    "histogram_quantile(0.5, wait)",
    "delta(whole_gauge[5m])",
)


def integer_histogram(h, t_ms):
    def deltas(number, counts):
        pairs = zip(counts, [0] + counts[:-1])
        return qc.field(number, b"".join(qc.varint(dd.zigzag(a - b)) for a, b in pairs)) if counts else b""
    return (dd.varint_field(1, h["count"]) + dd.double_field(3, h["sum"]) + dd.varint_field(4, dd.zigzag(h["schema"])) +
            dd.double_field(5, h["threshold"]) + dd.varint_field(6, h["zero"]) + dd.encode_spans(8, h["nspans"]) +
            deltas(9, h["negative"]) + dd.encode_spans(11, h["pspans"]) + deltas(12, h["positive"]) +
            dd.varint_field(14, h.get("hint", 0)) + dd.varint_field(15, t_ms))


def integer_series(r, base, gauge):
    """Whole-numbered histograms that widen, are reset, and end with a staleness marker now and then."""
    out, n, schema = [], 3, 1
    positive, negative, zero, total = [0] * 8, [0] * 2, 0, 0.0
    for i in range(0, SPAN, 15):
        t = (base + i) * 1000 + 7
        if r.random() < 0.03:
            out.append((t, {"count": 0, "sum": dd.STALE, "schema": 0, "threshold": 0.0, "zero": 0, "nspans": [],
                            "pspans": [], "positive": [], "negative": []}))
            continue
        if r.random() < 0.03:
            positive, negative, zero, total = [0] * 8, [0] * 2, 0, 0.0
            schema = r.choice((-1, 0, 3))
        n = min(8, n + (r.random() < 0.05))
        for _ in range(r.randrange(9)):
            positive[r.randrange(n)] += r.choice((1, 1, 5, 1 << r.randrange(40)))
        negative[r.randrange(2)] += 1
        zero += r.randrange(3)
        total += r.random()
        if gauge and r.random() < 0.3:
            positive[r.randrange(n)] //= 2
        h = {"count": sum(positive[:n]) + sum(negative) + zero, "sum": total, "schema": schema,
             "threshold": 0.25 if i < SPAN // 2 else 0.001, "zero": zero, "nspans": [(-1, 2)], "negative": list(negative),
             "pspans": [(2, 2), (3, n - 2)], "positive": positive[:n], "hint": 3 if gauge else 0}
        out.append((t, h))
    return out


def write_integers(servers, seed, base):
    r = random.Random(seed)
    for name, gauge in (("whole", False), ("whole_gauge", True)):
        for job in ("api", "web"):
            labels = qc.encode_labels({"__name__": name, "job": job})
            samples = b"".join(qc.field(4, integer_histogram(h, t)) for t, h in integer_series(r, base, gauge))
            dd.send(servers, qc.field(1, labels + samples))


def write_long(servers, seed, end, n):
    r = random.Random(seed)
    labels = qc.encode_labels({"__name__": "long"})
    for i in range(0, n, 50_000):
        samples = [((end - n + k) * 1000, r.random()) for k in range(i, min(n, i + 50_000))]
        dd.send(servers, qc.encode_series(labels, samples))


def selector(metric):
    return '{__name__="%s"}' % metric


class Check:
    def __init__(self, direct, through):
        self.direct, self.through = direct, through
        self.n_points = 0
        self.bad = []

    def same(self, what, path, params):
        (a, ours), (b, theirs) = (c.get_json("/api/v1/" + path, **params) for c in (self.through, self.direct))
        data, other = ours.get("data"), theirs.get("data")
        if isinstance(data, dict):
            data, other = ({json.dumps(s["metric"], sort_keys=True): s for s in d["result"]} for d in (data, other))
            self.n_points += sum(len(s.get("values", ())) + len(s.get("histograms", ())) for s in data.values())
        elif isinstance(data, list):
            data, other = (sorted(json.dumps(s, sort_keys=True) for s in d) for d in (data, other))
        if a != b or data != other or not data:
            self.bad.append("%s %s\n    through quipu %d: %.600s\n    itself        %d: %.600s" % (
                what, ours.get("warnings", ""), a, ours, b, theirs))


def varint_at(data, at):
    value, shift = 0, 0
    while True:
        byte = data[at]
        value, at, shift = value | (byte & 0x7F) << shift, at + 1, shift + 7
        if byte < 0x80:
            return value, at


def fields(data):
    """(number, value) of a protobuf message; the value is an integer or bytes."""
    at = 0
    while at < len(data):
        tag, at = varint_at(data, at)
        wire = tag & 7
        if wire == 0:
            value, at = varint_at(data, at)
        else:
            size, at = (8, at) if wire == 1 else (4, at) if wire == 5 else varint_at(data, at)
            value, at = data[at:at + size], at + size
        yield tag >> 3, value


def unsnappy(data):
    size, at = varint_at(data, 0)
    out = bytearray()
    while at < len(data):
        tag, at = data[at], at + 1
        kind, n = tag & 3, tag >> 2
        if kind == 0:
            if n >= 60:
                extra = n - 59
                n, at = int.from_bytes(data[at:at + extra], "little"), at + extra
            out += data[at:at + n + 1]
            at += n + 1
            continue
        width = (0, 1, 2, 4)[kind]
        offset, at = int.from_bytes(data[at:at + width], "little"), at + width
        length = n + 1
        if kind == 1:
            offset, length = offset | (tag >> 5) << 8, (n & 7) + 4
        for _ in range(length):
            out.append(out[-offset])
    assert len(out) == size
    return bytes(out)


def read_samples(client, name, start_ms, end_ms):
    """[(labels, [(t_ms, value)])] of one query without accepted types: samples in one message"""
    matcher = qc.field(3, qc.field(2, b"__name__") + qc.field(3, name.encode()))
    query = qc.field(1, b"\x08" + qc.varint(start_ms) + b"\x10" + qc.varint(end_ms) + matcher)
    status, body = client.request("POST", "/api/v1/read", qc.snappy_literals(query))
    assert status == 200, body
    (result,) = [v for k, v in fields(unsnappy(body)) if k == 1]
    out = []
    for _, series in fields(result):
        labels = tuple(tuple(v.decode() for _, v in fields(label)) for k, label in fields(series) if k == 1)
        samples = [dict(fields(s)) for k, s in fields(series) if k == 2]
        out.append((labels, [(s[2], struct.unpack("<d", s.get(1, bytes(8)))[0]) for s in samples]))
    return out


def check_samples(check, quipu, direct, base):
    """What the direct Prometheus gives a reader that asks the same."""
    for name in ("requests_total", "load", "visits"):
        a, b = (read_samples(c, name, base * 1000, (base + SPAN) * 1000) for c in (quipu, direct))
        bits = lambda series: sorted((labels, [(t, struct.pack("<d", v)) for t, v in samples]) for labels, samples in series)
        if bits(a) != bits(b) or not a:
            check.bad.append("samples of %s differ" % name)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--quipud", required=True)
    parser.add_argument("--prometheus", default=shutil.which("prometheus"))
    parser.add_argument("--reduced", action="store_true", help="what releases since 2.42 know alone")
    parser.add_argument("--seed", type=int, default=1)
    o = parser.parse_args()
    if not o.prometheus:
        print("SKIPPED: prometheus is not installed")
        return
    qc.print_version(o.prometheus)
    folder = tempfile.mkdtemp(prefix="quipu-remote-read-")
    file = lambda name: os.path.join(folder, name)
    ports = {name: qc.free_port() for name in ("quipu", "direct", "through")}
    for name, text in (("direct", DIRECT), ("through", THROUGH % ports["quipu"] + ("" if o.reduced else TENANT))):
        with open(file(name + ".yml"), "w") as f:
            f.write(text)

    def prometheus(name):
        args = [o.prometheus, "--config.file=" + file(name + ".yml"), "--storage.tsdb.path=" + file(name),
                "--web.enable-remote-write-receiver", "--web.listen-address=127.0.0.1:%d" % ports[name], "--log.level=warn"]
        args += [] if o.reduced else ["--enable-feature=native-histograms"]
        return qc.Process(args, file(name + ".log"), ports[name])

    now = int(time.time())
    base = now // 60 * 60 - SPAN - 600
    with qc.Process([o.quipud, "--data-dir", file("quipu"), "--listen", "127.0.0.1:%d" % ports["quipu"], "--retention", "0"],
                    file("quipud.log"), ports["quipu"]) as quipud, prometheus("direct") as direct, prometheus("through") as through:
        for server in (quipud, direct, through):
            server.wait_ready()
        quipu, check = qc.Client(ports["quipu"], None if o.reduced else "reader"), Check(qc.Client(ports["direct"]), qc.Client(ports["through"]))
        servers = (quipu, check.direct)
        dd.write_data(servers, o.seed, base, SPAN, o.reduced)
        n_long = LONG // 10 if o.reduced else LONG      # 2.42 does not stream
        write_long(servers, o.seed, base, n_long)
        if not o.reduced:
            write_integers(servers, o.seed, base)
        end = base + SPAN + 0.5
        for metric in METRICS + (() if o.reduced else NEW_METRICS):
            check.same("samples of " + metric, "query", {"query": selector(metric) + "[70m]", "time": end})
            check.same("series of " + metric, "series", {"match[]": selector(metric), "start": base, "end": end})
        for expr in EXPRESSIONS + (() if o.reduced else NEW_EXPRESSIONS):
            check.same(expr, "query_range", {"query": expr, "start": base + 300.3, "end": base + SPAN, "step": 37})
        check.same("one long series", "query", {"query": "long[%ds]" % n_long, "time": base})
        check.same("a sum of a long series", "query", {"query": "sum_over_time(long[%ds])" % n_long, "time": base})
        check_samples(check, quipu, check.direct, base)
        for client in servers + (check.through,):
            client.close()
        if quipud.terminate() != 0:
            check.bad.append("quipud failed: " + quipud.tail())
    if check.bad:
        print("\n".join(check.bad))
        sys.exit("%d differences; logs in %s" % (len(check.bad), folder))
    shutil.rmtree(folder)
    print("remote read: %d samples and results through quipu equal those of Prometheus itself" % check.n_points)


if __name__ == "__main__":
    main()
