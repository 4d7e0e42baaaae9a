/** The mark on disk that says that an action is due: a crash between a publish and its action must not lose the action. */
import type { Log } from "../runtime/log.ts";

export interface PendingMarkParts {
  /** Writes it. @param publishedAt null: nothing is due. @throws where it cannot. */
  readonly write: (publishedAt: number | null) => void;
  readonly log: Log;
  /** Called with true when the mark on disk is wrong: call `again` until this is called with false. */
  readonly unmarked: (isUnmarked: boolean) => void;
}

export class PendingMark {
  readonly #parts: PendingMarkParts;
  /** The mark that could not be written. */
  #unwritten: { readonly publishedAt: number | null } | undefined;

  constructor(parts: PendingMarkParts) {
    this.#parts = parts;
  }

  /**
   * Where the write fails, the mark on disk has no time, or says that a finished action is due: at worst a crash makes
   * the action happen twice. `again` repeats the write.
   *
   * @param publishedAt µs of CLOCK_MONOTONIC at which the set was complete; null: nothing is due.
   */
  set(publishedAt: number | null): void {
    const { write, log, unmarked } = this.#parts;
    const before = this.#unwritten;
    try {
      write(publishedAt);
      this.#unwritten = undefined;
    } catch (error) {
      const why = error instanceof Error ? error.message : "cannot write the mark of the pending action";
      log[before === undefined ? "warn" : "debug"](why);
      this.#unwritten = { publishedAt };
    }
    if ((before === undefined) !== (this.#unwritten === undefined)) unmarked(this.#unwritten !== undefined);
  }

  /** Writes the mark that could not be written. */
  again(): void {
    if (this.#unwritten !== undefined) this.set(this.#unwritten.publishedAt);
  }
}
