/**
 * Errors are written for the operator who reads them in `systemctl status`: one line that says what, where and what to
 * do. They never hold a secret, a token or a foreign error (those carry tokens), so they may be logged as they are.
 */

/** Exit codes of sysexits(3). The units act on them: RestartPreventExitStatus=64 66 69 77 78, and some of systemd's own. */
export const ExitCode = {
  ok: 0,
  usage: 64,
  missing: 66,
  unavailable: 69,
  bug: 70,
  cannotCreate: 73,
  ioError: 74,
  again: 75,
  denied: 77,
  config: 78,
  /** A shell's status for SIGTERM. With Type=oneshot, 0 would tell systemd that the secrets are there. */
  stoppedEarly: 143,
} as const;
export type ExitCode = (typeof ExitCode)[keyof typeof ExitCode];

/** What each means, for --help and the manual. */
export const exitMeanings: Readonly<Record<keyof typeof ExitCode, string>> = {
  ok: "done, or stopped",
  usage: "the command line is wrong",
  missing: "a required secret does not exist",
  unavailable: "the store cannot be reached (--once, --check, or past startTimeout)",
  bug: "a bug of fetcher",
  cannotCreate: "the output cannot be made",
  ioError: "the output cannot be written",
  again: "what the unit's sandbox does not show may have come since: to be started again, in a new one",
  denied: "the store refuses us",
  config: "the configuration is wrong",
  stoppedEarly: 'stopped before anything was published ("resident": false)',
};

/** Ends the program with `exitCode` and the one line `message`. */
export class FatalError extends Error {
  override readonly name: string = "FatalError";
  readonly exitCode: ExitCode;
  constructor(exitCode: ExitCode, message: string) {
    super(printable(message));
    this.exitCode = exitCode;
  }
}

/** A wrong command line (64). */
export class UsageError extends FatalError {
  override readonly name = "UsageError";
  constructor(message: string) {
    super(ExitCode.usage, message);
  }
}

/**
 * A wrong configuration (78).
 *
 * `path` names the option from the root, as a person would write it: `secrets.db_password.mode`. The message never
 * shows the value found there, which may be a secret that was put in the wrong place.
 */
export class ConfigError extends FatalError {
  override readonly name = "ConfigError";
  readonly path: string;
  readonly problem: string;
  constructor(path: string, problem: string) {
    super(ExitCode.config, path === "" ? `configuration: ${problem}` : `configuration: ${path}: ${problem}`);
    this.path = path;
    this.problem = problem;
  }
}

/** It can be opened, but not read as a file. `message`: the end of a sentence about it. */
export class UnfitFile extends Error {
  override readonly name = "UnfitFile";
}

/** Codes of what only a person can fix. All others (EIO, EMFILE, ...) may be over at the next start. */
const LASTING = ["ENOENT", "EACCES", "EPERM", "ENOTDIR", "EISDIR", "ELOOP", "ENAMETOOLONG", "ENXIO", "ENODEV"];

/**
 * A file of the operator's that cannot be read: a wrong configuration (78), or an error of the machine (74).
 *
 * @param hint what hides it: the end of the sentence.
 */
export function unreadable(message: string, error: unknown, hint = ""): FatalError {
  if (error instanceof UnfitFile) return new FatalError(ExitCode.config, `${message}: it ${error.message}`);
  const code = errnoCode(error);
  const isLasting = code !== undefined && LASTING.includes(code);
  return new FatalError(isLasting ? ExitCode.config : ExitCode.ioError, `${message}: ${errnoText(code)}${hint}`);
}

/** Cannot write the output (73 where a file cannot be made at all, 74 where writing it fails). */
export class PublishError extends FatalError {
  override readonly name = "PublishError";
}

/** One line of a terminal or the journal, whatever names are in it: control characters are shown as escapes. */
export function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Bidi_Control}\u2028\u2029]/gu, (character) => {
    const escaped = JSON.stringify(character).slice(1, -1);
    // JSON.stringify() lets those beyond U+001F through.
    return escaped === character ? `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}` : escaped;
  });
}

/** The most characters that a message shows of a foreign text. */
export const LONGEST_MESSAGE = 2000;

/** @returns the first `length` characters, without splitting one. */
export function shortened(text: string, length: number): string {
  return text.length <= length ? text : `${text.slice(0, length).replace(/[\ud800-\udbff]$/, "")}…`;
}

/** The code of a failed system call, such as `ENOENT`; undefined for any other error. */
export function errnoCode(error: unknown): string | undefined {
  if (typeof error !== "object" || error === null || !("code" in error)) return undefined;
  return typeof error.code === "string" ? error.code : undefined;
}

/** The code of a failed system call in words, and for a search: `no such file or directory (ENOENT)`. */
export function errnoText(code: string | undefined): string {
  const { getSystemErrorMap } = process.getBuiltinModule("node:util");
  for (const [name, text] of getSystemErrorMap().values()) if (name === code) return `${text} (${name})`;
  return code ?? "failed";
}

/**
 * A failed system call that no other code expects. Its own message may quote more than the path.
 *
 * @returns undefined where `error` is not one.
 */
export function systemRefusal(error: unknown): FatalError | undefined {
  if (!(error instanceof Error) || errnoCode(error) === undefined || !("syscall" in error)) return undefined;
  if (error.syscall === "uv_cwd")
    return new FatalError(ExitCode.ioError, "the working directory has been removed: change to another one");
  const path = "path" in error && typeof error.path === "string" ? ` ${printable(error.path)}` : "";
  const call = printable(String(error.syscall));
  return new FatalError(ExitCode.ioError, `the system refuses ${call}${path}: ${errnoText(errnoCode(error))}`);
}
