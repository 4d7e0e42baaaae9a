/** The opened backend of one scope, guarded: whatever the backend does, every secret gets an outcome. */
import { isForeign, loadBackend } from "../../backends/index.ts";
import {
  type Backend,
  BackendError,
  type BackendModule,
  isBackendError,
  type Lookout,
  type Outcome,
  type Plan,
  type SecretRequest,
} from "../contract/backend.ts";
import type { Random } from "../runtime/clock.ts";
import { prepareForeignCode } from "../runtime/platform.ts";
import type { Config } from "../config/config.ts";
import { errnoCode, printable } from "../contract/errors.ts";
import { Room } from "../contract/limits.ts";
import { aborted, late, waitFor } from "../contract/bounded-wait.ts";
import { refuseOverlap } from "../publish/overlap.ts";
import { problemOf } from "./problems.ts";
import { isRecord } from "../contract/records.ts";
import { inSlices } from "../contract/slices.ts";
import { atOption, joinPath } from "../contract/settings.ts";
import type { Log } from "../runtime/log.ts";

/** A fetch that takes longer has failed, whatever the backend's own limits say. Seconds. */
export const FETCH_LIMIT = 120;
/** Seconds that a backend has after that to return its results so far. */
const LAST_WORD = 0.5;
/** Seconds that a backend may take to close: the process then ends anyway. */
const CLOSE_LIMIT = 0.5;
/** A lease that ends sooner would only be issued again and again. Seconds. */
const SHORTEST_REFRESH = 1;

export interface Store {
  readonly name: string;
  /** Seconds; null: never. */
  readonly pollingInterval: number | null;
  /** Where a secret comes from, for people. */
  describe(id: string): string;
  /** Never rejects. @param limit seconds */
  fetch(ids: readonly string[], signal: AbortSignal, limit?: number): Promise<ReadonlyMap<string, Outcome>>;
  /** undefined where the backend cannot watch. Rejects with BackendError. */
  readonly watch: ((hint: () => void, signal: AbortSignal) => Promise<void>) | undefined;
  /** undefined where the backend cannot. Never throws. */
  readonly lookOut?: ((plan: Plan, news: () => void) => Lookout | undefined) | undefined;
  applied(versions: ReadonlyMap<string, string>): Promise<void>;
  close(): Promise<void>;
}

/** What `--check=config` can check without a store. @throws ConfigError */
export async function checkStore(config: Config, isRunning = false): Promise<CheckedStore> {
  if (isForeign(config.backend)) prepareForeignCode(isRunning);
  const module = await loadBackend(config.backend, config.baseDirectory);
  const settings = atOption("config", () => module.parseSettings(config.settings));
  if (config.output !== undefined) await refuseOverlap(config, config.output, module.reads?.(settings) ?? []);
  const requests = config.secrets.map(({ id, source, all }) => ({
    id,
    source: atOption(`${joinPath("secrets", id)}.source`, () =>
      all && module.parseWhole !== undefined
        ? module.parseWhole(id, source, settings)
        : module.parseSource(id, source, settings),
    ),
  }));
  return { module, settings, requests };
}

interface CheckedStore {
  readonly module: BackendModule;
  readonly settings: unknown;
  readonly requests: readonly SecretRequest<unknown>[];
}

/** The backend of each store, and what it was opened for. */
const opened = new WeakMap<Store, { readonly backend: Backend<unknown>; readonly by: string }>();

/** Whether two stores share a backend with its sessions and leases, so that closing one would close the other. */
export function isSameBackend(one: Store, other: Store): boolean {
  return one === other || (opened.has(one) && opened.get(one)?.backend === opened.get(other)?.backend);
}

/**
 * @param running a store whose backend this one takes over if the settings are the same.
 * @throws ConfigError, or BackendError where the backend can never work.
 */
export async function openStore(config: Config, log: Log, random: Random, running?: Store): Promise<Store> {
  const checked = await checkStore(config, running !== undefined);
  const by = JSON.stringify([config.backend, config.settings, config.baseDirectory]);
  const inShape = await shaper(config);
  const before = running === undefined ? undefined : opened.get(running);
  const isSame = before?.by === by;
  const backend = isSame ? before.backend : await openBackend(checked, log, random);
  // A reload fetches at once.
  if (running === undefined) prepare(backend, checked.requests);
  const store = guard(config, checked, backend, log, inShape);
  opened.set(store, { backend, by });
  return store;
}

async function openBackend({ module, settings }: CheckedStore, log: Log, random: Random): Promise<Backend<unknown>> {
  return await module.open(settings, {
    log: (level, message) => {
      log[level](`${module.name}: ${printable(message)}`);
    },
    random,
  });
}

function guard(
  config: Config,
  { module, settings, requests }: CheckedStore,
  backend: Backend<unknown>,
  log: Log,
  inShape: Shaper,
): Store {
  const byId = new Map(requests.map((request) => [request.id, request]));
  const sizes = new Sizes();
  const describe = (id: string) => printable(module.describe(byId.get(id)?.source, settings));
  return {
    name: module.name,
    pollingInterval:
      module.defaultPollingInterval === null ? null : (config.pollingInterval ?? module.defaultPollingInterval),
    describe,
    fetch: async (ids, signal, limit = FETCH_LIMIT) => {
      const wanted = new Set(ids);
      const outcomes = await guardedFetch(
        backend,
        requests.filter(({ id }) => wanted.has(id)),
        signal,
        limit,
        sizes,
      );
      return await inShape(outcomes, describe, signal);
    },
    watch: backend.watch === undefined ? undefined : (hint, signal) => guardedWatch(backend, requests, hint, signal),
    lookOut: backend.lookOut === undefined ? undefined : (plan, news) => guardedLookout(backend, requests, plan, news),
    async applied(versions) {
      try {
        await backend.applied?.(versions);
      } catch (error) {
        log.warn(`${module.name}: ${asBackendError(error).message}`);
      }
    },
    async close() {
      try {
        await guardedClose(backend);
      } catch (error) {
        log.warn(`${module.name}: ${asBackendError(error).message}`);
      }
    },
  };
}

/** It only saves time: the fetch does without it. A third party's may return a promise. */
function prepare(backend: Backend<unknown>, requests: readonly SecretRequest<unknown>[]): void {
  const work = async () => {
    await (backend.prepare?.(requests) as unknown);
  };
  void work().catch(() => undefined);
}

/** It only saves time: polls do without it. */
function guardedLookout(
  backend: Backend<unknown>,
  requests: readonly SecretRequest<unknown>[],
  ...[plan, news]: Parameters<NonNullable<Store["lookOut"]>>
): Lookout | undefined {
  const lookout = unlessItThrows(() => backend.lookOut?.(requests, plan, news));
  if (typeof (lookout as Partial<Lookout> | undefined)?.end !== "function") return undefined;
  return {
    end: () => {
      unlessItThrows(() => lookout?.end());
    },
  };
}

function unlessItThrows<T>(work: () => T): T | undefined {
  try {
    return work();
  } catch {
    return undefined;
  }
}

type Shaper = (
  outcomes: Map<string, Outcome>,
  describe: (id: string) => string,
  signal: AbortSignal,
) => Promise<Map<string, Outcome>>;

/**
 * What the configuration makes of values: decoded, joined. Loads what does it only where a secret asks for it, and now:
 * by the time of a fetch, an upgrade may have removed the file.
 */
async function shaper({ secrets }: Config): Promise<Shaper> {
  const shapes = secrets.filter(({ decode, join, all }) => decode !== undefined || join || all);
  if (shapes.length === 0) return (outcomes) => Promise.resolve(outcomes);
  const { shaping } = await import("./decoding.ts");
  return async (outcomes, describe, signal) => {
    for (const shape of shapes) {
      const { id } = shape;
      const outcome = outcomes.get(id);
      if (outcome === undefined) continue;
      try {
        const work = shaping(outcome, shape, () => describe(id));
        outcomes.set(id, await inSlices(work, signal));
      } catch (error) {
        if (!signal.aborted) throw error;
        if ("value" in outcome) outcome.value.fill(0);
        outcomes.set(id, new BackendError("unavailable", "stopped"));
      }
    }
    return outcomes;
  };
}

async function guardedFetch(
  backend: Backend<unknown>,
  requests: readonly SecretRequest<unknown>[],
  signal: AbortSignal,
  limit: number,
  sizes: Sizes,
): Promise<Map<string, Outcome>> {
  const abort = new AbortController();
  if (signal.aborted) abort.abort();
  const asked = askFor(backend, requests, abort.signal);
  const answer = await waitFor(asked, signal, limit);
  if (typeof answer !== "symbol") return eachOutcome(requests, answer, sizes);
  abort.abort();
  // One secret without an answer must not cost the values that the backend has by now. Its other outcomes may only be
  // there because it was cut short.
  const lastWord = signal.aborted ? aborted : await waitFor(asked, signal, LAST_WORD);
  if (typeof lastWord === "symbol") void asked.then(overwrite);
  const why = signal.aborted ? "stopped" : `no answer within ${Number(limit.toFixed(1))} s`;
  const silence = new BackendError("unavailable", why);
  const outcomes = eachOutcome(requests, typeof lastWord === "symbol" ? silence : lastWord, sizes);
  return new Map([...outcomes].map(([id, outcome]) => [id, problemOf(outcome) === undefined ? outcome : silence]));
}

function eachOutcome(
  requests: readonly SecretRequest<unknown>[],
  answer: ReadonlyMap<string, Outcome> | BackendError,
  sizes: Sizes,
): Map<string, Outcome> {
  const room = new Room(sizes.without(requests));
  const outcomes = requests.map(
    ({ id }) => [id, isBackendError(answer) ? answer : eachChecked(answer, id, room)] as const,
  );
  for (const [id, outcome] of outcomes) sizes.note(id, outcome);
  return new Map(outcomes);
}

/** The bytes of each secret's last value: the limit holds also for secrets that are fetched in several goes. */
class Sizes {
  readonly #bytes = new Map<string, number>();

  note(id: string, outcome: Outcome): void {
    if ("status" in outcome && outcome.status === "value") this.#bytes.set(id, outcome.value.length);
  }

  /** Bytes of the secrets that are not among `requests`. */
  without(requests: readonly SecretRequest<unknown>[]): number {
    const asked = new Set(requests.map(({ id }) => id));
    let sum = 0;
    for (const [id, bytes] of this.#bytes) if (!asked.has(id)) sum += bytes;
    return sum;
  }
}

/** An outcome that throws when read is only its own secret's fault. */
function eachChecked(answer: ReadonlyMap<string, Outcome>, id: string, room: Room): Outcome {
  try {
    return room.admit(checkOutcome(answer.get(id)), `secret ${JSON.stringify(id)}`);
  } catch {
    return noProperAnswer();
  }
}

/** Overwrites an answer that comes too late. It may hold anything, and no code would catch an error. */
function overwrite(answer: ReadonlyMap<string, unknown> | BackendError): void {
  if (isBackendError(answer)) return;
  for (const outcome of answer.values())
    try {
      if (isRecord(outcome) && Buffer.isBuffer(outcome["value"])) outcome["value"].fill(0);
    } catch {
      // An unreadable outcome cannot be overwritten.
    }
}

async function askFor(
  backend: Backend<unknown>,
  requests: readonly SecretRequest<unknown>[],
  signal: AbortSignal,
): Promise<ReadonlyMap<string, Outcome> | BackendError> {
  try {
    const answer: unknown = await backend.fetch(requests, signal);
    if (answer instanceof Map) return answer as ReadonlyMap<string, Outcome>;
    return new BackendError("invalid", "the backend gave no proper answer (a bug of the backend)");
  } catch (error) {
    return asBackendError(error);
  }
}

/** A third party's backend may not keep to the contract. */
function checkOutcome(outcome: Outcome | null | undefined): Outcome {
  if (isBackendError(outcome)) return outcome;
  if (outcome?.status === "missing" && isText(outcome.where)) return { ...outcome, where: printable(outcome.where) };
  if (outcome?.status === "value" && outcome.value instanceof Buffer && isText(outcome.version)) {
    const { refreshAfter, writtenAgo, ...rest } = outcome;
    // A negative age, from a clock ahead of ours, says nothing.
    const age = isAge(writtenAgo) ? { writtenAgo } : {};
    if (refreshAfter === undefined) return { ...rest, ...age };
    if (Number.isFinite(refreshAfter))
      return { ...rest, ...age, refreshAfter: Math.max(refreshAfter, SHORTEST_REFRESH) };
  }
  return noProperAnswer();
}

function noProperAnswer(): BackendError {
  return new BackendError("invalid", "the backend gave no proper answer for it (a bug of the backend)");
}

function isAge(value: unknown): value is number {
  return typeof value === "number" && value >= 0;
}

function isText(value: unknown): value is string {
  return typeof value === "string";
}

async function guardedWatch(
  backend: Backend<unknown>,
  requests: readonly SecretRequest<unknown>[],
  hint: () => void,
  signal: AbortSignal,
): Promise<void> {
  if (signal.aborted) return;
  try {
    // A watch that ignores its signal must not keep the sidecar from ending.
    await waitFor(Promise.resolve(backend.watch?.(requests, hint, signal)), signal);
  } catch (error) {
    throw asBackendError(error);
  }
}

async function guardedClose(backend: Backend<unknown>): Promise<void> {
  if ((await waitFor(Promise.resolve(backend.close?.()), undefined, CLOSE_LIMIT)) === late)
    throw new BackendError("unavailable", `did not close within ${CLOSE_LIMIT} s`);
}

/** A foreign error is a bug of the backend, unless the system has nothing left. Its message may hold anything, so only its kind is shown. */
function asBackendError(error: unknown): BackendError {
  if (isBackendError(error)) return error;
  // Also where it only loads a part of itself.
  const code = errnoCode(error);
  if (code === "EMFILE")
    return new BackendError("unavailable", "no file descriptors left: raise LimitNOFILE= of the unit");
  if (code === "ENFILE")
    return new BackendError("unavailable", "the system has no file descriptors left: raise fs.file-max");
  const kind = error instanceof Error ? error.constructor.name : typeof error;
  return new BackendError("unavailable", `the backend failed with ${kind} (a bug of the backend)`);
}
