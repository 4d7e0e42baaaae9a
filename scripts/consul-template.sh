#!/bin/sh
# consul-template.sh
# Builds the consul-template that `npm run bench -- peers` compares with, from bench/consul-template, into
# ${FETCHER_TEST_CACHE:-~/.cache/fetcher-tests}/consul-template/consul-template. It takes seconds, and builds again when
# the sources change.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
name="consul-template"
program=consul-template
cache=${FETCHER_TEST_CACHE:-$HOME/.cache/fetcher-tests}/consul-template
module=$here/../bench/consul-template
. "$here/go-program.sh"

if go_program_is_fresh go.mod go.sum "$here/consul-template.sh" "$here/go-program.sh"; then exit; fi
go_begin
echo "consul-template: building $cache/consul-template with $version"
cp "$module/go.mod" "$module/go.sum" "$building/"
cd "$building"
go build -trimpath -ldflags "-s -w" -o "$building/program" github.com/hashicorp/consul-template
go_install
