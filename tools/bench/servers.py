"""The servers that the benchmarks start: quipud and its peers, each with the flags that the load needs. Standard
library only; Linux (/proc)."""
import json
import math
import os
import re
import shutil
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request


def cpu_seconds(pid):
    """User and system time of a process so far, by its CPU-time clock (clock_getcpuclockid(3)): /proc counts in
    steps of 10 ms."""
    return time.clock_gettime(~pid << 3 | 2)


def memory_bytes(pid, field):
    """VmRSS: now; VmHWM: the most it ever had."""
    with open("/proc/%d/status" % pid) as f:
        return int(re.search(field + r":\s*(\d+) kB", f.read()).group(1)) * 1024


def tree_bytes(folder, keep=lambda path: True):
    """Sum of the sizes of the files below a folder; some may vanish meanwhile."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(parent, name)
            try:
                total += os.stat(path).st_size if keep(path) else 0
            except FileNotFoundError:
                pass
    return total


def file_system(folder):
    """Type of the file system that holds a folder."""
    best = ("", "?")
    with open("/proc/self/mounts") as f:
        for line in f:
            mount, kind = line.split()[1:3]
            if os.path.commonpath([mount, os.path.realpath(folder)]) == mount and len(mount) >= len(best[0]):
                best = (mount, kind)
    return best[1]


def machine():
    with open("/proc/meminfo") as f:
        gib = int(re.search(r"MemTotal:\s*(\d+)", f.read()).group(1)) / 1024 / 1024
    with open("/proc/cpuinfo") as f:
        model = re.search(r"model name\s*: (.*)", f.read())
    return "%d processors (%s), %.0f GiB, Linux %s" % (
        os.cpu_count(), model.group(1) if model else os.uname().machine, gib, os.uname().release)


def drop_page_cache():
    """False without the right to: then a start reads from memory."""
    os.sync()
    try:
        with open("/proc/sys/vm/drop_caches", "w") as f:
            f.write("3")
        return True
    except OSError:
        return False


class Server:
    name = ready_path = None
    tells_head = False  # has head_bytes(): what a kill -9 would leave to replay

    def __init__(self, binary, folder, port):
        self.binary, self.folder, self.port = binary, folder, port
        self.data = os.path.join(folder, "data")
        self.url = "http://127.0.0.1:%d" % port
        self.proc = None

    def flags(self):
        raise NotImplementedError

    def wipe(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        os.makedirs(self.folder)

    def start(self, *more):
        """Returns the seconds until it was ready."""
        log = open(os.path.join(self.folder, "log"), "ab")
        began = time.monotonic()
        self.proc = subprocess.Popen([self.binary, *self.flags(), *more], stdout=log, stderr=log,
                                     stdin=subprocess.DEVNULL)
        log.close()
        while time.monotonic() - began < 600:
            if self.proc.poll() is not None:
                raise RuntimeError("%s ended with %d, see %s/log" % (self.name, self.proc.returncode, self.folder))
            try:
                with urllib.request.urlopen(self.url + self.ready_path, timeout=60):
                    return time.monotonic() - began
            except OSError:
                time.sleep(0.005)
        raise RuntimeError("%s is not ready after 10 min" % self.name)

    def kill(self):
        """kill -9"""
        if self.proc and self.proc.poll() is None:
            self.proc.send_signal(signal.SIGKILL)
        if self.proc:
            self.proc.wait()
        self.proc = None

    def stop(self):
        if self.proc and self.proc.poll() is None:
            self.proc.terminate()
            try:
                self.proc.wait(120)
            except subprocess.TimeoutExpired:
                pass
        self.kill()

    def request(self, path, method="GET", timeout=3600):
        request = urllib.request.Request(self.url + path, method=method)
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.read().decode()

    def query(self, expr, t):
        query = urllib.parse.urlencode({"query": expr, "time": t, "nocache": "1"})
        return json.loads(self.request("/api/v1/query?" + query))["data"]["result"]

    def cpu(self):
        return cpu_seconds(self.proc.pid)

    def wait_idle(self, limit_s=120):
        """Until background work is done: below 3 % of a processor for 2 s."""
        end, calm = time.monotonic() + limit_s, 0
        while calm < 4 and time.monotonic() < end:
            before = self.cpu()
            time.sleep(0.5)
            calm = calm + 1 if self.cpu() - before < 0.015 else 0

    def settle(self):
        """All samples into the form in which they stay on the disk, as far as the server can be told to."""

    def disk_bytes(self):
        """What the samples and their index take then."""
        raise NotImplementedError


class Quipu(Server):
    name, ready_path, tells_head = "quipu", "/-/ready", True

    def flags(self):
        return ["--data-dir", self.data, "--listen", "127.0.0.1:%d" % self.port, "--retention", "0"]

    def settle(self):
        for path in ("flush", "compact?level=2"):
            try:
                self.request("/api/v1/admin/tsdb/" + path, "POST")
            except urllib.error.HTTPError as e:
                if e.code != 404:
                    raise
                # A version without the call: it flushes when it stops.
                self.stop()
                self.start()

    def disk_bytes(self):
        return tree_bytes(self.data, lambda path: path.endswith(".block") or "catalog" in path)

    def metrics(self):
        """{name{labels}: value}"""
        lines = (line.rsplit(" ", 1) for line in self.request("/metrics").splitlines() if not line.startswith("#"))
        return {name: float(value) for name, value in lines}

    def head_bytes(self):
        return sum(v for k, v in self.metrics().items() if k.split("{")[0] == "quipu_head_bytes")

    def histogram_ms(self, name, q):
        """Quantile of one of its own histograms in ms, interpolated within the bucket."""
        buckets = sorted((float(re.search(r'le="([^"]+)"', k).group(1)), v) for k, v in self.metrics().items()
                         if k.startswith(name + "_bucket"))
        if not buckets or not buckets[-1][1]:
            return math.nan
        rank, lower, below = q * buckets[-1][1], 0.0, 0.0
        for le, n in buckets:
            if n >= rank:
                return (lower if le == math.inf else lower + (le - lower) * (rank - below) / (n - below)) * 1000
            lower, below = le, n
        return math.nan


class VictoriaMetrics(Server):
    name, ready_path = "VictoriaMetrics", "/health"

    def flags(self):
        # Without the offset it would hide the newest samples.
        return ["-storageDataPath=" + self.data, "-httpListenAddr=127.0.0.1:%d" % self.port,
                "-retentionPeriod=100y", "-search.latencyOffset=1ms", "-loggerLevel=WARN"]

    def settle(self):
        self.request("/internal/force_flush")
        self.request("/internal/force_merge")
        self.wait_idle()

    def disk_bytes(self):
        return tree_bytes(self.data, lambda path: "/cache/" not in path)


class Prometheus(Server):
    name, ready_path = "Prometheus", "/-/ready"

    def flags(self):
        # Two connections are a few scrapes apart, which its head refuses otherwise.
        config = os.path.join(self.folder, "prometheus.yml")
        with open(config, "w") as f:
            f.write("storage: {tsdb: {out_of_order_time_window: 2h}}\n")
        return ["--config.file=" + config, "--storage.tsdb.path=" + self.data,
                "--web.listen-address=127.0.0.1:%d" % self.port, "--storage.tsdb.retention.time=100y",
                "--web.enable-remote-write-receiver", "--web.enable-admin-api", "--log.level=warn"]

    def settle(self):
        """A snapshot writes the head as blocks, which a running server would in the course of hours. It is taken by
        disk_bytes(), since it does not change the server."""
        self.wait_idle()

    def disk_bytes(self):
        name = json.loads(self.request("/api/v1/admin/tsdb/snapshot", "POST"))["data"]["name"]
        folder = os.path.join(self.data, "snapshots", name)
        size = tree_bytes(folder)
        shutil.rmtree(folder)
        return size


class Sampler:
    """Calls fn() every interval_s in a thread; its results are in .seen, errors (a server that just died) ignored."""

    def __init__(self, fn, interval_s):
        self.fn, self.interval_s, self.seen = fn, interval_s, []
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        while not self.over.wait(self.interval_s):
            try:
                self.seen.append(self.fn())
            except OSError:
                pass

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


def run_quipu(quipu, *args):
    """A run of the `quipu` program with --json: its report."""
    done = subprocess.run([quipu, *args, "--json"], stdout=subprocess.PIPE, text=True)
    try:
        return json.loads(done.stdout)
    except ValueError:
        raise RuntimeError("%s failed with %d" % (" ".join([quipu, *args]), done.returncode))


def ingest(quipu, server, *args):
    report = run_quipu(quipu, "bench", "ingest", "--server", server.url, "--pid", str(server.proc.pid), *args)
    if report["samples"] != report["expected"]:
        print("%s took %d samples of %d: %s" % (server.name, report["samples"], report["expected"],
                                                report.get("first_refusal", "connections failed")), flush=True)
    return report


def table(rows):
    """Markdown, columns aligned. rows[0] is the headline."""
    width = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["| " + " | ".join(cell.ljust(w) for cell, w in zip(row, width)) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "|".join("-" * (w + 2) for w in width) + "|", *lines[1:]])
