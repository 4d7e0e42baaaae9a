import type { Outcome } from "../../src/contract/backend.ts";
import type { Observed } from "./observed.ts";
import { quiet, until } from "./until.ts";

/** Watches and fetches only at hints, like the engine without its poll. */
export interface Following {
  readonly observed: Observed;
  readonly hints: () => number;
  /** The outcome of the last fetch that a hint led to. */
  readonly latest: (id: string) => Outcome | undefined;
  /** Fails, by the test's timeout, unless a hint after `change` leads to a fetch that `expected` accepts. */
  readonly sees: (
    change: () => Promise<unknown>,
    id: string,
    expected: string | ((outcome: Outcome | undefined) => boolean),
  ) => Promise<void>;
}

/** Runs `body` once the watch is armed and quiet; ends the watch after it. */
export async function following(
  observed: Observed,
  ids: readonly string[],
  body: (following: Following) => Promise<void>,
): Promise<void> {
  const abort = new AbortController();
  let hints = 0;
  let fetching: Promise<void> | undefined;
  let outcomes: ReadonlyMap<string, Outcome> = new Map();
  const follow = async () => {
    for (let seen = -1; seen !== hints;) {
      seen = hints;
      // In an outage, the hint at its end brings the next fetch.
      outcomes = await observed.fetch(...ids).catch(() => new Map<string, Outcome>());
    }
    fetching = undefined;
  };
  const watch = observed.backend.watch?.(
    observed.requests(...ids),
    () => {
      hints++;
      fetching ??= follow();
    },
    abort.signal,
  );
  const latest = (id: string) => outcomes.get(id);
  try {
    await until(() => hints > 0);
    await quiet(() => hints);
    await body({
      observed,
      hints: () => hints,
      latest,
      async sees(change, id, expected) {
        const before = await quiet(() => hints);
        await change();
        const accepts = typeof expected === "string" ? holds(expected) : expected;
        await until(() => hints > before && accepts(latest(id)));
      },
    });
  } finally {
    abort.abort();
    await watch;
    await fetching;
  }
}

function holds(value: string) {
  return (outcome: Outcome | undefined) =>
    outcome !== undefined && "value" in outcome && outcome.value.toString() === value;
}

export function isMissing(outcome: Outcome | undefined): boolean {
  return outcome !== undefined && "status" in outcome && outcome.status === "missing";
}
