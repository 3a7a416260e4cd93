#!/usr/bin/env python3
"""Where the CPU of an ingest goes, by stage, as perf sees it (Linux, perf with the rights to use it).

    tools/bench/stages.py --bin build/release/bin --preset fleet-hour

Starts quipud, records it while `quipu bench ingest` runs, and sorts the samples: in the kernel by the system call,
else by the function's name, which begins with its module's. Flush and compaction are then asked for, and their CPU
is taken from the process's clock. Prints milliseconds of CPU per million samples. Functions that the compiler has
inlined count for their caller.
"""
import argparse
import collections
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import servers as sv

# The first pattern that matches decides. System calls are those in a kernel sample's call chain.
SYSCALLS = [
    ("fsync", r"sys_(fdatasync|fsync|sync_file_range)"),
    ("writing files", r"sys_(pwrite|write|pwritev|fallocate|ftruncate)"),
    ("sockets", r"sys_(recv|send|epoll|accept|poll|read|writev)"),
    ("threads waiting and waking", r"sys_futex|schedule|eventfd"),
    ("page faults", r"page_fault|sys_(mmap|munmap|madvise|brk)"),
]
FUNCTIONS = [
    ("HTTP", r"^(MHD_|call_|server_|router_|route_|http_|peer_|on_request)"),
    ("decode", r"^(snappy|.*Snappy|pb_|write_request|remote_write|read_series|read_sample|take_series|utf8)"),
    ("compaction", r"^(compact_|merge_)"),
    ("flush", r"^(flush_|tenant_flush|block_|page_file|LZ4HC|LZ4_compress_HC|postings_|symbols_|chunk_|intcol_"
              r"|values_|times_|family_|histogram_|pack|roaring|sqlite3)"),
    ("WAL", r"^(wal_|committer|segment_|record_|encode_column|log_|LZ4_|crc32c)"),
    ("look-up", r"^(registry_|alias_|idmap_|idlist_|labels_|find_|tenant_find|tenant_add|hash_|XXH|cells_|series_)"),
    ("head", r"^(head_|slab_|stream_|gorilla_|tenant_write|write_|append_|put_|rows_)"),
    ("memory", r"^(mem_|arena_|buf_|malloc|free|_int_|realloc|calloc|cfree)"),
    ("threads waiting and waking", r"pthread_(mutex|cond|rwlock)|^(lock_|cond_|rwlock_|pool_)"),
    ("copying (libc)", r"^(__mem|mem(cpy|set|move|cmp))"),
]


def stage_of(frames):
    """frames: [(function, object)], innermost first."""
    kernel = [name for name, dso in frames if "[kernel" in dso or dso.startswith("[guest.kernel")]
    if kernel:
        chain = " ".join(kernel)
        return next((stage for stage, pattern in SYSCALLS if re.search(pattern, chain)), "kernel, other")
    name = frames[0][0]
    return next((stage for stage, pattern in FUNCTIONS if re.search(pattern, name)), "other")


def read_samples(path):
    """{stage: weight}, {(stage, function): weight}"""
    text = subprocess.run(["perf", "script", "-i", path, "-F", "period,ip,sym,dso"], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, text=True).stdout
    stages, functions = collections.Counter(), collections.Counter()
    for sample in text.split("\n\n"):
        lines = sample.strip().splitlines()
        if len(lines) < 2:
            continue
        frames = []
        for line in lines[1:]:
            match = re.match(r"\s*[0-9a-f]+ (.*?)(?:\+0x[0-9a-f]+)? \((.*)\)$", line)
            if match:
                frames.append((match.group(1).split(".")[0], match.group(2)))
        if frames:
            stage, weight = stage_of(frames), int(lines[0].split()[0])
            stages[stage] += weight
            functions[(stage, frames[0][0])] += weight
    return stages, functions


def record(o, server, load):
    path = os.path.join(o.folder, "perf.data")
    perf = subprocess.Popen(["perf", "record", "-q", "-F", "997", "--call-graph", "fp", "-p", str(server.proc.pid),
                             "-o", path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(0.5)
    began = server.cpu()
    report = sv.ingest(o.quipu, server, *load)
    cpu = server.cpu() - began
    perf.send_signal(signal.SIGINT)
    perf.wait()
    return report, cpu, *read_samples(path)


def timed(server, path):
    began = server.cpu()
    server.request("/api/v1/admin/tsdb/" + path, "POST")
    return server.cpu() - began


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default="build/release/bin", help="folder of quipud and quipu")
    parser.add_argument("--preset", default="fleet-hour")
    parser.add_argument("--recording", help="instead of a preset")
    parser.add_argument("--functions", type=int, default=0, help="print so many of the functions, too")
    parser.add_argument("--port", type=int, default=19550)
    o = parser.parse_args()
    o.quipu = os.path.join(o.bin, "quipu")
    o.folder = tempfile.mkdtemp(prefix="quipu-stages-")
    server = sv.Quipu(os.path.join(o.bin, "quipud"), os.path.join(o.folder, "quipu"), o.port)
    server.wipe()
    try:
        server.start()
        load = ["--recording", o.recording] if o.recording else ["--preset", o.preset]
        report, cpu, stages, functions = record(o, server, load)
        fsync = [server.histogram_ms("quipu_wal_fsync_seconds", q) for q in (0.5, 0.99)]
        millions = report["samples"] / 1e6
        rows = [["stage", "ms of CPU per million samples", "share"]]
        total = sum(stages.values())
        for stage, weight in stages.most_common():
            rows.append([stage, "%.1f" % (cpu * 1000 / millions * weight / total), "%.1f %%" % (100 * weight / total)])
        rows.append(["while sending", "%.1f" % (cpu * 1000 / millions), "100 %"])
        for what, path in (("flush of what is left", "flush"), ("compaction to level 2", "compact?level=2")):
            try:
                rows.append([what, "%.1f" % (timed(server, path) * 1000 / millions), ""])
            except OSError as e:
                print("%s: %s" % (what, e), file=sys.stderr)
        print("%s; data on %s" % (sv.machine(), sv.file_system(o.folder)))
        print("%.1f M samples, %.2f s of CPU; fsync p50 %.2f ms, p99 %.2f ms\n\n%s" % (
            millions, cpu, *fsync, sv.table(rows)))
        if o.functions:
            rows = [["stage", "function", "ms of CPU per million samples"]]
            rows += [[stage, name, "%.1f" % (cpu * 1000 / millions * weight / total)]
                     for (stage, name), weight in functions.most_common(o.functions)]
            print("\n" + sv.table(rows))
    finally:
        server.stop()
        shutil.rmtree(o.folder)


if __name__ == "__main__":
    main()
