#!/bin/sh
# No include points up a layer (docs/architecture.md). usage: tests/check/layers.sh [SOURCE_FOLDER]
set -eu
cd "${1:-$(dirname "$0")/../..}"
bad=0
# check FOLDER ALLOWED…: the folder's files may include only headers of these folders.
check() {
    folder=$1
    shift
    allowed=$(echo "$*" | tr ' ' '|')
    found=$(grep -nE '^[[:space:]]*#[[:space:]]*include[[:space:]]*"' "$folder"/*.c "$folder"/*.cc "$folder"/*.h 2>/dev/null |
        grep -vE "\"($allowed)/[^\"]+\"" || true)
    if [ -n "$found" ]; then
        echo "$folder may include only $*:"
        echo "$found"
        bad=1
    fi
}
check base base
check wal wal base
check storage storage base
check engine engine wal storage base
check ingest ingest engine storage base
check query query engine storage base
check tools tools ingest query engine wal storage base
[ "$bad" = 0 ] && echo "layers: fine"
exit "$bad"
