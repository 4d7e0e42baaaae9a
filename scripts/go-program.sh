# go-program.sh: shared by the scripts that build a program of the tests from a Go module of ours. They source it, and
# set `name` (for messages), `cache` (where the program goes), `program` (its name there) and `module` (a directory with
# go.mod).

# go_program_is_fresh FILE...: whether it was built from these files, which are relative to $module. If so, it prints
# that.
go_program_is_fresh() {
  stamp=$(cd "$module" && find "$@" -type f | LC_ALL=C sort | xargs -d '\n' cat | sha256sum)
  [ -x "$cache/$program" ] && [ "$(cat "$cache/stamp" 2>/dev/null)" = "$stamp" ] || return 1
  echo "$name: $cache/$program is up to date"
}

# go_begin: ends the script where Go is missing or too old. Otherwise it makes $building, a directory that is removed
# when the script ends.
go_begin() {
  wanted=$(awk '$1 == "go" { print $2 }' "$module/go.mod")
  PATH=$PATH:/usr/local/go/bin
  version=$(GOTOOLCHAIN=local go env GOVERSION 2>/dev/null || :)
  newest=$(printf '%s\n' "$wanted" "${version#go}" | sort -V | tail -n 1)
  if [ -z "$version" ] || [ "$newest" != "${version#go}" ]; then
    echo "$name: building it needs Go $wanted or newer, in PATH or /usr/local/go, and here is ${version:-none};" \
      "install one, or put a $program into PATH" >&2
    exit 69
  fi
  mkdir -p "$cache"
  building=$(mktemp -d "$cache/building.XXXXXX")
  trap 'rm -rf "$building"' EXIT
  trap 'exit 1' INT TERM HUP
  # Go refuses what is not in go.sum, so it asks nobody else for checksums. No other flags apply, not even the user's
  # own.
  export GOFLAGS=-mod=readonly GOSUMDB=off GOTOOLCHAIN=local GOWORK=off CGO_ENABLED=0
}

# go_install: keeps $building/program, and a stamp of what it was built from.
go_install() {
  # The program first: if only the stamp is old, the next run builds once more.
  mv -f "$building/program" "$cache/$program"
  printf '%s\n' "$stamp" >"$cache/stamp"
}
