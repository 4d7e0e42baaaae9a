/** The injected faults, and what held. */
import { errnoText } from "../../src/contract/errors.ts";
import type { Fault } from "./shim.ts";

/** The effect of one injection; undefined: the process made fewer calls this time, and no fault was injected. */
export type Verdict = { readonly what: string; readonly broken: readonly string[] } | undefined;

export class Ledger {
  readonly #seed: number;
  readonly #entries: { readonly phase: string; readonly fault: Fault; readonly verdict: NonNullable<Verdict> }[] = [];
  #state: number;

  constructor(seed: string | undefined) {
    this.#seed = seed === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(seed);
    this.#state = this.#seed;
  }

  sample<T>(all: readonly T[], size: number): T[] {
    const left = [...all];
    return Array.from({ length: Math.min(size, left.length) }, () =>
      left.splice(Math.floor(this.#random() * left.length), 1),
    ).flat();
  }

  async enter(phase: string, fault: Fault, inject: () => Promise<Verdict>): Promise<void> {
    const verdict = await inject();
    if (verdict !== undefined) this.#entries.push({ phase, fault, verdict });
  }

  injected(phase: string): number {
    return this.#of(phase).length;
  }

  /** In words: which call, how it failed, what broke. */
  failures(phase: string): string[] {
    return this.#of(phase)
      .filter(({ verdict }) => verdict.broken.length > 0)
      .map(({ fault, verdict }) => {
        const how = fault.how === "kill" ? "kill" : `${errnoText(fault.error)} ${fault.how}`;
        return `${phase}, call ${fault.nth}, ${verdict.what}: ${how}: ${verdict.broken.join("; ")}`;
      });
  }

  summary(phase: string, calls: number): string {
    const [all, failed] = [this.injected(phase), this.failures(phase).length];
    return `${phase}: ${calls} calls, ${all} injected, ${all - failed} held (seed ${this.#seed})`;
  }

  #of(phase: string) {
    return this.#entries.filter((entry) => entry.phase === phase);
  }

  /** A linear congruential generator: a seed only has to repeat a sample. */
  #random(): number {
    this.#state = (Math.imul(this.#state, 1_103_515_245) + 12_345) & 0x7fff_ffff;
    return this.#state / 0x8000_0000;
  }
}
