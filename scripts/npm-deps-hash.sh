#!/bin/sh
# npm-deps-hash.sh
# Writes nix/npm-deps.json: for each system the hash of what `npm ci --ignore-scripts` makes of package-lock.json, and
# the hash of the lock file, which shows a test when the others are stale. Run it whenever package-lock.json has
# changed. It needs npm and nix-hash, and runs no package's scripts.
set -eu
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

hash_for() { # npm's name of the processor
  mkdir "$work/$1"
  cp package.json package-lock.json "$work/$1/"
  (cd "$work/$1" && umask 022 && sh "$OLDPWD/nix/npm-deps.sh" "$1" >&2)
  nix-hash --type sha256 "$work/$1/node_modules"
}

x64=$(hash_for x64)
arm64=$(hash_for arm64)
node -e '
  const { createHash } = require("node:crypto");
  const { readFileSync, writeFileSync } = require("node:fs");
  const sri = (hex) => `sha256-${Buffer.from(hex, "hex").toString("base64")}`;
  const lock = createHash("sha256").update(readFileSync("package-lock.json")).digest("hex");
  const [x64, arm64] = process.argv.slice(1).map(sri);
  const hashes = { "package-lock.json": sri(lock), "x86_64-linux": x64, "aarch64-linux": arm64 };
  writeFileSync("nix/npm-deps.json", JSON.stringify(hashes, null, 2) + "\n");
' "$x64" "$arm64"
cat nix/npm-deps.json
