#!/bin/sh
# A drill: data directory and backups are damaged, file by file; quipu verify finds and names it, the server refuses or
# warns, and what was damaged is mended. usage: tests/tools/quipu_verify.sh QUIPUD QUIPU
set -u
quipud=$1 quipu=$2
dir=$(mktemp -d)
pid=
data=$dir/data
trap '[ -z "$pid" ] || kill -9 "$pid" 2>/dev/null; rm -rf "$dir"' EXIT
. "$(dirname "$0")/quipud.sh"
. "$(dirname "$0")/expect.sh"
# damage FILE OFFSET (negative: from the end): another byte there, never the same.
damage() {
    off=$2
    [ "$off" -ge 0 ] || off=$(($(wc -c <"$1") + off))
    old=$(od -An -tu1 -j "$off" -N 1 "$1")
    printf "\\$(printf %03o $(((old + 1) % 256)))" | dd of="$1" bs=1 seek="$off" conv=notrunc status=none
}
ask() {
    curl -s "http://$address/api/v1/query" --data-urlencode 'query=count(count_over_time({__name__=~".+"}[1d]))'
}

# All within one window of two hours: one block.
end_s=$(($(date +%s) / 7200 * 7200 - 60))
begin
expect 0 acknowledged "$quipu" bench ingest --server "http://$address" --connections 1 --instances 1 --series 400 \
    --scrapes 40 --interval 15s --end "$end_s"
curl -s -X POST "http://$address/api/v1/admin/tsdb/flush" >/dev/null
expect 3 'has .* open' "$quipu" verify "$data"
expect 0 'good: 1 files' "$quipu" verify --server "http://$address"
expect 3 'another process' "$quipu" catalog rebuild --data-dir "$data"
expect 0 done "$quipu" backup --server "http://$address" --to "$dir/backups"
end

expect 2 'wants a directory' "$quipu" verify
expect 4 'not a data directory' "$quipu" verify "$dir"
expect 0 good "$quipu" verify "$data"
expect 0 '"status":[[:space:]]*"good"' "$quipu" verify --json "$data"
expect 0 good "$quipu" verify "$dir/backups"

block=$(ls "$data"/tenants/default/blocks/*.block)
name=$(basename "$block" .block)
cp "$block" "$dir/keep"
damage "$block" 4000
expect 6 "BAD: .*$name.block, chunks, offset" "$quipu" verify "$data"
begin
ask | grep -q "\"error\":.*$name.block, offset" || fail "a bad page: $(ask)"
curl -s "http://$address/api/v1/status/tsdb" | grep -q "\"block\":\"$name\",\"state\":\"damaged\"" ||
    fail "status/tsdb does not name the block"
curl -s "http://$address/metrics" | grep -q "quipu_block_quarantined{block=\"$name\"" || fail "no metric"
end
cp "$dir/keep" "$block"
damage "$block" -60
expect 6 "BAD: .*$name.block, footer" "$quipu" verify "$data"
begin
ask | grep -q "\"warnings\":\[\"samples are missing: block $name" || fail "a block left out: $(ask)"
end
cp "$dir/keep" "$block"

damage "$data/catalog.sqlite" 9000
expect 6 'BAD: .*catalog.sqlite, page 3, offset 8192' "$quipu" verify "$data"
expect 6 'quipu catalog rebuild' "$quipud" --data-dir "$data" --listen 127.0.0.1:0
expect 0 'rebuilt  1 tenants, 1 blocks' "$quipu" catalog rebuild --data-dir "$data"
expect 0 good "$quipu" verify "$data"
begin
ask | grep -q '"value":\[[0-9.]*,"400"\]' || fail "after the rebuild: $(ask)"
end

damage "$dir"/backups/blocks/*.block 4000
expect 6 'not the SHA-256 of the manifest' "$quipu" verify "$dir/backups"
exit $failed
