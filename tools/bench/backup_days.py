#!/usr/bin/env python3
"""What an incremental backup copies after a day in which nothing but that day's samples came: a fleet's history is written,
flushed, compacted and backed up; then day after day more is written, and backed up again. Catalog and log come whole each time:
the log is what is not in blocks yet, and the rest of a segment (wal.segment_size) at most.

usage: tools/bench/backup_days.py --bin build/release/bin [--history 70] [--days 14]
"""
import argparse
import os
import shutil
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import servers

DAY = 86400
INTERVAL = 60


def write(o, quipu, start, days):
    """Days of samples of the whole fleet, then blocks of them."""
    servers.ingest(o.quipu, quipu, "--preset", "fleet-day", "--instances", str(o.instances), "--series", "380",
                   "--interval", "%ds" % INTERVAL, "--scrapes", str(days * DAY // INTERVAL),
                   "--start", str(start), "--connections", "1")
    for path in ("flush", "compact"):
        quipu.request("/api/v1/admin/tsdb/" + path, "POST")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--bin", required=True, help="folder of quipud and quipu")
    parser.add_argument("--instances", type=int, default=3, help="of 380 series each, 60 s apart")
    parser.add_argument("--history", type=int, default=70, help="days written before the first backup")
    parser.add_argument("--days", type=int, default=14, help="days after it, with a backup each")
    parser.add_argument("--port", type=int, default=19790)
    o = parser.parse_args()
    o.quipu = os.path.join(o.bin, "quipu")
    folder = tempfile.mkdtemp(prefix="quipu-backup-days-")
    start = int(time.time()) // DAY * DAY - (o.history + o.days) * DAY
    quipu = servers.Quipu(os.path.join(o.bin, "quipud"), folder, o.port)
    rows = [("day", "blocks, MB", "copied, MB", "copied, %", "catalog and log, MB")]
    try:
        quipu.start()
        for day in range(o.days + 1):
            write(o, quipu, start + (o.history + day - 1 if day else 0) * DAY, 1 if day else o.history)
            report = servers.run_quipu(o.quipu, "backup", "--server", quipu.url, "--to", os.path.join(folder, "store"),
                                       "--keep", "2", "--quiet")
            total, copied = report["blockBytes"], report["blockBytesCopied"]
            rows.append((str(day), "%.1f" % (total / 1e6), "%.2f" % (copied / 1e6), "%.1f" % (100 * copied / total),
                         "%.1f" % (report["otherBytes"] / 1e6)))
    finally:
        quipu.kill()
        shutil.rmtree(folder)
    print(servers.table(rows))


if __name__ == "__main__":
    main()
