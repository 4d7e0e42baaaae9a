/**
 * Loads a third party's backend, and stops its mistakes at the border.
 *
 * Such a module cannot import our error classes. It returns and throws any Error with the fields of ours:
 * `name: "BackendError"` and `kind` (and `retryAfter`), or `name: "ConfigError"`, `path` and `problem`.
 */
import { LONGEST_TIMER } from "../src/contract/timers.ts";
import { realpath, stat } from "node:fs/promises";
import { constants } from "node:os";
import { dirname, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import {
  BackendError,
  type Backend,
  type BackendErrorKind,
  type BackendModule,
  type Fetched,
  type Outcome,
  type SecretRequest,
} from "../src/contract/backend.ts";
import { Room } from "../src/contract/limits.ts";
import { ConfigError, errnoCode, errnoText, printable } from "../src/contract/errors.ts";

/** @throws ConfigError at "backend". */
export async function loadForeignBackend(name: string, baseDirectory: string): Promise<BackendModule> {
  const path = await trusted(resolve(baseDirectory, name));
  const shown = printable(path);
  let exported: { default?: unknown };
  try {
    // Not a literal, so the bundler leaves it to run time.
    const url = pathToFileURL(path).href;
    exported = (await import(/* @vite-ignore */ url)) as typeof exported;
  } catch (error) {
    throw new ConfigError("backend", `${shown} ${loadFailure(error, shown)}`);
  }
  const problems = problemsOf(exported.default);
  if (problems.length > 0) {
    throw new ConfigError("backend", `the default export of ${shown} is not a backend: ${problems.join("; ")}`);
  }
  return adopt(exported.default as BackendModule);
}

/**
 * The module runs as we do, as root: no other user may be able to change or replace it.
 *
 * @returns its real path.
 */
async function trusted(named: string): Promise<string> {
  let path: string;
  try {
    path = await realpath(named);
    if (!(await stat(path)).isFile()) throw new ConfigError("backend", `${printable(path)} is not a file`);
    for (let at = path; ; at = dirname(at)) {
      const { uid, mode } = await stat(at);
      const shown = printable(at);
      if (uid !== 0 && uid !== process.geteuid?.()) {
        throw new ConfigError(
          "backend",
          `${shown} belongs to another user (uid ${uid}), who could change what fetcher runs`,
        );
      }
      // In a sticky directory (/tmp, /nix/store) users cannot replace each other's files.
      if ((mode & 0o022) !== 0 && (at === path || (mode & 0o1000) === 0)) {
        throw new ConfigError("backend", `not only its owner can write to ${shown}: run chmod go-w on it`);
      }
      if (at === "/") return path;
    }
  } catch (error) {
    if (error instanceof ConfigError) throw error;
    const code = errnoCode(error);
    if (code === "ENOENT") throw new ConfigError("backend", `no file ${printable(named)}`);
    throw new ConfigError("backend", `cannot read ${printable(named)}: ${errnoText(code)}`);
  }
}

/** Without the error's own words: code that runs at import may put anything into them. */
function loadFailure(error: unknown, shown: string): string {
  const code = errnoCode(error);
  if (error instanceof SyntaxError) return `has a syntax error; to see it, run: node --check ${shown}`;
  if (code === "ERR_MODULE_NOT_FOUND") return `imports something that does not exist; to see what, run: node ${shown}`;
  if (code === "ERR_UNKNOWN_FILE_EXTENSION") return "is not an ES module: its name must end in .js or .mjs";
  return `fails to load (${nameOf(error)}); to see why, run: node ${shown}`;
}

/** Codes of system calls, and Node's own for loading a module: any other code of a foreign error may say anything. */
const knownCodes = new Set([
  ...Object.keys(constants.errno),
  "ERR_MODULE_NOT_FOUND",
  "ERR_PACKAGE_PATH_NOT_EXPORTED",
  "ERR_UNSUPPORTED_DIR_IMPORT",
  "ERR_DLOPEN_FAILED",
]);

/** The name of a built-in error gives only its kind; any other name may say anything. */
function nameOf(error: unknown): string {
  for (const known of [TypeError, RangeError, ReferenceError, SyntaxError]) {
    if (error instanceof known) return known.name;
  }
  const code = errnoCode(error);
  if (code !== undefined && knownCodes.has(code)) return code;
  return error instanceof Error ? "Error" : "no Error";
}

function problemsOf(exported: unknown): string[] {
  try {
    return whatLacks(exported);
  } catch {
    return ["it throws where it is looked at"];
  }
}

function whatLacks(exported: unknown): string[] {
  if (exported === undefined) return ["there is none"];
  if (typeof exported !== "object" || exported === null) return ["it is not an object"];
  const module = exported as Record<keyof BackendModule, unknown>;
  const problems: string[] = [];
  if (typeof module.name !== "string" || !/^[\w.-]{1,64}$/.test(module.name)) {
    problems.push("name must be a string of letters, digits and ._-");
  }
  const interval = module.defaultPollingInterval;
  if (interval !== null && !(typeof interval === "number" && interval > 0 && interval <= LONGEST_TIMER)) {
    problems.push("defaultPollingInterval must be a number of seconds or null");
  }
  for (const method of ["parseSettings", "parseSource", "describe", "open"] as const) {
    if (typeof module[method] !== "function") problems.push(`${method} must be a function`);
  }
  return problems;
}

function adopt(module: BackendModule): BackendModule {
  const { name } = module;
  return {
    name,
    defaultPollingInterval: module.defaultPollingInterval,
    parseSettings: (settings) => guard(name, () => module.parseSettings(settings)),
    parseSource: (id, source, settings) => guard(name, () => module.parseSource(id, source, settings)),
    ...(typeof module.parseWhole === "function" && {
      parseWhole: (id: string, source: Readonly<Record<string, unknown>>, settings: unknown) =>
        guard(name, () => module.parseWhole?.(id, source, settings)),
    }),
    describe: (source, settings) => {
      const text: unknown = guard(name, () => module.describe(source, settings));
      // Bytes, say, could be a value.
      if (typeof text !== "string") throw new BackendError("invalid", `backend ${name}: describe() must return a text`);
      return printable(text);
    },
    ...(typeof module.reads === "function" && {
      reads: (settings: unknown) => {
        const paths: unknown = guard(name, () => module.reads?.(settings));
        if (!Array.isArray(paths) || !paths.every((path) => typeof path === "string" && path.startsWith("/")))
          throw new BackendError("invalid", `backend ${name}: reads() must return a list of absolute paths`);
        return paths as readonly string[];
      },
    }),
    open: (settings, context) =>
      guardAsync(name, async () => adoptOpened(name, await module.open(settings, context)), "invalid"),
  };
}

function adoptOpened(name: string, backend: Partial<Backend<unknown>> | undefined): Backend<unknown> {
  if (typeof backend?.fetch !== "function")
    throw new BackendError("invalid", `${name}: open() must return an object with fetch()`);
  const { fetch, watch, applied, close } = backend;
  return {
    fetch: async (requests, signal) =>
      adoptOutcomes(name, requests, await guardAsync(name, () => fetch.call(backend, requests, signal))),
    ...(watch && { watch: (...given) => guardAsync(name, () => watch.apply(backend, given)) }),
    ...(applied && { applied: (versions) => guardAsync(name, () => applied.call(backend, versions)) }),
    ...(close && { close: () => guardAsync(name, () => close.call(backend)) }),
  };
}

function adoptOutcomes(
  name: string,
  requests: readonly SecretRequest<unknown>[],
  outcomes: ReadonlyMap<string, unknown>,
): ReadonlyMap<string, Outcome> {
  const get = (id: string) => (outcomes instanceof Map ? (outcomes as Map<string, unknown>).get(id) : undefined);
  const room = new Room();
  return new Map(requests.map(({ id }) => [id, adoptOutcome(name, id, get(id), room)]));
}

function adoptOutcome(name: string, id: string, given: unknown, room: Room): Outcome {
  try {
    const outcome = outcomeOf(given);
    if (outcome !== undefined && "value" in outcome) {
      const refusal = room.refusal(outcome.value.length, `secret ${JSON.stringify(id)}`);
      // A copy: the engine overwrites what it was given, and a module may hand out the same bytes again.
      return refusal ?? { ...outcome, value: Buffer.from(outcome.value) };
    }
    if (outcome !== undefined) return outcome;
  } catch {
    // Reading it throws. This does not affect the other secrets.
  }
  return new BackendError("invalid", `${name}: its fetch() returned something that is not an outcome`);
}

/** @returns a value as the module's own bytes. */
function outcomeOf(
  given: unknown,
): Exclude<Outcome, Fetched> | (Omit<Fetched, "value"> & { value: Uint8Array }) | undefined {
  const outcome = (given ?? {}) as Record<string, unknown>;
  if (isBackendError(outcome)) return ours(outcome);
  if (outcome["status"] === "missing" && typeof outcome["where"] === "string") {
    return { status: "missing", where: printable(outcome["where"]), mayAppear: outcome["mayAppear"] === true };
  }
  const { status, value, version, refreshAfter } = outcome;
  if (status === "value" && value instanceof Uint8Array && isVersion(version)) {
    return {
      status,
      value,
      version: printable(version),
      ...(typeof refreshAfter === "number" && refreshAfter > 0 ? { refreshAfter } : {}),
    };
  }
  return undefined;
}

/** Characters. */
const LONGEST_VERSION = 200;

/** Seconds; beyond an hour it is a mistake. */
const LONGEST_RETRY_AFTER = 3600;

interface ErrorFields {
  readonly message?: unknown;
  readonly kind?: unknown;
  readonly retryAfter?: unknown;
  readonly path?: unknown;
  readonly problem?: unknown;
  readonly name?: unknown;
}

const kinds: readonly unknown[] = ["unavailable", "denied", "invalid"] satisfies BackendErrorKind[];

function isBackendError(error: ErrorFields): boolean {
  return error.name === "BackendError" && kinds.includes(error.kind);
}

function ours(error: ErrorFields): BackendError {
  const { retryAfter } = error;
  return new BackendError(
    error.kind as BackendErrorKind,
    saidBy(error.message),
    typeof retryAfter === "number" && retryAfter >= 0 ? Math.min(retryAfter, LONGEST_RETRY_AFTER) : undefined,
  );
}

/** Tables and STATUS show it. */
function isVersion(version: unknown): version is string {
  return typeof version === "string" && version !== "" && version.length <= LONGEST_VERSION;
}

function saidBy(message: unknown): string {
  return String(message) || "gives no reason";
}

/** @param kind for an error that the contract does not know: whether time may heal it. */
function translate(name: string, error: unknown, kind: BackendErrorKind): Error {
  let known = "no Error";
  try {
    const fields = (error ?? {}) as ErrorFields;
    if (isBackendError(fields)) return ours(fields);
    if (fields.name === "ConfigError" && typeof fields.problem === "string")
      return new ConfigError(typeof fields.path === "string" ? fields.path : "", saidBy(fields.problem));
    known = nameOf(error);
  } catch {
    // Reading it throws.
  }
  return new BackendError(kind, `backend ${name} failed with an unexpected error (${known})`);
}

/** For a method that is not async: if it is async anyway, its promise would be taken for the result. */
function guard<T>(name: string, call: () => T): T {
  let result: T;
  try {
    result = call();
  } catch (error) {
    throw translate(name, error, "invalid");
  }
  if (!(result instanceof Promise)) return result;
  result.catch(() => undefined);
  throw new BackendError("invalid", `backend ${name}: parseSettings(), parseSource() and describe() must not be async`);
}

async function guardAsync<T>(
  name: string,
  call: () => Promise<T> | T,
  kind: BackendErrorKind = "unavailable",
): Promise<T> {
  try {
    return await call();
  } catch (error) {
    throw translate(name, error, kind);
  }
}
