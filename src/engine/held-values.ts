/** The values that are published now. This class owns every buffer that holds a secret, and overwrites it. */
import type { Clock } from "../runtime/clock.ts";
import type { Fetched, Outcome } from "../contract/backend.ts";

/** The version of an adopted value, whose own version is unknown. */
export const PUBLISHED_BEFORE = "published before";

export interface HeldValue {
  readonly value: Buffer;
  readonly version: string;
  /** µs of CLOCK_MONOTONIC at which it must be fetched again; undefined: it has no end. */
  readonly refreshAt: number | undefined;
}

/** µs between the ends of secrets that were fetched together, and more. */
const TOGETHER = 100_000;

/** Whether it must be fetched again now. Secrets from one lease come due together. */
export function isEnding(held: HeldValue | undefined, now: number): boolean {
  return held?.refreshAt !== undefined && held.refreshAt <= now + TOGETHER;
}

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
    this.#held.set(id, { value, version, refreshAt: this.#endAfter(refreshAfter) });
  }

  /** The configuration no longer has this secret. */
  drop(id: string): void {
    this.#held.get(id)?.value.fill(0);
    this.#held.delete(id);
  }

  /** Whether any of them has an end. */
  get hasLease(): boolean {
    return [...this.#held.values()].some(({ refreshAt }) => refreshAt !== undefined);
  }

  #endAfter(seconds: number | undefined): number | undefined {
    return seconds === undefined ? undefined : this.#clock.monotonic() + seconds * 1e6;
  }

  /** Goes back to exactly the values that an earlier life published. */
  restore(published: ReadonlyMap<string, Buffer>, version: string): void {
    for (const [id, { value }] of this.#held) {
      if (published.has(id)) continue;
      value.fill(0);
      this.#held.delete(id);
    }
    for (const [id, value] of published) this.set(id, { value, version });
  }

  /** What was fetched and differs from what is held. */
  changesIn(outcomes: ReadonlyMap<string, Outcome>): Map<string, Fetched> {
    const changes = new Map<string, Fetched>();
    for (const [id, outcome] of outcomes)
      if (isFetched(outcome) && this.#held.get(id)?.value.equals(outcome.value) !== true) changes.set(id, outcome);
    return changes;
  }

  /** The store still has the same bytes: only their version and their end are new. */
  confirm(id: string, { version, refreshAfter }: Fetched): void {
    const held = this.#held.get(id);
    if (held !== undefined) this.#held.set(id, { value: held.value, version, refreshAt: this.#endAfter(refreshAfter) });
  }

  /** Overwrites what was fetched or read with zeros, unless it is held. */
  release(values: Iterable<readonly [string, Buffer]>): void {
    for (const [id, value] of values) if (this.#held.get(id)?.value !== value) value.fill(0);
  }

  /**
   * µs of CLOCK_MONOTONIC at which the first of them, without those of `except`, must be fetched again; Infinity: none.
   */
  nextEnd(except: { has(id: string): boolean }): number {
    let next = Infinity;
    for (const [id, { refreshAt }] of this.#held)
      if (refreshAt !== undefined && !except.has(id)) next = Math.min(next, refreshAt);
    return next;
  }

  /** Ids whose end is near, without those of `except`. */
  ending(except: { has(id: string): boolean }): readonly string[] {
    const now = this.#clock.monotonic();
    return [...this.#held].flatMap(([id, held]) => (isEnding(held, now) && !except.has(id) ? [id] : []));
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

/** The bytes among the outcomes. */
export function valuesIn(outcomes: ReadonlyMap<string, Outcome>): (readonly [string, Buffer])[] {
  return [...outcomes].flatMap(([id, outcome]) => (isFetched(outcome) ? [[id, outcome.value] as const] : []));
}

export function isFetched(outcome: Outcome): outcome is Fetched {
  return "status" in outcome && outcome.status === "value";
}
