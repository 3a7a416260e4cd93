#!/bin/sh
# clang-tidy over the product's sources, by .clang-tidy. usage: tests/check/tidy.sh BUILD_FOLDER
set -eu
cd "$(dirname "$0")/../.."
files=$(git ls-files 'base/*.c' 'wal/*.c' 'storage/*.c' 'engine/*.c' 'ingest/*.c' 'query/*.c' 'tools/*.c')
# Some of gcc's flags mean nothing to clang.
printf '%s\n' $files | xargs -P "$(nproc)" -n 4 clang-tidy -p "$1" --quiet \
    --extra-arg=-Wno-ignored-optimization-argument --extra-arg=-Wno-unknown-warning-option 2>/dev/null
echo "tidy: fine"
