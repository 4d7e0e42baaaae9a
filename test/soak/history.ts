import { randomBytes } from "node:crypto";

/** A part of every value: only the published files may hold it. */
export const CANARY = `canary${randomBytes(6).toString("hex")}`;

/** The values that one store got, in their order. The history knows a value before the store has it. */
export class History {
  readonly #name: string;
  readonly #values: string[] = [];

  constructor(name: string) {
    this.#name = name;
  }

  /** @returns the next value; values that a verify command refuses hold `refused`. */
  next(refused = false): string {
    const value = `${this.#name}-${this.#values.length}-${refused ? "refused-" : ""}${CANARY}`;
    this.#values.push(value);
    return value;
  }

  /** The value's place in the order; undefined: no store ever held it. */
  place(value: string): number | undefined {
    const at = this.#values.indexOf(value);
    return at < 0 ? undefined : at;
  }

  get latest(): string {
    return this.#values.at(-1) ?? "";
  }

  get length(): number {
    return this.#values.length;
  }
}
