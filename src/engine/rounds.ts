/** A failed system call that no other code expects costs a sidecar that is READY one round, but never ends it. */
import { systemRefusal } from "../contract/errors.ts";
import type { Log } from "../runtime/log.ts";
import type { Clock } from "../runtime/clock.ts";

/** Seconds before the next round. */
const PAUSE = 5;

export class Rounds {
  readonly #log: Log;
  readonly #clock: Clock;
  #problem: string | undefined;

  constructor({ log, clock }: { readonly log: Log; readonly clock: Clock }) {
    this.#log = log;
    this.#clock = clock;
  }

  /** Why the last round failed, for STATUS. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /** Does `work`, and waits a little where the system refuses it. @throws anything else that `work` throws: a bug. */
  async try(work: () => Promise<void>, stop: AbortSignal): Promise<void> {
    try {
      await work();
      this.#problem = undefined;
    } catch (error) {
      const refusal = systemRefusal(error);
      if (refusal === undefined) throw error;
      if (this.#problem !== refusal.message) this.#log.error(`${refusal.message}; the sidecar tries again`);
      this.#problem = refusal.message;
      await this.#clock.sleep(PAUSE, stop);
    }
  }
}
