/**
 * Decides when to ask the store for which secret: at polls, before a lease ends, and again for what it failed to give.
 */
import type { Fetched, Outcome } from "../contract/backend.ts";
import { backoff, type Clock, jittered, type Random } from "../runtime/clock.ts";
import { type HeldValues, isEnding, PUBLISHED_BEFORE } from "./held-values.ts";
import { longestRetryAfter, type Problem, problemOf } from "./problems.ts";

/** Seconds, for what only a person can mend: the answer may come years later, but we must see it then. */
const SELDOM = 60;
/** The same where each answer may be another lease. */
const RARELY = 3600;

/** Why we ask the store other than by time: a person wants it, or the store gave a hint. */
export type Request = "reload" | "hint";

/** What the store answered for the ids that we asked it for. */
export interface Round {
  readonly outcomes: ReadonlyMap<string, Outcome>;
  /** Those of them that differ from what was published. */
  readonly changes: ReadonlyMap<string, Fetched>;
  readonly result: PublishResult;
}
/** `failed`: trying again may help; `refused`: only another change can; ids: these are published now. */
export type PublishResult = "unchanged" | "refused" | "failed" | ReadonlySet<string>;

type Pause = "soon" | "seldom" | "rarely";

/** What we ask for again sooner than at the next poll, which may be an hour away, or never come. */
interface Ask {
  /** µs of CLOCK_MONOTONIC. */
  readonly at: number;
  /**
   * µs of CLOCK_MONOTONIC: no poll asks before, because the store wants to be left alone, or would give another lease.
   */
  readonly notBefore: number;
  /** How often in a row the store was silent, or the disk failed. */
  readonly failures: number;
  /** The start could not get it: until the store answers, an earlier life's value is in use, or none. */
  readonly fromStart: boolean;
  /** Only the start has asked for it. */
  readonly quiet: boolean;
  /** The store has given it, but it is in no file. */
  readonly unwritten: boolean;
}

export class AskTimes {
  #ids: readonly string[];
  /** A start ends without these; a configuration that is taken over later may have some that are missing. */
  #required: ReadonlySet<string> = new Set();
  readonly #held: HeldValues;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #again = new Map<string, Ask>();
  /** Seconds. */
  #interval = Infinity;
  /** µs of CLOCK_MONOTONIC. */
  #pollAt = Infinity;

  /** @param ids all secrets. */
  constructor(ids: readonly string[], held: HeldValues, clock: Clock, random: Random) {
    this.#ids = ids;
    this.#held = held;
    this.#clock = clock;
    this.#random = random;
  }

  /** µs of CLOCK_MONOTONIC at which the next of them is due; Infinity: never. */
  get next(): number {
    return this.#ids.reduce((least, id) => Math.min(least, this.#dueAt(id)), this.#pollAt);
  }

  /** @param ids all secrets. @param required those of them to wait for where they are missing. */
  secretsAre(ids: readonly string[], required: ReadonlySet<string>): void {
    this.#ids = ids;
    this.#required = required;
    for (const id of this.#again.keys()) if (!ids.includes(id)) this.#again.delete(id);
  }

  /** From now on. @param interval seconds; Infinity: never */
  poll(interval: number): void {
    if (this.#interval === interval) return;
    this.#interval = interval;
    if (interval === Infinity) {
      this.#pollAt = Infinity;
      return;
    }
    // A random phase: sidecars that a boot starts together do not ask together.
    this.#pollAt = this.#clock.monotonic() + this.#random() * interval * 1e6;
  }

  /** µs of CLOCK_MONOTONIC of the next poll; Infinity: there is none. */
  get pollAt(): number {
    return this.#pollAt;
  }

  /** Moves the next poll. @param at µs of CLOCK_MONOTONIC */
  pollAtTime(at: number): void {
    if (this.#pollAt !== Infinity) this.#pollAt = at;
  }

  /** What the start could not get. @param isSoon the store was silent, and may answer any moment. */
  missedByStart(ids: Iterable<string>, isSoon: boolean): void {
    const failures = isSoon ? 1 : 0;
    const seconds = isSoon ? backoff(failures + 1, this.#random) : jittered(SELDOM, this.#random);
    const at = this.#clock.monotonic() + seconds * 1e6;
    for (const id of ids)
      this.#again.set(id, { at, notBefore: 0, failures, fromStart: true, quiet: true, unwritten: false });
  }

  /** The values that the store had are in no file, and can be now. */
  askNow(ids: Iterable<string>): void {
    const at = this.#clock.monotonic();
    const fresh = { notBefore: 0, failures: 0, fromStart: false, quiet: false };
    for (const id of ids) this.#again.set(id, { ...fresh, ...this.#again.get(id), at, unwritten: true });
  }

  /** @returns the ids to ask the store for now; undefined: not even a poll is due. */
  due(request: Request | undefined): readonly string[] | undefined {
    const now = this.#clock.monotonic();
    const isPoll = now >= this.#pollAt;
    if (isPoll) this.#pollAt = now + jittered(this.#interval, this.#random) * 1e6;
    if (request === "reload") {
      for (const [id, ask] of this.#again) this.#again.set(id, { ...ask, quiet: false });
      return this.#ids;
    }
    const isLooking = isPoll || request === "hint";
    const ids = this.#ids.filter((id) => this.#isDue(id, now) || (isLooking && this.#mayBePolled(id, now)));
    return isLooking || ids.length > 0 ? ids : undefined;
  }

  /** Whether only the start wanted it: its arrival does not touch the target. */
  isQuiet(id: string): boolean {
    return this.#again.get(id)?.quiet === true;
  }

  /** Takes what arrived, and plans when to ask for the rest. @returns seconds until the next try for what failed. */
  settle(round: Round, publishFailures: number): number {
    const { outcomes } = round;
    const pauses = new Map([...outcomes].map(([id, outcome]) => [id, this.#pause(id, outcome, round)]));
    const failures = [...pauses].map(([id, pause]) => (pause === "soon" ? this.#failures(id) + 1 : 0));
    const retryAfter = longestRetryAfter([...outcomes.values()].flatMap((outcome) => problemOf(outcome) ?? []));
    const seconds: Readonly<Record<Pause, number>> = {
      soon: backoff(Math.max(publishFailures, ...failures) + 1, this.#random, retryAfter),
      seldom: jittered(SELDOM, this.#random),
      rarely: jittered(RARELY, this.#random),
    };
    for (const [id, pause] of pauses)
      if (pause === undefined) this.#again.delete(id);
      else this.#again.set(id, this.#plan(id, pause, seconds[pause], round));
    return seconds.soon;
  }

  #dueAt(id: string): number {
    return this.#again.get(id)?.at ?? this.#held.get(id)?.refreshAt ?? Infinity;
  }

  #isDue(id: string, now: number): boolean {
    const ask = this.#again.get(id);
    return ask === undefined ? isEnding(this.#held.get(id), now) : ask.at <= now;
  }

  /** Asking again for a leased secret would issue another. */
  #mayBePolled(id: string, now: number): boolean {
    return this.#held.get(id)?.refreshAt === undefined && (this.#again.get(id)?.notBefore ?? 0) <= now;
  }

  #failures(id: string): number {
    return this.#again.get(id)?.failures ?? 0;
  }

  /** How soon to ask for it again; undefined: polls and people decide. */
  #pause(id: string, outcome: Outcome, round: Round): Pause | undefined {
    const problem = problemOf(outcome);
    if (problem !== undefined) return this.#pauseAfter(problem, id);
    const change = round.changes.get(id);
    if (change === undefined || isPublished(id, round)) return undefined;
    const isLease = change.refreshAfter !== undefined;
    if (round.result === "failed") return isLease ? "seldom" : "soon";
    if (isEnding(this.#held.get(id), this.#clock.monotonic())) return "seldom";
    if (this.#again.get(id)?.fromStart !== true) return undefined;
    return isLease ? "rarely" : "seldom";
  }

  #pauseAfter({ kind }: Problem, id: string): Pause | undefined {
    const held = this.#held.get(id);
    if (isEnding(held, this.#clock.monotonic())) return "soon";
    if (kind === "unavailable" && held?.refreshAt === undefined) return "soon";
    if (held === undefined && this.#required.has(id)) return "seldom";
    const ask = this.#again.get(id);
    // For an optional secret that we never had, the store's answer is enough.
    return ask?.unwritten === true || (ask?.fromStart === true && held?.version === PUBLISHED_BEFORE)
      ? "seldom"
      : undefined;
  }

  #plan(id: string, pause: Pause, seconds: number, round: Round): Ask {
    const now = this.#clock.monotonic();
    const before = this.#again.get(id);
    const end = this.#held.get(id)?.refreshAt ?? 0;
    const later = now + seconds * 1e6;
    const at = end > now ? Math.min(end, later) : later;
    const isLease = round.changes.get(id)?.refreshAfter !== undefined;
    const alone = isLease ? SELDOM : (problemOf(round.outcomes.get(id))?.retryAfter ?? 0);
    return {
      at,
      notBefore: Math.min(at, now + alone * 1e6),
      failures: pause === "soon" ? this.#failures(id) + 1 : 0,
      fromStart: before?.fromStart === true,
      quiet: before?.quiet === true,
      unwritten: before?.unwritten === true || (round.result === "failed" && round.changes.has(id)),
    };
  }
}

function isPublished(id: string, { result }: Round): boolean {
  return typeof result !== "string" && result.has(id);
}
