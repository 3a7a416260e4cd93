#!/bin/sh
# All sources are as clang-format 14 leaves them. usage: tests/check/format.sh [--fix]
set -eu
cd "$(dirname "$0")/../.."
files=$(git ls-files '*.c' '*.cc' '*.h' 2>/dev/null || find base wal storage engine ingest query tools tests -name '*.[ch]')
if [ "${1:-}" = --fix ]; then
    clang-format -i $files
else
    clang-format --dry-run --Werror $files && echo "format: fine"
fi
