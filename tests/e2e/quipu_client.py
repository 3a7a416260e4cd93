"""A small client for the end-to-end and crash tests: remote write 1.0 and the query API, standard library only.

The snappy bodies hold literals alone, which every decoder must take; the real senders of the end-to-end test
bring compressed ones.
"""
import http.client
import json
import os
import signal
import socket
import struct
import subprocess
import time
import urllib.parse


def varint(n):
    n &= (1 << 64) - 1
    out = bytearray()
    while n > 0x7F:
        out.append((n & 0x7F) | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def field(number, payload):
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def snappy_literals(data):
    out = bytearray(varint(len(data)))
    for i in range(0, len(data), 65536):
        part = data[i:i + 65536]
        out += b"\xf4" + struct.pack("<H", len(part) - 1) + part
    return bytes(out)


def encode_labels(labels):
    return b"".join(field(1, field(1, k.encode()) + field(2, v.encode())) for k, v in sorted(labels.items()))


def encode_series(labels_bytes, samples):
    """samples: [(t_ms, value)]"""
    body = labels_bytes
    for t_ms, value in samples:
        body += field(2, b"\x09" + struct.pack("<d", value) + b"\x10" + varint(t_ms))
    return field(1, body)


WRITE_HEADERS = {
    "Content-Encoding": "snappy",
    "Content-Type": "application/x-protobuf",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
}


class Client:
    """One keep-alive connection. Not for use by several threads."""

    def __init__(self, port, tenant=None, timeout=30):
        self.port, self.tenant, self.timeout = port, tenant, timeout
        self.conn = None

    def close(self):
        if self.conn:
            self.conn.close()
        self.conn = None

    def request(self, method, path, body=None, headers=None):
        headers = dict(headers or {})
        if self.tenant:
            headers["X-Scope-OrgID"] = self.tenant
        try:
            if self.conn is None:
                self.conn = http.client.HTTPConnection("127.0.0.1", self.port, timeout=self.timeout)
            self.conn.request(method, path, body, headers)
            answer = self.conn.getresponse()
            return answer.status, answer.read()
        except (http.client.HTTPException, OSError):
            self.close()
            raise

    def write(self, series):
        """series: bytes of encode_series() joined. Returns (status, text)."""
        return self.request("POST", "/api/v1/write", snappy_literals(series), WRITE_HEADERS)

    def get_json(self, path, **params):
        status, body = self.request("GET", path + "?" + urllib.parse.urlencode(params))
        try:
            return status, json.loads(body)
        except ValueError:
            return status, {"status": "error", "error": body.decode(errors="replace")}

    def query(self, expr, t):
        status, answer = self.get_json("/api/v1/query", query=expr, time=t)
        if status != 200:
            raise RuntimeError("query %s: %d %s" % (expr, status, answer.get("error")))
        return answer["data"]["result"]

    def query_range(self, expr, start, end, step):
        status, answer = self.get_json("/api/v1/query_range", query=expr, start=start, end=end, step=step)
        if status != 200:
            raise RuntimeError("query_range %s: %d %s" % (expr, status, answer.get("error")))
        return answer["data"]["result"]


def print_version(prometheus):
    """The first line of what a Prometheus says of itself: answers are compared with those of that release."""
    print(subprocess.run([prometheus, "--version"], capture_output=True, text=True).stdout.split("\n")[0], flush=True)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Process:
    """A server of the test; ended with the test whatever happens (used as a context)."""

    def __init__(self, args, log_path, ready_port=None, ready_path="/-/ready"):
        self.args, self.log_path = args, log_path
        self.ready_port, self.ready_path = ready_port, ready_path
        self.log = open(log_path, "ab")
        self.proc = subprocess.Popen(args, stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    def is_ready(self):
        try:
            conn = http.client.HTTPConnection("127.0.0.1", self.ready_port, timeout=5)
            conn.request("GET", self.ready_path)
            ok = conn.getresponse().status == 200
            conn.close()
            return ok
        except (http.client.HTTPException, OSError):
            return False

    def wait_ready(self, timeout=60):
        end = time.time() + timeout
        while time.time() < end:
            if self.proc.poll() is not None:
                raise RuntimeError("%s ended with %d:\n%s" % (self.args[0], self.proc.returncode, self.tail()))
            if self.is_ready():
                return self
            time.sleep(0.02)
        raise RuntimeError("%s is not ready after %d s:\n%s" % (self.args[0], timeout, self.tail()))

    def tail(self, size=3000):
        if not self.log.closed:     # else it has ended, and all is in the file
            self.log.flush()
        with open(self.log_path, "rb") as f:
            f.seek(max(0, os.path.getsize(self.log_path) - size))
            return f.read().decode(errors="replace")

    def kill(self):
        if self.proc.poll() is None:
            self.proc.send_signal(signal.SIGKILL)
        self.proc.wait()
        self.log.close()

    def terminate(self, timeout=60):
        """SIGTERM; returns the exit status."""
        if self.proc.poll() is None:
            self.proc.send_signal(signal.SIGTERM)
        status = self.proc.wait(timeout)
        self.log.close()
        return status
