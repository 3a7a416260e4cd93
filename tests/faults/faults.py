"""What the fault tests share: a small file system of their own, a writer that keeps what it sends until it is
acknowledged, and the comparison of what was acknowledged with what is answered."""
import http.client
import os
import random
import shutil
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
import quipu_client as qc

MIB = 1 << 20


def skip(why):
    print("skipped: " + why)
    sys.exit(0)


class SmallDisk:
    """An ext4 image through a loop device, or a tmpfs; make() gives None where nothing can be mounted."""

    def __init__(self, folder, kind):
        self.folder, self.kind = folder, kind

    @staticmethod
    def make(folder, size_bytes):
        os.makedirs(folder)
        image = folder + ".img"
        if os.geteuid() == 0 and shutil.which("mkfs.ext4"):
            with open(image, "wb") as f:
                f.truncate(size_bytes)
            made = subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], capture_output=True).returncode == 0
            if made and subprocess.run(["mount", "-o", "loop", image, folder], capture_output=True).returncode == 0:
                return SmallDisk(folder, "ext4")
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=%d" % size_bytes, "tmpfs", folder],
                          capture_output=True).returncode == 0:
            return SmallDisk(folder, "tmpfs")
        return None

    def free(self):
        st = os.statvfs(self.folder)
        return st.f_bavail * st.f_frsize

    def fill(self, left):
        """A file of somebody else's, so large that `left` bytes are free."""
        path = os.path.join(self.folder, "filler")
        with open(path, "ab") as f:
            more = self.free() - left
            while more > 4096:  # others take space, too, and so do the file system's own tables
                try:
                    os.posix_fallocate(f.fileno(), os.fstat(f.fileno()).st_size, more)
                    more = self.free() - left
                except OSError:
                    more //= 2

    def unfill(self):
        os.unlink(os.path.join(self.folder, "filler"))

    def unmount(self):
        for _ in range(50):
            if subprocess.run(["umount", self.folder], capture_output=True).returncode == 0:
                return
            time.sleep(0.1)
        subprocess.run(["umount", "-l", self.folder], capture_output=True)


def get(port, path, timeout=30):
    """(status, headers, text) of one request on a connection of its own."""
    conn = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        conn.request("GET", path)
        answer = conn.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read().decode(errors="replace")
    finally:
        conn.close()


def metric(port, name):
    """The value of a metric without labels, or with all of them written out."""
    for line in get(port, "/metrics")[2].split("\n"):
        if line.startswith(name + " "):
            return float(line.rsplit(" ", 1)[1])
    raise RuntimeError("no metric " + name)


def wait_until(what, test, seconds=60):
    end = time.time() + seconds
    while not test():
        if time.time() > end:
            raise RuntimeError("not within %d s: %s" % (seconds, what))
        time.sleep(0.05)


class Writer(threading.Thread):
    """Sends one request after the other, each until it is acknowledged, as a real sender does. Request k writes a sample of
    each series at t0_ms + k * step_ms."""

    def __init__(self, port, name="disk", tenant=None, series=200, seed=1, pause=0.0, step_ms=50):
        super().__init__(daemon=True)
        self.port, self.name, self.tenant, self.pause, self.step_ms = port, name, tenant, pause, step_ms
        self.rng = random.Random(seed)
        self.labels = [qc.encode_labels({"__name__": name, "s": str(i)}) for i in range(series)]
        self.t0_ms = (int(time.time()) - 3600) * 1000
        self.acked = []         # values of series 0, by k
        self.outcomes = {}      # status, or "none", to how often
        self.refusal = None     # (status, headers, text) of the last that was not 204
        self.slowest_s = 0.0
        self.stop = threading.Event()

    def body(self, k):
        values = [float(self.rng.getrandbits(16)) for _ in self.labels]
        t = self.t0_ms + k * self.step_ms
        return values[0], qc.snappy_literals(b"".join(
            qc.encode_series(l, [(t, v)]) for l, v in zip(self.labels, values)))

    def send(self, conn, body):
        headers = dict(qc.WRITE_HEADERS)
        if self.tenant:
            headers["X-Scope-OrgID"] = self.tenant
        conn.request("POST", "/api/v1/write", body, headers)
        answer = conn.getresponse()
        text = answer.read().decode(errors="replace")
        if answer.status != 204:
            self.refusal = (answer.status, dict(answer.getheaders()), text)
        return answer.status

    def run(self):
        conn, first, body = None, None, None
        while not self.stop.is_set():
            if body is None:
                first, body = self.body(len(self.acked))
            began = time.time()
            try:
                conn = conn or http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
                status = self.send(conn, body)
            except (OSError, http.client.HTTPException):
                status = "none"
                conn.close()
                conn = None
            self.outcomes[status] = self.outcomes.get(status, 0) + 1
            if status == 204:
                self.slowest_s = max(self.slowest_s, time.time() - began)
                self.acked.append(first)
                body = None
                if self.pause:
                    time.sleep(self.pause)
            else:
                time.sleep(0.1)
        if conn:
            conn.close()

    def finish(self):
        self.stop.set()
        self.join(120)

    def check(self, port=None, n=None):
        """Problems: every acknowledged sample of the first series by its value, and of all by their number. Of the first n, and
        at another server, if one likes."""
        n = len(self.acked) if n is None else n
        client = qc.Client(port or self.port, tenant=self.tenant, timeout=120)
        end = (self.t0_ms + n * self.step_ms) / 1000 + 1
        problems = []
        got = client.query('%s{s="0"}[3h]' % self.name, "%.3f" % end)
        values = {round(float(t) * 1000): float(v) for t, v in got[0]["values"]} if got else {}
        for k in range(n):
            if values.get(self.t0_ms + k * self.step_ms) != self.acked[k]:
                problems.append("request %d of %d: acknowledged, answered %r" %
                                (k, n, values.get(self.t0_ms + k * self.step_ms)))
        if n:
            counts = client.query("count_over_time(%s[3h])" % self.name, "%.3f" % end)
            low = [c for c in counts if int(float(c["value"][1])) < n]
            if len(counts) != len(self.labels) or low:
                problems.append("%d series, %d of them with fewer than %d samples" % (len(counts), len(low), n))
        client.close()
        return problems


def report(problems, what):
    if problems:
        print("\n".join(problems[:20]))
        print("%s: %d problems" % (what, len(problems)))
        sys.exit(1)
    print(what + ": fine")
