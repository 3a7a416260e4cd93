#!/bin/sh
# Runs the crash test. usage: tests/crash/run.sh QUIPUD [ROUNDS]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
exec python3 "$here/crash.py" --quipud "$1" --rounds "${2:-30}"
