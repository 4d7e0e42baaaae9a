/** The configuration: JSON of a file, flags over it, checked whole before anything else happens. */
import { readFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import * as v from "valibot";
import type { CommandLine } from "./cli.ts";
import { checkEnvNames } from "./env-file.ts";
import { ConfigError, errnoCode, ExitCode, FatalError } from "./errors.ts";
import { absolutePath, joinPath, object, oneOf, parse, positiveSeconds, seconds, text } from "./settings.ts";

/** Names of the program's own in the output directory; no secret may use them. */
export const RESERVED_PREFIX = ".fetcher-";

const actions = ["restart", "reload", "signal", "none"] as const;
export type Action = (typeof actions)[number];

export interface SecretConfig {
  readonly id: string;
  /** As the backend will parse it. */
  readonly source: Readonly<Record<string, unknown>>;
  readonly file: string;
  /** Name of the variable; null: not in secrets.env; undefined: derived from the id. */
  readonly env: string | null | undefined;
  /** Permission bits; undefined: the default of the output directory. */
  readonly mode: number | undefined;
  readonly owner: string | undefined;
  readonly group: string | undefined;
  readonly optional: boolean;
}

export interface OutputConfig {
  readonly directory: string;
  /** Directory in which a symbolic link is made for each file. */
  readonly links: string | null;
  /** Where the reader of the links sees `directory`. */
  readonly linksTo: string;
  readonly envFile: string | null;
}

export interface VerifyConfig {
  readonly command: readonly [string, ...string[]];
  /** Seconds. */
  readonly timeout: number;
}

export interface OnChangeConfig {
  readonly action: Action;
  /** For `systemctl kill --signal=`; set exactly where the action is `signal`. */
  readonly signal: string | null;
  /** Seconds, as are `minInterval` and `splay`. */
  readonly settle: number;
  readonly minInterval: number;
  readonly splay: number;
  readonly verify: VerifyConfig | null;
}

export interface Config {
  /** Units that get the action. */
  readonly targets: readonly string[];
  readonly backend: string;
  /** The backend's own settings, not checked yet. */
  readonly settings: Readonly<Record<string, unknown>>;
  /** Where relative paths of backend modules start. */
  readonly baseDirectory: string;
  readonly reloadOnChange: boolean;
  /** Seconds; undefined: the backend's default. */
  readonly pollingInterval: number | undefined;
  readonly secrets: readonly SecretConfig[];
  readonly output: OutputConfig | undefined;
  readonly onChange: OnChangeConfig;
  /** Seconds until an unreachable store ends the start; null: never. */
  readonly startTimeout: number | null;
}

const component = v.pipe(
  text,
  v.check((name) => !name.includes("/"), "must not contain a slash"),
  v.check((name) => name !== "." && name !== "..", "must not be . or .."),
  v.check((name) => Buffer.byteLength(name) <= 255, "must not be longer than 255 bytes"),
  v.check((name) => !name.startsWith(RESERVED_PREFIX), `must not begin with ${RESERVED_PREFIX}`),
  v.check((name) => !hasControlCharacter(name), "must not contain control characters"),
  // Lone surrogates would all become the same bytes in a file name.
  v.check((name) => !/\p{Surrogate}/u.test(name), "must be Unicode text"),
);

const principal = v.pipe(
  v.union([text, v.number()], "expected a name or a number"),
  v.check((id) => typeof id === "string" || (Number.isSafeInteger(id) && id >= 0), "expected a name or a number"),
  v.transform(String),
);

const mode = v.pipe(
  v.string('expected an octal string such as "0400"'),
  v.regex(/^0?[0-7]{3}$/, 'expected an octal string such as "0400"'),
  v.transform((digits) => Number.parseInt(digits, 8)),
);

const unit = v.pipe(
  text,
  v.transform((name) => (/\.[a-z]+$/.test(name) ? name : `${name}.service`)),
  v.regex(/^[A-Za-z0-9:_.\\@][A-Za-z0-9:_.\\@-]*\.service$/, 'expected the name of a service unit, "grafana.service"'),
);

const anything = v.custom<Readonly<Record<string, unknown>>>(isObject, "expected an object");
const flag = v.boolean("expected true or false");
const argv = v.pipe(
  v.array(v.string("expected a string"), "expected an array of strings"),
  v.check((words) => words.length > 0 && words[0] !== "", "expected at least the name of a command"),
  v.transform((words) => words as [string, ...string[]]),
);

const secretSchema = object({
  source: v.optional(anything, {}),
  file: v.optional(component),
  env: v.nullish(v.string("expected the name of a variable, or null")),
  mode: v.optional(mode),
  owner: v.optional(principal),
  group: v.optional(principal),
  optional: v.optional(flag, false),
});

const rotationSchema = v.object({
  reloadOnChange: v.optional(flag, false),
  pollingInterval: v.optional(positiveSeconds),
  refreshInterval: v.optional(positiveSeconds),
});

const outputSchema = object({
  directory: absolutePath,
  links: v.optional(v.nullable(absolutePath), null),
  linksTo: v.optional(absolutePath),
  envFile: v.optional(v.nullable(component), "secrets.env"),
});

const onChangeSchema = object({
  action: v.optional(oneOf(actions), "restart"),
  signal: v.optional(
    v.nullable(
      v.pipe(
        v.string('expected the name of a signal, "SIGHUP"'),
        v.regex(/^(SIG)?[A-Z][A-Z0-9+-]{1,11}$|^[1-9][0-9]?$/, 'expected the name of a signal, "SIGHUP"'),
      ),
    ),
    null,
  ),
  settle: v.optional(seconds, 0.5),
  minInterval: v.optional(seconds, 3),
  splay: v.optional(seconds, 0),
  verify: v.optional(v.nullable(object({ command: argv, timeout: v.optional(positiveSeconds, 30) })), null),
});

const configSchema = object({
  service: v.optional(v.union([unit, v.array(unit)], 'expected the name of a service unit, "grafana.service"')),
  backend: v.optional(text),
  config: v.optional(anything, {}),
  secrets: v.optional(anything, {}),
  output: v.optional(outputSchema),
  onChange: v.optional(onChangeSchema, {}),
  startTimeout: v.optional(v.nullable(positiveSeconds), null),
});

/**
 * Reads and checks the configuration; only the backend's own part is left for `openStore` to check.
 *
 * @throws ConfigError that names the option.
 */
export async function loadConfig(commandLine: CommandLine): Promise<Config> {
  const file = commandLine.configFile;
  const baseDirectory = file === undefined ? process.cwd() : dirname(resolve(file));
  return parseConfig(file === undefined ? {} : await readJson(file), commandLine, baseDirectory);
}

export function parseConfig(json: unknown, commandLine: CommandLine, baseDirectory: string): Config {
  const raw = parse(configSchema, json);
  const backend = commandLine.backend ?? raw.backend;
  if (backend === undefined) throw new ConfigError("backend", "is required (or --backend NAME)");

  const settings = withFlags(raw.config, commandLine.set);
  const rotation = parse(rotationSchema, settings, "config");
  if (rotation.pollingInterval !== undefined && rotation.refreshInterval !== undefined)
    throw new ConfigError("config.refreshInterval", "is another name of pollingInterval: give one of them");
  const ownSettings = Object.fromEntries(Object.entries(settings).filter(([key]) => !Object.hasOwn(rotation, key)));

  const secrets = parseSecrets(raw.secrets, commandLine.ids);
  const output = parseOutput(raw.output, commandLine.output);
  checkFiles(secrets, output);
  checkEnvNames(secrets);
  const { onChange } = raw;
  if (onChange.action === "signal" && onChange.signal === null)
    throw new ConfigError("onChange.signal", 'is required by the action "signal"');
  if (onChange.action !== "signal" && onChange.signal !== null)
    throw new ConfigError("onChange.signal", 'needs "action": "signal"');

  return {
    targets: raw.service === undefined ? [] : [...new Set([raw.service].flat())],
    backend,
    settings: ownSettings,
    baseDirectory,
    reloadOnChange: rotation.reloadOnChange,
    pollingInterval: rotation.pollingInterval ?? rotation.refreshInterval,
    secrets,
    output,
    onChange,
    startTimeout: raw.startTimeout,
  };
}

async function readJson(file: string): Promise<unknown> {
  let json: string;
  try {
    json = readFileSync(file, "utf8");
  } catch (error) {
    throw new FatalError(ExitCode.config, `configuration: cannot read ${file}: ${errnoCode(error) ?? "failed"}`);
  }
  try {
    return JSON.parse(json) as unknown;
  } catch {
    throw new FatalError(ExitCode.config, `configuration: ${file} is not JSON${await whereNotJson(json)}`);
  }
}

/**
 * JSON.parse's own message quotes the text, which may hold a secret that was put in the wrong place, and often has no
 * position. So another parser, which is loaded only now, is asked for the position alone.
 */
async function whereNotJson(json: string): Promise<string> {
  const { parse: parseWithPositions } = await import("@humanwhocodes/momoa");
  try {
    parseWithPositions(json, { mode: "json" });
  } catch (error) {
    const { line, column } = error as { line?: unknown; column?: unknown };
    if (typeof line === "number" && typeof column === "number") return ` at line ${line}, column ${column}`;
  }
  return "";
}

function withFlags(
  settings: Readonly<Record<string, unknown>>,
  flags: CommandLine["set"],
): Readonly<Record<string, unknown>> {
  const merged = { ...settings };
  for (const { path, value } of flags) {
    let at: Record<string, unknown> = merged;
    for (const [index, key] of path.entries()) {
      if (index === path.length - 1) {
        setOwn(at, key, value);
        break;
      }
      const next = Object.hasOwn(at, key) ? at[key] : {};
      if (!isObject(next))
        throw new ConfigError(
          joinPath("config", ...path.slice(0, index + 1)),
          "is no object, --set cannot descend into it",
        );
      at = setOwn(at, key, { ...next });
    }
  }
  return merged;
}

/** An assignment to `__proto__` would vanish, where JSON has it as a key like any other: an unknown one. */
function setOwn<T>(object: Record<string, unknown>, key: string, value: T): T {
  Object.defineProperty(object, key, { value, enumerable: true, writable: true, configurable: true });
  return value;
}

function parseSecrets(table: Readonly<Record<string, unknown>>, ids: readonly string[]): SecretConfig[] {
  const secrets = new Map<string, SecretConfig>();
  // Not valibot's record(): it passes silently over ids like "constructor".
  for (const [id, settings] of [...Object.entries(table), ...ids.map((id) => [id, {}] as const)]) {
    if (secrets.has(id)) continue;
    const path = joinPath("secrets", id);
    parse(component, id, path);
    const secret = parse(secretSchema, settings, path);
    secrets.set(id, {
      id,
      source: secret.source,
      file: secret.file ?? id,
      env: secret.env,
      mode: secret.mode,
      owner: secret.owner,
      group: secret.group,
      optional: secret.optional,
    });
  }
  if (secrets.size === 0) throw new ConfigError("secrets", "names no secret (nor does the command line)");
  return [...secrets.values()];
}

function parseOutput(
  output: v.InferOutput<typeof outputSchema> | undefined,
  flag: string | undefined,
): OutputConfig | undefined {
  if (flag !== undefined) {
    const directory = resolve(flag);
    return {
      directory,
      links: null,
      linksTo: directory,
      envFile: output === undefined ? "secrets.env" : output.envFile,
    };
  }
  if (output === undefined) return undefined;
  const { envFile } = output;
  const directory = resolve(output.directory);
  const links = output.links === null ? null : resolve(output.links);
  if (links === null && output.linksTo !== undefined) throw new ConfigError("output.linksTo", "needs output.links");
  if (links === directory)
    throw new ConfigError("output.links", "is the same directory as output.directory: leave it out");
  // In /tmp the reader is the target, which has the directory bound at /tmp/.secrets.
  const linksTo = output.linksTo ?? (links === "/tmp" ? "/tmp/.secrets" : directory);
  return { directory, links, linksTo, envFile };
}

function checkFiles(secrets: readonly SecretConfig[], output: OutputConfig | undefined): void {
  const envFile = output === undefined ? "secrets.env" : output.envFile;
  const taken = new Map<string, string>();
  if (envFile !== null) taken.set(envFile, "output.envFile");
  for (const { id, file } of secrets) {
    const other = taken.get(file);
    const path = joinPath("secrets", id);
    if (other !== undefined) throw new ConfigError(`${path}.file`, `is the file of ${other} already`);
    taken.set(file, path);
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Those beyond ASCII too, and what ends a line: a terminal obeys them. */
function hasControlCharacter(name: string): boolean {
  return /[\p{Cc}\u2028\u2029]/u.test(name);
}
