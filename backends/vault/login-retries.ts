/**
 * Decides when a refusal is worth another login. A dead token needs one; a policy that keeps us from a place needs
 * none.
 */
import type { Token } from "./token.ts";

/** Seconds between two such logins, at least. */
const PAUSE = 60;
/**
 * Seconds to wait after a useless login, at most: a right that a role has gained must not wait for as long as its token
 * is old.
 */
const LONGEST_PAUSE = 3600;
/** Seconds. A valid token of this age that is refused may lack a policy that its role has gained since. */
const OLD = 600;

/** The useless logins for one token. */
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
  /** All places of a token share one pause: otherwise each permanently refused place would cost its own logins. */
  readonly #vain = new WeakMap<Token, Vain>();

  constructor(now: () => number) {
    this.#now = now;
  }

  /** @param isGood the server says that it knows `token`, which it refused at `path`. */
  isDue(token: Token, path: string, isGood: boolean): boolean {
    const now = this.#now();
    const vain = this.#vain.get(token);
    vain?.turns.add(path);
    if (now - this.#last < PAUSE) return false;
    // The token worked here before. Whatever other places say, it has probably died.
    if (!isGood && token.worked.has(path)) return true;
    if (vain?.wasGood === isGood) return now >= vain.nextAt && vain.turns.isTurnOf(path);
    return isGood ? now - token.since > OLD : token.worked.size > 0;
  }

  /** The last login for `token` could not tell whether it is dead. */
  isOpen(token: Token): boolean {
    return this.#unanswered === token;
  }

  succeeded(): void {
    this.#last = this.#now();
  }

  /**
   * Permanently refused places cost ever fewer logins: the next is due when `token` is twice as old.
   *
   * @param isAnswered the server refused it; false: an outage.
   */
  failed(token: Token, path: string, isGood: boolean, isAnswered: boolean): void {
    const now = this.#now();
    this.#last = now;
    this.#unanswered = isAnswered ? undefined : token;
    const before = this.#vain.get(token);
    const vain = before?.wasGood === isGood ? before : undefined;
    // A token that may not look itself up may be dead, however old it is.
    const pause = Math.min(Math.max(isGood ? now - token.since : 2 * (vain?.pause ?? 0), PAUSE), LONGEST_PAUSE);
    const turns = vain?.turns ?? new Turns();
    turns.tried(path);
    // If it is not dead, it may have lost many places at once. The places that it still may use are soon noted again.
    if (!isGood && token.worked.has(path)) token.worked.clear();
    this.#vain.set(token, { wasGood: isGood, pause, nextAt: now + pause, turns });
  }
}

/** Refused places take turns: each is tried once before any is tried again. */
class Turns {
  readonly #places = new Map<string, "waiting" | "tried" | "gave way">();

  /** `path` is refused. */
  add(path: string): void {
    if (!this.#places.has(path)) this.#places.set(path, "waiting");
  }

  /** A place that was tried gives way to waiting ones, but only once: they may be allowed now, and never come. */
  isTurnOf(path: string): boolean {
    const mustWait = this.#places.get(path) === "tried" && [...this.#places.values()].includes("waiting");
    if (mustWait) this.#places.set(path, "gave way");
    return !mustWait;
  }

  tried(path: string): void {
    // A second time: all had their turn. Places that are still refused come again.
    if (this.#places.has(path) && this.#places.get(path) !== "waiting") this.#places.clear();
    for (const [other, turn] of this.#places) if (turn === "gave way") this.#places.set(other, "tried");
    this.#places.set(path, "tried");
  }
}
