#!/usr/bin/env python3
"""The power goes, on a real file system: while a server writes to a mounted image, the process is stopped for a moment and the
image file is copied as it is, with what the kernel has not yet written missing. The copy goes through fsck, is mounted, and a
server that starts on it has every sample that was acknowledged before the copy. With --rounds, so many times."""
import argparse
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time

import faults as ft
from faults import MIB, qc


def copy_image(image, to):
    subprocess.run(["cp", "--sparse=always", image, to], check=True)


def check_copy(o, folder, round_no, writers, acked):
    """Problems of what is on the copy."""
    image, mounted = os.path.join(folder, "cut.img"), os.path.join(folder, "cut")
    fsck = subprocess.run(["fsck.ext4", "-p", image], capture_output=True, text=True)
    if fsck.returncode > 1:
        return ["round %d: fsck gives up: %s" % (round_no, fsck.stdout + fsck.stderr)]
    os.makedirs(mounted, exist_ok=True)
    subprocess.run(["mount", "-o", "loop", image, mounted], check=True)
    port = qc.free_port()
    try:
        with qc.Process([o.quipud, "--data-dir", os.path.join(mounted, "data"), "--listen", "127.0.0.1:%d" % port],
                        os.path.join(folder, "cut.log"), port) as server:
            server.wait_ready()
            problems = []
            for w, n in zip(writers, acked):
                problems += ["round %d, %s: %s" % (round_no, w.tenant, p) for p in w.check(port, n)]
            return problems
    finally:
        ft.SmallDisk(mounted, "ext4").unmount()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quipud", required=True)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("extra", nargs="*", help="more flags of quipud, after --: with --wal.sync off the test must fail")
    o = parser.parse_args()
    print("seed %d" % o.seed, flush=True)
    rng = random.Random(o.seed)
    folder = tempfile.mkdtemp(prefix="quipu-power-")
    disk = ft.SmallDisk.make(os.path.join(folder, "disk"), 256 * MIB)
    if not disk or disk.kind != "ext4":
        if disk:
            disk.unmount()
        shutil.rmtree(folder)
        ft.skip("no image can be mounted here (it takes root, and mkfs.ext4)")
    port = qc.free_port()
    server = qc.Process([o.quipud, "--data-dir", os.path.join(disk.folder, "data"), "--listen", "127.0.0.1:%d" % port,
                         "--head.window", "1s", "--wal.segment_size", "1MiB"] + o.extra,
                        os.path.join(folder, "quipud.log"), port)
    writers = [ft.Writer(port, tenant="t%d" % i, series=50, seed=o.seed + i) for i in range(4)]
    problems = []
    try:
        server.wait_ready()
        for w in writers:
            w.start()
        for round_no in range(1, o.rounds + 1):
            time.sleep(rng.uniform(0.5, 3))
            server.proc.send_signal(signal.SIGSTOP)
            acked = [len(w.acked) for w in writers]
            copy_image(disk.folder + ".img", os.path.join(folder, "cut.img"))
            server.proc.send_signal(signal.SIGCONT)
            problems += check_copy(o, folder, round_no, writers, acked)
            print("round %d: %s requests acknowledged before the cut" % (round_no, acked), flush=True)
            if problems:
                break
    finally:
        for w in writers:
            w.stop.set()
        server.proc.send_signal(signal.SIGCONT)
        server.kill()
        disk.unmount()
    if not problems:
        shutil.rmtree(folder)
    ft.report(problems, "power cuts")


if __name__ == "__main__":
    main()
