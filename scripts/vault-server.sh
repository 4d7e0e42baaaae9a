#!/bin/sh
# vault-server.sh [--as-released]
# Builds the HashiCorp Vault that tests run, from test/vault/server, into
# ${FETCHER_TEST_CACHE:-~/.cache/fetcher-tests}/vault/vault. It takes minutes once, and builds again when the sources
# change. Go keeps what it fetched and compiled in caches of its own. The compiler leaves out what only a faster server
# needs, which saves a third of the build. With --as-released it does all of it, into vault-as-released/vault: a
# comparison of programs must not make one of them slower.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
name="vault server"
program=vault
cache=${FETCHER_TEST_CACHE:-$HOME/.cache/fetcher-tests}/vault
compiler="all=-l -dwarf=false"
case ${1-} in
"") ;;
--as-released)
  cache=$cache-as-released
  compiler=
  ;;
*)
  echo "usage: vault-server.sh [--as-released]" >&2
  exit 64
  ;;
esac
module=$here/../test/vault/server
. "$here/go-program.sh"

if go_program_is_fresh go.mod go.sum main.go _instead "$here/vault-server.sh" "$here/go-program.sh"; then exit; fi
go_begin
echo "vault server: building $cache/vault with $version, which takes minutes"
cp "$module/go.mod" "$module/go.sum" "$module/main.go" "$building/"
cd "$building"
# Go refuses to overlay files of its module cache, so this makes a copy.
source=$(go mod download -json github.com/hashicorp/vault | sed -n 's/^\t"Dir": "\(.*\)",*$/\1/p')
mkdir vault
(cd "$source" && tar -cf - --exclude=./ui --exclude=./changelog --exclude=./website .) | tar -xf - -C vault --no-same-permissions
chmod -R u+w vault
cp -R "$module/_instead/." vault/
go mod edit -replace "github.com/hashicorp/vault=./vault"
go build -tags minimal -trimpath -gcflags "$compiler" -ldflags "-s -w" -o "$building/program" .
go_install
