#!/bin/sh
# Runs the soak test. usage: tests/soak/run.sh FOLDER_OF_QUIPUD_AND_QUIPU [MINUTES]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
exec python3 "$here/soak.py" --bin "$1" --minutes "${2:-0.5}"
