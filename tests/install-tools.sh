#!/bin/sh
# Install the real programs that tests hold things against, where this machine lets us: the Ceph RGW (an S3 server),
# skopeo (which copies OCI layouts) and promtool (which checks Prometheus rules).
set -eu
packages=
command -v radosgw >/dev/null 2>&1 || packages="ceph-mon ceph-osd radosgw ceph-common python3-prettytable"
command -v skopeo >/dev/null 2>&1 || packages="$packages skopeo"
rules=
command -v promtool >/dev/null 2>&1 || [ -x .cache/promtool/usr/bin/promtool ] || rules=promtool
[ -n "$packages$rules" ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "not installed, and cannot be from here: $packages $rules; tests against them will be skipped" >&2
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)

# promtool alone: the rest of its package is a server and 300 MB
install_promtool() {
    [ -n "$rules" ] || return 0
    mkdir -p .cache/promtool && cd .cache/promtool && apt-get download -q prometheus && dpkg -x prometheus_*.deb . \
        && rm -rf prometheus_*.deb usr/bin/prometheus usr/share && cd ../..
}

install_packages() {
    # shellcheck disable=SC2086 # the names are words
    [ -z "$packages" ] || apt-get install -y -q --no-install-recommends $packages
}

if { apt-get update -q && install_packages && install_promtool; } >"$log" 2>&1; then
    rm -f "$log"
else
    tail -n 20 "$log" >&2
    [ "${CI:-}" != true ] || exit 1
fi
