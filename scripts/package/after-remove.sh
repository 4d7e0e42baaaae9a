#!/bin/sh
# Runs after a removal. The services keep running. At their next start they find no secrets: their units then name
# none.
set -e
case $1 in
  remove | purge | 0) ;;
  *) exit 0 ;;
esac
removed=/run/secrets-sidecar.removed
if [ -d /run/systemd/system ]; then
  # This comes first, so that no unit requires a sidecar when the sidecar is stopped.
  systemctl daemon-reload || :
  if [ -f "$removed" ]; then
    while read -r pid unit directories; do
      # systemd may refuse to stop a unit whose file is gone. Its process still ends, and nothing starts it
      # again.
      systemctl stop "$unit" 2>/dev/null || :
      case $(readlink "/proc/$pid/exe" 2>/dev/null || :) in
        */bin/fetcher\ \(deleted\)) kill -TERM "$pid" 2>/dev/null || : ;;
      esac
      # The process may wait some seconds for the unit that acts.
      for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30; do
        [ "$pid" != 0 ] && [ -e "/proc/$pid" ] || break
        sleep 0.5
      done
      systemctl reset-failed "$unit" 2>/dev/null || :
      # systemd does not know the directory of a unit that is gone.
      for directory in $directories; do
        case $directory in
          *..*) ;;
          *) rm -rf "/run/$directory" ;;
        esac
      done
    done <"$removed"
  fi
fi
rm -f "$removed"
# The files in it are the administrator's.
[ "$1" != purge ] || [ ! -d /etc/fetcher ] || rmdir --ignore-fail-on-non-empty /etc/fetcher
