#!/bin/sh
# Install the Ceph RGW (a real S3 server) that the registry's tests run against, where this machine lets us.
set -eu
command -v radosgw >/dev/null 2>&1 && exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "radosgw is not installed and cannot be from here: tests against a real S3 server will be skipped" >&2
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
if apt-get update -q >"$log" 2>&1 && apt-get install -y -q --no-install-recommends \
    ceph-mon ceph-osd radosgw ceph-common python3-prettytable >>"$log" 2>&1; then
    rm -f "$log"
else
    tail -n 20 "$log" >&2
    [ "${CI:-}" != true ] || exit 1
fi
