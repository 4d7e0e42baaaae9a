/** The command lines of `fetcher add` and `fetcher remove`. */
import { parseArgs } from "node:util";
import { deliveries } from "../config/config-schema.ts";
import { problemOf } from "../config/unit-names.ts";
import { type Scope, systemScope, userScope } from "../config/scope.ts";
import { UsageError } from "../contract/errors.ts";
import { didYouMean } from "../contract/nearest.ts";
import type { Wish } from "../setup/proposal.ts";
import { parseSet } from "./command-line.ts";
import { refuseOtherUnit, serviceNameOf } from "./service-name.ts";

/** Options of both commands. */
interface Answers {
  readonly name: string;
  /** Whose service it is. */
  readonly scope: Scope;
  readonly isDryRun: boolean;
  /** Do not ask the person at the terminal. */
  readonly yes: boolean;
}

export interface AddOptions extends Answers, Omit<Wish, "imported"> {
  /** A file of variables to take over. */
  readonly import: string | undefined;
  readonly removeOriginal: boolean;
  /** Ask the store first. */
  readonly check: boolean;
  /** Give the service its secrets at once. */
  readonly now: boolean;
}

export interface RemoveOptions extends Answers {
  readonly deleteSecrets: boolean;
}

type Texts = readonly (readonly [option: string, text: string])[];

const answerTexts: Texts = [
  ["--user", "your own service: ~/.config/fetcher instead of /etc/fetcher"],
  ["--dry-run", "show what would change, and change nothing"],
  ["-y, --yes", "do not ask"],
];

/** For --help and the manual page. */
export const addTexts: Texts = [
  ["ID[=MODE]", "a secret, and the mode of its file: tls.key=0400"],
  ["--env", "make all of them variables of the service"],
  ["--files", "files below /run/NAME-secrets/pub (the default)"],
  ["--credentials", "files in $CREDENTIALS_DIRECTORY"],
  ["--private-tmp", "files in the service's /tmp"],
  ["--backend NAME", "where they come from (default folder: /etc/fetcher/NAME/secrets)"],
  ["--set KEY=VALUE", "one setting of the backend"],
  ["--all", "each ID is a path of the store; all its keys become secrets"],
  ["--reload", "a new value reloads the service"],
  ["--restart", "a new value restarts it"],
  ["--import FILE", "take over FILE, the service's EnvironmentFile="],
  ["--remove-original", "with --import: remove FILE when all is in place"],
  ["--no-check", "do not ask the store"],
  ["--now", "restart the service when all is in place"],
  ...answerTexts,
];

export const removeTexts: Texts = [
  ["--delete-secrets", "also remove the folder /etc/fetcher/NAME/secrets"],
  ...answerTexts,
];

const helpOf = (usage: string, about: string, texts: Texts) =>
  `Usage: ${usage}\n\n${about}\n\n${texts.map(([option, text]) => `  ${option.padEnd(19)} ${text}\n`).join("")}`;

export const addHelp = helpOf(
  "fetcher add NAME [OPTION...] ID[=MODE]...",
  `Gives NAME.service secrets: writes /etc/fetcher/NAME.json, or adds to it, and has systemd
make the units. It shows what changes and asks first, and asks the store in the
sandbox of the unit, and changes nothing if something is wrong.`,
  addTexts,
);

export const removeHelp = helpOf(
  "fetcher remove NAME [OPTION...]",
  `Undoes fetcher add for NAME.service. The service keeps running. The secrets
in the store stay.`,
  removeTexts,
);

/** @returns "help" for `--help`. @throws UsageError */
export function parseAdd(argv: readonly string[]): AddOptions | "help" {
  const parsed = parse("add", argv, addTexts, {
    ...Object.fromEntries(deliveries.map((delivery) => [delivery, { type: "boolean" as const }])),
    backend: { type: "string" },
    set: { type: "string", multiple: true },
    all: { type: "boolean" },
    reload: { type: "boolean" },
    restart: { type: "boolean" },
    import: { type: "string" },
    "remove-original": { type: "boolean" },
    "no-check": { type: "boolean" },
    now: { type: "boolean" },
  });
  if (parsed === "help") return "help";
  const { answers, ids, values } = parsed;
  const is = (option: string) => values[option] === true;
  const string = (option: string) => (typeof values[option] === "string" ? values[option] : undefined);
  for (const option of ["backend", "import"])
    if (string(option) === "") throw new UsageError(`add: --${option}: must not be empty`);
  const [delivery, other] = deliveries.filter(is);
  if (other !== undefined) throw new UsageError(`add: give only one of --${String(delivery)} and --${other}`);
  if (is("reload") && is("restart")) throw new UsageError("add: give only one of --reload and --restart");
  if (is("all") && ids.length === 0) throw new UsageError("add: --all needs the ID of a path in the store");
  if (is("remove-original") && string("import") === undefined)
    throw new UsageError("add: --remove-original needs --import FILE");
  return {
    ...answers,
    ids: ids.map(parseId),
    delivery,
    backend: string("backend"),
    set: (Array.isArray(values["set"]) ? values["set"] : []).map((word) => parseSet(String(word))),
    action: is("reload") ? "reload" : is("restart") ? "restart" : undefined,
    all: is("all"),
    import: string("import"),
    removeOriginal: is("remove-original"),
    check: !is("no-check"),
    now: is("now"),
  };
}

/** @returns "help" for `--help`. @throws UsageError */
export function parseRemove(argv: readonly string[]): RemoveOptions | "help" {
  const parsed = parse("remove", argv, removeTexts, { "delete-secrets": { type: "boolean" } });
  if (parsed === "help") return "help";
  const { answers, ids, values } = parsed;
  if (ids.length > 0)
    throw new UsageError("remove: expected one NAME; it removes the whole file: edit it to remove one secret");
  return { ...answers, deleteSecrets: values["delete-secrets"] === true };
}

function parse(
  command: string,
  argv: readonly string[],
  texts: Texts,
  options: Readonly<Record<string, { readonly type: "boolean" | "string"; readonly multiple?: boolean }>>,
) {
  const { values, positionals } = words(command, argv, texts, {
    ...options,
    user: { type: "boolean" },
    "dry-run": { type: "boolean" },
    yes: { type: "boolean", short: "y" },
    help: { type: "boolean", short: "h" },
  });
  if (values["help"] === true) return "help";
  const [given, ...ids] = positionals;
  if (given === undefined)
    throw new UsageError(`${command}: expected the NAME of a service (see fetcher ${command} --help)`);
  refuseOtherUnit(given, command);
  const name = serviceNameOf(given);
  const problem = problemOf(name)?.replace(/: (?:rename|each) .*/, "");
  if (problem !== undefined) throw new UsageError(`${command}: ${JSON.stringify(given)} ${problem}`);
  const scope = values["user"] === true ? userScope() : systemScope;
  const answers = { name, scope, isDryRun: values["dry-run"] === true, yes: values["yes"] === true };
  return { answers, ids, values };
}

function words(
  command: string,
  argv: readonly string[],
  texts: Texts,
  options: NonNullable<NonNullable<Parameters<typeof parseArgs>[0]>["options"]>,
): { readonly values: Readonly<Record<string, unknown>>; readonly positionals: readonly string[] } {
  try {
    return parseArgs({ args: [...argv], allowPositionals: true, options });
  } catch (error) {
    const message = error instanceof Error ? (error.message.split(/\.(?: |\n)/)[0] ?? "") : "wrong command line";
    const unknown = /^Unknown option '(--?[\w-]+)/.exec(message)?.[1];
    const known = texts.map(([option]) => /--[\w-]+/.exec(option)?.[0] ?? "");
    const hint = unknown === undefined ? "" : didYouMean(unknown, known);
    throw new UsageError(`${command}: ${message} (see fetcher ${command} --help)${hint}`);
  }
}

function parseId(word: string): Wish["ids"][number] {
  const equals = word.lastIndexOf("=");
  if (equals < 0) return { id: word, mode: undefined };
  const mode = word.slice(equals + 1);
  if (equals === 0 || !/^0?[0-7]{3}$/.test(mode))
    throw new UsageError("add: expected ID or ID=MODE, with an octal mode such as 0400; a value goes into the store");
  return { id: word.slice(0, equals), mode: mode.padStart(4, "0") };
}
