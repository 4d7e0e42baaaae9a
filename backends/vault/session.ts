/** The token that requests go out with: got when needed, renewed while it lives, replaced when it dies. */
import { BackendError, type BackendContext } from "../../src/backend.ts";
import { type Grant, grantOf, secondsOf, dataOf } from "./answers.ts";
import type { Body, Call, Client } from "./client.ts";
import { Refused } from "./failures.ts";
import { Login, readWord } from "./login.ts";
import type { Auth, Settings } from "./settings.ts";
import { renewalTime, Timer } from "./timing.ts";

/** Seconds for which a refusal leads to no further login: a policy that refuses one path would make one at every poll. */
const LOGIN_PAUSE = 60;
/** A token of this age that is good, and yet refused, may lack a policy that was given to its role since. Seconds. */
const OLD = 600;

/** One token. Leases belong to it: they end with it. */
export interface Token {
  /** undefined: the server wants none of us. */
  readonly text: string | undefined;
  readonly since: number;
  /** Seconds of `now`; Infinity. */
  endsAt: number;
  /** Requests that it is still good for. */
  uses: number;
  renewable: boolean;
  /** What the server grants at once, in seconds; 0: without an end, or not known. */
  ttl: number;
  /** It has worked once. */
  proven: boolean;
}

export interface Answered {
  readonly body: Body;
  readonly token: Token;
}

export class Session {
  readonly #client: Client;
  readonly #auth: Auth;
  readonly #login: Login | undefined;
  readonly #context: BackendContext;
  readonly #now: () => number;
  readonly #timer = new Timer();
  readonly #stop = new AbortController();
  #token: Token | undefined;
  #getting: Promise<Token> | undefined;
  #lastForced = -Infinity;
  #lookedUp: Token | undefined;
  #warned = false;

  constructor(client: Client, settings: Settings, context: BackendContext, now: () => number) {
    const { auth } = settings;
    this.#client = client;
    this.#auth = auth;
    this.#login = auth.method === "token" || auth.method === "none" ? undefined : new Login(client, settings, auth);
    this.#context = context;
    this.#now = now;
  }

  /** The token that the next request would go out with, where there is one already. */
  get token(): Token | undefined {
    return this.#token;
  }

  /** A token file is read again, a token that has ended is replaced. @throws BackendError */
  async current(signal: AbortSignal): Promise<Token> {
    const { method } = this.#auth;
    const token = this.#token;
    if (method === "none") return (this.#token ??= this.#take({ token: undefined, ttl: 0, renewable: false, uses: 0 }));
    if (method === "token") {
      const text = await readWord(this.#auth.tokenPath, "token", signal);
      // Another round may have taken it meanwhile.
      if (this.#token?.text === text) return this.#token;
      return this.#take({ token: text, ttl: 0, renewable: false, uses: 0 });
    }
    return token !== undefined && this.#isUsable(token) ? token : await this.#logIn(signal);
  }

  /**
   * Sends a request with the current token; where it is refused, and another token is to be had, once more with that.
   *
   * @throws Refused, BackendError
   */
  async call(call: Call): Promise<Answered> {
    const token = await this.#claim(call.signal);
    try {
      return await this.#send(call, token);
    } catch (error) {
      if (!(error instanceof Refused) || error.status !== 403) throw error;
      if (!(await this.#hasOtherThan(token, call.signal))) throw error;
      return await this.#send(call, await this.#claim(call.signal));
    }
  }

  /** A token, and one of its uses: requests that go out together do not count on the same one. */
  async #claim(signal: AbortSignal): Promise<Token> {
    for (;;) {
      const token = this.#token ?? (await this.current(signal));
      if (this.#login === undefined || this.#isUsable(token)) {
        token.uses -= 1;
        return token;
      }
      await this.#logIn(signal);
    }
  }

  #isUsable(token: Token): boolean {
    return token.uses > 0 && this.#now() < token.endsAt;
  }

  async #send(call: Call, token: Token): Promise<Answered> {
    const body = await this.#client.call(call, token.text);
    token.proven = true;
    this.#lookUpSoon(token);
    return { body, token };
  }

  /** Ends the renewals; with `revoke`, and where a login made it, also the token. */
  async close(revoke: boolean, signal: AbortSignal): Promise<void> {
    const token = this.#token;
    this.#token = undefined;
    this.#stop.abort();
    this.#timer.stop();
    if (!revoke || this.#login === undefined || token?.text === undefined || !this.#isUsable(token)) return;
    await this.#client.call({ method: "POST", path: "auth/token/revoke-self", signal }, token.text);
  }

  /** Whether there is another token than the refused one now; not where that is good, and the answer stands. */
  async #hasOtherThan(refused: Token, signal: AbortSignal): Promise<boolean> {
    const { method } = this.#auth;
    if (method === "none") return false;
    if ((await this.current(signal)) !== refused) return true;
    const isGood = await this.#isGood(refused, signal);
    if (method === "token") {
      if (!isGood) throw new BackendError("denied", `the token in ${this.#auth.tokenPath} is not valid (any more)`);
      return false;
    }
    // Meanwhile another request may have got one.
    if (this.#token !== refused) return true;
    const now = this.#now();
    const worthIt = isGood ? now - refused.since > OLD : refused.proven;
    if (!worthIt || now - this.#lastForced < LOGIN_PAUSE) return false;
    this.#lastForced = now;
    if (!isGood) this.#context.log("notice", "the token is not valid any more: logging in again");
    await this.#logIn(signal);
    return true;
  }

  /** Every valid token may look itself up, unless somebody took the default policy from it. */
  async #isGood(token: Token, signal: AbortSignal): Promise<boolean> {
    if (token.uses <= 0) return false;
    token.uses -= 1;
    try {
      await this.#client.call({ method: "GET", path: "auth/token/lookup-self", signal }, token.text);
      return true;
    } catch (error) {
      if (error instanceof Refused && error.status === 403) return false;
      throw error instanceof Refused
        ? new BackendError("unavailable", `auth/token/lookup-self: status ${error.status}`)
        : error;
    }
  }

  /** However many requests want one, there is one login. */
  async #logIn(signal: AbortSignal): Promise<Token> {
    const login = this.#login;
    if (login === undefined) throw new TypeError("this method has no login");
    this.#getting ??= login
      .login(signal)
      .then((grant) => this.#take(grant))
      .finally(() => {
        this.#getting = undefined;
      });
    return await this.#getting;
  }

  #take(grant: Omit<Grant, "token"> & { readonly token: string | undefined }): Token {
    const now = this.#now();
    const token: Token = {
      text: grant.token,
      since: now,
      endsAt: grant.ttl === 0 ? Infinity : now + grant.ttl,
      uses: grant.uses === 0 ? Infinity : grant.uses,
      renewable: grant.renewable,
      ttl: grant.ttl,
      proven: false,
    };
    this.#token = token;
    this.#warned = false;
    this.#schedule(token, grant.ttl);
    return token;
  }

  /** What is known of a login's token came with it; that of a file is asked for, after the secrets are there. */
  #lookUpSoon(token: Token): void {
    if (this.#auth.method !== "token" || this.#lookedUp === token || this.#stop.signal.aborted) return;
    this.#lookedUp = token;
    void (async () => {
      const path = "auth/token/lookup-self";
      const body = await this.#client.call({ method: "GET", path, signal: this.#stop.signal }, token.text);
      const data = dataOf(body, path);
      const uses = secondsOf(data["num_uses"]);
      if (uses > 0) token.uses = uses;
      token.ttl = secondsOf(data["ttl"]);
      token.renewable = data["renewable"] === true;
      token.endsAt = token.ttl === 0 ? Infinity : this.#now() + token.ttl;
      if (token === this.#token) this.#schedule(token, token.ttl);
    })().catch((error: unknown) => {
      // An outage is no answer: without one the token would never be renewed. The next request asks again.
      if (!(error instanceof Refused) || error.status >= 500) this.#lookedUp = undefined;
      this.#context.log("debug", "the token cannot be looked up; it is used as it is");
    });
  }

  /** Each request is one of the uses of a token that has a limit of them: such a token is left to end. */
  #schedule(token: Token, ttl: number): void {
    this.#timer.stop();
    if (ttl === 0 || token.uses !== Infinity) return;
    this.#timer.set(renewalTime(ttl, this.#context.random), () => void this.#renew(token));
  }

  /** A failed renewal is tried again until the token has really ended. */
  async #renew(token: Token): Promise<void> {
    if (token !== this.#token || this.#stop.signal.aborted) return;
    try {
      if (token.renewable && (await this.#extend(token))) return;
      if (this.#login === undefined) this.#warnOfEnd(token);
      // While leases hang on the old one, both live.
      else await this.#logIn(this.#stop.signal);
    } catch (error) {
      if (token !== this.#token) return;
      const left = token.endsAt - this.#now();
      const why = error instanceof BackendError ? error.message : "the server refuses";
      this.#context.log(
        this.#warned ? "debug" : "warn",
        `the token cannot be renewed: ${why}; it ends in ${Math.max(0, left).toFixed(0)} s`,
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
      // Refused, or not renewable after all. What the next request meets decides.
      if (error instanceof Refused && error.status < 500 && error.status !== 412 && error.status !== 429) return false;
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
      `the token in ${this.#auth.tokenPath} ends in ${left.toFixed(0)} s and cannot be renewed: put another there`,
    );
  }
}
