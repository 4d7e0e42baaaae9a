/** Asks the store for some of the secrets, and compares its answer with what is held. */
import { fetchUntilQuiet, longest, youth } from "./settle.ts";
import type { Fetched, Outcome } from "../contract/backend.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Config } from "../config/config.ts";
import { keepEmptied } from "./emptied.ts";
import { hasLease, type HeldValues } from "./held-values.ts";
import type { Store } from "./store.ts";

export interface FetchParts {
  readonly config: Config;
  readonly store: Store;
  readonly held: HeldValues;
  readonly clock: Clock;
}

export interface Answer {
  readonly outcomes: ReadonlyMap<string, Outcome>;
  /** Those of them that differ from what is held. */
  readonly changes: ReadonlyMap<string, Fetched>;
}

/** Returns an empty answer for no ids, without contacting the store. */
export async function fetchOnce(parts: FetchParts, ids: readonly string[], stop: AbortSignal): Promise<Answer> {
  const outcomes = await ask(parts, ids, stop);
  return { outcomes, changes: parts.held.changesIn(outcomes) };
}

/**
 * Fetches again until the changes stay the same for `settle` seconds: a first look may not see all of them, or not all
 * of one. It fetches only once where a lease is among them, since another answer might be another lease.
 *
 * @param hinted a watch has already been quiet for that long: it waits only for files that say they are younger.
 */
export async function fetchSettled(
  parts: FetchParts,
  ids: readonly string[],
  hinted: boolean,
  stop: AbortSignal,
): Promise<Answer> {
  const { config, held, clock } = parts;
  const { settle } = config.onChange;
  let changes: ReadonlyMap<string, Fetched> = new Map();
  /** The bytes of the last round, whose own buffers are overwritten meanwhile. */
  let seen: ReadonlyMap<string, Buffer> | undefined;
  const restless = (outcomes: ReadonlyMap<string, Outcome>) => {
    changes = held.changesIn(outcomes);
    if (changes.size === 0 || hasLease(changes)) return 0;
    const moves = !hinted && (seen === undefined || differ(changes, seen));
    forget(seen);
    seen = new Map([...changes].map(([id, { value }]) => [id, Buffer.from(value)]));
    return moves ? settle : youth(changes.values(), settle);
  };
  const fetch = (wanted: readonly string[]) => ask(parts, wanted, stop);
  try {
    // After a hint, the store has had its time to be quiet; but systemd sees a write only when the file is closed.
    const afterHint = config.onDemand ? longest(settle) / 2 : settle;
    const limit = hinted ? afterHint : longest(settle);
    const outcomes = await fetchUntilQuiet({ fetch, restless }, ids, clock, limit, stop);
    return { outcomes, changes };
  } finally {
    forget(seen);
  }
}

async function ask({ config, store, held }: FetchParts, ids: readonly string[], stop: AbortSignal) {
  if (ids.length === 0) return new Map<string, Outcome>();
  return keepEmptied({ config, store }, await store.fetch(ids, stop), (id) => held.get(id)?.value);
}

function differ(changes: ReadonlyMap<string, Fetched>, seen: ReadonlyMap<string, Buffer>): boolean {
  return changes.size !== seen.size || [...changes].some(([id, { value }]) => seen.get(id)?.equals(value) !== true);
}

function forget(seen: ReadonlyMap<string, Buffer> | undefined): void {
  for (const value of seen?.values() ?? []) value.fill(0);
}
