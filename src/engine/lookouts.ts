/**
 * While nothing changes, a poll only finds that out. Where the store can be looked at in a cheaper way, that way does it, and
 * each half minute a poll makes sure.
 */
import { type Clock, jittered, type Random } from "../runtime/clock.ts";
import type { Config } from "../config/config.ts";
import type { Lookout } from "../contract/backend.ts";
import type { Publisher } from "../publish/publisher.ts";
import type { Round } from "./ask-times.ts";
import type { Owed } from "./owed.ts";
import type { Store } from "./store.ts";

/** Seconds between two polls behind a lookout. */
const PAUSE = 30;
/** Seconds: polls that are rarer than this stay what they are. */
const LONGEST_INTERVAL = PAUSE / 3;
/** So often in a row there was news, but no change: something differs in each answer. */
const FALSE_ALARMS = 2;
/** Seconds until such a store gets a lookout again. */
const LONG_PAUSE = 3600;

export interface LookoutParts {
  /** A reload replaces these two. */
  readonly config: Config;
  readonly store: Store;
  readonly publisher: Publisher;
  readonly owed: Owed;
  readonly clock: Clock;
  readonly random: Random;
  /** Whether nothing is wrong. */
  readonly isCalm: () => boolean;
  /** Rings when a poll has become due. */
  readonly alarm: { ring(reason: "look"): void };
}

/** One at a time. */
export class Lookouts {
  readonly #parts: LookoutParts;
  #current: { readonly lookout: Lookout; readonly first: number; readonly interval: number } | undefined;
  #hasNews = false;
  #falseAlarms = 0;
  /** µs of CLOCK_MONOTONIC, as are all times here. */
  #notBefore = 0;

  constructor(parts: LookoutParts) {
    this.#parts = parts;
  }

  /** Call it before each round. The poll that the lookout stands for is due at its next look. */
  end(): void {
    if (this.#current === undefined) return;
    const { owed, clock } = this.#parts;
    const { lookout, first, interval } = this.#current;
    this.#current = undefined;
    lookout.end();
    // It has looked and found the same: the last alarm was of something else, an outage, say, or another token.
    if (!this.#hasNews && clock.monotonic() > first + interval) this.#falseAlarms = 0;
    const missed = Math.ceil(Math.max(0, clock.monotonic() - first) / interval);
    owed.pollAtTime(Math.min(owed.pollAt, first + missed * interval));
  }

  /** Call it after each round, of all secrets or not. @param round undefined: nothing is known. */
  begin(round: Round | undefined): void {
    const { owed, clock, random } = this.#parts;
    const now = clock.monotonic();
    this.#count(round, now);
    const interval = this.#intervalAfter(round);
    const until = now + jittered(PAUSE, random) * 1e6;
    if (interval === undefined || now < this.#notBefore || owed.pollAt + interval >= until) return;
    const first = owed.pollAt;
    const lookout = this.#lookOut(Math.max(0, first - now) / 1e6, interval / 1e6);
    if (lookout === undefined) return;
    this.#current = { lookout, first, interval };
    owed.pollAtTime(until);
  }

  /** @returns µs; undefined: no lookout is of use, or the last answer says too little. */
  #intervalAfter(round: Round | undefined): number | undefined {
    const { config, store, random, isCalm } = this.#parts;
    const seconds = config.reloadOnChange ? (store.pollingInterval ?? Infinity) : Infinity;
    const isWhole = round?.result === "unchanged" && round.outcomes.size === config.secrets.length;
    if (store.lookOut === undefined || seconds > LONGEST_INTERVAL || !isWhole || !isCalm()) return undefined;
    return jittered(seconds, random) * 1e6;
  }

  /** @param first seconds. @param interval seconds */
  #lookOut(first: number, interval: number): Lookout | undefined {
    const { store, publisher, owed, clock, alarm } = this.#parts;
    const onNews = () => {
      this.#hasNews = true;
      owed.pollAtTime(clock.monotonic());
      alarm.ring("look");
    };
    return store.lookOut?.({ first, interval, files: publisher.watched }, onNews);
  }

  #count(round: Round | undefined, now: number): void {
    if (round === undefined) return;
    const isFalse = this.#hasNews && round.result === "unchanged";
    if (this.#hasNews || round.result !== "unchanged") this.#falseAlarms = isFalse ? this.#falseAlarms + 1 : 0;
    this.#hasNews = false;
    if (this.#falseAlarms < FALSE_ALARMS) return;
    this.#falseAlarms = 0;
    this.#notBefore = now + LONG_PAUSE * 1e6;
  }
}
