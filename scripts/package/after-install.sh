#!/bin/sh
# Runs after an installation or an upgrade of a .deb (`configure`) or an .rpm (the number of versions that are then
# installed).
set -e
case $1 in
  configure | [0-9]*) ;;
  *) exit 0 ;;
esac
# Does nothing in a container's image or a tree that another machine will boot.
[ -d /run/systemd/system ] || exit 0
# Makes the units of the new version's generator.
systemctl daemon-reload || :
# Sidecars continue with the new program in the same process: neither systemd nor the service notices. A process run
# in a terminal has no NOTIFY_SOCKET, and `fetcher run` would pass the signal on to its command.
for process in /proc/[0-9]*; do
  case $(readlink "$process/exe" 2>/dev/null || :) in
    */bin/fetcher\ \(deleted\)) ;;
    *) continue ;;
  esac
  tr '\0' '\n' <"$process/environ" 2>/dev/null | grep -q '^NOTIFY_SOCKET=' || continue
  words=$(tr '\0' '\n' <"$process/cmdline" 2>/dev/null | sed 1d)
  # A process that is about to end anyway does not handle the signal.
  printf '%s\n' "$words" | grep -qE '^--(once|check)(=|$)' && continue
  case $words in
    -*) kill -USR2 "${process#/proc/}" 2>/dev/null || : ;;
  esac
done
