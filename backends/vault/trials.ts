/** When a refusal is worth another login. A token that died needs one; a policy that keeps us from a place needs none. */
import type { Token } from "./token.ts";

/** Seconds from one such login to the next. */
const PAUSE = 60;
/** A token of this age that is good, and yet refused, may lack a policy that was given to its role since. Seconds. */
const OLD = 600;

export class Trials {
  readonly #now: () => number;
  #last = -Infinity;
  /** By path: what another token was refused, too. */
  readonly #vain = new WeakMap<Token, Map<string, { readonly wasGood: boolean; readonly nextAt: number }>>();

  constructor(now: () => number) {
    this.#now = now;
  }

  /** @param isGood the server says that it knows `token`, which `path` was refused to. */
  isDue(token: Token, path: string, isGood: boolean): boolean {
    const now = this.#now();
    if (now - this.#last < PAUSE) return false;
    const vain = this.#vain.get(token)?.get(path);
    if (vain?.wasGood === isGood) return now >= vain.nextAt;
    return isGood ? now - token.since > OLD : token.proven;
  }

  succeeded(): void {
    this.#last = this.#now();
  }

  /** The next one is due when `token` is twice as old: a place that is refused for good costs ever fewer logins. */
  failed(token: Token, path: string, isGood: boolean): void {
    const now = this.#now();
    this.#last = now;
    const paths = this.#vain.get(token) ?? new Map<string, { readonly wasGood: boolean; readonly nextAt: number }>();
    this.#vain.set(token, paths.set(path, { wasGood: isGood, nextAt: now + Math.max(now - token.since, PAUSE) }));
  }
}
