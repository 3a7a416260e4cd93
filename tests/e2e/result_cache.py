#!/usr/bin/env python3
"""Range queries with and without the cache of answers, over a server that is written to late, deleted from, flushed and
compacted meanwhile: the answers must be the same to the byte, and some must have come from the cache.

usage: tests/e2e/result_cache.py --quipud build/release/bin/quipud [--seed 1] [--rounds 60]
"""
import argparse
import os
import random
import shutil
import sys
import tempfile
import time
import urllib.parse

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import quipu_client as qc

SPAN = 7200     # seconds of data
SERIES = [{"__name__": m, "l": "v%d" % (i % 3), "i": str(i)} for m in ("c_total", "g") for i in range(8)]
QUERIES = (
    "sum by (l) (rate(c_total[5m]))", "rate(c_total[5m])", "increase(c_total[10m])", "avg(g)", "g", "quantile(0.5, g)",
    "max_over_time(g[10m])", "sum(g) / on () group_left sum(c_total)", "topk(2, g)", "delta(g[7m])", "count by (l) (g > 50)",
    "sum_over_time(rate(c_total[2m])[10m:1m])", "stddev_over_time(g[10m])", "c_total offset 5m", 'absent(g{l="none"})',
    "irate(c_total[1m])", "last_over_time(g[3m]) or vector(1)", "histogram_quantile(0.5, g)",
)


class World:
    def __init__(self, port, seed):
        self.client, self.rng, self.now = qc.Client(port), random.Random(seed), int(time.time())
        self.n = self.n_cached = 0
        self.panels = [(expr, self.rng.choice((15, 60, 77)), self.rng.choice((600, 3600))) for expr in QUERIES]
        self.end = self.now - 300

    def push(self, items):
        status, text = self.client.write(b"".join(
            qc.encode_series(qc.encode_labels(labels), samples) for labels, samples in items))
        if status != 204:
            raise RuntimeError("write: %d %s" % (status, text))

    def fill(self):
        """Counters that fall now and then, and gauges, with gaps."""
        items = []
        for labels in SERIES:
            value, samples = 0, []
            for t in range(self.now - SPAN, self.now - 600, 15):
                if self.rng.random() < 0.05:
                    continue
                value = value + self.rng.random() * 10 if self.rng.random() > 0.005 else 0
                samples.append((t * 1000 + self.rng.randrange(1000),
                                value if labels["__name__"] == "c_total" else self.rng.random() * 100))
            items.append((labels, samples))
        self.push(items)

    def admin(self, path):
        status, text = self.client.request("POST", "/api/v1/admin/tsdb/" + path)
        if status not in (200, 204):
            raise RuntimeError("%s: %d %s" % (path, status, text))

    def disturb(self):
        for _ in range(self.rng.choice((0, 0, 1, 3))):     # most samples that are late are so by little
            t_ms = int((self.now - min(self.rng.expovariate(1 / 900), SPAN)) * 1000)
            self.push([(self.rng.choice(SERIES), [(t_ms, self.rng.random() * 100)])])
        if self.rng.random() < 0.15:
            self.admin("flush")
        if self.rng.random() < 0.1:
            self.admin("compact?level=3")
        if self.rng.random() < 0.1:
            start = self.now - self.rng.randrange(SPAN)
            self.admin("delete_series?" + urllib.parse.urlencode(
                {"match[]": '{i="%d"}' % self.rng.randrange(8), "start": start, "end": start + 300}))
        if self.rng.random() < 0.05:
            self.admin("clean_tombstones")

    def compare(self):
        """A refresh of some panels, a little later than the one before; how one differs, or None."""
        self.end += 5
        for expr, step, span in self.rng.sample(self.panels, 6):
            end = self.end
            start = end - span
            if self.rng.random() < 0.8:
                end -= end % step
                start -= start % step
            params = {"query": expr, "start": start, "end": end, "step": step, "stats": "all"}
            answers = [self.client.get_json("/api/v1/query_range", **params, **more) for more in ({}, {"nocache": 1})]
            if any(status != 200 for status, _ in answers):
                return "%r: %r" % (params, answers)
            stats = [answer["data"].pop("stats") for _, answer in answers]
            self.n += 1
            self.n_cached += stats[0].get("cache", {}).get("steps", 0)
            if answers[0] != answers[1]:
                return "%r differs, %r" % (params, stats[0])
        return None


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--quipud", required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=60)
    args = parser.parse_args()
    folder, port = tempfile.mkdtemp(prefix="quipu-cache-"), qc.free_port()
    problem = None
    try:
        with qc.Process([args.quipud, "--data-dir", os.path.join(folder, "data"), "--listen", "127.0.0.1:%d" % port],
                        os.path.join(folder, "log"), port) as server:
            server.wait_ready()
            world = World(port, args.seed)
            world.fill()
            for _ in range(args.rounds):
                world.disturb()
                problem = problem or world.compare()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if not problem and not world.n_cached:
        problem = "nothing came from the cache"
    print("%d answers compared, %d steps from the cache, seed %d" % (world.n, world.n_cached, args.seed))
    if problem:
        print("PROBLEM: " + problem)
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main())
