/** Wakes one waiting loop. It keeps a ring while nothing waits; two rings count as one. */
import type { Clock } from "./clock.ts";

export class Alarm<Reason extends string> {
  readonly #clock: Clock;
  readonly #rung = new Set<Reason>();
  #wake: (() => void) | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  ring(reason: Reason): void {
    this.#rung.add(reason);
    this.#wake?.();
  }

  /**
   * Waits until something rings, `seconds` are over or `signal` aborts, whichever comes first.
   *
   * @returns what has rung since the last call; empty when the time was over.
   */
  async wait(seconds: number, signal: AbortSignal): Promise<ReadonlySet<Reason>> {
    if (this.#rung.size === 0 && !signal.aborted) {
      const over = new AbortController();
      const cancel = () => {
        over.abort();
      };
      this.#wake = cancel;
      signal.addEventListener("abort", cancel, { once: true });
      await this.#clock.sleep(seconds, over.signal);
      signal.removeEventListener("abort", cancel);
      this.#wake = undefined;
    }
    const rung = new Set(this.#rung);
    this.#rung.clear();
    return rung;
  }
}
