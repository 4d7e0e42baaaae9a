/** When to renew, and a timer that can wait that long. */

import { LONGEST_TIMER } from "../../src/contract/timers.ts";

/** One wait at a time; it keeps no process alive. */
export class Timer {
  #timeout: NodeJS.Timeout | undefined;

  /** @param seconds of any length. */
  set(seconds: number, run: () => void): void {
    this.stop();
    const step = Math.min(Math.max(seconds, 0), LONGEST_TIMER);
    this.#timeout = setTimeout(() => {
      if (seconds > step) this.set(seconds - step, run);
      else run();
    }, step * 1000);
    this.#timeout.unref();
  }

  stop(): void {
    clearTimeout(this.#timeout);
  }
}

/** Seconds between two questions whether something still lives: at least, and at most. */
const [SHORTEST_LOOK, LONGEST_LOOK] = [10, 300];

/**
 * A twentieth of the time to live: we notice in that time a lease revoked in an incident, or one that ended while
 * the machine slept.
 *
 * @param ttl Infinity: it does not end by itself.
 */
export function lookTime(ttl: number, random: () => number): number {
  return Math.min(LONGEST_LOOK, Math.max(SHORTEST_LOOK, ttl / 20)) * (1 - 0.1 * random());
}

/** Two thirds of the time to live, or up to a tenth earlier: what was issued together is not renewed together. */
export function renewalTime(ttl: number, random: () => number): number {
  return (2 / 3) * ttl * (1 - 0.1 * random());
}
