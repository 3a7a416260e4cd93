#!/usr/bin/env python3
"""Deletes on quipud beside a Prometheus: the same samples, the same requests; statuses and errors must be alike, and
after each what queries and /series find. What only quipu has is checked by itself: that label lists lose what is gone at
once, dry_run, restarts, late samples, quipu delete, tenants. Exit status 1: something differs."""
import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.parse

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import quipu_client as qc

CONFIG = "global: {evaluation_interval: 1m}\nstorage: {tsdb: {out_of_order_time_window: 36500d}}\n"
ADMIN = "/api/v1/admin/tsdb/"
SERIES, SAMPLES, STEP = 12, 120, 30     # STEP: seconds
problems = []


def problem(text):
    problems.append(text)
    print("differs: " + text)


def post(client, path, params=(), raw=None):
    body = raw if raw is not None else urllib.parse.urlencode(list(params))
    status, answer = client.request("POST", ADMIN + path, body.encode(),
                                    {"Content-Type": "application/x-www-form-urlencoded"})
    return status, answer.decode()


def write_all(clients, base):
    body = b""
    for i in range(SERIES):
        labels = qc.encode_labels({"__name__": "m%d" % (i % 3), "host": "h%d" % i, "odd": str(i % 2)})
        body += qc.encode_series(labels, [((base + k * STEP) * 1000, i * 1000 + k) for k in range(SAMPLES)])
    for c in clients:
        status, text = c.write(body)
        assert status == 204, (status, text)


def found(client, base):
    """All samples, and the series that /series names; both in an order of their own."""
    end = base + SAMPLES * STEP
    samples = {str(sorted(s["metric"].items())): s["values"]
               for s in client.query('{host!=""}[%ds]' % (SAMPLES * STEP + 60), end)}
    _, answer = client.get_json("/api/v1/series", **{"match[]": '{host!=""}'})
    return samples, sorted(str(sorted(s.items())) for s in answer["data"])


def random_requests(rng, base, n):
    selectors = ['{host="h%d"}' % rng.randrange(SERIES), 'm1{odd="0"}', '{host=~"h1.+"}', 'm2{host!="h5"}', '{host="none"}',
                 '{__name__=~"m.",odd!~"1|x"}', "m0"]
    for _ in range(n):
        a = base + rng.randrange(SAMPLES) * STEP
        params = [("match[]", rng.choice(selectors)) for _ in range(rng.choice((1, 1, 2)))]
        if rng.random() < 0.9:
            params.append(("start", str(a)))
        if rng.random() < 0.9:
            params.append(("end", str(a + rng.randrange(-2, 40) * STEP)))
        if len(params) < 3 and rng.random() < 0.8:
            continue        # all of a series: seldom
        yield params


ERRORS = [
    [], [("match[]", "")], [("match[]", "{")], [("match[]", "rate(up[1m])")], [("match[]", "up offset 5m")],
    [("match[]", "up"), ("start", "foo")], [("match[]", "up"), ("end", "foo")], [("start", "foo")],
    [("match[]", "up"), ("start", "5"), ("end", "4")], [("match[]", '{a=~"("}')], [("match[]", "up"), ("match[]", "}")],
]


def compare(pair, base, rng, n):
    ours, theirs = pair
    for params in ERRORS:
        a, b = post(ours, "delete_series", params), post(theirs, "delete_series", params)
        if a != b:
            problem("%r: %r, %r" % (params, a, b))
    a, b = (post(c, "delete_series", raw="match[]=up;x&start=%zz") for c in pair)
    if a != b:
        problem("a malformed form: %r, %r" % (a, b))
    for method in ("GET", "DELETE"):
        a, b = (c.request(method, ADMIN + "delete_series?match[]=up")[0] for c in pair)
        if a != b:
            problem("%s: %d, %d" % (method, a, b))
    for i, params in enumerate(random_requests(rng, base, n)):
        a, b = post(ours, "delete_series", params), post(theirs, "delete_series", params)
        if a != b:
            problem("%r: %r, %r" % (params, a, b))
        if i % 10 == 5:
            for c in pair:
                if post(c, "clean_tombstones")[0] != 204:
                    problem("clean_tombstones")
        if i % 7 == 3:
            post(ours, "flush")
        (our_samples, our_series), (their_samples, their_series) = (found(c, base) for c in pair)
        if our_samples != their_samples:
            problem("samples after %r" % params)
        # Prometheus lists series until a chunk of them is gone.
        if not set(our_series) <= set(their_series) or len(our_series) != len(our_samples):
            problem("series after %r: %r, %r" % (params, our_series, their_series))


def values(client, label):
    return client.get_json("/api/v1/label/%s/values" % label)[1]["data"]


def quipu_alone(client, quipu, port, base, restart):
    labels = {"__name__": "only", "host": "alone"}
    body = qc.encode_series(qc.encode_labels(labels), [((base + k) * 1000, k) for k in range(100)])
    assert client.write(body)[0] == 204
    run = lambda *args: subprocess.run([quipu, *args, "--server", "http://127.0.0.1:%d" % port],
                                       capture_output=True, text=True)
    out = run("delete", "--match", "only", "--start", str(base + 10), "--end", str(base + 19), "--dry-run")
    if out.returncode or out.stdout != "would delete 10 samples of 1 series\n":
        problem("dry run: %r" % out)
    if "alone" not in values(client, "host"):
        problem("the dry run deleted")
    out = run("delete", "--match", "only", "--match", "none")
    if out.returncode or out.stdout != "deleted\n":
        problem("quipu delete: %r" % out)
    for step in ("at once", "with late samples", "after a flush", "after a restart"):
        if step == "with late samples":
            assert client.write(body)[0] == 204
        if step == "after a flush":
            post(client, "flush")
        if step == "after a restart":
            restart()
            client.close()
        if "alone" in values(client, "host") or "only" in values(client, "__name__"):
            problem("a deleted series is listed " + step)
        if client.query("count_over_time(only[1h])", base + 200):
            problem("a deleted series is found " + step)
    out = run("delete", "--clean")
    if out.returncode:
        problem("quipu delete --clean: %r" % out)
    if "alone" in values(client, "host"):
        problem("a deleted series is listed after a clean-up")
    assert client.write(body)[0] == 204
    if client.query("count_over_time(only[1h])", base + 200)[0]["value"][1] != "100":
        problem("an import after the clean-up is not found")
    status = client.get_json(ADMIN + "tombstones")
    if status[1].get("data") != {"tombstones": 0, "blocksPending": 0, "bytesPending": 0}:
        problem("tombstones: %r" % (status,))


def tenants(port, quipu, base, restart):
    client = qc.Client(port, "acme")
    body = qc.encode_series(qc.encode_labels({"__name__": "secret"}), [((base + k) * 1000, k) for k in range(50)])
    assert client.write(body)[0] == 204
    post(client, "flush")
    run = lambda: subprocess.run([quipu, "tenant", "delete", "acme", "--server", "http://127.0.0.1:%d" % port],
                                 capture_output=True, text=True)
    out = run()
    if out.returncode or not out.stdout.startswith("deleted tenant acme: 1 series, 50 samples, 1 blocks"):
        problem("quipu tenant delete: %r" % out)
    if run().returncode == 0:
        problem("a tenant was deleted twice")
    for again in range(2):
        if client.query("secret[1h]", base + 100) or values(client, "__name__"):
            problem("a deleted tenant's data are found")
        client.close()
        if not again:
            restart()
    body = qc.encode_series(qc.encode_labels({"__name__": "new"}), [((base + 1) * 1000, 1)])
    assert client.write(body)[0] == 204
    restart()
    client.close()
    if values(client, "__name__") != ["new"]:
        problem("a new tenant of an old name has %r" % values(client, "__name__"))
    client.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quipud", required=True)
    parser.add_argument("--quipu", required=True)
    parser.add_argument("--prometheus", default=shutil.which("prometheus"))
    parser.add_argument("--n", type=int, default=40, help="deletes")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--ports", type=int, nargs=2)
    o = parser.parse_args()
    if not o.prometheus:
        sys.exit("prometheus is not installed")
    print("seed %d" % o.seed)
    qc.print_version(o.prometheus)
    folder = tempfile.mkdtemp(prefix="quipu-deletes-")
    file = lambda name: os.path.join(folder, name)
    with open(file("prometheus.yml"), "w") as f:
        f.write(CONFIG)
    ports = o.ports or (qc.free_port(), qc.free_port())
    base = int(time.time()) // 60 * 60 - SAMPLES * STEP - 300
    args = [o.quipud, "--data-dir", file("quipu"), "--listen", "127.0.0.1:%d" % ports[0], "--retention", "0"]
    servers = [qc.Process(args, file("quipud.log"), ports[0])]

    def restart():
        servers[0].terminate()
        servers[0] = qc.Process(args, file("quipud.log"), ports[0])
        servers[0].wait_ready()

    try:
        with qc.Process([o.prometheus, "--config.file=" + file("prometheus.yml"),
                         "--storage.tsdb.path=" + file("prometheus"), "--web.enable-remote-write-receiver",
                         "--web.enable-admin-api", "--web.listen-address=127.0.0.1:%d" % ports[1],
                         "--log.level=warn"], file("prometheus.log"), ports[1]) as reference:
            servers[0].wait_ready()
            reference.wait_ready()
            pair = (qc.Client(ports[0]), qc.Client(ports[1]))
            write_all(pair, base)
            compare(pair, base, random.Random(o.seed), o.n)
        quipu_alone(pair[0], o.quipu, ports[0], base, restart)
        tenants(ports[0], o.quipu, base, restart)
    finally:
        servers[0].kill()
    if problems:
        sys.exit("%d problems, seed %d, data in %s" % (len(problems), o.seed, folder))
    shutil.rmtree(folder)
    print("%d deletes beside Prometheus, and quipu's own: all alike" % o.n)


if __name__ == "__main__":
    main()
