/** `fetcher run … -- COMMAND`: gives one command its secrets without systemd, for development and containers. */
import { mkdtempSync, readFileSync, rmSync, statfsSync } from "node:fs";
import { constants, tmpdir } from "node:os";
import { basename, join } from "node:path";
import { type Config, loadConfig, type OutputConfig } from "../config/config.ts";
import { ENV_FILE } from "../config/config-schema.ts";
import { errnoCode, errnoText, ExitCode, PublishError, UsageError } from "../contract/errors.ts";
import { runtimeDirectories } from "../contract/helper-command.ts";
import type { Log, LogLevel } from "../runtime/log.ts";
import { ChildAsUnit } from "../systemd/child-as-unit.ts";
import type { Notifier } from "../systemd/notify.ts";
import type { Systemd } from "../systemd/systemctl.ts";
import { type CommandLine, parseCommandLine } from "./command-line.ts";

/** What main gives to it. */
export interface RunParts {
  /** Of the process that called us. */
  readonly umask: number;
  readonly environment: NodeJS.ProcessEnv;
  readonly help: () => void;
  readonly openLog: (level: LogLevel, isDaemon: boolean) => Log;
  /** Fetches, publishes, reports READY, and stays if `resident` is set. @returns whether it has published. */
  readonly live: (config: Config, output: OutputConfig, hooks: Hooks, stop: AbortSignal) => Promise<boolean>;
}

export interface Hooks {
  readonly notifier: Notifier;
  readonly systemd: Systemd;
}

/** Seconds that a store has where `startTimeout` is not set: a person waits, or a container's own policy applies. */
const PATIENCE = 30;

/** @returns the exit status of the command, or ours where it did not start. */
export async function run(words: readonly string[], parts: RunParts): Promise<number> {
  const { commandLine, watch, command } = parseRun(words, parts.environment);
  if (commandLine.mode === "help") {
    parts.help();
    return ExitCode.ok;
  }
  const log = parts.openLog(isLevelGiven(words, parts.environment) ? commandLine.logLevel : "notice", watch);
  const config = await loadConfig(commandLine);
  const child = new ChildAsUnit({
    command,
    environment: () => environmentOf(parts.environment, directory, output.envFile),
    umask: parts.umask,
    report: log.error,
  });
  // Before the directory is made: a signal that nobody hears would leave it.
  const stop = new AbortController();
  const signals = handOn(child, stop);
  const directory = privateDirectory(parts.environment, log.warn);
  const output = outputOf(config, directory);
  const clean = () => {
    rmSync(directory, { recursive: true, force: true });
  };
  // Runs however this process ends, also by a bug, but not by SIGKILL.
  process.on("exit", () => {
    child.kill("SIGTERM");
    clean();
  });
  try {
    const begin = (notifier: Notifier) =>
      parts.live(configOf(config, output, command, watch), output, { notifier, systemd: child }, stop.signal);
    return await live(child, signals, stop, begin);
  } finally {
    clean();
  }
}

async function live(
  child: ChildAsUnit,
  signals: ReturnType<typeof handOn>,
  stop: AbortController,
  begin: (notifier: Notifier) => Promise<boolean>,
) {
  const { ended } = child;
  const notifier: Notifier = {
    ...silent,
    ready: () => {
      signals.started();
      child.start();
    },
  };
  void ended.then(() => {
    stop.abort();
  });
  const isPublished = await begin(notifier);
  return isPublished || signals.isStarted() ? await ended : signals.status();
}

const silent: Notifier = {
  how: "none",
  ready: () => undefined,
  status: () => undefined,
  watchdog: () => undefined,
  stopping: () => undefined,
  flush: () => Promise.resolve(),
};

/** Signals that ask for the end: after one, a command that is being restarted does not start again. */
const ending: readonly NodeJS.Signals[] = ["SIGTERM", "SIGINT", "SIGQUIT"];
/** Signals that a terminal sends to the command itself, which is in the same process group. */
const ofTerminal: readonly NodeJS.Signals[] = [
  "SIGINT",
  "SIGQUIT",
  "SIGWINCH",
  "SIGTSTP",
  "SIGCONT",
  "SIGTTIN",
  "SIGTTOU",
];
const others: readonly NodeJS.Signals[] = [
  "SIGTERM",
  "SIGHUP",
  "SIGUSR1",
  "SIGUSR2",
  "SIGALRM",
  "SIGVTALRM",
  "SIGXCPU",
  "SIGXFSZ",
  "SIGIO",
  "SIGURG",
  "SIGPWR",
  "SIGTRAP",
  "SIGSYS",
  "SIGABRT",
];

function handOn(child: ChildAsUnit, stop: AbortController) {
  let isStarted = false;
  let last: NodeJS.Signals = "SIGTERM";
  const isTerminal = process.getBuiltinModule("node:tty").isatty(0);
  for (const signal of [...ofTerminal, ...others]) {
    const ends = ending.includes(signal);
    // The keyboard stops and continues this process like any other.
    if (isTerminal && ofTerminal.includes(signal) && !ends) continue;
    process.on(signal, () => {
      if (isStarted) {
        if (isTerminal && ofTerminal.includes(signal)) child.end();
        else child.kill(signal, ends);
      } else if (ends || signal === "SIGHUP") {
        last = signal;
        stop.abort();
      }
    });
  }
  return {
    started: () => {
      isStarted = true;
    },
    isStarted: () => isStarted,
    status: () => 128 + constants.signals[last],
  };
}

/** @throws UsageError */
export function parseRun(
  words: readonly string[],
  environment: NodeJS.ProcessEnv = {},
): {
  readonly commandLine: CommandLine;
  readonly watch: boolean;
  readonly command: readonly [string, ...string[]];
} {
  const end = words.indexOf("--");
  // The command's own options must not look like wrong ones of ours.
  if (end < 0 && !words.includes("--help") && !words.includes("-h")) throw withoutCommand();
  const own = (end < 0 ? words : words.slice(0, end)).filter((word) => word !== "--watch");
  const commandLine = parseCommandLine(own, environment);
  const [program = "", ...args] = end < 0 ? [] : words.slice(end + 1);
  if (commandLine.mode !== "help") {
    if (commandLine.mode !== "daemon") throw new UsageError("run: takes neither --once nor --check nor --print-schema");
    if (commandLine.output !== undefined)
      throw new UsageError("run: makes its own directory: leave out --output; $SECRETS_DIRECTORY names it");
    if (program === "") throw withoutCommand();
  }
  return { commandLine, watch: words.slice(0, end).includes("--watch"), command: [program, ...args] };
}

function withoutCommand(): UsageError {
  return new UsageError("run: expected -- and a command after it: fetcher run ... -- COMMAND [ARG...]");
}

function isLevelGiven(words: readonly string[], environment: NodeJS.ProcessEnv): boolean {
  return Boolean(environment["FETCHER_LOG_LEVEL"]) || words.some((word) => /^--log-level(?:=|$)/.test(word));
}

function outputOf({ output }: Config, directory: string): OutputConfig {
  const envFile = output === undefined ? ENV_FILE : output.envFile;
  return { directory, links: null, linksTo: directory, envFile };
}

function configOf(
  config: Config,
  output: OutputConfig,
  command: readonly [string, ...string[]],
  watch: boolean,
): Config {
  return {
    ...config,
    output,
    targets: watch ? [basename(command[0])] : [],
    resident: watch,
    reloadOnChange: watch,
    startTimeout: config.startTimeout ?? PATIENCE,
  };
}

/** File systems in memory (statfs(2)): tmpfs, ramfs. */
const inMemory: readonly number[] = [0x01021994, 0x858458f6];

/** Makes a directory for this user alone, in memory if any such file system is writable. */
function privateDirectory(environment: NodeJS.ProcessEnv, warn: (line: string) => void): string {
  for (const parent of [...runtimeDirectories(environment), "/dev/shm", "/run"]) {
    try {
      if (inMemory.includes(statfsSync(parent).type)) return mkdtempSync(join(parent, "fetcher-run-"));
    } catch {
      // Not there, or not ours: the next one.
    }
  }
  const parent = tmpdir();
  try {
    const directory = mkdtempSync(join(parent, "fetcher-run-"));
    if (!inMemory.includes(statfsSync(parent).type))
      warn(
        `run: no writable file system in memory ($XDG_RUNTIME_DIR, /dev/shm): the secrets are on disk, in ${directory}`,
      );
    return directory;
  } catch (error) {
    throw new PublishError(
      ExitCode.cannotCreate,
      `run: cannot make a directory in ${parent}: ${errnoText(errnoCode(error))}`,
    );
  }
}

/** @param envFile null: no variables. */
function environmentOf(inherited: NodeJS.ProcessEnv, directory: string, envFile: string | null): NodeJS.ProcessEnv {
  const variables = envFile === null ? {} : variablesIn(readFileSync(join(directory, envFile), "utf8"));
  return { ...inherited, SECRETS_DIRECTORY: directory, CREDENTIALS_DIRECTORY: directory, ...variables };
}

/** @returns the variables in a file that src/publish/env-file.ts wrote. */
export function variablesIn(text: string): Readonly<Record<string, string>> {
  const lines = text.matchAll(/([A-Za-z_][A-Za-z0-9_]*)='((?:[^']|'"'"')*)'\n/gy);
  return Object.fromEntries(Array.from(lines, ([, name = "", value = ""]) => [name, value.replaceAll(`'"'"'`, "'")]));
}
