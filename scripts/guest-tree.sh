#!/bin/sh
# guest-tree.sh [SUITE]
# Makes the Debian tree that the systemd tests boot: trixie (systemd 257) unless another suite is named. It lies in
# ${FETCHER_TEST_CACHE:-~/.cache/fetcher-tests}/tree-SUITE, takes about a minute once, and is made again when the list of
# packages below changes. Debian's mirror and proxy are those of this machine's own apt; needs root and debootstrap.
set -eu
suite=${1:-trixie}
cache=${FETCHER_TEST_CACHE:-$HOME/.cache/fetcher-tests}
packages=systemd,systemd-sysv,dbus,util-linux,procps,e2fsprogs

tree=$cache/tree-$suite
stamp=etc/fetcher-guest-packages
if [ -e "$tree/$stamp" ] && [ "$(cat "$tree/$stamp")" = "$packages" ]; then
  echo "guest tree $suite: $tree is up to date"
  exit
fi

mkdir -p "$cache"
building=$(mktemp -d "$cache/building-$suite.XXXXXX")
trap 'rm -rf --one-file-system "$building" "$building.log"' EXIT
trap 'exit 1' INT TERM HUP
# mktemp makes it 0700, which an unprivileged service in the guest could not pass.
chmod 0755 "$building"

# debootstrap asks apt for neither. Where apt does not say, debootstrap has a mirror of its own.
mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 2>/dev/null | grep -m 1 '/debian/*$' || :)
eval "$(apt-config shell http_proxy Acquire::http::Proxy)"
[ -z "${http_proxy:-}" ] || export http_proxy

echo "guest tree $suite: debootstrap into $tree"
# What it mounts in the tree goes with the namespace, however it ends.
# shellcheck disable=SC2086 # no mirror, no argument
unshare --mount debootstrap --variant=minbase --include="$packages" "$suite" "$building" $mirror \
  >"$building.log" 2>&1 || {
  tail -n 20 "$building.log" >&2
  exit 1
}
rm -rf "$building"/var/cache/apt/archives/*.deb "$building"/var/lib/apt/lists/*
echo "$packages" >"$building/$stamp"
rm -rf --one-file-system "$tree"
mv -T "$building" "$tree"
echo "guest tree $suite: done"
