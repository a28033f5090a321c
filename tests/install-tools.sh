#!/bin/sh
# Install what the registry's tests hold against real programs, where this machine lets us: the Ceph RGW (an S3 server)
# and skopeo (which copies OCI layouts).
set -eu
packages=
command -v radosgw >/dev/null 2>&1 || packages="ceph-mon ceph-osd radosgw ceph-common python3-prettytable"
command -v skopeo >/dev/null 2>&1 || packages="$packages skopeo"
[ -n "$packages" ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "not installed, and cannot be from here: $packages; tests against them will be skipped" >&2
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
# shellcheck disable=SC2086 # the names are words
if apt-get update -q >"$log" 2>&1 && apt-get install -y -q --no-install-recommends $packages >>"$log" 2>&1; then
    rm -f "$log"
else
    tail -n 20 "$log" >&2
    [ "${CI:-}" != true ] || exit 1
fi
