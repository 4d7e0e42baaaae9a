#!/bin/sh
# guest.sh NAME TREE PROJECT PROGRAM NODE disk|memory|image [OPTION-OF-SYSTEMD-NSPAWN...]
#
# Boots systemd from TREE ("/" or a debootstrap tree) under an overlay in memory, and ends it when standard input ends.
# The test process holds the other end, so that the guest ends with it however it dies: this script is the watchdog,
# and its last lines are the only clean-up there is. Every mount is made in a private namespace and goes with it.
#
# Standard output: "nspawn PID". Everything of the guest lies in /var/tmp/NAME, nspawn's own output in console.log there.
set -eu
name=$1 tree=$2 project=$3 program=$4 node=$5 tmp=$6

# cgroup v2, and systemd's named hierarchy where the machine runs in hybrid mode.
hierarchies=$(awk '{ for (i = 7; $i != "-"; i++); if ($(i+1) == "cgroup2" || $0 ~ /,name=systemd/) print $5 }' \
  /proc/self/mountinfo)
[ -n "$hierarchies" ] || { echo "no cgroup v2 hierarchy is mounted" >&2; exit 1; }

work=
nspawn=
alive() { case $(sed -n 's/^State:\t\(.\).*/\1/p' "/proc/$1/status" 2>/dev/null) in '' | Z | X) return 1 ;; esac; }
ended_within() { # tenths of a second
  i=0
  while alive "$nspawn"; do
    [ $i -lt "$1" ] || return 1
    i=$((i + 1))
    sleep 0.1
  done
}
# Commands that have entered the guest: they are in its PID namespace, or about to be, but in no group of its own. systemd
# stops every process before it kills it. nsenter(1) stops with its command, and then never reaps it, which the guest's
# init would wait for until the machine ends.
end_entered() {
  own=$(readlink /proc/self/ns/pid)
  for child in $(cat "/proc/$nspawn/task/"*/children 2>/dev/null); do
    namespace=$(readlink "/proc/$child/ns/pid") || continue
    [ "$namespace" != "$own" ] || continue
    find /proc/[0-9]*/ns/pid_for_children -maxdepth 0 -printf '%p %l\n' 2>/dev/null | grep -F " $namespace" |
      while IFS=/ read -r _ _ pid _; do
        grep -q "/$name" "/proc/$pid/cgroup" || kill -KILL "$pid"
      done 2>/dev/null
  done
}
cleanup() {
  trap '' EXIT INT TERM HUP
  set +e
  if [ -n "$nspawn" ]; then
    end_entered
    # The first SIGTERM asks the guest to power off, the second makes nspawn kill it. Killing nspawn first would leak it.
    kill -TERM "$nspawn" 2>/dev/null
    ended_within 30 || { end_entered; kill -TERM "$nspawn" 2>/dev/null; ended_within 20; }
  fi
  for h in $hierarchies; do
    # No process is in these groups but nspawn, the guest's init and what it started.
    [ ! -e "$h/$name/cgroup.kill" ] || echo 1 > "$h/$name/cgroup.kill"
  done
  [ -z "$nspawn" ] || wait "$nspawn" 2>/dev/null
  for h in $hierarchies; do
    i=0
    while [ -d "$h/$name" ] && [ $i -lt 300 ]; do
      find "$h/$name" -depth -type d -exec rmdir {} + 2>/dev/null && break
      i=$((i + 1))
      sleep 0.1
    done
  done
  [ -z "$work" ] || rm -rf --one-file-system "$work"
}
trap cleanup EXIT
trap 'exit 1' INT TERM HUP

mkdir -m 0700 "/var/tmp/$name"
work=/var/tmp/$name
for h in $hierarchies; do mkdir "$h/$name"; done

(
  # dash has no $BASHPID: the stat line of the subshell names it.
  read -r self _ < /proc/self/stat
  for h in $hierarchies; do echo "$self" > "$h/$name/cgroup.procs"; done
  exec unshare --mount --propagation private sh -euc '
    work=$1 name=$2 tree=$3 project=$4 fetcher=$5 node=$6 tmp=$7
    shift 7
    cd "$work"
    mkdir layers root project nspawn tmp vartmp
    chmod 1777 tmp vartmp
    touch node
    mount -t tmpfs -o mode=0755 fetcher-guest layers
    mkdir layers/upper layers/work
    mount -t overlay -o "lowerdir=$tree,upperdir=$work/layers/upper,workdir=$work/layers/work" fetcher-guest root
    mount --bind "$project" project
    mount --bind "$node" node
    # nspawn keeps its own state and mount points in these two; here they go with the namespace.
    mount -t tmpfs fetcher-guest /run
    mount --bind nspawn /tmp

    # Nothing that the host has enabled or configured runs in the guest: only this target.
    mkdir -p root/etc/systemd/journald.conf.d root/etc/systemd/system.conf.d root/opt/fetcher root/usr/local/lib/systemd/system
    printf "[Journal]\nStorage=volatile\n" > root/etc/systemd/journald.conf.d/fetcher-guest.conf
    printf "[Unit]\nRequires=basic.target dbus.socket\nAfter=basic.target dbus.socket\n" \
      > root/usr/local/lib/systemd/system/fetcher-guest.target
    for program in node fetcher with-secrets; do rm -f "root/usr/local/bin/$program"; done
    ln -s "/opt/fetcher/dist/$fetcher" root/usr/local/bin/fetcher
    ln -s /opt/fetcher/dist/with-secrets root/usr/local/bin/with-secrets
    touch root/usr/local/bin/node
    case $tmp in
      disk) tmp=--bind=$work/tmp:/tmp ;;
      # Its own disk, whose blocks can be searched from outside. No journal: it would keep copies for a while.
      image)
        truncate -s 64M tmp.img
        mkfs.ext4 -q -O ^has_journal tmp.img
        mount -o loop tmp.img tmp
        chmod 1777 tmp
        tmp=--bind=$work/tmp:/tmp
        ;;
      memory) tmp=--tmpfs=/tmp:mode=1777 ;;
    esac
    # systemd 262 needs the first; with the second, nspawn leaves /tmp to us.
    export UNIFIED_CGROUP_HIERARCHY=yes SYSTEMD_NSPAWN_TMPFS_TMP=0
    exec systemd-nspawn --quiet --machine="$name" --directory="$work/root" --register=no --keep-unit --link-journal=no \
      --private-network --resolv-conf=off --timezone=off --console=pipe \
      --capability=CAP_IPC_LOCK --system-call-filter="@keyring memfd_secret" \
      --tmpfs=/etc/systemd/system --bind="$work/vartmp:/var/tmp" \
      --bind-ro="$work/project:/opt/fetcher" --bind-ro="$work/node:/usr/local/bin/node" "$tmp" "$@" \
      --boot systemd.unit=fetcher-guest.target systemd.mask=timers.target
  ' sh "$work" "$@"
) < /dev/null > "$work/console.log" 2>&1 &
nspawn=$!
echo "nspawn $nspawn"
# Whoever started this never writes: the line ends when that process does, or when it wants the guest to end.
read -r _ || :
