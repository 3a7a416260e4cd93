# tools/packages.sh: the Debian 12 packages that quipu needs; sourced by tools/quickstart and tests/run.
# install_packages LIST… installs what is missing, as root or through sudo.

PACKAGES_BUILD="gcc g++ cmake ninja-build pkg-config git ca-certificates
    libmicrohttpd-dev libsqlite3-dev liblz4-dev libzstd-dev libcjson-dev libssl-dev libroaring-dev libre2-dev
    libyaml-dev zlib1g-dev libxxhash-dev libsnappy-dev libcurl4-openssl-dev libcmocka-dev"
PACKAGES_CLIENTS="prometheus prometheus-node-exporter curl"
PACKAGES_TEST="python3 clang clang-format clang-tidy"

package_installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

install_packages() {
    missing=
    for package in "$@"; do
        package_installed "$package" || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null 2>&1; then
        echo "These packages are missing:$missing" >&2
        echo "Install them as root: apt-get install$missing" >&2
        return 1
    fi
    echo "Installing:$missing"
    # Debian starts the services of a package when it is installed. Ours are started by hand, on ports of their own,
    # so the package's own service must not take the usual port (nor run at all, if it was not there before).
    policy=/usr/sbin/policy-rc.d
    made_policy=
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
        as_root chmod +x "$policy"
        made_policy=1
    fi
    status=0
    log=$(mktemp)
    { as_root apt-get update -qq &&
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing; } \
        >"$log" 2>&1 || status=$?
    [ "$status" = 0 ] || cat "$log" >&2
    rm -f "$log"
    [ -z "$made_policy" ] || as_root rm -f "$policy"
    return "$status"
}
