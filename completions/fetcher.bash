# Made by `npm run docs` from the tables of --help.
_fetcher() {
  local word=$2 before=$3 command='' options names=0 at
  for ((at = 1; at < COMP_CWORD; at++)); do
    # What is behind it is a command of its own.
    if [[ ${COMP_WORDS[at]} == -- ]]; then
      if declare -F _command_offset >/dev/null; then _command_offset $((at + 1)); else mapfile -t COMPREPLY < <(compgen -c -f -- "$word"); fi
      return
    fi
  done
  case ${COMP_WORDS[1]} in
    add | remove | run | status | units | check | reload | refresh | act) [[ $COMP_CWORD == 1 ]] || command=${COMP_WORDS[1]} ;;
  esac
  case $before in
    --config) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
    --backend) mapfile -t COMPREPLY < <(compgen -W 'folder vault aws credentials command nixops static' -- "$word"); return ;;
    --set) COMPREPLY=(); return ;;
    --output) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -d -- "$word"); return ;;
    --actions) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -d -- "$word"); return ;;
    --log-level) mapfile -t COMPREPLY < <(compgen -W 'error warn notice info debug trace' -- "$word"); return ;;
    --log-format) mapfile -t COMPREPLY < <(compgen -W 'text json' -- "$word"); return ;;
    --import) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
  esac
  case $command in
    add) options='--env --files --credentials --private-tmp --backend --set --all --reload --restart --import --remove-original --no-check --now --user --dry-run -y --yes --log-format' names=1 ;;
    remove) options='--delete-secrets --user --dry-run -y --yes --log-format' names=1 ;;
    run) options='--watch --config --backend --set --actions --log-level --log-format -h --help' names=0 ;;
    status) options='--json --metrics --user --log-format' names=1 ;;
    units) options='--user --log-format' names=1 ;;
    check) options='--user --log-format' names=1 ;;
    reload) options='--config --log-format' names=0 ;;
    refresh) options='--log-format' names=0 ;;
    act) options='--log-format' names=0 ;;
    *) options='--config --backend --set --output --actions --once --check --check=config --print-schema --log-level --log-format -h --help --version'; [[ $COMP_CWORD != 1 ]] || options+=' add remove run status units check reload refresh act' ;;
  esac
  if [[ $word != -* && $names == 1 ]]; then
    options=$(cd /etc/fetcher 2>/dev/null && printf '%s\n' *.json | sed -n 's/\.json$//p' | grep -vFx '*')
  fi
  mapfile -t COMPREPLY < <(compgen -W "$options" -- "$word")
}
complete -F _fetcher fetcher
