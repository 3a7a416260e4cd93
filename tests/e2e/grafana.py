#!/usr/bin/env python3
"""The requests that Grafana's Prometheus data source sends, replayed to quipud and to a Prometheus with the same samples: the
answers must be alike field by field, in the order of the fields, values within 1e-9. Then every kind of `promtool query`.

With --reduced the Prometheus may be an older release, 2.42 say: what 3.0 changed is left out of data and requests.
"""
import argparse
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.parse

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import differential_data as dd
import quipu_client as qc

CONFIG = "storage: {tsdb: {out_of_order_time_window: 36500d}}\n"
SPAN = 3600
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
GRAFANA = {"X-Dashboard-Uid": "d1", "X-Panel-Id": "2", "X-Query-Group-Id": "g"}     # to be ignored

# What may differ: a path in the answer (a prefix), and why.
ALLOWED = {
    "status/buildinfo": {"data": "each says its own version; Grafana reads `version`, and quipu's is Prometheus's"},
    "metadata": {"data": "quipu has what remote write sent, Prometheus only that of its own targets"},
    "status/flags": {"data": "each has its own"},
    "status/config": {"data": "each has its own"},
    "status/runtimeinfo": {"data": "each has its own"},
}
# Texts that may differ: what is made of them before they are compared, and why.
TEXTS = (
    (r"(functions/#histogram_quantile\)).*", r"\1", "[3.10] says which buckets were not monotone; 3.5 loses the metric's name"),
    (r'^invalid parameter "query": ', "", "2.42 leaves it out in range queries"),
    (r"^(unknown position|1:1): (?=parse error: no expression)", "", "2.42 names a position"),
    (r"(on the right hand-side of the operation: ).*;", r"\1", "which two of the duplicates are told is chance"),
)
# Of releases before 3.0 only.
ALLOWED_REDUCED = {
    "query_exemplars": {"data": "2.42 knows no exemplars without a flag and answers with null"},
}

PANELS = (
    "sum by (job) (rate(requests_total[5m]))",
    "histogram_quantile(0.95, sum by (le, job) (rate(latency_bucket[5m])))",
    "topk(3, max_over_time(load[10m]))",
    "sum by (le) (increase(latency_bucket[5m]))",           # a heatmap
    'up{job="api"} == 0',
    "avg(temperature) by (zone)",
    'label_replace(load, "host", "$1", "instance", "(.*):.*")',
    "1+1",
    "nothing_like_it",
    "vector(time())",
    "count({__name__!=\"\"}) by (__name__)",
)
NEW_PANELS = (
    "histogram_quantile(0.9, sum(wait))",
    "size",                                                 # heatmap cells
    'sum by ("device.name") ({"disk.used"})',
    "sum(mixed)",
)
BAD_QUERIES = ("up{", "sum(up", "foo(up)", "rate(up)", "", "up * on () up", "{}", "\"a\"", "up[5m]")
SELECTORS = ("up", 'requests_total{job="api"}', '{__name__=~"l.*"}', "temperature{zone!=\"x\"}", "nothing")


class Ordered(dict):
    """An object that remembers the order of its keys for comparison."""


def load(body):
    return json.loads(body, object_pairs_hook=Ordered)


def number(text):
    try:
        return float(text)
    except (TypeError, ValueError):
        return None


def same_leaf(a, b):
    if isinstance(a, str) and isinstance(b, str):
        for pattern, kept, _ in TEXTS:
            a, b = re.sub(pattern, kept, a), re.sub(pattern, kept, b)
    if a == b:
        return True
    x, y = number(a), number(b)
    if isinstance(a, bool) or isinstance(b, bool) or x is None or y is None or type(a) is not type(b) and isinstance(a, str):
        return False
    return (math.isnan(x) and math.isnan(y)) or abs(x - y) <= 1e-9 * max(abs(x), abs(y))


def differences(a, b, path=""):
    """[(path, text)]"""
    if isinstance(a, dict) and isinstance(b, dict):
        if list(a) != list(b):
            return [(path, "fields %s against %s" % (list(a), list(b)))]
        return [d for k in a for d in differences(a[k], b[k], path + "." + k if path else k)]
    if isinstance(a, list) and isinstance(b, list):
        if len(a) != len(b):
            return [(path, "%d items against %d" % (len(a), len(b)))]
        return [d for i in range(len(a)) for d in differences(a[i], b[i], "%s[%d]" % (path, i))]
    return [] if same_leaf(a, b) else [(path, "%.200r against %.200r" % (a, b))]


def sorted_vector(answer):
    """The order of a vector, and of series of one selector, is not promised."""
    data = answer.get("data")
    if isinstance(data, dict) and data.get("resultType") == "vector":
        data["result"].sort(key=lambda s: json.dumps(s["metric"], sort_keys=True))
    elif isinstance(data, list) and data and isinstance(data[0], dict) and "exemplars" not in data[0]:
        data.sort(key=lambda s: json.dumps(s, sort_keys=True))
    return answer


class Replay:
    def __init__(self, quipu, reference, reduced):
        self.quipu, self.reference, self.reduced = quipu, reference, reduced
        self.n, self.bad = 0, []

    def ask(self, client, method, path, params):
        encoded = urllib.parse.urlencode(params)
        if method == "GET":
            return client.request("GET", "/api/v1/%s?%s" % (path, encoded), None, GRAFANA)
        return client.request(method, "/api/v1/" + path, encoded, {**FORM, **GRAFANA})

    def allowed(self, path, where):
        rules = dict(ALLOWED.get(path, {}))
        if self.reduced:
            rules.update(ALLOWED_REDUCED.get(path, {}))
        return any(where == rule or where.startswith((rule + ".", rule + "[")) for rule in rules)

    def check(self, method, path, *params):
        """Returns quipu's answer."""
        self.n += 1
        request = "%s %s %s" % (method, path, list(params))
        (a, mine), (b, theirs) = (self.ask(c, method, path, params) for c in (self.quipu, self.reference))
        if a != b:
            self.bad.append("%s\n    %d %.300s\n    %d %.300s" % (request, a, mine, b, theirs))
            return None
        if not mine and not theirs:
            return None
        mine, theirs = load(mine), load(theirs)
        for where, text in differences(sorted_vector(mine), sorted_vector(theirs)):
            if not self.allowed(path, where):
                self.bad.append("%s\n    %s: %s" % (request, where, text))
                break
        return mine


def replay_start(r, base):
    """Save & test, opening a dashboard, the pages about alerts."""
    r.check("POST", "query", ("query", "1+1"), ("time", "4"))
    r.check("GET", "query", ("query", "1+1"), ("time", "4"))
    info = r.check("GET", "status/buildinfo")
    if not info or "features" in info["data"] or int(info["data"]["version"].split(".")[0]) < 3:
        r.bad.append("buildinfo: Grafana takes quipu for something else than Prometheus 3: %s" % info)
    r.check("GET", "query_exemplars", ("query", "test"), ("start", base), ("end", base + 1800))
    r.check("POST", "query_exemplars", ("query", PANELS[0]), ("start", base), ("end", base + 1800))
    for kind in ((), (("type", "alert"),), (("type", "record"),)):
        r.check("GET", "rules", *kind)
    r.check("GET", "alerts")
    for path in ("status/flags", "status/config", "status/runtimeinfo"):
        r.check("GET", path)


def replay_metrics(r, base):
    """The list of metrics, the label browser, the query builder, variables."""
    minutes = (("start", base // 60 * 60), ("end", (base + SPAN) // 60 * 60 + 60))
    limit = () if r.reduced else (("limit", 40000),)        # later than 2.42, which would not mind
    r.check("GET", "metadata")
    r.check("GET", "metadata", ("limit", 40000))
    r.check("GET", "label/__name__/values", *limit, *minutes)
    for method in ("GET", "POST"):
        r.check(method, "labels", *minutes, *limit)
        for selector in SELECTORS:
            r.check(method, "labels", ("match[]", selector), *minutes, *limit)
            r.check(method, "series", ("match[]", selector), *minutes)
        r.check(method, "labels", *[("match[]", s) for s in SELECTORS], *minutes)
        r.check(method, "series", *[("match[]", s) for s in SELECTORS], *minutes)
        r.check(method, "series", ("match[]", '{__name__!=""}'), *minutes, *limit)
        r.check(method, "labels", ("match[]", "{"), *minutes)
        r.check(method, "series", ("match[]", "up{"), *minutes)
    for name in ("job", "instance", "le", "nothing", "city", "__name__"):
        r.check("GET", "label/%s/values" % name, *minutes, *limit)
        for selector in SELECTORS:
            r.check("GET", "label/%s/values" % name, ("match[]", selector), *minutes, *limit)
    r.check("GET", "label/__name__/values", ("match[]", '{__name__=~".*load.*"}'), *minutes)
    if not r.reduced:
        r.check("GET", "label/U__device_2e_name/values", *minutes)
        r.check("GET", "label/device.name/values", *minutes)
        r.check("GET", "label/__name__/values", ("limit", 3), *minutes)


def replay_panels(r, base):
    panels = PANELS if r.reduced else PANELS + NEW_PANELS
    for expr in panels:
        for start, end, step in ((base + 600, base + SPAN, 15), (base + 303, base + 1803, 60)):
            r.check("POST", "query_range", ("query", expr), ("start", start), ("end", end), ("step", step))
            r.check("GET", "query_range", ("query", expr), ("start", start), ("end", end), ("step", "%dms" % (step * 1000)),
                    ("timeout", "60s"))
        r.check("POST", "query", ("query", expr), ("time", "%.3f" % (base + 1800.123)))
    for expr in BAD_QUERIES:
        r.check("POST", "query", ("query", expr), ("time", base + 600))
        r.check("POST", "query_range", ("query", expr), ("start", base), ("end", base + 600), ("step", 15))
    r.check("POST", "query_range", ("query", "up"), ("start", base), ("end", base + 12000), ("step", 1))
    r.check("POST", "query_range", ("query", "up"), ("start", base + 1), ("end", base), ("step", 1))


def points(answer):
    return {(json.dumps(s["metric"], sort_keys=True), t): v for s in answer["data"]["result"] for t, v in s.get("values", ())}


def replay_incremental(r, base):
    """Grafana asks again for the last 10 minutes only, on the same grid, and joins: old and new points must agree."""
    for expr in PANELS[:4]:
        step, known = 15, {}
        for end in range(base + 1200, base + SPAN, 300):
            start = base + 600 if not known else end - 600 - 300
            part = r.check("POST", "query_range", ("query", expr), ("start", start), ("end", end), ("step", step))
            if not part:
                return
            part = points(part)
            moved = [k for k in part if k in known and known[k] != part[k]]
            if moved:
                r.bad.append("incremental %s: %s was %s, is %s" % (expr, moved[0], known[moved[0]], part[moved[0]]))
            known.update(part)
        whole = r.check("POST", "query_range", ("query", expr), ("start", base + 600), ("end", end), ("step", step))
        if whole and points(whole) != known:
            r.bad.append("incremental %s: the parts are not the whole" % expr)


def promtool_commands(base):
    yield "instant", ["query", "instant", "--time=%d" % (base + 1800), "{url}", "sum by (job) (up)"]
    yield "instant json", ["query", "instant", "-o", "json", "--time=%d" % (base + 1800), "{url}", "max(load)"]
    yield "range", ["query", "range", "--start=%d" % (base + 600), "--end=%d" % (base + 900), "--step=60s", "{url}", "sum(load)"]
    yield "series", ["query", "series", "--start=%d" % base, "--end=%d" % (base + SPAN), "--match=slots", "--match=build_info", "{url}"]
    yield "labels", ["query", "labels", "--start=%d" % base, "--end=%d" % (base + SPAN), "{url}", "job"]
    yield "bad query", ["query", "instant", "{url}", "sum("]
    # newer than 2.42
    yield "healthy", ["check", "healthy", "--url={url}"]
    yield "ready", ["check", "ready", "--url={url}"]
    yield "analyze", ["query", "analyze", "--server={url}", "--type=histogram", "--match=latency_bucket", "--time=%d" % (base + 1800)]


def run_promtool(promtool, args, port):
    args = [a.replace("{url}", "http://127.0.0.1:%d" % port) for a in args]
    done = subprocess.run([promtool] + args, capture_output=True, text=True, timeout=60)
    lines = lambda text: sorted(text.replace(":%d" % port, "").split("\n"))
    return done.returncode, lines(done.stdout), lines(done.stderr)


def same_run(a, b):
    if a[0] != b[0] or [len(lines) for lines in a[1:]] != [len(lines) for lines in b[1:]]:
        return False
    words = lambda run: [w for lines in run[1:] for line in lines for w in re.split(r"[\s\"]+", line)]
    mine, theirs = words(a), words(b)
    return len(mine) == len(theirs) and all(same_leaf(x, y) for x, y in zip(mine, theirs))


def check_promtool(promtool, ports, base, bad):
    n, known = 0, subprocess.run([promtool, "--help-long"], capture_output=True, text=True).stdout
    for name, args in promtool_commands(base):
        if "%s %s" % tuple(args[:2]) not in known:
            continue
        a, b = (run_promtool(promtool, args, ports[s]) for s in ("quipu", "reference"))
        n += 1
        if not same_run(a, b):
            bad.append("promtool %s\n    %s\n    %s" % (name, a, b))
        elif name != "bad query" and a[0] != 0:
            bad.append("promtool %s failed: %s" % (name, a))
    return n


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--quipud", required=True)
    parser.add_argument("--prometheus", default=shutil.which("prometheus"))
    parser.add_argument("--promtool", default=shutil.which("promtool"))
    parser.add_argument("--reduced", action="store_true", help="what releases since 2.42 agree on alone")
    parser.add_argument("--seed", type=int, default=1)
    o = parser.parse_args()
    if not o.prometheus:
        print("SKIPPED: prometheus is not installed")
        return
    qc.print_version(o.prometheus)
    folder = tempfile.mkdtemp(prefix="quipu-grafana-")
    file = lambda name: os.path.join(folder, name)
    ports = {name: qc.free_port() for name in ("quipu", "reference")}
    with open(file("prometheus.yml"), "w") as f:
        f.write(CONFIG)
    base = int(time.time()) // 60 * 60 - SPAN - 600
    prometheus = [o.prometheus, "--config.file=" + file("prometheus.yml"), "--storage.tsdb.path=" + file("prometheus"),
                  "--web.enable-remote-write-receiver", "--web.listen-address=127.0.0.1:%d" % ports["reference"],
                  "--log.level=warn"] + ([] if o.reduced else ["--enable-feature=native-histograms,promql-delayed-name-removal"])
    quipud = [o.quipud, "--data-dir", file("quipu"), "--listen", "127.0.0.1:%d" % ports["quipu"], "--retention", "0"]
    with qc.Process(quipud, file("quipud.log"), ports["quipu"]) as server, \
         qc.Process(prometheus, file("prometheus.log"), ports["reference"]) as reference:
        server.wait_ready()
        reference.wait_ready()
        r = Replay(qc.Client(ports["quipu"]), qc.Client(ports["reference"]), o.reduced)
        dd.write_data((r.quipu, r.reference), o.seed, base, SPAN, o.reduced)
        replay_start(r, base)
        replay_metrics(r, base)
        replay_panels(r, base)
        replay_incremental(r, base)
        n_promtool = 0
        if o.promtool:
            n_promtool = check_promtool(o.promtool, ports, base, r.bad)
        else:
            print("SKIPPED: promtool is not installed")
        r.quipu.close()
        r.reference.close()
        if server.terminate() != 0:
            r.bad.append("quipud failed: " + server.tail())
    if r.bad:
        print("\n".join(r.bad))
        sys.exit("%d differences; logs in %s" % (len(r.bad), folder))
    shutil.rmtree(folder)
    print("Grafana's data source: %d requests, and %d of promtool, answered alike" % (r.n, n_promtool))


if __name__ == "__main__":
    main()
