/** How much one store may send: over a limit only the secrets of that place are refused, and the rest continues. */
import { BackendError, type Outcome } from "./backend.ts";

const MIB = 1024 * 1024;

/** Bytes of one value. */
export const MAX_VALUE = 16 * MIB;
/** Bytes of all values of one service. */
export const MAX_VALUES = 64 * MIB;

/** Bytes of all answers that one fetch reads: escapes make a value up to six times as long. */
export const MAX_TRAFFIC = 4 * MAX_VALUES;

export const NO_ROOM = `all secrets together are larger than ${MAX_VALUES / MIB} MiB`;

/** What is left of `MAX_VALUES` in one fetch. */
export class Room {
  #left: number;

  /** @param held bytes of the values that are not fetched now, and stay. */
  constructor(held = 0) {
    this.#left = MAX_VALUES - held;
  }

  /** Call it before taking memory for a value. @returns false without room; then it takes nothing. */
  take(bytes: number): boolean {
    if (bytes > this.#left) return false;
    this.#left -= bytes;
    return true;
  }

  /** Call it before taking memory for a value. @returns why it is refused: then nothing is taken. */
  refusal(bytes: number, place: string): BackendError | undefined {
    if (bytes <= MAX_VALUE && this.take(bytes)) return undefined;
    const what = bytes > MAX_VALUE ? `the value is larger than ${MAX_VALUE / MIB} MiB` : `with it, ${NO_ROOM}`;
    return new BackendError("invalid", `${place}: ${what}`);
  }

  /** @returns the outcome, or why it is refused. A refused value takes no room, and is overwritten. */
  admit(outcome: Outcome, place: string): Outcome {
    if (!("status" in outcome) || outcome.status !== "value") return outcome;
    const refusal = this.refusal(outcome.value.length, place);
    if (refusal !== undefined) outcome.value.fill(0);
    return refusal ?? outcome;
  }
}

/** Bytes of answers that may wait for the garbage collector. */
const MUCH = 32 * MIB;

let collect: () => void = () => undefined;

/** For a runtime that frees large answers late: collects them while `work` runs. */
export function collectBetweenAnswers(work: () => void): void {
  collect = work;
}

/** What is left of `MAX_TRAFFIC` in one fetch. */
export class Traffic {
  #left = MAX_TRAFFIC;
  /** Bytes since the last collection. */
  #uncollected = 0;

  /** A fetch begins. */
  begin(): void {
    this.#left = MAX_TRAFFIC;
  }

  /** @returns an error if the store has sent too much so far: that may be the fault of another place. */
  take(bytes: number, place: string): BackendError | undefined {
    this.#left -= bytes;
    this.#uncollected += bytes;
    if (this.#uncollected >= MUCH) {
      this.#uncollected = 0;
      collect();
    }
    if (this.#left >= 0) return undefined;
    return new BackendError("unavailable", `${place}: all answers together are larger than ${MAX_TRAFFIC / MIB} MiB`);
  }
}
