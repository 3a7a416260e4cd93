#!/bin/sh
# Flush and compact, asked of a server and done in its folder: answers, reports, exit codes; and that no answer to a query
# changes by it. usage: tests/tools/quipu_compact.sh QUIPUD QUIPU
set -u
quipud=$1 quipu=$2
dir=$(mktemp -d)
pid=
trap '[ -z "$pid" ] || kill -9 "$pid" 2>/dev/null; rm -rf "$dir"' EXIT
. "$(dirname "$0")/quipud.sh"
. "$(dirname "$0")/expect.sh"
post() {
    curl -s -o "$dir/answer" -w '%{http_code}' -X "$1" "http://$address/api/v1/admin/tsdb/$2"
}
# number NAME: of the last answer.
number() {
    sed -n "s/.*\"$1\":\([0-9.]*\).*/\1/p" "$dir/answer"
}
ask() {
    curl -s "http://$address/api/v1/query_range" --data-urlencode 'query=sum by (__name__) ({__name__=~".+"})' \
        -d "start=$1" -d "end=$(($1 + 864000))" -d step=3600
}

begin --retention 0 --compaction.enabled false
[ "$(post POST flush)" = 404 ] || fail "a tenant that is not there: $(cat "$dir/answer")"
[ "$(post POST 'compact?level=4')" = 400 ] || fail "a level that is not there: $(cat "$dir/answer")"
[ "$(post GET compact)" = 405 ] || fail "GET: $(cat "$dir/answer")"

# Five days, in as many blocks and more.
start=$(($(date +%s) / 86400 * 86400 - 8 * 86400))
for day in 0 1 2 3 4; do
    expect 0 acknowledged "$quipu" bench ingest --server "http://$address" --connections 1 --instances 1 --series 400 --scrapes 60 \
        --interval 24m --start $((start + day * 86400))
    [ "$(post POST flush)" = 200 ] || fail "flush: $(cat "$dir/answer")"
    [ "$(number blocksAfter)" -gt "$(number blocksBefore)" ] || fail "no blocks: $(cat "$dir/answer")"
done
ask "$start" >"$dir/before"
grep -q '"status":"success"' "$dir/before" || fail "query: $(cat "$dir/before")"

[ "$(post PUT compact)" = 200 ] || fail "compact: $(cat "$dir/answer")"
[ "$(number compactions)" -gt 0 ] || fail "nothing was merged: $(cat "$dir/answer")"
[ "$(number blocksAfter)" -lt "$(number blocksBefore)" ] || fail "as many blocks: $(cat "$dir/answer")"
ask "$start" | cmp - "$dir/before" || fail "an answer changed"
expect 0 'after +[0-9]+ blocks' "$quipu" compact --server "http://$address" --level 2
expect 0 '0 merges' "$quipu" compact --server "http://$address" --level 2
expect 1 'says 404: no tenant nobody' "$quipu" compact --server "http://$address" --tenant nobody
ask "$start" | cmp - "$dir/before" || fail "an answer changed"
expect 3 'another process has' "$quipu" compact --data-dir "$dir/data"
# The metric is set once a second.
shown=
for _ in $(seq 100); do
    curl -s "http://$address/metrics" | grep -q '^quipu_blocks{level="2",tenant="default"} [1-9]' && shown=1 && break
    sleep 0.1
done
[ -n "$shown" ] || fail "no block of level 2 in the metrics"
end

expect 0 'would do [1-9]' "$quipu" compact --data-dir "$dir/data" --retention 0 --level 3 --dry-run
expect 0 'after +[12] blocks' "$quipu" compact --data-dir "$dir/data" --retention 0 --level 3
expect 0 '0 merges' "$quipu" compact --data-dir "$dir/data" --retention 0 --level 3
begin --retention 0 --compaction.enabled false
ask "$start" | cmp - "$dir/before" || fail "an answer changed"
end
expect 2 'wants --data-dir, --config or --server' "$quipu" compact
expect 2 'excludes' "$quipu" compact --server http://127.0.0.1:1 --data-dir "$dir/data"
expect 2 'from 0 to 3' "$quipu" compact --data-dir "$dir/data" --level 7
expect 4 'no folder' "$quipu" compact --data-dir "$dir/none"
[ ! -e "$dir/none" ] || fail "a folder was made"
expect 4 'no tenant nobody' "$quipu" compact --data-dir "$dir/data" --tenant nobody
printf 'data_dir: %s\ntenants: {x: {retention: 5d}}\n' "$dir/data" >"$dir/q.yml"
expect 0 'merges' "$quipu" compact --config "$dir/q.yml"
printf 'data_dir: [1]\n' >"$dir/bad.yml"
expect 2 'bad.yml:1' "$quipu" compact --config "$dir/bad.yml"
# A folder that is spoilt: the catalog.
printf 'no catalog at all, but more than 16 bytes' >"$dir/data/catalog.sqlite"
expect 6 'catalog' "$quipu" compact --data-dir "$dir/data"
[ $failed = 0 ] && echo "quipu compact: fine"
exit $failed
