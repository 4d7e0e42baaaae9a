/**
 * Files, and sets of files that belong together, are written in steps: nothing counts before it has been quiet for a
 * while.
 */
import type { Alarm } from "../runtime/alarm.ts";
import { BackendError, type Fetched, type Outcome } from "../contract/backend.ts";
import { type Clock, isAborted } from "../runtime/clock.ts";
import type { Config } from "../config/config.ts";
import type { Store } from "./store.ts";

/**
 * The most that we wait, as a multiple of `settle`: a file that never comes to rest must not delay the rest for ever.
 */
const LONGEST = 15;
/** Seconds that a start waits for a file to be quiet, where `settle` is not shorter. */
const QUIET_START = 2;
/** Seconds by which the clocks of files and of the process may differ: a tick of the kernel. */
const TICK = 0.02;

/**
 * Waits until no hint has come for `settle` seconds.
 *
 * @returns whether a request for a fetch ended the wait.
 */
export async function untilQuiet(
  alarm: Pick<Alarm<string>, "wait">,
  clock: Clock,
  settle: number,
  stop: AbortSignal,
): Promise<boolean> {
  const end = clock.monotonic() + LONGEST * settle * 1e6;
  for (let left = settle; left > 0 && !isAborted(stop);) {
    const rung = await alarm.wait(left, stop);
    if (rung.has("reload")) return true;
    if (rung.size === 0) return false;
    left = Math.min(settle, (end - clock.monotonic()) / 1e6);
  }
  return false;
}

/** A fetch, and a rule for which answers are not final. */
export interface Rounds {
  readonly fetch: (ids: readonly string[]) => Promise<ReadonlyMap<string, Outcome>>;
  /** Seconds that must pass before this round counts; 0: it counts now. */
  readonly restless: (outcomes: ReadonlyMap<string, Outcome>) => number;
}

/**
 * Fetches until all is at rest. A secret that an earlier round got and a later one did not keeps its value.
 *
 * @param limit seconds after which the last answer counts.
 */
export async function fetchUntilQuiet(
  { fetch, restless }: Rounds,
  ids: readonly string[],
  clock: Clock,
  limit: number,
  stop: AbortSignal,
): Promise<Map<string, Outcome>> {
  const end = clock.monotonic() + limit * 1e6;
  const outcomes = new Map(await fetch(ids));
  for (;;) {
    const left = (end - clock.monotonic()) / 1e6;
    const wait = Math.min(restless(outcomes), left);
    if (wait <= 0 || isAborted(stop)) return outcomes;
    await clock.sleep(wait, stop);
    if (isAborted(stop)) return outcomes;
    for (const [id, outcome] of await fetch(ids)) {
      const before = outcomes.get(id);
      if (isValue(before)) {
        if (!isValue(outcome)) continue;
        before.value.fill(0);
      }
      outcomes.set(id, outcome);
    }
  }
}

/** Seconds until the youngest of these has been left alone for `quiet` seconds; 0 for those of unknown age. */
export function youth(outcomes: Iterable<Outcome>, quiet: number): number {
  return Math.max(0, ...[...outcomes].map((outcome) => (isYoung(outcome, quiet) ? quiet - outcome.writtenAgo : 0)));
}

/** The most seconds that this `settle` may wait. */
export function longest(settle: number): number {
  return LONGEST * settle;
}

export interface StartParts {
  readonly config: Config;
  readonly store: Store;
  readonly clock: Clock;
  readonly status: (text: string) => void;
}

/**
 * For a start: fetches, and again while a file is being written. With `reloadOnChange: false` the service would keep
 * half of it for ever.
 *
 * @param limit seconds for each fetch.
 * @param patience seconds in all; a file that is still being written then counts as not there yet. undefined: it counts
 *   in the end.
 */
export async function fetchForStart(
  { config, store, clock, status }: StartParts,
  ids: readonly string[],
  limit: number,
  patience: number | undefined,
  stop: AbortSignal,
): Promise<Map<string, Outcome>> {
  const quiet = Math.min(config.onChange.settle, QUIET_START);
  const restless = (outcomes: ReadonlyMap<string, Outcome>) => {
    // Each answer would be another lease.
    if ([...outcomes.values()].some((outcome) => isValue(outcome) && outcome.refreshAfter !== undefined)) return 0;
    const young = [...outcomes].find(([, outcome]) => isYoung(outcome, quiet));
    if (young !== undefined) status(`waiting for ${store.name}: ${beingWritten(store, young[0])}`);
    return youth(outcomes.values(), quiet);
  };
  const fetch = (wanted: readonly string[]) => store.fetch(wanted, stop, limit);
  const outcomes = await fetchUntilQuiet(
    { fetch, restless },
    ids,
    clock,
    Math.min(longest(quiet), patience ?? Infinity),
    stop,
  );
  if (patience === undefined) return outcomes;
  for (const [id, outcome] of outcomes) {
    if (!isYoung(outcome, quiet)) continue;
    outcome.value.fill(0);
    outcomes.set(id, new BackendError("unavailable", beingWritten(store, id)));
  }
  return outcomes;
}

function beingWritten(store: Store, id: string): string {
  return `${store.describe(id)} is still being written`;
}

function isYoung(outcome: Outcome, quiet: number): outcome is Fetched & { readonly writtenAgo: number } {
  return isValue(outcome) && outcome.writtenAgo !== undefined && outcome.writtenAgo < quiet - TICK;
}

function isValue(outcome: Outcome | undefined): outcome is Fetched {
  return outcome !== undefined && "status" in outcome && outcome.status === "value";
}
