#!/bin/sh
# Runs before a removal of a .deb (`remove`) or an .rpm (0 versions are left). Notes the sidecars whose units go with
# the generator.
set -e
case $1 in
  remove | 0) ;;
  *) exit 0 ;;
esac
[ -d /run/systemd/system ] || exit 0
# The paths come first: they start the units that act.
for unit in /run/systemd/generator/*.path /run/systemd/generator/*.service; do
  [ -f "$unit" ] && grep -q '^# Made by fetcher from ' "$unit" || continue
  name=$(basename "$unit")
  # 0: it does not run.
  pid=$(systemctl show --property=MainPID --value "$name" || echo 0)
  printf '%s %s %s\n' "${pid:-0}" "$name" "$(sed -n 's/^RuntimeDirectory=//p' "$unit")"
done >/run/secrets-sidecar.removed
