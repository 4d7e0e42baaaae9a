/** What the store is asked for again sooner than by the next poll, which may be an hour away, or never come. */
import type { Outcome } from "./backend.ts";
import { backoff, type Clock, jittered, type Random } from "./clock.ts";
import { PUBLISHED_BEFORE } from "./first-load.ts";
import type { HeldValues } from "./held.ts";
import { problemOf } from "./problems.ts";

/** Seconds, for what only a person can mend: the answer may come years later, but then it must be seen. */
const SELDOM = 60;

export class Retries {
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #held: HeldValues;
  readonly #awaited = new Set<string>();
  #ids: readonly string[] = [];
  #at = Infinity;
  #failures = 0;

  constructor(clock: Clock, random: Random, held: HeldValues) {
    this.#clock = clock;
    this.#random = random;
    this.#held = held;
  }

  /** µs of CLOCK_MONOTONIC; Infinity: never. */
  get at(): number {
    return this.#at;
  }

  get ids(): readonly string[] {
    return this.#ids;
  }

  /** What the start could not get: an earlier life's value is in use, or none, until the store has been heard. */
  await(ids: Iterable<string>, soon: boolean): void {
    for (const id of ids) this.#awaited.add(id);
    this.#plan(soon ? [...this.#awaited] : [], soon, 0);
  }

  isAwaited(id: string): boolean {
    return this.#awaited.has(id);
  }

  /** The store is being asked. */
  cancel(): void {
    this.#at = Infinity;
  }

  /**
   * @param outcomes of the ids that were asked for.
   * @param unpublished those whose new values could not be written; undefined: there was nothing to write, or it is written.
   * @param retryAfter seconds that the store asked to be left alone.
   */
  plan(outcomes: ReadonlyMap<string, Outcome>, unpublished: readonly string[] | undefined, retryAfter: number): void {
    for (const id of this.#awaited) if (this.#isAnswered(id, outcomes.get(id))) this.#awaited.delete(id);
    const silent = [...outcomes].flatMap(([id, outcome]) => (problemOf(outcome)?.kind === "unavailable" ? [id] : []));
    const soon = silent.length > 0 || unpublished !== undefined;
    this.#plan([...new Set([...silent, ...(unpublished ?? [])])], soon, retryAfter);
  }

  #plan(ids: readonly string[], soon: boolean, retryAfter: number): void {
    this.#failures = soon ? this.#failures + 1 : 0;
    this.#ids = soon ? ids : [...this.#awaited];
    const seconds = soon ? backoff(this.#failures + 1, this.#random, retryAfter) : jittered(SELDOM, this.#random);
    this.#at = soon || this.#ids.length > 0 ? this.#clock.monotonic() + seconds * 1e6 : Infinity;
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
