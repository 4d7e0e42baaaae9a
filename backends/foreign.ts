/**
 * Loads a third party's backend, and keeps what it does wrong at the border.
 *
 * Such a module cannot import our error classes. It returns and throws any Error with the fields of ours:
 * `name: "BackendError"` and `kind` (and `retryAfter`), or `name: "ConfigError"`, `path` and `problem`.
 */
import { realpath, stat } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import {
  BackendError,
  type Backend,
  type BackendErrorKind,
  type BackendModule,
  type Outcome,
  type SecretRequest,
} from "../src/backend.ts";
import { ConfigError, errnoCode } from "../src/errors.ts";
import { printable } from "./read.ts";

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
    throw new ConfigError("backend", `the default export of ${shown} is no backend: ${problems.join("; ")}`);
  }
  return adopt(exported.default as BackendModule);
}

/**
 * It will run as we do, as root: nobody else may be able to change it, or to put another in its place.
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
        throw new ConfigError("backend", `${shown} belongs to another user (uid ${uid}), who could change what we run`);
      }
      // In a sticky directory (/tmp, /nix/store) nobody can replace what belongs to another.
      if ((mode & 0o022) !== 0 && (at === path || (mode & 0o1000) === 0)) {
        throw new ConfigError("backend", `others than its owner can write to ${shown}: chmod go-w it`);
      }
      if (at === "/") return path;
    }
  } catch (error) {
    if (error instanceof ConfigError) throw error;
    const code = errnoCode(error);
    if (code === "ENOENT") throw new ConfigError("backend", `no file ${printable(named)}`);
    throw new ConfigError("backend", `cannot read ${printable(named)}: ${code ?? "unknown error"}`);
  }
}

/** Without the error's own words: code that runs at import may put anything into them. */
function loadFailure(error: unknown, shown: string): string {
  const code = errnoCode(error);
  if (error instanceof SyntaxError) return `has a syntax error: see it with: node --check ${shown}`;
  if (code === "ERR_MODULE_NOT_FOUND") return `imports something that does not exist: see it with: node ${shown}`;
  if (code === "ERR_UNKNOWN_FILE_EXTENSION") return "is not an ES module: its name must end in .js or .mjs";
  return `fails when it is loaded (${nameOf(error)}): see it with: node ${shown}`;
}

/** The names of built-in errors tell nothing but a kind; any other name may be anything. */
function nameOf(error: unknown): string {
  for (const known of [TypeError, RangeError, ReferenceError, SyntaxError]) {
    if (error instanceof known) return known.name;
  }
  return errnoCode(error) ?? (error instanceof Error ? "Error" : "no Error");
}

function problemsOf(exported: unknown): string[] {
  if (exported === undefined) return ["there is none"];
  if (typeof exported !== "object" || exported === null) return ["it is no object"];
  const module = exported as Record<keyof BackendModule, unknown>;
  const problems: string[] = [];
  if (typeof module.name !== "string" || !/^[\w.-]{1,64}$/.test(module.name)) {
    problems.push("name must be a string of letters, digits and ._-");
  }
  const interval = module.defaultPollingInterval;
  if (interval !== null && !(typeof interval === "number" && interval > 0 && interval <= 2_147_483)) {
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
    describe: (source, settings) => printable(guard(name, () => module.describe(source, settings))),
    open: async (settings, context) => adoptOpened(name, await guardAsync(name, () => module.open(settings, context))),
  };
}

function adoptOpened(name: string, backend: Partial<Backend<unknown>> | undefined): Backend<unknown> {
  if (typeof backend?.fetch !== "function")
    throw new BackendError("invalid", `${name}: open() gave nothing with a fetch()`);
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
  return new Map(requests.map(({ id }) => [id, adoptOutcome(name, get(id))]));
}

function adoptOutcome(name: string, given: unknown): Outcome {
  const outcome = (given ?? {}) as Record<string, unknown>;
  if (isBackendError(outcome)) return ours(outcome);
  if (outcome["status"] === "missing" && typeof outcome["where"] === "string") {
    return { status: "missing", where: printable(outcome["where"]), mayAppear: outcome["mayAppear"] === true };
  }
  const { status, value, version, refreshAfter } = outcome;
  if (status === "value" && value instanceof Uint8Array && typeof version === "string" && version !== "") {
    return {
      status,
      // A copy: the engine overwrites what it was given, and a module may hand out the same bytes again.
      value: Buffer.from(value),
      version: printable(version),
      ...(typeof refreshAfter === "number" && refreshAfter > 0 ? { refreshAfter } : {}),
    };
  }
  return new BackendError("invalid", `${name}: what its fetch() gave is no outcome`);
}

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
  const retryAfter = typeof error.retryAfter === "number" && error.retryAfter >= 0 ? error.retryAfter : undefined;
  return new BackendError(error.kind as BackendErrorKind, printable(String(error.message)), retryAfter);
}

function translate(name: string, error: unknown): Error {
  const fields = (error ?? {}) as ErrorFields;
  if (isBackendError(fields)) return ours(fields);
  if (fields.name === "ConfigError" && typeof fields.problem === "string") {
    return new ConfigError(typeof fields.path === "string" ? fields.path : "", printable(fields.problem));
  }
  return new Error(`backend ${name} failed with an unexpected error (${nameOf(error)})`);
}

function guard<T>(name: string, call: () => T): T {
  try {
    return call();
  } catch (error) {
    throw translate(name, error);
  }
}

async function guardAsync<T>(name: string, call: () => Promise<T> | T): Promise<T> {
  try {
    return await call();
  } catch (error) {
    throw translate(name, error);
  }
}
