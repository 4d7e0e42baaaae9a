#!/bin/sh
# vault-server.sh
# Builds the HashiCorp Vault that tests run, from test/vault/server, into ${FETCHER_TEST_CACHE:-~/.cache/fetcher-tests}/vault/vault.
# It takes minutes once, and is built again when its sources change. Go keeps what it fetched and compiled in caches of its own.
set -eu
cache=${FETCHER_TEST_CACHE:-$HOME/.cache/fetcher-tests}/vault
here=$(cd "$(dirname "$0")" && pwd)
server=$here/../test/vault/server
module=github.com/hashicorp/vault

stamp=$(cd "$server" && find go.mod go.sum main.go _instead "$here/vault-server.sh" -type f | LC_ALL=C sort | xargs -d '\n' cat | sha256sum)
if [ -x "$cache/vault" ] && [ "$(cat "$cache/stamp" 2>/dev/null)" = "$stamp" ]; then
  echo "vault server: $cache/vault is up to date"
  exit
fi

wanted=$(awk '$1 == "go" { print $2 }' "$server/go.mod")
PATH=$PATH:/usr/local/go/bin
version=$(GOTOOLCHAIN=local go env GOVERSION 2>/dev/null || :)
newest=$(printf '%s\n' "$wanted" "${version#go}" | sort -V | tail -n 1)
if [ -z "$version" ] || [ "$newest" != "${version#go}" ]; then
  echo "vault server: building it needs Go $wanted or newer, in PATH or /usr/local/go, and here is ${version:-none};" \
    "install one, or put a vault into PATH" >&2
  exit 69
fi

mkdir -p "$cache"
building=$(mktemp -d "$cache/building.XXXXXX")
trap 'rm -rf "$building"' EXIT
trap 'exit 1' INT TERM HUP

# What is not in go.sum is refused, so nobody else is asked for checksums; no flags but these, whatever the user's own are.
export GOFLAGS=-mod=readonly GOSUMDB=off GOTOOLCHAIN=local GOWORK=off CGO_ENABLED=0
echo "vault server: building $cache/vault with $version, which takes minutes"
cp "$server/go.mod" "$server/go.sum" "$server/main.go" "$building/"
cd "$building"
# Go refuses to overlay files of its module cache: a copy it is.
source=$(go mod download -json "$module" | sed -n 's/^\t"Dir": "\(.*\)",*$/\1/p')
mkdir vault
(cd "$source" && tar -cf - --exclude=./ui --exclude=./changelog --exclude=./website .) | tar -xf - -C vault --no-same-permissions
chmod -R u+w vault
cp -R "$server/_instead/." vault/
go mod edit -replace "$module=./vault"
go build -tags minimal -trimpath -ldflags "-s -w" -o "$building/program" .
# The program first: with the old stamp it is only built once more.
mv -f "$building/program" "$cache/vault"
printf '%s\n' "$stamp" >"$cache/stamp"
