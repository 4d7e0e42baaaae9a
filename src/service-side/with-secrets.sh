#!/bin/sh
# with-secrets COMMAND [ARG...]
# Puts the variables of the unit's /tmp/secrets.env into the environment and becomes COMMAND: same process, so that the
# main PID, signals and Type=notify stay as they are. $SECRETS_SIDECAR, where set, names the sidecar unit in messages.
# Exit status: 64 usage; 66 no secrets.env; 77 cannot read it; 78 it or its /tmp is not to be trusted.

# A traced or verbose shell would show the values.
set +xv

fail() {
  status=$1
  shift
  printf 'with-secrets: %s\n' "$*" >&2
  exit "$status"
}

# The sidecar's name: the unit's own is in its control group (v2, or the name=systemd hierarchy).
sidecar() {
  if [ -n "${SECRETS_SIDECAR:-}" ]; then
    printf "'%s'" "$SECRETS_SIDECAR"
    return
  fi
  name=NAME
  if [ -r /proc/self/cgroup ]; then
    while IFS=: read -r number hierarchy group; do
      case $number:$hierarchy in 0: | *:name=systemd) ;; *) continue ;; esac
      while [ -n "$group" ]; do
        case $group in
          *.service)
            name=${group##*/}
            name=${name%.service}
            break 2
            ;;
        esac
        group=${group%/*}
      done
    done </proc/self/cgroup
  fi
  printf "'%s-secrets.service' or 'fetcher@%s.service'" "$name" "$name"
}

# PrivateTmp=true mounts a directory systemd-private-*/tmp; the last mount on /tmp is the one in use.
is_private_tmp() {
  top=
  while read -r id parent device root mount rest; do
    [ "$mount" != /tmp ] || top=${root%//deleted}
  done </proc/self/mountinfo
  case $top in */systemd-private-*/tmp) return 0 ;; *) return 1 ;; esac
}

# Sets $type (as ls shows it: - d l) of a path that belongs to root.
root_owned() {
  entry=$(ls -ldn "$1" 2>/dev/null) || return 1
  type=${entry%"${entry#?}"}
  set -- $entry
  [ "$3" = 0 ]
}

# Only root may own the way to secrets.env: everything that runs in the unit can write to /tmp.
check() {
  unset IFS
  for tool in ls readlink; do
    command -v "$tool" >/dev/null || fail 78 "no $tool in PATH=$PATH: the unit needs coreutils there"
  done
  [ -r /proc/self/mountinfo ] || fail 78 'cannot read /proc/self/mountinfo, so cannot tell whether /tmp is private'
  is_private_tmp || fail 78 "/tmp is not private, so /tmp/secrets.env could be anybody's: set PrivateTmp=true in the" \
    "unit, and no '+' before the command"
  file=/tmp/secrets.env
  [ -e "$file" ] || fail 66 "no $file: see systemctl status $(sidecar)"
  for hop in 1 2 3 4 5 6 7 8; do
    directory=$file
    while directory=${directory%/*} && [ -n "$directory" ]; do
      root_owned "$directory" && [ "$type" = d ] || fail 78 "$directory on the way to secrets.env is not a directory of" \
        "root's own: remove it and restart $(sidecar)"
    done
    root_owned "$file" || fail 78 "$file does not belong to root: remove it and restart $(sidecar)"
    [ "$type" = l ] || break
    target=$(readlink "$file") || break
    case $target in /*) file=$target ;; *) file=${file%/*}/$target ;; esac
  done
  [ "$type" = - ] || fail 78 "$file is not a regular file: remove it and restart $(sidecar)"
  [ -r "$file" ] || fail 77 "$file cannot be read by this user: see the mode that $(sidecar) gives it"
}

case ${1:--} in -*) fail 64 'usage: with-secrets COMMAND [ARG...]' ;; esac

# In a subshell: no variable of the checks gets into the command's environment.
(check) || exit
unset SECRETS_SIDECAR
set -a
. /tmp/secrets.env
set +a
exec "$@"
