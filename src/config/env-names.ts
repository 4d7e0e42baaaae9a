/** Names of environment variables: those derived from secret ids, and those that no secret may have. */
import { ConfigError } from "../contract/errors.ts";
import { joinPath } from "../contract/settings.ts";

/** @returns `id` as a variable name: all but letters, digits and `_` become `_`, and `_` goes before a first digit. */
export function deriveName(id: string): string {
  const name = id.replace(/[^A-Za-z0-9_]/gu, "_");
  return /^[0-9]/.test(name) ? `_${name}` : name;
}

/** @returns why an explicit name is not usable, as the end of a sentence about it; undefined where it is. */
export function nameProblem(name: string): string | undefined {
  if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(name)) {
    return "expected a variable name: letters, digits and _, not beginning with a digit";
  }
  if (isIn(UNSETTABLE, name) || (name.startsWith("BASH_") && name !== "BASH_ENV")) {
    return `${name} belongs to the shell, which would refuse or change its value: choose another name`;
  }
  return undefined;
}

/** Whether other programs would act on a variable of this name. Only an explicit `env` sets such a variable. */
export function isSpecialName(name: string): boolean {
  return (
    nameProblem(name) !== undefined || isIn(SPECIAL, name) || SPECIAL_PREFIXES.some((prefix) => name.startsWith(prefix))
  );
}

/**
 * Checks the names, as far as that is possible without values.
 *
 * @throws ConfigError at `secrets.ID.env` for an explicit name that is invalid, that a shell cannot set, or that two
 *   secrets have.
 */
export function checkEnvNames(
  secrets: readonly { readonly id: string; readonly env: string | null | undefined }[],
): void {
  const owners = new Map<string, string>();
  for (const { id, env } of secrets) {
    if (typeof env !== "string") continue;
    const path = joinPath("secrets", id, "env");
    const problem = nameProblem(env);
    if (problem !== undefined) throw new ConfigError(path, problem);
    const other = owners.get(env);
    if (other !== undefined) throw new ConfigError(path, `is the same as ${joinPath("secrets", other, "env")}`);
    owners.set(env, id);
  }
}

/** Words in one string: no start has to make a set of them. */
const words = (...lines: readonly string[]): string => ` ${lines.join(" ")} `;

function isIn(list: string, name: string): boolean {
  return list.includes(` ${name} `);
}

/**
 * Measured with dash 0.5.12, bash 5.2 and bash --posix: read-only (an error, in posix mode the end of the shell), or
 * computed by the shell (the value is lost), or parsed by it (an error message shows the value). The arrays and
 * BASH_MONOSECONDS (5.3) follow bash(1).
 */
const UNSETTABLE = words(
  "UID EUID PPID SHELLOPTS BASHOPTS BASHPID _ SHLVL OPTIND LINENO RANDOM SRANDOM SECONDS EPOCHSECONDS EPOCHREALTIME",
  "HISTCMD COMP_WORDBREAKS DIRSTACK FUNCNAME GROUPS PIPESTATUS",
);

const SPECIAL = words(
  // sh(1), dash(1), bash(1)
  "BASH BASH_ENV CDPATH CHILD_MAX COLUMNS COMPREPLY COPROC EMACS ENV EXECIGNORE FCEDIT FIGNORE FUNCNEST GLOBIGNORE GLOBSORT",
  "HISTCONTROL HISTFILE HISTFILESIZE HISTIGNORE HISTSIZE HISTTIMEFORMAT HOME HOSTFILE HOSTNAME HOSTTYPE IFS IGNOREEOF",
  "INPUTRC INSIDE_EMACS LINES MACHTYPE MAIL MAILCHECK MAILPATH MAPFILE OLDPWD OPTARG OPTERR",
  "OSTYPE PATH POSIXLY_CORRECT PROMPT_COMMAND PROMPT_DIRTRIM PS0 PS1 PS2 PS3 PS4 PWD REPLY SHELL TERM TIMEFORMAT",
  "TMOUT auto_resume histchars",
  // environ(7), ld.so(8) and what glibc removes for set-user-ID programs
  "EDITOR GCONV_PATH GETCONF_DIR GLIBC_TUNABLES HOSTALIASES LANG LANGUAGE LOCALDOMAIN LOCPATH LOGNAME NIS_PATH NLSPATH",
  "PAGER RESOLV_HOST_CONF RES_OPTIONS TEMP TMP TMPDIR TZ TZDIR USER VISUAL",
  // systemd.exec(5), sd_notify(3), sd_listen_fds(3)
  "CACHE_DIRECTORY CONFIGURATION_DIRECTORY CREDENTIALS_DIRECTORY DEBUG_INVOCATION EXIT_CODE EXIT_STATUS FDSTORE",
  "INVOCATION_ID JOURNAL_STREAM LISTEN_FDNAMES LISTEN_FDS LISTEN_PID LISTEN_PIDFDID LOGS_DIRECTORY MAINPID MANAGERPID",
  "MONITOR_EXIT_CODE MONITOR_EXIT_STATUS MONITOR_INVOCATION_ID MONITOR_SERVICE_RESULT MONITOR_UNIT NOTIFY_SOCKET",
  "PIDFILE REMOTE_ADDR REMOTE_PORT RUNTIME_DIRECTORY SERVICE_RESULT STATE_DIRECTORY TRIGGER_PATH TRIGGER_UNIT",
  "TRIGGER_TIMER_MONOTONIC_USEC TRIGGER_TIMER_REALTIME_USEC",
  // what runtimes load code, options or trust from
  "CLASSPATH GEM_HOME GEM_PATH GODEBUG GOGC GOMAXPROCS GOMEMLIMIT GOTRACEBACK GUILE_LOAD_COMPILED_PATH GUILE_LOAD_PATH",
  "JAVA_HOME JAVA_TOOL_OPTIONS JDK_JAVA_OPTIONS OCAMLRUNPARAM OPENSSL_CONF OPENSSL_ENGINES OPENSSL_MODULES PHPRC",
  "PERLIO PERLLIB PHP_INI_SCAN_DIR RUBYLIB RUBYOPT RUBYPATH RUBYSHELL SSLKEYLOGFILE SSL_CERT_DIR SSL_CERT_FILE TCLLIBPATH _JAVA_OPTIONS BUNDLE_GEMFILE",
  // this program's own
  "SECRETS_DIRECTORY SECRETS_SIDECAR",
);

/** Whole families. Not MAIL, RUBY or MONITOR_: the names of many API keys begin like that. */
const SPECIAL_PREFIXES =
  "LC_ LD_ MALLOC_ WATCHDOG_ MEMORY_PRESSURE_ SYSTEMD_ XDG_ NODE_ PYTHON PERL5 LUA_ DOTNET_ CORECLR_ COMPlus_ ERL_".split(
    " ",
  );
