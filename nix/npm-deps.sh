# npm-deps.sh CPU
# Makes node_modules of the lock file that is here, for Linux on that processor, with nothing in it that depends on the
# machine, the registry or npm's version. Used by package.nix and by scripts/npm-deps-hash.sh alike.
set -eu
npm ci --ignore-scripts --no-audit --no-fund --loglevel=error --cpu="$1" --os=linux --libc=glibc
# Nix builds with the runtimes of nixpkgs.
rm -rf node_modules/.package-lock.json node_modules/.cache node_modules/bun node_modules/@oven
find node_modules -type d -name .bin -prune -exec rm -rf {} +
chmod -R u=rwX,go=rX node_modules
