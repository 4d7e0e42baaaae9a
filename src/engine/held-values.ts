/** The values that are published now, and how each secret of the scope fares in the store. */
import type { Clock } from "../runtime/clock.ts";
import type { Fetched, Outcome } from "../contract/backend.ts";

/** The version of what was adopted: nobody knows another. */
export const PUBLISHED_BEFORE = "published before";

export interface HeldValue {
  readonly value: Buffer;
  readonly version: string;
  /** µs of CLOCK_MONOTONIC at which it must be fetched anew; undefined: it has no end. */
  readonly refreshAt: number | undefined;
}

/** µs between the ends of secrets that were fetched together, and more. */
const TOGETHER = 100_000;

export class HeldValues {
  readonly #held = new Map<string, HeldValue>();
  readonly #clock: Clock;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  has(id: string): boolean {
    return this.#held.has(id);
  }

  get size(): number {
    return this.#held.size;
  }

  get(id: string): HeldValue | undefined {
    return this.#held.get(id);
  }

  get versions(): ReadonlyMap<string, string> {
    return new Map([...this.#held].map(([id, { version }]) => [id, version]));
  }

  get bytes(): ReadonlyMap<string, Buffer> {
    return new Map([...this.#held].map(([id, { value }]) => [id, value]));
  }

  /** Takes the buffer over; the one it replaces is overwritten with zeros. */
  set(id: string, { value, version, refreshAfter }: Omit<Fetched, "status">): void {
    const old = this.#held.get(id)?.value;
    if (old !== undefined && old !== value) old.fill(0);
    const refreshAt = refreshAfter === undefined ? undefined : this.#clock.monotonic() + refreshAfter * 1e6;
    this.#held.set(id, { value, version, refreshAt });
  }

  /** Goes back to what an earlier life published, and to no more than that. */
  restore(published: ReadonlyMap<string, Buffer>, version: string): void {
    for (const [id, { value }] of this.#held) {
      if (published.has(id)) continue;
      value.fill(0);
      this.#held.delete(id);
    }
    for (const [id, value] of published) this.set(id, { value, version });
  }

  /** Splits what was fetched into what is new and what is held already; the latter's version is noted. */
  changesIn(outcomes: ReadonlyMap<string, Outcome>): Map<string, Fetched> {
    const changes = new Map<string, Fetched>();
    for (const [id, outcome] of outcomes) {
      if (!("status" in outcome) || outcome.status !== "value") continue;
      if (this.#held.get(id)?.value.equals(outcome.value) === true) this.set(id, outcome);
      else changes.set(id, outcome);
    }
    return changes;
  }

  /** Ids whose end is near. What ends together is due together: a user without its new password would be half a lease. */
  due(): readonly string[] {
    const soon = this.#clock.monotonic() + TOGETHER;
    return [...this.#held].flatMap(([id, { refreshAt }]) => (refreshAt !== undefined && refreshAt <= soon ? [id] : []));
  }

  /** Puts off the refresh of what could not be replaced. */
  postpone(ids: readonly string[], seconds: number): void {
    const refreshAt = this.#clock.monotonic() + seconds * 1e6;
    for (const id of ids) {
      const held = this.#held.get(id);
      if (held !== undefined) this.#held.set(id, { ...held, refreshAt });
    }
  }

  /** Seconds until the first of them must be fetched anew; Infinity: none. */
  untilDue(): number {
    const now = this.#clock.monotonic();
    return [...this.#held.values()].reduce(
      (least, { refreshAt }) => (refreshAt === undefined ? least : Math.min(least, Math.max(0, refreshAt - now) / 1e6)),
      Infinity,
    );
  }

  /** Ids that a poll may fetch: asking again for a leased secret would issue another. */
  unleased(ids: readonly string[]): readonly string[] {
    return ids.filter((id) => this.#held.get(id)?.refreshAt === undefined);
  }

  /** Overwrites every value. */
  clear(): void {
    for (const { value } of this.#held.values()) value.fill(0);
    this.#held.clear();
  }
}

/** Whether any of them has an end. */
export function hasLease(changes: ReadonlyMap<string, Fetched>): boolean {
  return [...changes.values()].some(({ refreshAfter }) => refreshAfter !== undefined);
}
