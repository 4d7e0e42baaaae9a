/** Time that includes the machine's sleep, as a store's clock does: a lease of an hour is over after a night. */
import { uptime } from "./uptime.ts";

/** Seconds. Some runtimes give the uptime in whole seconds, so a smaller difference does not count as sleep. */
const NOTICEABLE = 2;

export interface Awake {
  /** Seconds of CLOCK_MONOTONIC, which stands still while the machine sleeps. */
  readonly awake: () => number;
  /** Seconds of CLOCK_BOOTTIME, which does not. */
  readonly up: () => number;
}

const system: Awake = { awake: () => performance.now() / 1000, up: uptime };

/**
 * Seconds since some moment, those asleep included. Exact between two sleeps: only whole sleeps are taken from the
 * uptime, and nothing where it goes back (a container that was moved).
 */
export class SleepingClock {
  readonly #clocks: Awake;
  #offset: number;
  #slept = 0;

  constructor(clocks: Awake = system) {
    this.#clocks = clocks;
    this.#offset = clocks.up() - clocks.awake();
  }

  /** Seconds that the machine has slept since this was made. */
  get slept(): number {
    const offset = this.#clocks.up() - this.#clocks.awake();
    const more = offset - this.#offset;
    if (Math.abs(more) >= NOTICEABLE) {
      this.#offset = offset;
      this.#slept += Math.max(0, more);
    }
    return this.#slept;
  }

  now(): number {
    return this.#clocks.awake() + this.slept;
  }
}
