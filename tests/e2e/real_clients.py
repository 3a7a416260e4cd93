#!/usr/bin/env python3
"""The main job with real clients: node exporter -> Prometheus agent -> quipud, beside a Prometheus that receives the
same remote write. quipu's range answers must equal the reference's, before and after kill -9. With --v2 the agent (of the
folder of --reference, 3.x) sends quipu remote write 2.0, and a vmagent from there, if any, sends zstd bodies.
"""
import argparse
import math
import os
import shutil
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import quipu_client as qc

EXPRESSIONS = [
    'sum by (mode) (rate(node_cpu_seconds_total[20s]))',
    'rate(node_cpu_seconds_total{mode="user"}[15s])',
    'histogram_quantile(0.5, sum by (le, handler) (rate(prometheus_http_request_duration_seconds_bucket[30s])))',
    'histogram_quantile(0.99, sum by (le) (rate(prometheus_http_request_duration_seconds_bucket[30s])))',
    'node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes',
    'sum by (job) (rate(scrape_samples_scraped[20s])) / ignoring (x) sum by (job) (up)',
    'topk(3, sum by (cpu) (increase(node_cpu_seconds_total[20s])))',
    'max_over_time(rate(node_context_switches_total[10s])[20s:2s])',
    'count by (__name__) ({__name__=~"node_network_.*_total"})',
    'avg without (cpu) (irate(node_cpu_seconds_total{mode!="idle"}[10s])) > bool 0.001',
    'sum(rate(prometheus_http_requests_total[20s])) by (code) or vector(0)',
    'up * on (instance) group_left (version) prometheus_build_info',
    'label_replace(changes(node_load1[20s]), "host", "$1", "instance", "(.*):.*")',
    'quantile(0.9, node_filesystem_avail_bytes) - min(node_filesystem_avail_bytes)',
    'stddev_over_time(go_goroutines[20s]) + deriv(process_resident_memory_bytes[20s])',
    'absent(node_load1) or sum(node_load1 offset 5s)',
    'prometheus_http_request_duration_seconds_count{handler=~"/api.*|/metrics"} @ end()',
    'histogram_quantile(0.9, rate(quipu_http_request_seconds_bucket[20s]))',
]

SETTLE_SECONDS = 40

AGENT = """
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
  - job_name: node
    static_configs: [{{targets: ["127.0.0.1:{node}"]}}]
  - job_name: prometheus
    static_configs: [{{targets: ["127.0.0.1:{reference}"]}}]
  - job_name: quipu
    static_configs: [{{targets: ["127.0.0.1:{quipu}"]}}]
remote_write:
  - url: http://127.0.0.1:{quipu}/api/v1/write
    queue_config: {{batch_send_deadline: 500ms, min_backoff: 100ms}}{message}
  - url: http://127.0.0.1:{reference}/api/v1/write
    queue_config: {{batch_send_deadline: 500ms, min_backoff: 100ms}}
"""


V2 = """
    protobuf_message: io.prometheus.write.v2.Request
    send_exemplars: true
"""

VMAGENT = """
global: {{scrape_interval: 1s}}
scrape_configs:
  - job_name: vmagent
    static_configs: [{{targets: ["127.0.0.1:{node}"]}}]
"""


def metric_sum(client, name):
    """The sum of a metric in /metrics of a process, over its labels."""
    return sum(float(line.rsplit(" ", 1)[1]) for line in client.request("GET", "/metrics")[1].decode().splitlines()
               if line.startswith((name + " ", name + "{")))


def check_sender(port, problems, sent, bad):
    """What a sender says of its sending, before it ends: something, and nothing lost, refused or repeated."""
    client = qc.Client(port)
    if not metric_sum(client, sent):
        problems.append("%s is 0" % sent)
    problems += ["%s is not 0" % name for name in bad if metric_sum(client, name)]
    client.close()


def keyed(result):
    return {tuple(sorted(s["metric"].items())): {round(float(t) * 1000): float(v) for t, v in s["values"]}
            for s in result}


def same(a, b):
    if a == b or (math.isnan(a) and math.isnan(b)):
        return True
    return abs(a - b) <= 1e-9 * max(abs(a), abs(b))


def compare(expr, ours, theirs):
    """Returns (number of points compared, list of differences)."""
    a, b = keyed(ours), keyed(theirs)
    bad = ["only in quipu: %s" % (k,) for k in a.keys() - b.keys()]
    bad += ["only in the reference: %s" % (k,) for k in b.keys() - a.keys()]
    n = 0
    for key in a.keys() & b.keys():
        for t in a[key].keys() | b[key].keys():
            n += 1
            x, y = a[key].get(t), b[key].get(t)
            if x is None or y is None or not same(x, y):
                bad.append("%s at %d: quipu %r, reference %r" % (key, t, x, y))
    return n, bad


def tool(name, *folders):
    for folder in folders:
        if folder and os.path.exists(os.path.join(folder, name)):
            return os.path.join(folder, name)
    found = shutil.which(name)
    if not found:
        sys.exit("%s is not installed" % name)
    return found


def wait_for(what, timeout, test):
    end = time.time() + timeout
    while time.time() < end:
        if test():
            return
        time.sleep(0.2)
    sys.exit("no %s within %d s" % (what, timeout))


def query_time_off_the_samples(reference, now):
    """A start whose milliseconds are those of no sample: where a sample lies exactly on a window's edge, releases of
    Prometheus differ (3.0 made windows left-open)."""
    used = {round(float(s["value"][1]) * 1000) % 1000 for s in reference.query("timestamp(up)", now)}
    offset = next(ms for ms in range(137, 1137) if all(abs(ms % 1000 - u) > 5 for u in used)) % 1000
    return int(now) + offset / 1000


def same_answers(quipu, before, start, end, when):
    """What quipu answers now against what it answered before."""
    return ["%s another answer: %s" % (when, expr) for expr, was in before.items()
            if compare(expr, quipu.query_range(expr, start, end, 1), was)[1]]


def compare_all(quipu, reference, start, end):
    points = empty = 0
    problems = []
    for expr in EXPRESSIONS:
        n, bad = compare(expr, quipu.query_range(expr, start, end, 1), reference.query_range(expr, start, end, 1))
        empty += n == 0
        points += n
        problems += ["%s\n    %s" % (expr, b) for b in bad[:3]]
        print("  %-7s %6d points  %s" % ("differs" if bad else "same", n, expr), flush=True)
    if empty:
        problems.append("%d expressions had no data: nothing was compared" % empty)
    return points, problems


def start_vmagent(tools, folder, ports):
    """None when there is none."""
    binary = os.path.join(tools or "", "vmagent")
    if not os.path.exists(binary):
        print("no vmagent beside the reference: left out", flush=True)
        return None
    return qc.Process([binary, "-promscrape.config=" + os.path.join(folder, "vmagent.yml"),
                       "-remoteWrite.url=http://127.0.0.1:%d/api/v1/write" % ports["quipu"],
                       "-remoteWrite.headers=X-Scope-OrgID:vmagent",   # not among what is compared
                       "-remoteWrite.tmpDataPath=" + os.path.join(folder, "vmagent"),
                       "-httpListenAddr=127.0.0.1:%d" % ports["vmagent"]],
                      os.path.join(folder, "vmagent.log"), ports["vmagent"], "/health")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quipud", required=True)
    parser.add_argument("--seconds", type=int, default=75, help="how long the agent writes")
    parser.add_argument("--reference", help="folder with another prometheus to compare with")
    parser.add_argument("--v2", action="store_true", help="the agent sends quipu remote write 2.0")
    o = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="quipu-e2e-")
    ports = {name: qc.free_port() for name in ("node", "reference", "quipu", "agent", "vmagent")}
    sender_problems = []
    with open(os.path.join(folder, "agent.yml"), "w") as f:
        f.write(AGENT.format(message=V2.rstrip() if o.v2 else "", **ports))
    with open(os.path.join(folder, "vmagent.yml"), "w") as f:
        f.write(VMAGENT.format(**ports))
    with open(os.path.join(folder, "reference.yml"), "w") as f:
        f.write("{}\n")
    log = lambda name: os.path.join(folder, name + ".log")
    listen = lambda name: "127.0.0.1:%d" % ports[name]
    prometheus = tool("prometheus", o.reference)
    quipud_args = [o.quipud, "--data-dir", os.path.join(folder, "data"), "--listen", listen("quipu")]
    qc.print_version(prometheus)
    quipud = qc.Process(quipud_args, log("quipud"), ports["quipu"])
    try:
        with qc.Process([tool("prometheus-node-exporter"), "--web.listen-address=" + listen("node")], log("node"),
                        ports["node"], "/metrics") as node, \
             qc.Process([prometheus, "--config.file=" + os.path.join(folder, "reference.yml"),
                         "--storage.tsdb.path=" + os.path.join(folder, "reference"),
                         "--web.enable-remote-write-receiver", "--web.listen-address=" + listen("reference")],
                        log("reference"), ports["reference"]) as reference_server:
            node.wait_ready()
            reference_server.wait_ready()
            quipud.wait_ready()
            reference = qc.Client(ports["reference"])
            quipu = qc.Client(ports["quipu"])
            agent = qc.Process(([prometheus, "--agent"] if o.v2 else [tool("prometheus"), "--enable-feature=agent"]) + [
                                "--config.file=" + os.path.join(folder, "agent.yml"),
                                "--storage.agent.path=" + os.path.join(folder, "agent"),
                                "--web.listen-address=" + listen("agent")], log("agent"), ports["agent"])
            vmagent = None
            try:
                agent.wait_ready()
                wait_for("data in both servers", 60, lambda: all(
                    len(c.query('up == 1', time.time())) == 3 for c in (quipu, reference)))
                began = time.time()
                if o.v2:
                    vmagent = start_vmagent(o.reference, folder, ports)
                while time.time() - began < o.seconds:
                    for handler in ("status/buildinfo", "labels", "query?query=up"):   # work for the histograms
                        reference.get_json("/api/v1/" + handler)
                    time.sleep(0.2)
                if o.v2:
                    check_sender(ports["agent"], sender_problems, "prometheus_remote_storage_samples_total",
                                 ["prometheus_remote_storage_samples_failed_total",
                                  "prometheus_remote_storage_samples_dropped_total",
                                  "prometheus_remote_storage_histograms_failed_total"])
                if vmagent:
                    check_sender(ports["vmagent"], sender_problems, "vmagent_remotewrite_requests_total",
                                 ["vmagent_remotewrite_packets_dropped_total",
                                  "vmagent_remotewrite_retries_count_total"])
                    its = qc.Client(ports["quipu"], tenant="vmagent")
                    if not its.query('up{job="vmagent"} == 1', time.time()):
                        sender_problems.append("nothing of vmagent's came")
                    its.close()
            finally:
                if vmagent:
                    vmagent.kill()
                # The agent sends what it has before it ends, staleness markers included.
                if agent.terminate() != 0:
                    sys.exit("the agent failed:\n" + agent.tail())
            ended = time.time()
            # Not from the start: a window that reaches back to a counter's first values is where Prometheus 2.x
            # and 3.x extrapolate differently. Until the staleness markers are over.
            span = int(ended - began - SETTLE_SECONDS)
            start = query_time_off_the_samples(reference, ended - 2) - span
            end = start + span + 5
            print("compared while running:", flush=True)
            points, problems = compare_all(quipu, reference, start, end)
            problems += sender_problems
            before = {e: quipu.query_range(e, start, end, 1) for e in EXPRESSIONS}
            quipud.kill()
            quipu.close()
            quipud = qc.Process(quipud_args, log("quipud"), ports["quipu"]).wait_ready()
            problems += same_answers(quipu, before, start, end, "after kill -9")
            quipu.close()
            if quipud.terminate() != 0:
                problems.append("SIGTERM: exit status %d" % quipud.proc.returncode)
            quipud = qc.Process(quipud_args, log("quipud"), ports["quipu"]).wait_ready()
            problems += same_answers(quipu, before, start, end, "after a stop and a start")
            reference.close()
            quipu.close()
    finally:
        quipud.kill()
    if problems:
        print("\n".join(problems))
        sys.exit("%d problems; logs in %s" % (len(problems), folder))
    shutil.rmtree(folder)
    print("%d expressions, %d points: the same within 1e-9, also after kill -9 and after a restart"
          % (len(EXPRESSIONS), points))


if __name__ == "__main__":
    main()
