#!/bin/sh
# Runs the end-to-end test with real clients. usage: tests/e2e/run.sh QUIPUD [FOLDER_OF_ANOTHER_PROMETHEUS [--v2]]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
exec python3 "$here/real_clients.py" --quipud "$1" ${2:+--reference "$2"} ${3:+"$3"}
