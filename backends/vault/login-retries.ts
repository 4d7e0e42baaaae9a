/** When a refusal is worth another login. A token that died needs one; a policy that keeps us from a place needs none. */
import type { Token } from "./token.ts";

/** Seconds from one such login to the next, at least. */
const PAUSE = 60;
/** After a login in vain, at most: what a role was given is not to wait for as long as its token is old. Seconds. */
const LONGEST_PAUSE = 3600;
/** A token of this age that is good, and yet refused, may lack a policy that was given to its role since. Seconds. */
const OLD = 600;

/** The trials in place of a token that were in vain. */
interface Vain {
  readonly wasGood: boolean;
  readonly pause: number;
  readonly nextAt: number;
  readonly turns: Turns;
}

export class LoginRetries {
  readonly #now: () => number;
  #last = -Infinity;
  #unanswered: Token | undefined;
  /** One pause for all places of a token: each of many that are refused for good would cost logins of its own. */
  readonly #vain = new WeakMap<Token, Vain>();

  constructor(now: () => number) {
    this.#now = now;
  }

  /** @param isGood the server says that it knows `token`, which `path` was refused to. */
  isDue(token: Token, path: string, isGood: boolean): boolean {
    const now = this.#now();
    const vain = this.#vain.get(token);
    vain?.turns.add(path);
    if (now - this.#last < PAUSE) return false;
    // No matter of other places: more likely it has died.
    if (!isGood && token.worked.has(path)) return true;
    if (vain?.wasGood === isGood) return now >= vain.nextAt && vain.turns.isTurnOf(path);
    return isGood ? now - token.since > OLD : token.worked.size > 0;
  }

  /** The last trial in place of `token` could not tell whether that is dead. */
  isOpen(token: Token): boolean {
    return this.#unanswered === token;
  }

  succeeded(): void {
    this.#last = this.#now();
  }

  /**
   * Places that are refused for good cost ever fewer logins: the next is due when `token` is twice as old.
   *
   * @param isAnswered it was refused; false: an outage.
   */
  failed(token: Token, path: string, isGood: boolean, isAnswered: boolean): void {
    const now = this.#now();
    this.#last = now;
    this.#unanswered = isAnswered ? undefined : token;
    const before = this.#vain.get(token);
    const vain = before?.wasGood === isGood ? before : undefined;
    // One that may not look itself up may be dead, however old it is.
    const pause = Math.min(Math.max(isGood ? now - token.since : 2 * (vain?.pause ?? 0), PAUSE), LONGEST_PAUSE);
    const turns = vain?.turns ?? new Turns();
    turns.tried(path);
    // Where it is not dead after all, it may have lost many places at once. What it still may soon works again.
    if (!isGood && token.worked.has(path)) token.worked.clear();
    this.#vain.set(token, { wasGood: isGood, pause, nextAt: now + pause, turns });
  }
}

/** Among places that are refused: each is tried once before any is tried again. */
class Turns {
  readonly #places = new Map<string, "waiting" | "tried" | "gave way">();

  /** `path` is refused. */
  add(path: string): void {
    if (!this.#places.has(path)) this.#places.set(path, "waiting");
  }

  /** One that was tried gives way to those that wait, but once: they may not be refused any more, and never come. */
  isTurnOf(path: string): boolean {
    const mustWait = this.#places.get(path) === "tried" && [...this.#places.values()].includes("waiting");
    if (mustWait) this.#places.set(path, "gave way");
    return !mustWait;
  }

  tried(path: string): void {
    // A second time: all had their turn. Those that are still refused come again.
    if (this.#places.has(path) && this.#places.get(path) !== "waiting") this.#places.clear();
    for (const [other, turn] of this.#places) if (turn === "gave way") this.#places.set(other, "tried");
    this.#places.set(path, "tried");
  }
}
