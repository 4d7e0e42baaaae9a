/** The token that requests go out with: got when needed, renewed while it lives, replaced when it dies. */
import { BackendError, type BackendContext } from "../../src/contract/backend.ts";
import type { Body, Call, Client } from "./client.ts";
import { Refused } from "./failures.ts";
import { Login, readWord } from "./login.ts";
import { TokenRenewal } from "./token-renewal.ts";
import type { Auth, Settings } from "./settings.ts";
import { type Token, tokenOf, unknownToken } from "./token.ts";
import { LoginRetries } from "./login-retries.ts";

/**
 * Seconds. After a boot an agent that has not logged in yet may have left its last token in the file, which has ended
 * meanwhile.
 */
const REPLACED_AFTER = 30;

export interface Answered {
  readonly body: Body;
  readonly token: Token;
  /** Seconds since 1970, by the server's clock. */
  readonly at: number;
}

export class Session {
  readonly #client: Client;
  readonly #auth: Auth;
  readonly #server: string;
  readonly #login: Login | undefined;
  readonly #context: BackendContext;
  readonly #now: () => number;
  readonly #renewal: TokenRenewal;
  readonly #retries: LoginRetries;
  #token: Token | undefined;
  #getting: Promise<Token> | undefined;
  /** A login after a refusal that is in progress. It resolves to the failure, if any, for all that wait for it. */
  #trial: Promise<Error | undefined> | undefined;

  constructor(client: Client, settings: Settings, context: BackendContext, now: () => number) {
    const { auth } = settings;
    this.#client = client;
    this.#auth = auth;
    this.#server = settings.server;
    this.#login = auth.method === "token" || auth.method === "none" ? undefined : new Login(client, settings, auth);
    this.#context = context;
    this.#now = now;
    this.#retries = new LoginRetries(now);
    const replace = this.#login === undefined ? undefined : (signal: AbortSignal) => this.#logIn(signal);
    this.#renewal = new TokenRenewal(client, auth, context, now, replace);
  }

  /** The token of the next request, if one exists already. */
  get token(): Token | undefined {
    return this.#token;
  }

  /**
   * Where the token that requests go out with comes from, and what it is; a login's stays until it ends.
   *
   * @returns undefined where it can go out only so often, or not at all.
   */
  get word(): { readonly path: string; readonly text: string } | undefined {
    const token = this.#token;
    if (token?.uses !== Infinity || !this.#isUsable(token) || !this.#renewal.isKnown(token)) return undefined;
    const path = this.#auth.method === "token" ? this.#auth.tokenPath : "";
    return { path, text: path === "" ? "" : (token.text ?? "") };
  }

  fetchBegins(): void {
    this.#renewal.fetchBegins();
  }

  fetchEnds(): void {
    this.#renewal.fetchEnds();
  }

  /** Reads a token file again, and replaces a token that has ended. @throws BackendError */
  async current(signal: AbortSignal): Promise<Token> {
    this.#renewal.catchUp();
    const { method } = this.#auth;
    const token = this.#token;
    if (method === "none") return (this.#token ??= this.#take(unknownToken(undefined, this.#now())));
    if (method === "token") {
      const text = await readWord(this.#auth.tokenPath, "token", signal);
      // Another round may have taken it since.
      if (this.#token?.text === text) return this.#token;
      return this.#take(unknownToken(text, this.#now()));
    }
    return token !== undefined && this.#isUsable(token) ? token : await this.#logIn(signal);
  }

  /**
   * Sends a request with the current token. Where the server refuses that, and another token is available, it sends the
   * request once more with the other.
   *
   * @throws Refused, BackendError
   */
  async call(call: Call): Promise<Answered> {
    const token = await this.#claim(call.signal);
    try {
      return await this.#send(call, token);
    } catch (error) {
      if (!(error instanceof Refused) || !error.isOfToken) throw error;
      return await this.#again(call, token, error);
    }
  }

  /**
   * Sends a request that is not worth a login: only with the token that there is.
   *
   * @throws Refused, BackendError
   */
  async attempt(call: Call): Promise<Answered> {
    const token = this.#token;
    if (token === undefined || !this.#isUsable(token)) throw new BackendError("unavailable", "there is no token");
    token.uses -= 1;
    return await this.#send(call, token);
  }

  /** Takes a token and one of its uses: requests that go out together do not count on the same one. */
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
    token.worked.add(call.path);
    this.#renewal.lookUpSoon(token);
    return { body, token, at: this.#client.serverTime };
  }

  /** Ends the renewals. With `revoke`, it also revokes a token that a login made. */
  async close(revoke: boolean, signal: AbortSignal): Promise<void> {
    const token = this.#token;
    this.#token = undefined;
    this.#renewal.stop();
    if (!revoke || this.#login === undefined || token === undefined || !this.#isUsable(token)) return;
    await this.#revoke(token, signal);
  }

  async #revoke({ text }: Token, signal: AbortSignal): Promise<void> {
    await this.#client.call({ method: "POST", path: "auth/token/revoke-self", signal }, text);
  }

  /**
   * Repeats the call with another token, if one exists or a login gives one.
   *
   * @throws `refusal` where it stands.
   */
  async #again(call: Call, refused: Token, refusal: Refused): Promise<Answered> {
    const { signal } = call;
    const { method } = this.#auth;
    if ((await this.current(signal)) !== refused) return await this.#resend(call);
    const isGood = await this.#isGood(refused, signal);
    refused.isRefused = !isGood;
    if (method === "none") {
      if (isGood) throw refusal;
      // An agent passes requests on before it has logged in. If its token lacks the default policy, this looks the
      // same.
      const why = "the agent has no token (yet), or one that may not look itself up";
      throw new BackendError("unavailable", `${this.#server}: ${why}`);
    }
    if (method === "token") {
      if (isGood) throw refusal;
      const why = "is not valid (any more), or may neither read this nor look itself up";
      // What programs print around it: `VAULT_TOKEN=`, quotes, the JSON of a login.
      const isDressed = /["'{=]/.test(refused.text ?? "");
      const hint = isDressed
        ? "more than the token seems to be in that file"
        : "put a new one there, or correct its policy";
      const text = `the token in ${this.#auth.tokenPath} ${why}: ${hint}`;
      throw new BackendError("denied", text, undefined, isDressed ? undefined : REPLACED_AFTER);
    }
    // Other requests were refused with it, too, and one of them may be getting a token that serves them all.
    if (this.#getting !== undefined) await this.#getting;
    const failure = this.#trial === undefined ? undefined : await this.#trial;
    if (failure !== undefined) throw failure;
    if (this.#token !== refused) return await this.#resend(call);
    if (!this.#retries.isDue(refused, call.path, isGood)) {
      if (isGood || !this.#retries.isOpen(refused)) throw refusal;
      throw new BackendError("unavailable", `${this.#server}: cannot tell whether the token is still valid (yet)`);
    }
    const trial = this.#tryAnother(call, refused, isGood, refusal);
    this.#trial = trial
      .then(() => undefined, failureOfAll)
      .finally(() => {
        this.#trial = undefined;
      });
    return await trial;
  }

  async #resend(call: Call): Promise<Answered> {
    return await this.#send(call, await this.#claim(call.signal));
  }

  /**
   * Takes a new token only where it is worth more than the old one, whose leases end with it: where it may do what the
   * old one may not, or where the server does not know the old one any more.
   */
  async #tryAnother(call: Call, refused: Token, isGood: boolean, refusal: Refused): Promise<Answered> {
    const { path, signal } = call;
    let token: Token;
    try {
      token = await this.#newToken(signal);
    } catch (error) {
      if (!isGood) throw error;
      this.#retries.failed(refused, path, isGood, true);
      throw refusal;
    }
    const take = () => {
      this.#retries.succeeded();
      const why = isGood ? `may not use ${path}` : "is not valid any more";
      this.#context.log("notice", `logged in again: the old token ${why}`);
      this.#take(token);
    };
    try {
      token.uses -= 1;
      const answered = await this.#send(call, token);
      take();
      return answered;
    } catch (error) {
      const isAnswer = error instanceof Refused && !error.isTemporary;
      const isNotRefused = isAnswer && error.status !== 403;
      // Where a new one may not look itself up either, that says nothing about the old one.
      if (isNotRefused || (!isGood && (await this.#isGood(token, signal).catch(() => false)))) take();
      else {
        // In an outage a dead token would cost a login with every attempt at every place.
        if (isAnswer || !isGood) this.#retries.failed(refused, path, isGood, isAnswer);
        // Where this fails, it runs out by itself.
        await this.#revoke(token, signal).catch(() => undefined);
      }
      throw error;
    }
  }

  /** Every valid token may look itself up, unless it lacks the default policy. */
  async #isGood(token: Token, signal: AbortSignal): Promise<boolean> {
    if (token.uses <= 0) return false;
    token.uses -= 1;
    try {
      await this.#client.call({ method: "GET", path: "auth/token/lookup-self", signal }, token.text);
      return true;
    } catch (error) {
      if (!(error instanceof Refused) || error.isTemporary) throw error;
      if (error.isOfToken) return false;
      throw new BackendError("unavailable", `auth/token/lookup-self: status ${error.status}`);
    }
  }

  /** All requests that want a token share one login. */
  async #logIn(signal: AbortSignal): Promise<Token> {
    this.#getting ??= this.#newToken(signal)
      .then((token) => this.#take(token))
      .finally(() => {
        this.#getting = undefined;
      });
    return await this.#getting;
  }

  /** A token not in use yet. */
  async #newToken(signal: AbortSignal): Promise<Token> {
    if (this.#login === undefined) throw new TypeError("this method has no login");
    return tokenOf(await this.#login.login(signal), this.#now());
  }

  #take(token: Token): Token {
    this.#token = token;
    this.#renewal.begin(token);
    return token;
  }
}

/** What a server says about one place says nothing about others. */
function failureOfAll(error: Error): Error | undefined {
  return error instanceof Refused && !error.isTemporary ? undefined : error;
}
