/** Asks the store for some of the secrets. */
import type { Outcome } from "../contract/backend.ts";
import { type Clock, isAborted } from "../runtime/clock.ts";
import type { Config } from "../config/config.ts";
import { keepEmptied } from "./emptied.ts";
import { hasLease, type HeldValues } from "./held-values.ts";
import { problemOf } from "./problems.ts";
import type { Store } from "./store.ts";

export interface FetchParts {
  readonly config: Config;
  readonly store: Store;
  readonly held: HeldValues;
  readonly clock: Clock;
}

type Outcomes = ReadonlyMap<string, Outcome>;

/** Of nothing, nobody is asked. */
export async function fetchOnce(parts: FetchParts, ids: readonly string[], stop: AbortSignal): Promise<Outcomes> {
  if (ids.length === 0) return new Map();
  const { store, held } = parts;
  return keepEmptied(parts, await store.fetch(ids, stop), (id) => held.get(id)?.value);
}

/**
 * What is found changed without a hint may not be all: what changes within `settle` goes out with it. Not where a lease is
 * among it, of which another answer might be another one.
 */
export async function fetchSettled(parts: FetchParts, ids: readonly string[], stop: AbortSignal): Promise<Outcomes> {
  const { config, held, clock } = parts;
  const outcomes = new Map(await fetchOnce(parts, ids, stop));
  const changes = held.changesIn(outcomes);
  const { settle } = config.onChange;
  if (changes.size === 0 || settle === 0 || hasLease(changes) || isAborted(stop)) return outcomes;
  await clock.sleep(settle, stop);
  for (const [id, outcome] of await fetchOnce(parts, ids, stop)) {
    const change = changes.get(id);
    if (change !== undefined && problemOf(outcome) !== undefined) continue;
    change?.value.fill(0);
    outcomes.set(id, outcome);
  }
  return outcomes;
}
