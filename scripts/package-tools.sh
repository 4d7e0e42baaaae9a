#!/bin/sh
# package-tools.sh
# Makes the Debian tree with lintian and rpm, which tests use to check packages:
# ${FETCHER_TEST_CACHE:-~/.cache/fetcher-tests}/tree-packages. It takes about two minutes once. It uses the Debian
# mirror and proxy of this machine's own apt, and needs root and debootstrap.
set -eu
cache=${FETCHER_TEST_CACHE:-$HOME/.cache/fetcher-tests}
tree=$cache/tree-packages
packages="lintian rpm rpm2cpio cpio"
stamp=etc/fetcher-packages
if [ -e "$tree/$stamp" ] && [ "$(cat "$tree/$stamp")" = "$packages" ]; then
  echo "package tools: $tree is up to date"
  exit
fi
mkdir -p "$cache"
building=$(mktemp -d "$cache/building-packages.XXXXXX")
trap 'rm -rf --one-file-system "$building" "$building.log"' EXIT
trap 'exit 1' INT TERM HUP
chmod 0755 "$building"
mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 2>/dev/null | grep -m 1 '/debian/*$' || :)
eval "$(apt-config shell http_proxy Acquire::http::Proxy)"
[ -z "${http_proxy:-}" ] || export http_proxy
echo "package tools: debootstrap into $tree"
# What they mount in the tree goes with the namespace, however they end.
# shellcheck disable=SC2086 # no mirror, no argument
unshare --mount debootstrap --variant=minbase --include=ca-certificates trixie "$building" $mirror \
  >"$building.log" 2>&1 || {
  tail -n 20 "$building.log" >&2
  exit 1
}
# apt installs these, because debootstrap cannot configure all of them in its order.
# shellcheck disable=SC2086 # a list
unshare --mount sh -euc '
  tree=$1
  shift
  mount --bind /proc "$tree/proc"
  mount --bind /dev "$tree/dev"
  cp /etc/resolv.conf "$tree/etc/"
  cp -r /etc/ssl/certs/ca-certificates.crt "$tree/etc/ssl/certs/"
  apt-config dump | grep -E "^Acquire::(http|https)::" >"$tree/etc/apt/apt.conf.d/90host" || :
  chroot "$tree" apt-get -q -o Acquire::Check-Valid-Until=false update
  DEBIAN_FRONTEND=noninteractive chroot "$tree" apt-get -qy install --no-install-recommends "$@"
  rm "$tree/etc/apt/apt.conf.d/90host" "$tree/etc/resolv.conf"
' sh "$building" $packages >"$building.log" 2>&1 || {
  tail -n 20 "$building.log" >&2
  exit 1
}
rm -rf "$building"/var/cache/apt/archives/*.deb "$building"/var/lib/apt/lists/*
echo "$packages" >"$building/$stamp"
rm -rf --one-file-system "$tree"
mv -T "$building" "$tree"
echo "package tools: done"
