/** Keeps a token alive for as long as its server lets it; then replaces it, or warns that it ends. */
import { BackendError, type BackendContext } from "../../src/contract/backend.ts";
import { dataOf, grantOf, secondsOf } from "./answers.ts";
import type { Body, Client } from "./client.ts";
import { Refused } from "./failures.ts";
import type { Auth } from "./settings.ts";
import { renewalTime, Timer } from "./renewal-times.ts";
import type { Token } from "./token.ts";

/** Seconds after which a failed look-up is repeated, unless a request has done so meanwhile. */
const LOOK_UP_PAUSE = 30;

/** Seconds by which a timer may be late on a busy machine that has not slept. */
const TIMER_SLACK = 5;

export class TokenRenewal {
  readonly #client: Client;
  readonly #auth: Auth;
  readonly #context: BackendContext;
  readonly #now: () => number;
  readonly #replace: ((signal: AbortSignal) => Promise<unknown>) | undefined;
  readonly #timer = new Timer();
  readonly #stop = new AbortController();
  /** The one in use. */
  #token: Token | undefined;
  #lookedUp: Token | undefined;
  /** The server has said what it says of this one. */
  #described: Token | undefined;
  /** Fetches under way. */
  #fetches = 0;
  /** To be looked up at their end. */
  #wanted: Token | undefined;
  /** Seconds of `now`: a timer stands still while the machine sleeps. */
  #dueAt = Infinity;
  #warned = false;

  /** @param replace gets another token in place of one that ends; undefined: no login is known. */
  constructor(
    client: Client,
    auth: Auth,
    context: BackendContext,
    now: () => number,
    replace: ((signal: AbortSignal) => Promise<unknown>) | undefined,
  ) {
    this.#client = client;
    this.#auth = auth;
    this.#context = context;
    this.#now = now;
    this.#replace = replace;
  }

  /** From now on `token` is the one in use. */
  begin(token: Token): void {
    this.#token = token;
    this.#warned = false;
    this.#schedule(token, token.ttl);
  }

  /** A fetch begins, which no look-up may delay: it would have the connection that the next secret needs. */
  fetchBegins(): void {
    this.#fetches += 1;
  }

  fetchEnds(): void {
    this.#fetches -= 1;
    const token = this.#wanted;
    if (this.#fetches > 0 || token === undefined) return;
    this.#wanted = undefined;
    // After what the caller does at once with the secrets: publish them.
    setImmediate(() => {
      this.lookUpSoon(token);
    });
  }

  /** Whether all is known about it that the server says. */
  isKnown(token: Token): boolean {
    return this.#auth.method !== "token" || this.#described === token;
  }

  /** A login describes its token. For a token from a file we ask the server, once the secrets are there. */
  lookUpSoon(token: Token): void {
    if (this.#auth.method !== "token" || this.#lookedUp === token || this.#stop.signal.aborted) return;
    if (this.#fetches > 0) {
      this.#wanted = token;
      return;
    }
    this.#lookedUp = token;
    void (async () => {
      const path = "auth/token/lookup-self";
      const body = await this.#client.call({ method: "GET", path, signal: this.#stop.signal }, token.text);
      token.worked.add(path);
      this.#described = token;
      const data = dataOf(body, path);
      const uses = secondsOf(data["num_uses"]);
      if (uses > 0) token.uses = uses;
      token.ttl = secondsOf(data["ttl"]);
      token.renewable = data["renewable"] === true;
      token.endsAt = token.ttl === 0 ? Infinity : this.#now() + token.ttl;
      if (token === this.#token) this.#schedule(token, token.ttl);
    })().catch((error: unknown) => {
      this.#context.log("debug", "cannot look up the token; using it as it is");
      if (error instanceof Refused && !error.isTemporary) this.#described = token;
      if (token !== this.#token || this.#described === token) return;
      // An outage does not answer that: without an answer the token would never be renewed. The next request asks
      // again, or else the timer does.
      this.#lookedUp = undefined;
      this.#timer.set(LOOK_UP_PAUSE, () => {
        this.lookUpSoon(token);
      });
    });
  }

  /** Renews now a token whose time came while the machine slept. */
  catchUp(): void {
    const token = this.#token;
    if (token === undefined || this.#now() < this.#dueAt + TIMER_SLACK) return;
    this.#timer.stop();
    void this.#renew(token);
  }

  stop(): void {
    this.#token = undefined;
    this.#stop.abort();
    this.#timer.stop();
  }

  /** A renewal would use up a token that has a limit of uses: such a token is left to end. */
  #schedule(token: Token, ttl: number): void {
    this.#timer.stop();
    this.#dueAt = Infinity;
    if (ttl === 0 || token.uses !== Infinity) return;
    const wait = renewalTime(ttl, this.#context.random);
    this.#dueAt = this.#now() + wait;
    this.#timer.set(wait, () => void this.#renew(token));
  }

  /** A failed renewal is tried again until the token has really ended. */
  async #renew(token: Token): Promise<void> {
    if (token !== this.#token || this.#stop.signal.aborted) return;
    this.#dueAt = Infinity;
    try {
      if (token.renewable && (await this.#extend(token))) return;
      if (this.#replace === undefined) this.#warnOfEnd(token);
      // Both tokens live on: leases depend on the old one.
      else await this.#replace(this.#stop.signal);
    } catch (error) {
      if (token !== this.#token) return;
      const left = token.endsAt - this.#now();
      const why = error instanceof BackendError ? error.message : "the server refuses";
      this.#context.log(
        this.#warned ? "debug" : "warn",
        `cannot renew the token: ${why}; it ends in ${Math.max(0, left).toFixed(0)} s`,
      );
      this.#warned = true;
      if (left > 0) this.#timer.set(Math.max(1, Math.min(30, left / 10)), () => void this.#renew(token));
    }
  }

  /** @returns whether it lives on for long enough; near its maximum the server grants less and less. */
  async #extend(token: Token): Promise<boolean> {
    const path = "auth/token/renew-self";
    let body: Body;
    try {
      body = await this.#client.call({ method: "POST", path, data: {}, signal: this.#stop.signal }, token.text);
    } catch (error) {
      // Refused, or not renewable after all. The next request will show.
      if (error instanceof Refused && !error.isTemporary) return false;
      throw error;
    }
    const { ttl, renewable } = grantOf(body, path);
    if (ttl === 0) {
      token.endsAt = Infinity;
      return true;
    }
    token.endsAt = this.#now() + ttl;
    token.renewable = renewable;
    this.#warned = false;
    if (ttl < token.ttl / 2) return false;
    token.ttl = Math.max(token.ttl, ttl);
    this.#schedule(token, ttl);
    return true;
  }

  #warnOfEnd(token: Token): void {
    if (this.#auth.method !== "token") return;
    const left = Math.max(0, token.endsAt - this.#now());
    this.#context.log(
      "warn",
      `the token in ${this.#auth.tokenPath} ends in ${left.toFixed(0)} s and cannot be renewed: put a new one there`,
    );
  }
}
