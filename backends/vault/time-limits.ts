/** The time limits of one request, one for each of its stages and one for all of it, and the stop that ends it before. */
import { BackendError } from "../../src/contract/backend.ts";
import type { Settings } from "./settings.ts";

export class TimeLimits {
  readonly #settings: Settings;
  readonly #signal: AbortSignal;
  readonly #fail: (error: BackendError) => void;
  readonly #onStop: () => void;
  readonly #total: NodeJS.Timeout;
  #stage: NodeJS.Timeout | undefined;

  /** @param fail is called when a limit is over or `signal` aborts. It calls `end`. */
  constructor(settings: Settings, signal: AbortSignal, fail: (error: BackendError) => void) {
    this.#settings = settings;
    this.#signal = signal;
    this.#fail = fail;
    this.#total = this.#limit(settings.timeouts.total, "no complete answer");
    this.#onStop = () => {
      fail(stopped());
    };
    signal.addEventListener("abort", this.#onStop, { once: true });
  }

  awaitConnection(): void {
    this.pause();
    this.#stage = this.#limit(this.#settings.timeouts.connect, "no connection");
  }

  /** Begins again with each part of an answer. */
  awaitAnswer(): void {
    this.pause();
    this.#stage = this.#limit(this.#settings.timeouts.response, "no answer");
  }

  /** The server waits for us. The total limit keeps running. */
  pause(): void {
    clearTimeout(this.#stage);
  }

  end(): void {
    this.pause();
    clearTimeout(this.#total);
    this.#signal.removeEventListener("abort", this.#onStop);
  }

  #limit(seconds: number, what: string): NodeJS.Timeout {
    return setTimeout(() => {
      this.#fail(new BackendError("unavailable", `${this.#settings.server}: ${what} within ${seconds} s`));
    }, seconds * 1000);
  }
}

export function stopped(): BackendError {
  return new BackendError("unavailable", "stopped");
}
