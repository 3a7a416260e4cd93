#!/bin/sh
# How quipud starts, fails to start, and stops: exit codes and the one line that says why.
# usage: tests/tools/quipud_start.sh QUIPUD
set -u
quipud=$1
dir=$(mktemp -d)
pid=
trap '[ -z "$pid" ] || kill -9 "$pid" 2>/dev/null; umount "$dir/full" 2>/dev/null; rm -rf "$dir"' EXIT
failed=0

# expect CODE TEXT ARGUMENT…: quipud ends with CODE, and stdout or stderr holds TEXT.
expect() {
    code=$1 text=$2
    shift 2
    timeout 60 "$quipud" "$@" >"$dir/out" 2>&1
    got=$?
    if [ "$got" != "$code" ] || ! grep -qF -- "$text" "$dir/out"; then
        echo "quipud $*: exit $got instead of $code, or not '$text':"
        cat "$dir/out"
        failed=1
    fi
}
. "$(dirname "$0")/quipud.sh"
# end SIGNAL CODE
end() {
    kill "-$1" "$pid"
    wait "$pid"
    got=$?
    pid=
    [ "$got" = "$2" ] || { echo "after SIG$1: exit $got instead of $2"; cat "$dir/log"; failed=1; }
}

expect 0 "usage: quipud" --help
expect 0 "quipud " --version
expect 2 "unknown flag 'data-dri'; did you mean 'data_dir'?" --data-dri x
expect 2 "is not an address of the form HOST:PORT" --listen nonsense --data-dir "$dir/data"
printf 'retention: 1d\nqurey: {timeout: 1s}\n' >"$dir/bad.yml"
expect 2 "bad.yml:2: unknown key 'qurey.timeout'; did you mean 'query.timeout'?" --config "$dir/bad.yml"
expect 4 "No such file or directory" --config "$dir/none.yml"
: >"$dir/file"
expect 4 "is not a folder" --listen 127.0.0.1:0 --data-dir "$dir/file/data"
# A disk that is full before anything is there, and one that is full when the catalog is there. Only root can mount one.
for size in 4k 48k; do
    mkdir -p "$dir/full"
    if ! mount -t tmpfs -o size=$size tmpfs "$dir/full" 2>/dev/null; then
        echo "a full disk is not tested: no file system can be mounted here"
        break
    fi
    expect 5 "No space left on device" --listen 127.0.0.1:0 --data-dir "$dir/full/data"
    # Beside the log, which may have its own word when the start takes long.
    grep -v 'level=' "$dir/out" >"$dir/lines"
    [ "$(wc -l <"$dir/lines")" = 1 ] || { echo "more than one line about a full disk ($size):"; cat "$dir/lines"; failed=1; }
    umount "$dir/full"
done

printf 'retention: 1d\n' >"$dir/good.yml"
begin --config "$dir/good.yml"
expect 3 "$address: Address already in use" --listen "$address" --data-dir "$dir/other"
expect 3 "$dir/data" --listen 127.0.0.1:0 --data-dir "$dir/data"
printf 'retention: 2d\n' >"$dir/good.yml"
kill -HUP "$pid"
for _ in $(seq 100); do
    grep -q 'key=retention from=1d to=2d' "$dir/log" && break
    sleep 0.1
done
grep -q 'key=retention from=1d to=2d' "$dir/log" || { echo "SIGHUP changed nothing:"; cat "$dir/log"; failed=1; }
end TERM 0
begin
end INT 0
begin
end KILL 137
begin
end TERM 0
[ "$failed" = 0 ] && echo "quipud starts and stops as it should"
exit "$failed"
