#!/usr/bin/env python3
"""Exemplars over remote write: what is answered beside a model of our own, through repeats, kill -9, flushes, deletes and
clean-ups; and beside a Prometheus that got the same requests, when one is given that keeps exemplars.

usage: tests/e2e/exemplars.py --quipud PATH [--prometheus PATH] [--seed N]
"""
import argparse
import os
import random
import shutil
import struct
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import quipu_client as qc

SERIES = [{"__name__": "rpc_seconds_bucket", "le": le, "job": job} for le in ("0.1", "1", "+Inf") for job in ("a", "b")] + \
    [{"__name__": "rpc_total", "job": job, "instance": "i%d" % i} for job in ("a", "b") for i in range(3)]
QUERIES = ("rpc_total", 'sum by (job) (rate(rpc_total{job="a"}[5m]))', "rpc_seconds_bucket", '{job=~"a|b"}',
           'histogram_quantile(0.9, sum by (le) (rate(rpc_seconds_bucket[5m]))) > rpc_total{instance="i1"}', "nothing")


def encode_exemplar(labels, value, t_ms):
    return qc.field(3, qc.encode_labels(labels) + b"\x11" + struct.pack("<d", value) + b"\x18" + qc.varint(t_ms))


def key(labels):
    return tuple(sorted(labels.items()))


class Model:
    """{series: [(t_ms, value, labels)]}: in order of time, another one from before the newest is refused."""

    def __init__(self):
        self.kept = {}

    def add(self, labels, exemplar):
        items = self.kept.setdefault(key(labels), [])
        if exemplar in items:
            return
        if not items or (exemplar[0], exemplar[1]) >= items[-1][:2]:
            items.append(exemplar)

    def delete(self, job, until_ms):
        for k, items in self.kept.items():
            if dict(k).get("job") == job:
                items[:] = [e for e in items if e[0] > until_ms]

    def answer(self):
        return {k: [(t, v, key(labels)) for t, v, labels in items] for k, items in self.kept.items() if items}


def answered(client, query, start=None, end=None):
    params = {"query": query, **({"start": start} if start else {}), **({"end": end} if end else {})}
    return client.get_json("/api/v1/query_exemplars", **params)[1]["data"]


def as_model(data):
    return {key(s["seriesLabels"]): [(round(e["timestamp"] * 1000), float(e["value"]), key(e["labels"]))
                                     for e in s["exemplars"]] for s in data}


class World:
    def __init__(self, seed, clients):
        self.rng, self.clients, self.model = random.Random(seed), clients, Model()
        self.now_ms = int(time.time() * 1000) - 3600 * 1000
        self.sent = []

    def write(self):
        self.now_ms += 15000
        body, sent = b"", []
        for labels in SERIES:
            series = qc.encode_labels(labels) + qc.field(
                2, b"\x09" + struct.pack("<d", self.now_ms / 1e6) + b"\x10" + qc.varint(self.now_ms))
            # One of a series in a request at most: Prometheus looks at each beside what was there before the request.
            if self.rng.random() < 0.5:
                t_ms = self.now_ms - self.rng.choice((0, 1, 250, 14000, 40000))
                trace = {"trace_id": "%032x" % self.rng.getrandbits(128)} if self.rng.random() < 0.9 else {}
                exemplar = (t_ms, self.rng.choice((0.5, 1.0, self.rng.random())), trace)
                sent.append((labels, exemplar))
                series += encode_exemplar(trace, exemplar[1], t_ms)
            body += qc.field(1, series)
        self.post(body)
        for labels, exemplar in sent:
            self.model.add(labels, exemplar)
        self.sent.append(body)

    def post(self, body):
        for client in self.clients:
            status, text = client.write(body)
            if status not in (200, 204):
                raise RuntimeError("a write was answered by %d: %s" % (status, text))

    def compare(self, what):
        found = as_model(answered(self.clients[0], '{job=~".+"}'))
        if found != self.model.answer():
            missing = [k for k, v in self.model.answer().items() if found.get(k) != v]
            sys.exit("%s: not what was written: %s: %s instead of %s" % (
                what, missing[:1], found.get(missing[0]) if missing else "", self.model.answer().get(missing[0]) if missing else found))
        return sum(len(v) for v in found.values())


def beside_prometheus(world):
    n = 0
    for query in QUERIES:
        for start, end in ((None, None), (world.now_ms / 1000 - 300, world.now_ms / 1000 - 20)):
            ours, theirs = (answered(c, query, start, end) for c in world.clients)
            if ours != theirs:
                sys.exit("%s from %s to %s: %s instead of %s" % (query, start, end, ours, theirs))
            n += sum(len(s["exemplars"]) for s in ours)
    return n


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--quipud", required=True)
    parser.add_argument("--prometheus", help="3.x: its exemplar storage is compared")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    o = parser.parse_args()
    print("seed %d" % o.seed, flush=True)
    folder = tempfile.mkdtemp(prefix="quipu-exemplars-")
    port, log = qc.free_port(), os.path.join(folder, "quipud.log")
    args = [o.quipud, "--data-dir", os.path.join(folder, "data"), "--listen", "127.0.0.1:%d" % port, "--retention", "0"]
    peer = None
    if o.prometheus:
        peer_port = qc.free_port()
        config = os.path.join(folder, "prometheus.yml")
        with open(config, "w") as f:
            f.write("storage: {tsdb: {out_of_order_time_window: 2h}, exemplars: {max_exemplars: 100000}}\n")
        peer = qc.Process([o.prometheus, "--config.file", config, "--storage.tsdb.path", os.path.join(folder, "peer"),
                           "--web.listen-address", "127.0.0.1:%d" % peer_port, "--web.enable-remote-write-receiver",
                           "--enable-feature=exemplar-storage"], os.path.join(folder, "peer.log"), peer_port).wait_ready()
    server = qc.Process(args, log, port).wait_ready()
    clients = [qc.Client(port)] + ([qc.Client(peer_port)] if peer else [])
    world = World(o.seed, clients)
    n_peer = 0
    try:
        for round_no in range(12):
            for _ in range(10):
                world.write()
            if peer:
                n_peer += beside_prometheus(world)
            world.post(world.rng.choice(world.sent))        # a retry changes nothing
            world.compare("round %d" % round_no)
            if world.rng.random() < 0.5:
                clients[0].request("POST", "/api/v1/admin/tsdb/flush")
                world.compare("round %d, flushed" % round_no)
            server.kill()
            server = qc.Process(args, log, port).wait_ready()
            clients[0].close()
            clients[0] = qc.Client(port)
            n = world.compare("round %d, killed" % round_no)
        until_ms = world.now_ms - 600 * 1000
        status, text = clients[0].request(
            "POST", "/api/v1/admin/tsdb/delete_series?match[]=%%7Bjob=%%22a%%22%%7D&end=%.3f" % (until_ms / 1000))
        if status != 204:
            sys.exit("a delete was answered by %d: %s" % (status, text))
        world.model.delete("a", until_ms)
        if world.compare("deleted") >= n:
            sys.exit("nothing was deleted")
        clients[0].request("POST", "/api/v1/admin/tsdb/flush")
        status, text = clients[0].request("POST", "/api/v1/admin/tsdb/clean_tombstones")
        if status != 204:
            sys.exit("a clean-up was answered by %d: %s" % (status, text))
        world.compare("cleaned")
        server.kill()
        server = qc.Process(args, log, port).wait_ready()
        clients[0] = qc.Client(port)
        world.compare("cleaned and killed")
        print("%d exemplars through 13 kills, flushes and a delete; %d beside Prometheus: all equal" % (n, n_peer))
    finally:
        server.kill()
        if peer:
            peer.kill()
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
