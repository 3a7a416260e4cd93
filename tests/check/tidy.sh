#!/bin/sh
# clang-tidy over the product's sources, by .clang-tidy. usage: tests/check/tidy.sh BUILD_FOLDER
set -eu
cd "$(dirname "$0")/../.."
files=$(git ls-files 'base/*.c' 'wal/*.c' 'storage/*.c' 'engine/*.c' 'ingest/*.c' 'query/*.c' 'tools/*.c')
# Two at a time; one line of output per finding.
printf '%s\n' $files | xargs -P "$(nproc)" -n 8 clang-tidy -p "$1" --quiet 2>/dev/null
echo "tidy: fine"
