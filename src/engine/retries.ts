/** What the store is asked for again sooner than by the next poll, which may be an hour away, or never come. */
import type { Outcome } from "../contract/backend.ts";
import { backoff, type Clock, jittered, type Random } from "../runtime/clock.ts";
import { type HeldValues, PUBLISHED_BEFORE } from "./held-values.ts";
import { problemOf } from "./problems.ts";

/** Seconds, for what only a person can mend: the answer may come years later, but then it must be seen. */
const SELDOM = 60;
/** The same where each answer may be another lease. */
const RARELY = 3600;

export interface Round {
  /** Of the ids that were asked for. */
  readonly outcomes: ReadonlyMap<string, Outcome>;
  /** Those whose new values could not be written; undefined: there was nothing to write, or it is written. */
  readonly unpublished: readonly string[] | undefined;
  readonly isLeaseRefused: boolean;
  /** Leases whose publish failed: the store has given them, and they are in no file. */
  readonly unpublishedLeases: readonly string[];
  /** A person has asked for it. */
  readonly isAsked: boolean;
  /** Seconds that the store asked to be left alone. */
  readonly retryAfter: number;
}

export class Retries {
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #held: HeldValues;
  /** What the start could not get → whether a person has asked for it since. */
  readonly #awaited = new Map<string, boolean>();
  #ids: readonly string[] = [];
  #at = Infinity;
  /** Leases that could not be published. Only a publish takes from them, and each try is another lease. */
  readonly #leases = new Set<string>();
  #leasesAt = Infinity;
  #failures = 0;

  constructor(clock: Clock, random: Random, held: HeldValues) {
    this.#clock = clock;
    this.#random = random;
    this.#held = held;
  }

  /** µs of CLOCK_MONOTONIC; Infinity: never. */
  get at(): number {
    return Math.min(this.#at, this.#leasesAt);
  }

  /** What is to be asked for now. */
  get ids(): readonly string[] {
    const leases = this.#clock.monotonic() >= this.#leasesAt ? this.#leases : [];
    return [...new Set([...this.#held.unleased(this.#ids), ...leases])];
  }

  published(ids: readonly string[]): void {
    for (const id of ids) this.#leases.delete(id);
    if (this.#leases.size === 0) this.#leasesAt = Infinity;
  }

  /** What the start could not get: an earlier life's value is in use, or none, until the store has been heard. */
  await(ids: Iterable<string>, soon: boolean): void {
    for (const id of ids) this.#awaited.set(id, false);
    this.#plan(soon ? [...this.#awaited.keys()] : undefined, SELDOM, 0);
  }

  /** Nobody has asked for it but the start. */
  isQuiet(id: string): boolean {
    return this.#awaited.get(id) === false;
  }

  /** The store is being asked. */
  cancel(): void {
    this.#at = Infinity;
  }

  plan({ outcomes, unpublished, isLeaseRefused, unpublishedLeases, isAsked, retryAfter }: Round): void {
    for (const id of unpublishedLeases) this.#leases.add(id);
    if ([...this.#leases].some((id) => outcomes.has(id)))
      this.#leasesAt = this.#clock.monotonic() + jittered(SELDOM, this.#random) * 1e6;
    for (const [id, asked] of this.#awaited)
      if (this.#isAnswered(id, outcomes.get(id))) this.#awaited.delete(id);
      else this.#awaited.set(id, asked || isAsked);
    const silent = [...outcomes].flatMap(([id, outcome]) => (problemOf(outcome)?.kind === "unavailable" ? [id] : []));
    const soon = silent.length > 0 || unpublished !== undefined;
    const ids = soon ? [...new Set([...silent, ...(unpublished ?? [])])] : undefined;
    this.#plan(ids, isLeaseRefused ? RARELY : SELDOM, retryAfter);
  }

  /** @param soon undefined: nothing, but what is awaited is asked for after `pause` seconds. */
  #plan(soon: readonly string[] | undefined, pause: number, retryAfter: number): void {
    this.#failures = soon === undefined ? 0 : this.#failures + 1;
    this.#ids = soon ?? [...this.#awaited.keys()];
    const seconds =
      soon === undefined ? jittered(pause, this.#random) : backoff(this.#failures + 1, this.#random, retryAfter);
    const isDue = soon !== undefined || this.#ids.length > 0;
    this.#at = isDue ? this.#clock.monotonic() + seconds * 1e6 : Infinity;
  }

  /** A value that the store gave and that is not published does not count, nor does silence. */
  #isAnswered(id: string, outcome: Outcome | undefined): boolean {
    if (outcome === undefined) return false;
    const held = this.#held.get(id);
    if (held !== undefined) return held.version !== PUBLISHED_BEFORE;
    const problem = problemOf(outcome);
    return problem !== undefined && problem.kind !== "unavailable";
  }
}
