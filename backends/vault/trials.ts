/** When a refusal is worth another login. A token that died needs one; a policy that keeps us from a place needs none. */
import type { Token } from "./token.ts";

/** Seconds from one such login to the next, at least. */
const PAUSE = 60;
/** After a login in vain, at most: what a role was given is not to wait for as long as its token is old. Seconds. */
const LONGEST_PAUSE = 3600;
/** A token of this age that is good, and yet refused, may lack a policy that was given to its role since. Seconds. */
const OLD = 600;

/** What another token was refused, too. */
interface Vain {
  readonly wasGood: boolean;
  readonly pause: number;
  readonly nextAt: number;
}

export class Trials {
  readonly #now: () => number;
  #last = -Infinity;
  #unanswered: Token | undefined;
  /** By path. */
  readonly #vain = new WeakMap<Token, Map<string, Vain>>();

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

  /** The last trial in place of `token` could not tell whether that is dead. */
  isOpen(token: Token): boolean {
    return this.#unanswered === token;
  }

  succeeded(): void {
    this.#last = this.#now();
  }

  /**
   * A place that is refused for good costs ever fewer logins: the next is due when `token` is twice as old.
   *
   * @param isAnswered it was refused; false: an outage.
   */
  failed(token: Token, path: string, isGood: boolean, isAnswered: boolean): void {
    const now = this.#now();
    this.#last = now;
    this.#unanswered = isAnswered ? undefined : token;
    const paths = this.#vain.get(token) ?? new Map<string, Vain>();
    const vain = paths.get(path);
    const before = vain?.wasGood === isGood ? vain.pause : 0;
    // One that may not look itself up may be dead, however old it is.
    const pause = Math.min(Math.max(isGood ? now - token.since : 2 * before, PAUSE), LONGEST_PAUSE);
    this.#vain.set(token, paths.set(path, { wasGood: isGood, pause, nextAt: now + pause }));
  }
}
