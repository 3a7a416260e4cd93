#!/usr/bin/env python3
"""Queries that mean harm, or come from a broken dashboard, beside a tenant who asks modestly: each is answered or refused
within its limits and its time, the server's memory stays below its ceiling, it lives on, and the other tenant's p99 is
printed alone and under attack. That figure is checked generously only, as machines of a CI are busy with other things.

usage: tests/e2e/hostile.py --quipud build/release/bin/quipud [--seconds-each 10] [--strict]
"""
import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import quipu_client as qc

MEMORY_LIMIT = 1 << 30
TIMEOUT = 10            # seconds, query.timeout of the attacker
SLACK = 5               # for a busy machine: an answer may come so much later
ATTACKERS = 4
STATUSES = (200, 400, 422, 499, 503)
ALL = '{__name__=~".+"}'
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def big(n, item, joint):
    return joint.join(item % i if "%" in item else item for i in range(n))


# Name, expression, then whether it is asked for over a range, and (span, step) in seconds of it.
HOSTILE = (
    ("everything", ALL, None),
    ("everything, over a day at 11,000 steps", ALL, (86400, 8)),
    ("everything by regex", '{__name__=~".*.*.*.*.*.*x?"}', (3600, 1)),
    ("nothing by slow regex", '{__name__=~"(a|aa|aaa|aaaa)*b{1,900}c", instance=~".*(.+)+x"}', (3600, 15)),
    ("all but nothing", '{__name__!="", instance!~"zzz.*", job=~".*"}', (3600, 15)),
    ("a month at tiny steps", "sum(rate(%s[30d]))" % ALL, (2592000, 300)),
    ("a window of a year", "quantile_over_time(0.99, %s[1y])" % ALL, (86400, 8)),
    ("a window sorted at each step", "sum(quantile_over_time(0.99, %s[6h]))" % ALL, (86400, 8)),
    ("cartesian, many to one", "%s * on () group_left (x) %s" % (ALL, ALL), (3600, 15)),
    ("cartesian, many to many", "%s + on () %s" % (ALL, ALL), (3600, 15)),
    ("set of everything", "%s or %s unless %s and %s" % (ALL, ALL, ALL, ALL), (3600, 1)),
    ("itself, many times", big(200, 'label_replace(%s, "n", "%%d", "", "")' % ALL, " or "), (3600, 60)),
    ("subqueries within subqueries",
     "max_over_time(max_over_time(max_over_time(%s[1h:1s])[6h:1s])[1d:1s])" % ALL, None),
    ("a subquery of a year by the second", "count_over_time(vector(1)[1y:1s])", None),
    ("a subquery of a decade by the millisecond", "sum_over_time(time()[10y:1ms])", None),
    ("subqueries at each step", "max_over_time(rate(%s[5m])[1d:15s])" % ALL, (86400, 8)),
    ("count_values of floats", 'count_values("v", %s)' % ALL, (3600, 1)),
    ("count_values of products", 'count_values("v", %s * 1.000000001 * time())' % ALL, (3600, 1)),
    ("label_replace storm",
     big(60, 'label_replace(', "") + ALL + big(60, ', "a%d", "$1$1$1$1", "instance", "(.*)")', ""), (3600, 15)),
    ("labels that double", "".join("label_join(" for _ in range(25)) + ALL +
     "".join(', "instance", "-", "instance", "instance")' for _ in range(25)), None),
    ("a million bytes of label", 'label_replace(%s, "a", "%s", "", "")' % (ALL, "x" * 1000000), None),
    ("a huge number of numbers", big(50000, "1", "+"), None),
    ("a huge list of literals", '{__name__=~"%s"}' % big(40000, "metric_%d", "|"), (3600, 15)),
    ("deep parentheses", "(" * 20000 + "1" + ")" * 20000, None),
    ("deep functions", "abs(" * 150 + ALL + ")" * 150, (3600, 1)),
    ("deep binary operators", big(150, ALL, " + "), (3600, 1)),
    ("deep unary", "-" * 20000 + "1", None),
    ("topk of everything", "topk(1000000, %s)" % ALL, (3600, 1)),
    ("sort of everything", "sort_by_label(%s, %s)" % (ALL, '"instance"'), None),
    ("quantiles by everything", "quantile without (x) (0.5, %s)" % ALL, (3600, 1)),
    ("stddev of windows", "stddev_over_time(%s[1h]) + stdvar_over_time(%s[1h])" % (ALL, ALL), (21600, 2)),
    ("smoothing", "double_exponential_smoothing(%s[6h], 0.5, 0.5)" % ALL, (86400, 8)),
    ("predictions", "predict_linear(%s[6h], 3600)" % ALL, (86400, 8)),
    ("histograms of what is none", "histogram_quantile(0.9, %s)" % ALL, (3600, 1)),
    ("absent of much", "absent_over_time(%s[1y])" % ALL, (86400, 8)),
    ("info of everything", "info(%s)" % ALL, (3600, 15)),
    ("too many steps", "1", (1000000, 1)),
    ("the end of time", "sum_over_time(%s[1d] offset 100y)" % ALL, (3600, 1)),
    ("ranges beyond time", "rate(%s[290y])" % ALL, None),
    ("negative offsets", "sum(rate(%s[1d] offset -1y))" % ALL, (86400, 8)),
    ("raw samples of everything", "%s[1y]" % ALL, None),
    ("a byte of garbage", "\x00\xff{", None),
)


def load(quipu, port, tenant, instances, series, hours):
    """A fleet of the past hours, by `quipu bench ingest`."""
    subprocess.run([quipu, "bench", "ingest", "--server", "http://127.0.0.1:%d" % port, "--tenant", tenant,
                    "--instances", str(instances), "--series", str(series), "--scrapes", str(int(hours * 3600 / 60)),
                    "--interval", "60s", "--retries", "20"], check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)


def ask(client, expr, span, timeout=None):
    """Status, seconds, and the beginning of the answer."""
    now = time.time()
    form = {"query": expr}
    if timeout:
        form["timeout"] = str(timeout)
    path = "/api/v1/query"
    if span:
        path = "/api/v1/query_range"
        form.update(start=now - span[0], end=now, step=span[1])
    begin = time.monotonic()
    status, body = client.request("POST", path, urllib.parse.urlencode(form, errors="surrogateescape"), FORM)
    return status, time.monotonic() - begin, body[:300]


def percentile(values, q):
    values = sorted(values)
    return values[min(len(values) - 1, int(q * len(values)))] if values else float("nan")


class Victim(threading.Thread):
    """Asks the same modest query again and again; its times by phase."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.client = qc.Client(port, "victim", timeout=120)
        self.times, self.failures, self.stopping = {"alone": [], "attacked": []}, [], False
        self.phase = "alone"

    def run(self):
        while not self.stopping:
            phase = self.phase
            status, seconds, body = ask(self.client, "sum by (job) (rate(http_requests_total[5m]))", (3600, 60))
            if status != 200:
                self.failures.append((status, body))
            self.times[phase].append(seconds)
            time.sleep(0.02)


class Attack:
    """All of the list, by several clients at once, each query once."""

    def __init__(self, port, seconds_each):
        self.port, self.todo, self.lock = port, list(HOSTILE), threading.Lock()
        self.timeout, self.results = seconds_each, []

    def work(self):
        while True:
            with self.lock:
                if not self.todo:
                    return
                name, expr, span = self.todo.pop(0)
            client = qc.Client(self.port, "attacker", timeout=self.timeout + 60)
            try:
                result = ask(client, expr, span)
            except Exception as e:      # a cut connection: an answer that failed half-way
                result = ("cut", float("nan"), repr(e).encode())
            client.close()
            with self.lock:
                self.results.append((name,) + result)

    def run(self):
        threads = [threading.Thread(target=self.work) for _ in range(ATTACKERS)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()


def until_none_runs(watch, begin):
    while time.monotonic() - begin < 30:
        _, active = watch.get_json("/api/v1/status/active_queries")
        if not active["data"]:
            return (time.monotonic() - begin) * 1e3
        time.sleep(0.002)
    return float("inf")


def leave(port, how, watch):
    """A long query whose client closes the connection, or that an operator cancels: ms until it does not run any more."""
    expr = "sum(mad_over_time(%s[6h]))" % ALL
    now = int(time.time())
    path = "/api/v1/query_range?" + urllib.parse.urlencode(
        {"query": expr, "start": now - 21600, "end": now, "step": 2, "nocache": 1})
    s = socket.create_connection(("127.0.0.1", port))
    s.sendall(("GET %s HTTP/1.1\r\nHost: x\r\nX-Scope-OrgID: attacker\r\n\r\n" % path).encode())
    for _ in range(3000):
        _, active = watch.get_json("/api/v1/status/active_queries")
        if active["data"]:
            break
        time.sleep(0.002)
    time.sleep(0.3)
    begin = time.monotonic()
    if how == "client leaves":
        s.close()
    else:
        watch.request("DELETE", "/api/v1/status/active_queries?id=%d" % active["data"][0]["id"])
    ms = until_none_runs(watch, begin)
    s.close()
    return ms


def resident(pid, field="VmHWM"):
    with open("/proc/%d/status" % pid) as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith(field))


def check(args, folder):
    port = args.port or qc.free_port()
    config = os.path.join(folder, "quipu.yml")
    with open(config, "w") as f:
        f.write("tenants:\n  attacker: {query: {timeout: %ds, tenant_concurrency: 2}}\n" % args.seconds_each)
    quipu = os.path.join(os.path.dirname(args.quipud), "quipu")
    problems = []
    with qc.Process([args.quipud, "--config", config, "--data-dir", os.path.join(folder, "data"), "--listen",
                     "127.0.0.1:%d" % port, "--memory-limit", str(MEMORY_LIMIT)],
                    os.path.join(folder, "log"), port) as server:
        server.wait_ready()
        load(quipu, port, "victim", 10, 400, 1)
        load(quipu, port, "attacker", args.instances, 400, 6)
        watch = qc.Client(port)
        for how in ("client leaves", "operator cancels"):
            times = sorted(leave(port, how, watch) for _ in range(5))
            print("%-17s the query ends within %s ms" % (how + ":", ", ".join("%.0f" % t for t in times)), flush=True)
            if times[0] > 1000:     # one in five, as machines are busy; 100 ms is the aim
                problems.append("%s: it goes on for %.0f ms" % (how, times[0]))
        victim = Victim(port)
        victim.start()
        time.sleep(args.alone)
        victim.phase = "attacked"
        attack = Attack(port, args.seconds_each)
        attack.run()
        victim.stopping = True
        victim.join()
        for name, status, seconds, body in attack.results:
            print("%-42s %4s %7.2f s  %s" % (name[:42], status, seconds, body[:110].decode(errors="replace")))
            if status not in STATUSES + ("cut",):
                problems.append("%s: status %s" % (name, status))
            if status != "cut" and seconds > args.seconds_each + 30 + SLACK:    # 30: query.queue_timeout
                problems.append("%s: took %.1f s" % (name, seconds))
        if not server.is_ready():
            problems.append("the server does not live on:\n" + server.tail())
        else:
            peak = resident(server.proc.pid)
            print("memory: peak %.0f MiB of %.0f MiB" % (peak / 2 ** 20, MEMORY_LIMIT / 2 ** 20))
            if peak > MEMORY_LIMIT:
                problems.append("memory went to %.0f MiB" % (peak / 2 ** 20))
            _, active = qc.Client(port).get_json("/api/v1/status/active_queries")
            if active["data"]:
                problems.append("still running: %r" % active["data"])
    for phase, times in victim.times.items():
        print("victim %-9s n %5d  p50 %7.1f ms  p99 %7.1f ms" % (
            phase, len(times), percentile(times, 0.5) * 1e3, percentile(times, 0.99) * 1e3))
    alone, attacked = (percentile(victim.times[p], 0.99) for p in ("alone", "attacked"))
    print("p99 is %.1f times as long under attack" % (attacked / alone))
    if victim.failures:
        problems.append("the victim was refused %d times: %r" % (len(victim.failures), victim.failures[0]))
    if attacked > max(alone * (2 if args.strict else 40), 0 if args.strict else 2):
        problems.append("the victim waits too long")
    return problems


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--quipud", required=True)
    parser.add_argument("--port", type=int)
    parser.add_argument("--seconds-each", type=int, default=TIMEOUT, help="query.timeout of the attacker")
    parser.add_argument("--instances", type=int, default=50, help="of the attacker, 400 series each")
    parser.add_argument("--alone", type=float, default=5, help="seconds before the attack")
    parser.add_argument("--strict", action="store_true", help="the p99 may double at most")
    parser.add_argument("--keep", action="store_true")
    args = parser.parse_args()
    args.quipud = os.path.abspath(args.quipud)
    assert len(HOSTILE) >= 30
    folder = tempfile.mkdtemp(prefix="quipu-hostile-")
    try:
        problems = check(args, folder)
    finally:
        if not args.keep:
            shutil.rmtree(folder, ignore_errors=True)
    for p in problems:
        print("PROBLEM: " + p)
    print("%d hostile queries, %d problems" % (len(HOSTILE), len(problems)))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
