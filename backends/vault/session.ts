/** The token that requests go out with: got when needed, renewed while it lives, replaced when it dies. */
import { BackendError, type BackendContext } from "../../src/backend.ts";
import type { Body, Call, Client } from "./client.ts";
import { Refused } from "./failures.ts";
import { Login, readWord } from "./login.ts";
import { Renewal } from "./renewal.ts";
import type { Auth, Settings } from "./settings.ts";
import { unknownToken, type Token, tokenOf } from "./token.ts";

/** Seconds for which a refusal leads to no further login: a policy that refuses one path would make one at every poll. */
const LOGIN_PAUSE = 60;
/** A token of this age that is good, and yet refused, may lack a policy that was given to its role since. Seconds. */
const OLD = 600;

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
  readonly #renewal: Renewal;
  #token: Token | undefined;
  #getting: Promise<Token> | undefined;
  #lastForced = -Infinity;

  constructor(client: Client, settings: Settings, context: BackendContext, now: () => number) {
    const { auth } = settings;
    this.#client = client;
    this.#auth = auth;
    this.#login = auth.method === "token" || auth.method === "none" ? undefined : new Login(client, settings, auth);
    this.#context = context;
    this.#now = now;
    const replace = this.#login === undefined ? undefined : (signal: AbortSignal) => this.#logIn(signal);
    this.#renewal = new Renewal(client, auth, context, now, replace);
  }

  /** The token that the next request would go out with, where there is one already. */
  get token(): Token | undefined {
    return this.#token;
  }

  /** A token file is read again, a token that has ended is replaced. @throws BackendError */
  async current(signal: AbortSignal): Promise<Token> {
    const { method } = this.#auth;
    const token = this.#token;
    if (method === "none") return (this.#token ??= this.#take(unknownToken(undefined, this.#now())));
    if (method === "token") {
      const text = await readWord(this.#auth.tokenPath, "token", signal);
      // Another round may have taken it meanwhile.
      if (this.#token?.text === text) return this.#token;
      return this.#take(unknownToken(text, this.#now()));
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
    this.#renewal.lookUpSoon(token);
    return { body, token };
  }

  /** Ends the renewals; with `revoke`, and where a login made it, also the token. */
  async close(revoke: boolean, signal: AbortSignal): Promise<void> {
    const token = this.#token;
    this.#token = undefined;
    this.#renewal.stop();
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
    // Other requests were refused with it, too, and one of them is asking for a token that serves them all.
    await this.#getting;
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
      .then((grant) => this.#take(tokenOf(grant, this.#now())))
      .finally(() => {
        this.#getting = undefined;
      });
    return await this.#getting;
  }

  #take(token: Token): Token {
    this.#token = token;
    this.#renewal.begin(token);
    return token;
  }
}
