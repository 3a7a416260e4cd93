"""Backups among the rounds of crash.py: taken while writers write, with the server or `quipu backup` killed at any moment, and
restored now and then (the restore is killed, too). What a backup that says it is good holds must be what was answered
before it began, and nothing that nobody sent."""
import os
import random
import shutil
import subprocess
import time

import quipu_client as qc

KEEP = 3


class Backups:
    def __init__(self, quipu, quipud, seed, port, folder, writers):
        self.quipu, self.quipud, self.port = quipu, quipud, port
        self.rng = random.Random(seed * 1000 + 998)
        self.store = os.path.join(folder, "backups")
        self.log = os.path.join(folder, "backup.log")
        self.restored = os.path.join(folder, "restored")
        self.writers = writers
        self.newest = None          # of a good backup: what each writer had had answered when it began
        self.begun = self.good = self.killed = self.restores = self.checked = 0
        self.problems = []

    def call(self, args, timeout):
        """Exit status, or None: it was killed after `timeout` seconds."""
        with open(self.log, "ab") as log:
            proc = subprocess.Popen([self.quipu, *args], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
            try:
                return proc.wait(timeout)
            except subprocess.TimeoutExpired:
                proc.kill()
                proc.wait()
                self.killed += 1
                return None

    def answered_now(self):
        """What has one possible value, and how many values were ever sent for it by now."""
        return [{key: (next(iter(may)), len(w.sent[key])) for key, may in dict(w.may).items()
                 if len(may) == 1 and None not in may} for w in self.writers]

    def run(self, stop):
        """As a thread of a round: ends by itself when the server is killed."""
        while not stop.wait(self.rng.random() * 0.2):
            then = self.answered_now()
            kill = self.rng.random() < 0.3
            self.begun += 1
            status = self.call(["backup", "--server", "http://127.0.0.1:%d" % self.port, "--to", self.store,
                                "--keep", str(KEEP), "--quiet"], self.rng.random() * 0.3 if kill else 60)
            if status == 0:
                self.good += 1
                self.newest = then
            elif status is not None:
                return              # the server was killed

    def restore(self):
        """The newest good backup into a fresh folder, interrupted first, perhaps."""
        shutil.rmtree(self.restored, ignore_errors=True)
        args = ["restore", "--from", self.store, "--data-dir", self.restored, "--quiet"]
        if self.rng.random() < 0.5 and self.call(args, self.rng.random() * 0.1) is None and \
                os.path.exists(self.restored):
            shutil.rmtree(self.restored)    # it was ready just before it was killed
        if not os.path.exists(self.restored):
            status = self.call(args, 60)
            if status != 0:
                self.problems.append("restore: exit status %s, see %s" % (status, self.log))
                return False
        status = self.call(["verify", self.restored], 60)
        if status != 0:
            self.problems.append("verify of what was restored: exit status %s, see %s" % (status, self.log))
        return status == 0

    def check(self):
        """A server on what was restored; its samples beside the model."""
        if self.newest is None or not self.restore():
            return
        self.restores += 1
        port = qc.free_port()
        args = [self.quipud, "--data-dir", self.restored, "--listen", "127.0.0.1:%d" % port, "--retention", "0",
                "--log-level", "warn"]
        with qc.Process(args, self.log, port) as server:
            server.wait_ready()
            for w, then in zip(self.writers, self.newest):
                seen = w.read(port)
                for key, v in seen.items():
                    if v not in w.sent.get(key, ()):
                        self.problems.append("backup, %s %s: invented %r" % (w.name, key, v))
                for key, (v, n_sent) in then.items():
                    if key not in seen and not w.covered(key):
                        self.problems.append("backup, %s %s: lost, was answered as %r" % (w.name, key, v))
                    elif key in seen and seen[key] != v and seen[key] not in w.sent[key][n_sent:]:
                        self.problems.append("backup, %s %s: %r, was answered as %r" % (w.name, key, seen[key], v))
                self.checked += len(then)
        shutil.rmtree(self.restored)

    def summary(self):
        return "%d of %d backups done, %d programs killed, %d restores checked with %d comparisons" % (
            self.good, self.begun, self.killed, self.restores, self.checked)
