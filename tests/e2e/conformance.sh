#!/bin/sh
# Runs PromQL cases from a folder with the runner `run.py` against a fresh server, and fails when fewer pass than stand in
# conformance_floor. usage: tests/e2e/conformance.sh QUIPUD FOLDER
set -eu
here=$(cd "$(dirname "$0")" && pwd)
quipud=$1
cases=$2
floor=$(cat "$here/conformance_floor")
work=$(mktemp -d)
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$quipud" --data-dir "$work/data" --listen "127.0.0.1:$port" --retention 0 2>"$work/log" &
pid=$!
trap 'kill $pid 2>/dev/null; wait $pid 2>/dev/null; rm -rf "$work"' EXIT
for i in $(seq 100); do
    curl -fs "http://127.0.0.1:$port/-/ready" >/dev/null && break
    sleep 0.1
done
/usr/bin/python3 "$cases/run.py" --url "http://127.0.0.1:$port" >"$work/out" || true
tail -n 25 "$work/out"
n=$(sed -n 's/^passed \([0-9]*\) .*/\1/p' "$work/out")
[ "${n:-0}" -ge "$floor" ] || { echo "fewer than $floor cases pass"; exit 1; }
