#!/usr/bin/env python3
"""More than the server can take: senders that bring a byte now and then, connections that bring nothing, half requests, huge
headers, readers that take nothing of a long answer, and tenants that flood it with writes. All the while a tenant that asks for
little gets its answers in a bounded time, memory stays bounded, and when the load goes everything is as before."""
import argparse
import os
import resource
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import urllib.parse

import faults as ft
from faults import MIB, qc

HEAD = b"POST /api/v1/write HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\nX-Scope-OrgID: slow\r\n\r\n"
READERS = 5         # that stall: at work at the same time, and together inside query.memory_all
LONGEST_S = 15.0    # of one request of the tenant that asks for little, on a busy machine of two processors


def resident(pid):
    with open("/proc/%d/status" % pid) as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith("VmRSS:"))


class Drip(threading.Thread):
    """Many connections, each with a byte of a header or a body now and then; those that were ended are opened again."""

    def __init__(self, port, n):
        super().__init__(daemon=True)
        self.port, self.n, self.stop = port, n, threading.Event()
        self.ended = 0

    def connect(self, i):
        try:
            s = socket.create_connection(("127.0.0.1", self.port), timeout=5)
            s.setblocking(False)
            s.send(HEAD if i % 2 else HEAD[:40])
            return s
        except OSError:
            return None

    def run(self):
        open_ones = [None] * self.n
        while not self.stop.is_set():
            for i in range(self.n):
                if self.stop.is_set():
                    break
                if open_ones[i] is None:
                    open_ones[i] = self.connect(i)
                    continue
                try:
                    open_ones[i].send(b"x")
                    if not open_ones[i].recv(4096):
                        raise OSError
                except BlockingIOError:
                    pass
                except OSError:
                    open_ones[i].close()
                    open_ones[i] = None
                    self.ended += 1
        for s in open_ones:
            if s:
                s.close()


def huge_header(port):
    s = socket.create_connection(("127.0.0.1", port), timeout=10)
    try:
        s.sendall(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\nX-Big: " + b"a" * (1 << 20) + b"\r\n\r\n")
        return s.recv(64)
    except OSError:
        return b""
    finally:
        s.close()


def half_request(port):
    s = socket.create_connection(("127.0.0.1", port), timeout=10)
    s.sendall(HEAD + b"abc")
    s.close()


def stalled_reader(port):
    """Asks for an answer of 8 MB, twice what buffers on the way hold (4 MiB by default), and takes none of it."""
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    s.connect(("127.0.0.1", port))
    now = int(time.time())
    s.sendall(("GET /api/v1/query_range?query=%s&start=%d.123&end=%d&step=1 HTTP/1.1\r\nHost: x\r\nX-Scope-OrgID: quiet\r\n\r\n" % (
        urllib.parse.quote("count_over_time(quiet[6h]) / 7"), now - 3500, now + 7000)).encode())
    return s


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quipud", required=True)
    parser.add_argument("--slow", type=int, default=300, help="connections with a byte now and then")
    parser.add_argument("--idle", type=int, default=2000, help="connections with nothing")
    parser.add_argument("--floods", type=int, default=64, help="connections of the tenant that floods")
    parser.add_argument("--seconds", type=float, default=6, help="of each kind of load")
    o = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    wanted = o.slow + o.idle + 500
    if hard < wanted:
        o.idle = max(100, hard - o.slow - 500)
        print("only %d descriptors here: %d idle connections" % (hard, o.idle))
    folder = tempfile.mkdtemp(prefix="quipu-overload-")
    problems = run(o, folder)
    if not problems:
        shutil.rmtree(folder)
    ft.report(problems, "overload")


def run(o, folder):
    port = qc.free_port()
    args = [o.quipud, "--data-dir", os.path.join(folder, "data"), "--listen", "127.0.0.1:%d" % port,
            "--memory-limit", "512MiB", "--http.idle_timeout", "5s", "--http.receive_timeout", "2s",
            "--http.stall_timeout", "2s"]
    server = qc.Process(args, os.path.join(folder, "quipud.log"), port).wait_ready()
    quiet = ft.Writer(port, name="quiet", tenant="quiet", series=20, pause=0.05)
    quiet.start()
    problems = []

    def under(what, before, after):
        """Runs a load for a while and looks at the tenant that asks for little."""
        quiet.slowest_s, n = 0.0, len(quiet.acked)
        began = time.time()
        load = before()
        while time.time() - began < o.seconds:
            time.sleep(0.1)
        # One more that began under the load has to come through.
        ft.wait_until("a write during: " + what, lambda: len(quiet.acked) > n, 60)
        slow = quiet.slowest_s
        after(load)
        print("%-24s %4d writes of the quiet tenant, slowest %.2f s; %.0f MiB resident" % (
            what + ":", len(quiet.acked) - n, slow, resident(server.proc.pid) / MIB), flush=True)
        if slow > LONGEST_S:
            problems.append("%s: a write of the quiet tenant took %.1f s" % (what, slow))

    def drip():
        t = Drip(port, o.slow)
        t.start()
        return t

    def drip_end(t):
        t.stop.set()
        t.join(30)
        if t.ended == 0:
            problems.append("no slow sender was ended")
        print("    %d slow senders were ended" % t.ended, flush=True)

    def idle():
        connections = []
        for _ in range(o.idle):
            try:
                connections.append(socket.create_connection(("127.0.0.1", port), timeout=10))
            except OSError:
                pass
        return connections

    def close_all(connections):
        for s in connections:
            s.close()

    def readers_end(connections):
        ft.wait_until("the end of stalled readers",
                      lambda: ft.metric(port, "quipu_http_clients_gone_total") >= len(connections), 60)
        close_all(connections)

    def floods():
        """A sender that is faster than any server: `quipu bench`, beside quipud."""
        quipu = os.path.join(os.path.dirname(o.quipud), "quipu")
        log = open(os.path.join(folder, "flood.log"), "ab")
        return subprocess.Popen([quipu, "bench", "ingest", "--server", "http://127.0.0.1:%d" % port, "--tenant", "flood",
                                 "--preset", "fleet-hour", "--connections", str(o.floods)], stdout=log, stderr=log)

    def floods_end(flood):
        flood.kill()
        flood.wait()
        taken = [line for line in ft.get(port, "/metrics")[2].split("\n") if 'tenant="flood"' in line and
                 line.startswith(("quipu_ingest_samples_total", "quipu_over_share_requests_total"))]
        print("    " + ", ".join(taken), flush=True)

    try:
        ft.wait_until("the first writes", lambda: len(quiet.acked) > 20)
        under("bytes now and then", drip, drip_end)
        under("idle connections", idle, close_all)
        under("half requests, headers", lambda: [(half_request(port), huge_header(port)) for _ in range(50)], lambda _: None)
        under("stalled readers", lambda: [stalled_reader(port) for _ in range(READERS)], readers_end)
        under("a tenant that floods", floods, floods_end)
        quiet.slowest_s, n = 0.0, len(quiet.acked)
        ft.wait_until("writes afterwards", lambda: len(quiet.acked) > n + 50, 60)
        if ft.get(port, "/-/ready")[0] != 200:
            problems.append("not ready afterwards: %s" % ft.get(port, "/-/ready")[2])
        ft.wait_until("all connections gone", lambda: ft.metric(port, "quipu_http_connections") < 20, 60)
        if ft.metric(port, "quipu_http_inflight_body_bytes") > MIB:
            problems.append("bodies of the slow senders are still held")
        quiet.finish()
        problems += quiet.check()
        peak = ft.metric(port, "process_resident_memory_peak_bytes")
        if peak > 512 * MIB:
            problems.append("%.0f MiB were resident, memory.limit is 512" % (peak / MIB))
        print("peak %.0f MiB; %d writes of the quiet tenant, answers %s" % (peak / MIB, len(quiet.acked), quiet.outcomes))
        return problems
    finally:
        quiet.stop.set()
        server.kill()


if __name__ == "__main__":
    main()
