#!/bin/sh
# Runs the crash test, with the quipu beside quipud for backups. usage: tests/crash/run.sh QUIPUD [ROUNDS]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
exec python3 "$here/crash.py" --quipud "$1" --quipu "$(dirname "$1")/quipu" --rounds "${2:-30}"
