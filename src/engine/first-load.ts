/** Before READY: gets every secret that the service needs, or says finally why not. */
import { exitCodeOf, type Outcome } from "../contract/backend.ts";
import { Alarm } from "../runtime/alarm.ts";
import { backoff, type Clock, isAborted, type Random } from "../runtime/clock.ts";
import type { Config } from "../config/config.ts";
import { fetchForStart } from "./at-rest.ts";
import { keepEmptied } from "./emptied.ts";
import { ExitCode, FatalError } from "../contract/errors.ts";
import { type HeldValues, PUBLISHED_BEFORE } from "./held-values.ts";
import type { Log } from "../runtime/log.ts";
import { longestRetryAfter, type Problem, problemOf, type Problems } from "./problems.ts";
import { FETCH_LIMIT, type Store } from "./store.ts";

/** Seconds that a store is given while a published set of an earlier life stands ready. */
export const ADOPTION_LIMIT = 5;

export interface FirstLoadParts {
  readonly config: Config;
  readonly store: Store;
  readonly held: HeldValues;
  readonly problems: Problems;
  readonly log: Log;
  readonly clock: Clock;
  readonly random: Random;
  readonly status: (text: string) => void;
}

/**
 * Fills `held`. What failed for good is asked no more, what may heal is retried with backoff, and a failing secret is
 * taken from `published` where the whole scope is there.
 *
 * @param published id → bytes of a complete set that an earlier life published.
 * @returns what the store failed, and is to be asked for again: those of it that are in `published` were taken from there.
 * @throws FatalError 66, 77, 78 for what a person must mend; 69 after `startTimeout`.
 */
export async function firstLoad(
  parts: FirstLoadParts,
  published: ReadonlyMap<string, Buffer> | undefined,
  stop: AbortSignal,
): Promise<ReadonlyMap<string, Problem>> {
  const { config, store, held, problems, clock, random } = parts;
  const alarm = new Alarm<"hint">(clock);
  const watching = new AbortController();
  stop.addEventListener(
    "abort",
    () => {
      watching.abort();
    },
    { once: true },
  );
  const begun = clock.monotonic();
  const elapsed = () => (clock.monotonic() - begun) / 1e6;
  /** What is missing still. */
  const failed = new Map<string, Problem>();
  const patience = new Patience();
  let wanted: readonly string[] = config.secrets.map(({ id }) => id);
  /** Seconds after the beginning. */
  let retryAt = 0;
  let isRetry = true;
  try {
    for (let attempt = 0; ;) {
      const left = (published === undefined ? (config.startTimeout ?? Infinity) : ADOPTION_LIMIT) - elapsed();
      const most = Math.max(left, 0.05);
      const inAll = published === undefined ? undefined : most;
      const answer = await fetchForStart(parts, wanted, Math.min(FETCH_LIMIT, most), inAll, stop);
      const outcomes = keepEmptied(parts, answer, (id) => published?.get(id));
      if (isAborted(stop)) return new Map();
      for (const [id, outcome] of outcomes) {
        if ("status" in outcome && outcome.status === "value") held.set(id, outcome);
        failed.delete(id);
      }
      for (const [id, problem] of failures(parts, outcomes, published)) failed.set(id, problem);
      if (failed.size === 0) {
        problems.note(outcomes, "published without it");
        return failed;
      }
      const patient = patience.left(failed, elapsed());
      const final = [...failed].find(([id, problem]) => !mayHeal(problem) && !patient.has(id));
      if (published !== undefined && (final !== undefined || elapsed() + 0.1 >= ADOPTION_LIMIT)) {
        problems.note(outcomes, "what was published before stays in use");
        adopt(held, failed, published);
        return failed;
      }
      if (final !== undefined) throw fatal(store.name, final[0], final[1]);
      problems.note(new Map([...outcomes].filter(([id]) => !failed.has(id))), "published without it");
      problems.note(new Map([...outcomes].filter(([id]) => failed.has(id))), "trying again");
      const limit =
        published === undefined ? untilGivingUp(config, elapsed(), failed, store.name) : ADOPTION_LIMIT - elapsed();
      if (isRetry) {
        const wait = Math.min(backoff(attempt, random, longestRetryAfter(failed.values())), limit, ...patient.values());
        retryAt = elapsed() + wait;
        attempt += 1;
        parts.status(waitingFor(store.name, failed, attempt, wait));
        if (attempt === 1 && published === undefined) void watch(parts, alarm, watching.signal);
      }
      // A lease that was fetched already may end before the last of the others is there: it alone is asked for.
      // One that has ended already is asked for with the others.
      const untilEnd = (held.nextEnd(failed) - clock.monotonic()) / 1e6;
      const wait = Math.min(Math.max(retryAt - elapsed(), 0), limit, untilEnd > 0 ? untilEnd : Infinity);
      const rung = await alarm.wait(wait, stop);
      if (isAborted(stop)) return new Map();
      const ending = held.ending(failed);
      isRetry = rung.size > 0 || ending.length === 0 || elapsed() + 0.001 >= retryAt;
      wanted = isRetry ? [...new Set([...failed.keys(), ...ending])] : ending;
    }
  } finally {
    watching.abort();
  }
}

/**
 * What keeps the scope from being complete. An optional secret that is missing does not, nor one that is refused, unless
 * there is a published value to keep.
 */
function failures(
  { config }: FirstLoadParts,
  outcomes: ReadonlyMap<string, Outcome>,
  published: ReadonlyMap<string, Buffer> | undefined,
): ReadonlyMap<string, Problem> {
  const optional = new Set(config.secrets.filter((secret) => secret.optional).map(({ id }) => id));
  const failed = new Map<string, Problem>();
  for (const [id, outcome] of outcomes) {
    const problem = problemOf(outcome);
    if (problem === undefined) continue;
    // Of a store that does not answer nobody knows whether it has the secret; one that became empty it has.
    const keeps = (problem.kind !== "missing" || problem.mayAppear) && published?.has(id) === true;
    if (optional.has(id) && problem.kind !== "unavailable" && !keeps) continue;
    failed.set(id, problem);
  }
  return failed;
}

function mayHeal(problem: Problem): boolean {
  return problem.kind === "unavailable" || problem.mayAppear;
}

/** How long what looks final is still borne with, where the store may take it back by itself. */
class Patience {
  readonly #since = new Map<string, number>();

  /** @param now seconds. @returns id → seconds that are left. */
  left(failed: ReadonlyMap<string, Problem>, now: number): ReadonlyMap<string, number> {
    const left = new Map<string, number>();
    for (const id of this.#since.keys()) if (!failed.has(id)) this.#since.delete(id);
    for (const [id, problem] of failed) {
      // An outage in between says nothing about what was refused before it.
      if (mayHeal(problem) || problem.mayHealFor === 0) continue;
      const since = this.#since.get(id) ?? now;
      this.#since.set(id, since);
      const seconds = since + problem.mayHealFor - now;
      if (seconds > 0.05) left.set(id, seconds);
    }
    return left;
  }
}

function adopt(held: HeldValues, failed: ReadonlyMap<string, Problem>, published: ReadonlyMap<string, Buffer>): void {
  for (const id of failed.keys()) {
    const value = published.get(id);
    if (value !== undefined && !held.has(id)) held.set(id, { value: Buffer.from(value), version: PUBLISHED_BEFORE });
  }
}

/** The one line that `systemctl status` and the journal show. */
export function fatal(backend: string, id: string, { kind, message }: Problem): FatalError {
  return new FatalError(exitCodeOf[kind], `${backend}: secret ${JSON.stringify(id)}: ${message}`);
}

/** @throws FatalError (69) when `startTimeout` is over. */
function untilGivingUp(config: Config, elapsed: number, failed: ReadonlyMap<string, Problem>, backend: string): number {
  if (config.startTimeout === null) return Infinity;
  const left = config.startTimeout - elapsed;
  const [first] = failed;
  if (left <= 0 && first !== undefined)
    throw new FatalError(
      ExitCode.unavailable,
      `${backend}: secret ${JSON.stringify(first[0])}: ${first[1].message} (given up after startTimeout, ${config.startTimeout} s)`,
    );
  return Math.max(left, 0.01);
}

function waitingFor(backend: string, failed: ReadonlyMap<string, Problem>, attempt: number, wait: number): string {
  const [first] = failed.values();
  const others = failed.size === 1 ? "" : ` (and ${failed.size - 1} more)`;
  return `waiting for ${backend}: ${first?.message ?? ""}${others} (attempt ${attempt}, next in ${wait.toFixed(wait < 1 ? 1 : 0)} s)`;
}

/** What is waited for may come at any moment: a hint shortens the wait. Polling goes on if watching fails. */
async function watch({ store, log }: FirstLoadParts, alarm: Alarm<"hint">, signal: AbortSignal): Promise<void> {
  try {
    await store.watch?.(() => {
      alarm.ring("hint");
    }, signal);
  } catch (error) {
    log.debug(error instanceof Error ? error.message : "watching failed");
  }
}
