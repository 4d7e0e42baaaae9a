/** How much one store may send: what is over a limit is refused for the secrets of that place, and the rest goes on. */
import { BackendError, type Outcome } from "./backend.ts";

const MIB = 1024 * 1024;

/** Bytes of one value. */
export const MAX_VALUE = 16 * MIB;
/** Bytes of all values of one service. */
export const MAX_VALUES = 64 * MIB;

export const NO_ROOM = `all secrets together are larger than ${MAX_VALUES / MIB} MiB`;

/** What is left of `MAX_VALUES` in one fetch. */
export class Room {
  #left: number;

  /** @param held bytes of the values that are not fetched now, and stay. */
  constructor(held = 0) {
    this.#left = MAX_VALUES - held;
  }

  /** Before memory is taken for a value. @returns false where there is no room left; then nothing is taken. */
  take(bytes: number): boolean {
    if (bytes > this.#left) return false;
    this.#left -= bytes;
    return true;
  }

  /** @returns the outcome, or why it is refused. What is refused takes no room, and is overwritten. */
  admit(outcome: Outcome, place: string): Outcome {
    if (!("status" in outcome) || outcome.status !== "value") return outcome;
    const { value } = outcome;
    if (value.length <= MAX_VALUE && this.take(value.length)) return outcome;
    value.fill(0);
    const what = value.length > MAX_VALUE ? `the value is larger than ${MAX_VALUE / MIB} MiB` : `with it, ${NO_ROOM}`;
    return new BackendError("invalid", `${place}: ${what}`);
  }
}
