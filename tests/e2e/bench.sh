#!/bin/sh
# The benchmarks run, and take in all that they send: a small fleet beside nobody, a recording that is made here, short
# churn and imports. usage: tests/e2e/bench.sh FOLDER_OF_QUIPUD_AND_QUIPU
set -eu
here=$(cd "$(dirname "$0")" && pwd)
bin=$1
folder=$(mktemp -d)
recorder=
trap 'kill $recorder 2>/dev/null || true; rm -rf "$folder"' EXIT
port=$(python3 -c "import sys; sys.path.insert(0, '$here'); import quipu_client; print(quipu_client.free_port())")

"$bin/quipu" bench record --listen "127.0.0.1:$port" --out "$folder/rec" >"$folder/recorded" 2>"$folder/err" &
recorder=$!
for _ in $(seq 100); do
    grep -q recording "$folder/err" && break
    sleep 0.1
done
"$bin/quipu" bench ingest --server "http://127.0.0.1:$port" --preset small >/dev/null
kill -INT $recorder
wait $recorder || { cat "$folder/err"; exit 1; }
recorder=
grep -q "^80 requests, 40000 samples" "$folder/recorded" || { cat "$folder/recorded"; exit 1; }

"$here/../../tools/bench/compare.py" --bin "$bin" --presets small --recording "$folder/rec" --n 1 --warm --port "$port" \
    --data "$folder/compare" | tee "$folder/out"
"$here/../../tools/bench/long.py" --bin "$bin" --share 0.001 --port "$port" --data "$folder/long" \
    year-import shuffled | tee -a "$folder/out"
if grep -E " took | failed with " "$folder/out"; then exit 1; fi
[ "$(grep -c "counted: 105200 samples of 105200" "$folder/out")" = 2 ]
echo "bench: fine"
