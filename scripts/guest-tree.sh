#!/bin/sh
# guest-tree.sh [SUITE | empty-SUITE]
# Makes the Debian tree that the systemd tests boot: trixie (systemd 257) unless another suite is named. It lies in
# ${FETCHER_TEST_CACHE:-~/.cache/fetcher-tests}/tree-SUITE and takes about a minute once. When the list of packages
# below changes, the script makes it again. It uses the Debian mirror and proxy of this machine's own apt, and needs
# root and debootstrap.
# empty-SUITE has only what a system needs to boot: for the installation of a package.
set -eu
name=${1:-trixie}
suite=${name#empty-}
cache=${FETCHER_TEST_CACHE:-$HOME/.cache/fetcher-tests}
packages=systemd,systemd-sysv,dbus,util-linux,procps,e2fsprogs,systemd-container,ca-certificates
# apt installs these afterwards: debootstrap cannot configure all of them in its order. An emulator of AWS, a newer Nix.
more="python3-moto python3-flask python3-flask-cors nix-bin"
if [ "$name" != "$suite" ]; then
  packages=systemd,systemd-sysv,dbus
  more=
fi

tree=$cache/tree-$name
stamp=etc/fetcher-guest-packages
if [ -e "$tree/$stamp" ] && [ "$(cat "$tree/$stamp")" = "$packages $more" ]; then
  echo "guest tree $name: $tree is up to date"
  exit
fi

mkdir -p "$cache"
building=$(mktemp -d "$cache/building-$name.XXXXXX")
trap 'rm -rf --one-file-system "$building" "$building.log"' EXIT
trap 'exit 1' INT TERM HUP
# mktemp makes it 0700, and an unprivileged service in the guest could not pass.
chmod 0755 "$building"

# debootstrap does not ask apt for the mirror or the proxy. If apt names no mirror, debootstrap has its own.
mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 2>/dev/null | grep -m 1 '/debian/*$' || :)
eval "$(apt-config shell http_proxy Acquire::http::Proxy)"
[ -z "${http_proxy:-}" ] || export http_proxy

echo "guest tree $name: debootstrap into $tree"
# What it mounts in the tree goes with the namespace, however it ends.
# shellcheck disable=SC2086 # no mirror, no argument
unshare --mount debootstrap --variant=minbase --include="$packages" "$suite" "$building" $mirror \
  >"$building.log" 2>&1 || {
  tail -n 20 "$building.log" >&2
  exit 1
}
# shellcheck disable=SC2086 # a list
[ -z "$more" ] || unshare --mount sh -euc '
  tree=$1
  shift
  mount --bind /proc "$tree/proc"
  mount --bind /dev "$tree/dev"
  # The guests that boot the tree start services, not the installation.
  printf "#!/bin/sh\nexit 101\n" >"$tree/usr/sbin/policy-rc.d"
  chmod 0755 "$tree/usr/sbin/policy-rc.d"
  cp /etc/resolv.conf "$tree/etc/"
  cp -r /etc/ssl/certs/ca-certificates.crt "$tree/etc/ssl/certs/"
  apt-config dump | grep -E "^Acquire::(http|https)::" >"$tree/etc/apt/apt.conf.d/90host" || :
  # A mirror may be out of date: debootstrap does not mind, either.
  chroot "$tree" apt-get -q -o Acquire::Check-Valid-Until=false update
  DEBIAN_FRONTEND=noninteractive chroot "$tree" apt-get -qy install --no-install-recommends "$@"
  rm "$tree/usr/sbin/policy-rc.d" "$tree/etc/apt/apt.conf.d/90host" "$tree/etc/resolv.conf"
' sh "$building" $more >"$building.log" 2>&1 || {
  tail -n 20 "$building.log" >&2
  exit 1
}
rm -rf "$building"/var/cache/apt/archives/*.deb "$building"/var/lib/apt/lists/*
echo "$packages $more" >"$building/$stamp"
rm -rf --one-file-system "$tree"
mv -T "$building" "$tree"
echo "guest tree $name: done"
