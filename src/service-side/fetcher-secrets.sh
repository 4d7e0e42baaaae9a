# Secrets in scripts, mainly ExecStartPre=, in any POSIX shell: `. .../lib/secrets-sidecar/dist/fetcher-secrets.sh`,
# below npm's node_modules or the Nix package.
#
#   load_secret ID VARIABLE        one secret into a shell variable, without its trailing newlines, as $(cat file) has it
#   replace_secrets FILE [ID...]   replaces @ID@ in FILE by its value: for these ids, or for every @ID@ in it
#
# Both look for secrets in $SECRETS_DIRECTORY; if that is not set, in $CREDENTIALS_DIRECTORY, /tmp/.secrets and /tmp.
# Each fails with one line: 64 usage; 66 no such secret, or no such file; 73 cannot write; 77 cannot read; 78 not to be
# trusted, or no text. No program gets a value in its command line or environment. They need awk, cat, cp, ls, mktemp,
# mv, rm, tail, tr and wc.

load_secret() {
  case ${2:-} in
    '' | [0-9]* | *[!A-Za-z0-9_]*)
      echo 'load_secret: usage: load_secret ID VARIABLE' >&2
      return 64
      ;;
  esac
  _fetcher_file=$(_fetcher_find load_secret "$1") || return
  # A traced shell would show the value.
  case $- in *x*) _fetcher_trace=-x ;; *) _fetcher_trace=+x ;; esac
  set +x
  eval "$2=\$(cat \"\$_fetcher_file\")"
  set -- "$?" "$_fetcher_trace"
  unset _fetcher_file _fetcher_trace
  set "$2"
  return "$1"
}

# Runs in a subshell, so it does not touch the caller's variables. The new file is complete before it gets the name.
replace_secrets() (
  set +x
  set -f
  LC_ALL=C
  export LC_ALL
  file=${1:-}
  for tool in awk cp ls mktemp mv rm tail tr wc; do
    command -v "$tool" >/dev/null || _fetcher_fail 78 "replace_secrets: no $tool in PATH=$PATH"
  done
  [ -n "$file" ] || _fetcher_fail 64 'replace_secrets: usage: replace_secrets FILE [ID...]'
  shift
  # For awk a name such as `-` is no file: make the path absolute.
  case $file in /*) ;; *) file=$PWD/$file ;; esac
  [ -f "$file" ] && [ ! -L "$file" ] || _fetcher_fail 66 "replace_secrets: $file is not a regular file"
  [ -r "$file" ] || _fetcher_fail 77 "replace_secrets: $file cannot be read by this user"
  _fetcher_is_text "$file" || _fetcher_fail 78 "replace_secrets: $file has NUL bytes"
  if [ $# -eq 0 ]; then
    unset IFS
    set -- $(awk '{
      while (match($0, /@[A-Za-z0-9_.-]+@/)) {
        id = substr($0, RSTART + 1, RLENGTH - 2)
        if (!(id in seen)) print id
        seen[id]
        $0 = substr($0, RSTART + RLENGTH)
      }
    }' <"$file")
  fi
  count=$#
  for id do
    awk 'BEGIN { while ((getline line < ARGV[1]) > 0) if (index(line, ARGV[2])) exit 0; exit 1 }' "$file" "@$id@" ||
      _fetcher_fail 78 "replace_secrets: no @$id@ in $file"
    path=$(_fetcher_find replace_secrets "$id") || exit
    set -- "$@" "$id" "$path"
  done
  shift "$count"
  [ "$(tail -c 1 "$file" | wc -l)" -eq 1 ] && last=newline || last=
  new=$(mktemp "${file%/*}/.fetcher-new-XXXXXX") || _fetcher_fail 73 "replace_secrets: cannot write in ${file%/*}"
  trap 'rm -f "$new"' EXIT
  trap 'exit 143' HUP INT TERM
  # Mode and owner first, so that they are right before the file has a value in it.
  cp -p "$file" "$new" && [ "$(_fetcher_owner "$file")" = "$(_fetcher_owner "$new")" ] ||
    _fetcher_fail 73 "replace_secrets: cannot keep mode and owner of $file"
  awk '
    # Line by line: one long string of them is slow to make.
    function load(n, path,   line, number) {
      while ((getline line < path) > 0) {
        value[n, ++number] = line
        if (line != "") lines[n] = number
      }
      close(path)
    }
    function put(n,   number) {
      for (number = 1; number <= lines[n]; number++) {
        if (number > 1) print "\n"
        print value[n, number]
      }
    }
    BEGIN {
      ORS = ""
      for (at = 3; at < ARGC; at += 2) { count++; mark[count] = "@" ARGV[at] "@"; load(count, ARGV[at + 1]) }
      for (begun = 0; (getline line < ARGV[1]) > 0; begun = 1) {
        if (begun) print "\n"
        for (;;) {
          first = 0
          for (n = 1; n <= count; n++) {
            here = index(line, mark[n])
            if (here && (!first || here < first)) { first = here; found = n }
          }
          if (!first) break
          print substr(line, 1, first - 1)
          put(found)
          line = substr(line, first + length(mark[found]))
        }
        print line
      }
      if (ARGV[2] != "") print "\n"
    }' "$file" "$last" "$@" >"$new" && mv -f "$new" "$file" || _fetcher_fail 73 "replace_secrets: cannot write $file"
)

# The path of a secret's file, for the function $1.
_fetcher_find() (
  unset IFS
  caller=$1 id=$2
  case $id in '' | . | .. | */*) _fetcher_fail 64 "$caller: '$id' is not a secret id" ;; esac
  if [ -n "${SECRETS_DIRECTORY:-}" ]; then
    set -- "$SECRETS_DIRECTORY"
  else
    set -- ${CREDENTIALS_DIRECTORY:+"$CREDENTIALS_DIRECTORY"} /tmp/.secrets /tmp
  fi
  for directory do
    file=$directory/$id
    [ -f "$file" ] || continue
    case $directory in
      /tmp | /tmp/.secrets)
        # Otherwise it could be anybody's file.
        _fetcher_is_private_tmp && _fetcher_is_roots "$directory" d && _fetcher_is_roots "$file" - ||
          _fetcher_fail 78 "$caller: $file is not root's own file in a private /tmp"
        ;;
    esac
    [ -r "$file" ] || _fetcher_fail 77 "$caller: secret '$id': $file cannot be read by this user"
    _fetcher_is_text "$file" || _fetcher_fail 78 "$caller: secret '$id' has NUL bytes"
    case $file in /*) ;; *) file=$PWD/$file ;; esac
    printf '%s\n' "$file"
    exit 0
  done
  _fetcher_fail 66 "$caller: no secret '$id' in $*"
)

_fetcher_fail() {
  printf '%s\n' "$2" >&2
  exit "$1"
}

_fetcher_is_text() {
  [ "$(tr -d '\000' <"$1" | wc -c)" -eq "$(wc -c <"$1")" ]
}

# Mode, user and group, as numbers.
_fetcher_owner() (
  set -- $(ls -ldn "$1")
  echo "$1 $3 $4"
)

# Whether $1 has the type $2 (as ls shows it) and belongs to root.
_fetcher_is_roots() (
  set -- "$2" $(ls -ldn "$1")
  case $2 in "$1"*) [ "$4" = 0 ] ;; *) exit 1 ;; esac
)

# PrivateTmp=true mounts a directory systemd-private-*/tmp; the last mount on /tmp is the one in use.
_fetcher_is_private_tmp() (
  top=
  while read -r number parent device root mount rest; do
    [ "$mount" != /tmp ] || top=${root%//deleted}
  done </proc/self/mountinfo
  case $top in */systemd-private-*/tmp) exit 0 ;; *) exit 1 ;; esac
)
