# For the scripts beside it, which set $quipud, and $dir, a folder of their own.

# begin ARGUMENT…: quipud in the background, on any port; waits until it is ready and sets $address.
begin() {
    : >"$dir/log" # here, since the background process may truncate it later than we read it
    "$quipud" --listen 127.0.0.1:0 --data-dir "$dir/data" "$@" >"$dir/log" 2>&1 &
    pid=$!
    for _ in $(seq 600); do
        address=$(sed -n 's/.* msg=.*ready.* address=\([0-9.:]*\) .*/\1/p' "$dir/log")
        [ -z "$address" ] || return 0
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.1
    done
    echo "quipud did not start:"
    cat "$dir/log"
    exit 1
}
