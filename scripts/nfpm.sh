#!/bin/sh
# nfpm.sh
# Builds nfpm, which makes .deb and .rpm, from scripts/package/go.mod, into
# ${FETCHER_TEST_CACHE:-~/.cache/fetcher-tests}/nfpm/nfpm. It takes a minute once, and builds again when the version
# changes.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
name="nfpm"
program=nfpm
cache=${FETCHER_TEST_CACHE:-$HOME/.cache/fetcher-tests}/nfpm
module=$here/package
. "$here/go-program.sh"

if go_program_is_fresh go.mod go.sum "$here/nfpm.sh" "$here/go-program.sh"; then exit; fi
go_begin
echo "nfpm: building $cache/nfpm with $version"
cp "$module/go.mod" "$module/go.sum" "$building/"
cd "$building"
go build -trimpath -ldflags "-s -w" -o "$building/program" github.com/goreleaser/nfpm/v2/cmd/nfpm
go_install
