# For the scripts of quipu's commands, beside quipud.sh. At the end $failed says whether anything did.
failed=0
fail() {
    echo "$*"
    failed=1
}
end() {
    kill -TERM "$pid"
    wait "$pid" || fail "quipud ended with $?"
    pid=
}
# expect CODE TEXT COMMAND…: ends with CODE, and stdout or stderr holds TEXT.
expect() {
    code=$1 text=$2
    shift 2
    timeout 120 "$@" >"$dir/out" 2>&1
    got=$?
    if [ "$got" != "$code" ] || ! grep -qE -- "$text" "$dir/out"; then
        fail "$*: exit $got instead of $code, or not '$text':"
        cat "$dir/out"
    fi
}
