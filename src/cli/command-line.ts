/** The command line of fetcher(8). */
import type { ConfigFlags } from "../config/config-file.ts";
import { ExitCode, exitMeanings, UsageError } from "../contract/errors.ts";
import { isPath, withoutStore } from "../config/config-file.ts";
import { didYouMean } from "../contract/nearest.ts";
import { parseWords } from "./parse-words.ts";
import { isLogFormat, isLogLevel, type LogFormat, type LogLevel, logFormats, logLevels } from "../runtime/log.ts";

export type Mode = "daemon" | "once" | "check" | "check-config" | "print-schema" | "help" | "version";

export interface CommandLine extends ConfigFlags {
  readonly mode: Mode;
  /** The directory where this process asks another unit to act for it; undefined: it acts itself. */
  readonly actions: string | undefined;
  readonly logLevel: LogLevel;
}

export const usage = [
  "fetcher [--config FILE] [--backend NAME] [--set KEY=VALUE]... [--output DIR]",
  "[--once | --check | --print-schema] [SECRET_ID...]",
] as const;

/** Other ways to call it. */
export const commandTexts: readonly (readonly [words: string, text: string])[] = [
  ["fetcher add NAME ID...", "give NAME.service secrets, and make its units; see its --help"],
  ["fetcher remove NAME", "undo that; see its --help"],
  ["fetcher run -- COMMAND...", "run COMMAND with its secrets; with --watch, act on changes"],
  ["fetcher status [NAME...]", "show all sidecars, or these; --json, --metrics, --metrics=FILE"],
  ["fetcher units NAME...", "print the units generated from /etc/fetcher/NAME.json"],
  ["fetcher check NAME...", "run --check in the sandbox of NAME's sidecar; needs root"],
  ["fetcher ... --user ...", "status, units or check of your own: ~/.config/fetcher/NAME.json"],
  ["fetcher reload --config FILE", "have the daemon take over FILE; for ExecReload= of its unit"],
  ["fetcher refresh --config FILE", "look at the store once, for a sidecar that is not resident"],
  ["fetcher act --config FILE", "act on requests in --actions DIR, for a sidecar that may not act"],
];

/** The first word of each. A function, as `helpText` is: a daemon needs neither. */
const commandWords = () => commandTexts.flatMap(([words]) => /^fetcher ([a-z]+)/.exec(words)?.[1] ?? []);

/** Each option, and its text in --help and the manual page. */
export const optionTexts: readonly (readonly [option: string, text: string])[] = [
  ["--config FILE", "configuration (JSON)"],
  ["--backend NAME", "where secrets come from: folder, vault, ..., or a path to a module"],
  ["--set KEY=VALUE", "one setting of the backend; dots descend, JSON values count as JSON"],
  ["--output DIR", "where the files go"],
  ["--actions DIR", "ask for actions in DIR, where another unit acts; never ask systemd"],
  ["--once", "fetch, publish, print a table (never a value) and exit; no service is touched"],
  ["--check", "say whether each secret is there; write nothing"],
  ["--check=config", "check the configuration only; ask no store"],
  ["--print-schema", "print the JSON Schema of the configuration, for editors"],
  ["--log-level LEVEL", `${logLevels.join(", ")} (default info, or $FETCHER_LOG_LEVEL)`],
  ["--log-format FORMAT", `${logFormats.join(" or ")}, for each log line (default text, or $FETCHER_LOG_FORMAT)`],
  ["-h, --help", "this text"],
  ["--version", "the version"],
];

export const helpText = (): string => `Usage: ${usage.join(`\n${" ".repeat(15)}`)}

Fetches the secrets of one service, publishes them as files and secrets.env, and
keeps watching for changes. For NAME.service systemd starts it as NAME-secrets.service,
whose units are generated from /etc/fetcher/NAME.json, or as fetcher@NAME.service, which
is wired by hand. In a terminal, use --once and --check.

${commandTexts.map(([words, text]) => `  ${words.padEnd(29)} ${text}\n`).join("")}
${optionTexts.map(([option, text]) => `  ${option.padEnd(19)} ${text}\n`).join("")}
Exit status (sysexits):
${Object.entries(exitMeanings)
  .map(([name, text]) => `  ${String(ExitCode[name as keyof typeof ExitCode]).padEnd(3)} ${text}\n`)
  .join("")}`;

/** Translates words that people try first: `fetcher help add`, `fetcher version`. */
export function spelledOut(argv: readonly string[]): readonly string[] {
  const [first, second = ""] = argv;
  if (first === "version" && argv.length === 1) return ["--version"];
  if (first !== "help" || argv.length > 2) return argv;
  return commandWords().includes(second) ? [second, "--help"] : ["--help"];
}

/** Commands that have their own help, or pass `--help` on. */
const WITH_HELP = ["add", "remove", "run"];

/** @returns the --help text of one command; undefined if not requested, or if the command has its own. */
export function shortHelpOf([command = "", ...words]: readonly string[]): string | undefined {
  const end = words.indexOf("--");
  const isAsked = words.slice(0, end < 0 ? undefined : end).some((word) => word === "--help" || word === "-h");
  if (!isAsked || WITH_HELP.includes(command) || !commandWords().includes(command)) return undefined;
  const own = commandTexts.filter(([text]) => text.startsWith(`fetcher ${command}`));
  const users = commandTexts.filter(([text, what]) => text.includes("--user") && what.includes(command));
  const lines = [
    ...own.map(([text, what]) => `Usage: ${text}\n\n${what}\n`),
    ...users.map(([, what]) => `--user: ${what}\n`),
  ];
  return `${lines.join("\n")}\nMore: fetcher --help, man fetcher\n`;
}

/**
 * `--log-format` is an option of every command, and must be known before anything else can be wrong.
 *
 * @returns the words without it, and an error message if the given value is not a format.
 */
export function takeLogFormat(
  argv: readonly string[],
  environment: NodeJS.ProcessEnv,
): { readonly words: readonly string[]; readonly format: LogFormat; readonly problem?: string } {
  const words: string[] = [];
  const option = "--log-format";
  let [given, from] = [environment["FETCHER_LOG_FORMAT"] ?? "", "FETCHER_LOG_FORMAT"];
  for (let at = 0; at < argv.length; at += 1) {
    const word = argv[at] ?? "";
    if (word === "--") {
      words.push(...argv.slice(at));
      break;
    }
    if (word !== option && !word.startsWith(`${option}=`)) words.push(word);
    else [given, from] = [word === option ? (argv[(at += 1)] ?? "") : word.slice(option.length + 1), option];
  }
  // `pretty` is the old name of `text`.
  const format = given === "pretty" || (given === "" && from !== option) ? "text" : given;
  if (isLogFormat(format)) return { words, format };
  return { words, format: "text", problem: `${from}: expected ${logFormats.join(" or ")}` };
}

/** @throws UsageError */
export function parseCommandLine(argv: readonly string[], environment: NodeJS.ProcessEnv = {}): CommandLine {
  const { values, positionals } = wordsOf(argv);
  const modes = (
    [
      ["help", values.help],
      ["version", values.version],
      ["once", values.once],
      ["check", values.check],
      ["check-config", values["check-config"]],
      ["print-schema", values["print-schema"]],
    ] as const
  ).filter(([, given]) => given === true);
  if (modes.length > 1 && values.help !== true && values.version !== true)
    throw new UsageError("give only one of --once, --check, --check=config and --print-schema");
  return {
    mode: modes[0]?.[0] ?? "daemon",
    configFile: only("config", values.config),
    backend: only("backend", values.backend),
    set: (values.set ?? []).map(parseSet),
    output: only("output", values.output),
    actions: only("actions", values.actions),
    ids: positionals,
    logLevel: logLevelOf(values["log-level"], environment),
  };
}

/** Of two, nobody knows which one is meant. @throws UsageError */
function only(option: string, given: readonly string[] = []): string | undefined {
  // An unset shell variable leaves an empty value: as a path it would be the working directory.
  if (given.includes("")) throw new UsageError(`--${option}: must not be empty`);
  if (new Set(given).size > 1) throw new UsageError(`--${option}: give it once`);
  return given[0];
}

/** A unit's `Environment=` sets the level without a copy of its `ExecStart=`. @throws UsageError */
function logLevelOf(option: string | undefined, environment: NodeJS.ProcessEnv) {
  const { FETCHER_LOG_LEVEL: ofUnit = "" } = environment;
  const level = option ?? (ofUnit === "" ? "info" : ofUnit);
  if (isLogLevel(level)) return level;
  const from = option === undefined ? "FETCHER_LOG_LEVEL" : "--log-level";
  throw new UsageError(`${from}: expected one of ${logLevels.join(", ")}`);
}

/** Ids need a store: without one, the first word was meant as a command. @throws UsageError */
export function refuseUnknownCommand({ mode, configFile, backend, set, ids }: CommandLine): void {
  if (mode !== "daemon" || configFile !== undefined || backend !== undefined) return;
  const [first] = ids;
  if (first === undefined && set.length > 0) return;
  if (ids.some(isPath)) throw withoutStore(ids);
  if (first === undefined) throw new UsageError("expected a command, or --config FILE (see --help)");
  throw new UsageError(
    `${JSON.stringify(first)}: there is no such command${didYouMean(first, commandWords())} (see --help)`,
  );
}

const options = {
  config: "texts",
  backend: "texts",
  set: "texts",
  output: "texts",
  actions: "texts",
  once: "flag",
  check: "flag",
  "check-config": "flag",
  "print-schema": "flag",
  "log-level": "text",
  // takeLogFormat reads its value.
  "log-format": "text",
  help: "flag",
  version: "flag",
} as const;

function wordsOf(argv: readonly string[]) {
  // The value of --check=config is optional, and no other one is.
  const args = argv.map((word) => {
    if (!word.startsWith("--check=")) return word;
    if (word === "--check=config") return "--check-config";
    throw new UsageError("--check: expected --check or --check=config; a file is given as --config FILE");
  });
  try {
    return parseWords(args, options, { h: "help" });
  } catch (error) {
    const message = error instanceof Error ? error.message : "wrong command line";
    const bare = /^Option '(--?[\w-]+)[^']*' argument /.exec(message)?.[1];
    if (bare !== undefined) throw new UsageError(`${bare}: expected a value after it (see fetcher --help)`);
    const unknown = /^Unknown option '(--?[\w-]+)/.exec(message)?.[1];
    const known = optionTexts.map(([words]) => /--[\w-]+/.exec(words)?.[0] ?? words);
    throw new UsageError(
      `${message} (see fetcher --help)${unknown === undefined ? "" : didYouMean(unknown, known, elsewhere)}`,
    );
  }
}

/** As other programs call them. */
const elsewhere = {
  "--config": "c f file",
  "--version": "v",
  "--output": "o",
  "--backend": "b",
  "--check": "n dryrun",
  "--log-level": "verbose debug quiet",
};

export function parseSet(word: string): CommandLine["set"][number] {
  const equals = word.indexOf("=");
  const path = word.slice(0, Math.max(equals, 0)).split(".");
  if (equals < 1 || path.includes("")) throw new UsageError("--set: expected KEY=VALUE");
  const value = word.slice(equals + 1);
  try {
    return { path, value: JSON.parse(value) as unknown };
  } catch {
    return { path, value };
  }
}
