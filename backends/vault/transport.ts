/** One request and its answer, within its time limits, to one server only. No proxy, nothing from the environment. */
import http from "node:http";
import type https from "node:https";
import { isIP } from "node:net";
import type { SecureContextOptions } from "node:tls";
import { BackendError } from "../../src/contract/backend.ts";
import { errnoCode } from "../../src/contract/errors.ts";
import { ofConnection } from "./failures.ts";
import { type Answer, interpret, placeOf, type Raw, shortened } from "./interpret.ts";
import { Traffic } from "../../src/contract/limits.ts";
import { hiddenHint, networkHint } from "../../src/contract/unit-sandbox.ts";
import { Mutex } from "./mutex.ts";
import type { Settings } from "./settings.ts";
import { stopped, TimeLimits } from "./time-limits.ts";
import { TlsFiles } from "./tls-files.ts";

/** What node-vault hands to its `request-promise`. */
export interface Request {
  readonly method: string;
  readonly uri: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly json?: unknown;
  readonly signal: AbortSignal;
}

/** Bytes. Vault's own limit for a request, and so for a stored secret, is 32 MiB; we publish secrets up to 16 MiB. */
export const MAX_BODY = 32 * 1024 * 1024;
/** Bytes. Above this, answers come in one at a time: eight of the largest at once would need too much memory. */
const LARGE = 1024 * 1024;
const MAX_REDIRECTS = 3;
/** Responses with status 1xx before an answer: some servers send one. */
const MAX_INTERIM = 100;
/** ms that an idle connection is kept for the requests of one fetch, and for those between two. */
const IDLE = 3000;

/** @throws (all of it) BackendError for what is wrong with the connection or the answer; Refused for an error status. */
export class Transport {
  readonly #settings: Settings;
  readonly #tls: TlsFiles | undefined;
  readonly #large = new Mutex();
  readonly #traffic = new Traffic();
  #agent: http.Agent | undefined;
  /** ms by which the server's clock is ahead of ours, as of its last answer. */
  #ahead = 0;

  constructor(settings: Settings) {
    this.#settings = settings;
    this.#tls = settings.url.startsWith("https:") ? new TlsFiles(settings.tls) : undefined;
  }

  async send({ method, uri, headers, json, signal }: Request): Promise<Answer> {
    const { server } = this.#settings;
    const body = json === undefined ? undefined : Buffer.from(JSON.stringify(json));
    const agent = await this.#ready(signal);
    let url = new URL(uri);
    try {
      for (let redirects = 0; ; redirects++) {
        const raw = await this.#exchange(url, { method, headers, agent, signal }, body);
        const date = Date.parse(raw.headers.date ?? "");
        if (Number.isFinite(date)) this.#ahead = date - Date.now();
        if (raw.status < 300 || raw.status >= 400) return interpret(raw, server, placeOf(url));
        raw.body.fill(0);
        url = this.#follow(url, raw, method);
        if (redirects === MAX_REDIRECTS) throw new BackendError("unavailable", `${server}: redirects without end`);
      }
    } finally {
      body?.fill(0);
    }
  }

  /** Seconds since 1970, by the server's clock: at boot our own may be hours away. */
  get serverTime(): number {
    return (Date.now() + this.#ahead) / 1000;
  }

  /** A fetch begins: the limit for all its answers together counts from here. */
  begin(): void {
    this.#traffic.begin();
  }

  /**
   * A fetch ends, and with it its idle connections: the next fetch opens new ones. An open connection wakes the process
   * again and again, and a poll must cost little.
   */
  end(): void {
    for (const sockets of Object.values(this.#agent?.freeSockets ?? {}))
      for (const socket of [...(sockets ?? [])]) socket.destroy();
  }

  close(): void {
    this.#agent?.destroy();
  }

  /**
   * Makes a new agent where the TLS files have changed; requests under way end on the old one. No session is resumed:
   * that would skip the check of the server's certificate, which may have expired since.
   */
  async #ready(signal: AbortSignal): Promise<http.Agent> {
    const options = { keepAlive: true, timeout: IDLE, maxSockets: 8 };
    if (this.#tls === undefined) return (this.#agent ??= new http.Agent(options));
    const context = await this.#tls.changed(signal);
    if (context !== undefined || this.#agent === undefined)
      this.#agent = new (secure().Agent)({ ...options, maxCachedSessions: 0, ...this.#tlsOptions(context ?? {}) });
    return this.#agent;
  }

  #tlsOptions(context: SecureContextOptions): https.AgentOptions {
    const { minVersion, serverName, insecureDoNotVerifyServer } = this.#settings.tls;
    const { hostname } = new URL(this.#settings.url);
    const name = serverName ?? (isIP(hostname.replace(/^\[|\]$/g, "")) === 0 ? hostname : undefined);
    return {
      ...context,
      // As curl and Go do, trust what `caFile` holds, be it the issuing authority or the server's certificate alone.
      allowPartialTrustChain: context.ca !== undefined,
      minVersion,
      ...(name === undefined ? {} : { servername: name }),
      // Set explicitly: the default comes from NODE_TLS_REJECT_UNAUTHORIZED.
      rejectUnauthorized: !insecureDoNotVerifyServer,
    };
  }

  /**
   * During a fail-over a standby redirects to a leader that is gone: so no redirect proves a mistake in the settings.
   */
  #follow(from: URL, { status, headers }: Raw, method: string): URL {
    const { server } = this.#settings;
    const { location } = headers;
    if (location === undefined || !URL.canParse(location, from.href))
      throw new BackendError("unavailable", `${server}: a redirect that leads nowhere (status ${status})`);
    const to = new URL(location, from);
    if (to.origin !== from.origin || to.username !== "")
      throw new BackendError(
        "unavailable",
        `${server}: redirects to another origin, ${shortened(to.origin)}, and fetcher sends no token there: if it is right, put it into \`url\``,
      );
    if (method !== "GET" && status !== 307 && status !== 308)
      throw new BackendError("unavailable", `${server}: redirects a write (status ${status})`);
    return to;
  }

  async #exchange(url: URL, options: Exchange, body: Buffer | undefined): Promise<Raw> {
    try {
      return await this.#once(url, options, body);
    } catch (error) {
      if (!(error instanceof StaleConnection)) throw await this.#explained(error, options.signal);
      // The server closed an idle connection just as we used it: it has not seen the request.
      if (options.method !== "GET") throw error;
      return await this.#once(url, options, body);
    }
  }

  /** Our own unit may keep us from the server. */
  async #explained(error: unknown, signal: AbortSignal): Promise<unknown> {
    if (signal.aborted || !(error instanceof BackendError) || error.kind !== "unavailable") return error;
    const { socketPath } = this.#settings;
    const hint = socketPath === undefined ? await networkHint() : hiddenHint(socketPath);
    return hint === "" ? error : new BackendError(error.kind, `${error.message}${hint}`, error.retryAfter);
  }

  async #once(url: URL, exchange: Exchange, body: Buffer | undefined): Promise<Raw> {
    if (exchange.signal.aborted) throw stopped();
    return await new Promise<Raw>((resolve, reject) => {
      const request = this.#open(url, exchange, body);
      const fail = (error: Error) => {
        limits.end();
        reject(error);
        request.destroy();
      };
      const limits = new TimeLimits(this.#settings, exchange.signal, fail);
      // Where all connections are busy, the request gets one that another has finished with.
      request.on("socket", (socket) => {
        if (!socket.connecting) {
          limits.awaitAnswer();
          return;
        }
        limits.awaitConnection();
        socket.once(url.protocol === "https:" ? "secureConnect" : "connect", () => {
          limits.awaitAnswer();
        });
      });
      request.on("error", (error) => {
        const isStale = request.reusedSocket && errnoCode(error) === "ECONNRESET";
        fail(isStale ? new StaleConnection() : ofConnection(error, this.#settings.server));
      });
      let interim = 0;
      request.on("information", () => {
        interim += 1;
        if (interim > MAX_INTERIM)
          fail(
            new BackendError(
              "unavailable",
              `${this.#settings.server}: the answer does not begin (status 1xx again and again)`,
            ),
          );
      });
      request.on("response", (response) => {
        this.#receive(response, url, limits, { fail, resolve });
      });
      request.end(body);
    });
  }

  #open(url: URL, { method, headers, agent }: Exchange, body: Buffer | undefined): http.ClientRequest {
    const { socketPath } = this.#settings;
    return (url.protocol === "https:" ? secure() : http).request(url, {
      method,
      agent,
      ...(socketPath === undefined ? {} : { socketPath }),
      headers: {
        ...headers,
        accept: "application/json",
        ...(body === undefined ? {} : { "content-type": "application/json", "content-length": body.length }),
      },
    });
  }

  #receive(response: http.IncomingMessage, url: URL, limits: TimeLimits, { fail, resolve }: Settle): void {
    const { server } = this.#settings;
    const chunks: Buffer[] = [];
    let length = 0;
    let isLarge = false;
    response.on("data", (chunk: Buffer) => {
      limits.awaitAnswer();
      chunks.push(chunk);
      length += chunk.length;
      const refusal =
        length > MAX_BODY ? tooLarge(url, response.statusCode) : this.#traffic.take(chunk.length, placeOf(url));
      if (refusal !== undefined) fail(refusal);
      else if (length > LARGE && !isLarge) {
        isLarge = true;
        this.#awaitTurn(response, limits);
      }
    });
    response.on("error", (error) => {
      fail(ofConnection(error, server));
    });
    response.on("close", () => {
      if (!response.complete) fail(new BackendError("unavailable", `${server}: the answer breaks off`));
    });
    response.on("end", () => {
      limits.end();
      const whole = Buffer.concat(chunks);
      for (const chunk of chunks) chunk.fill(0);
      resolve({ status: response.statusCode ?? 0, headers: response.headers, body: whole });
    });
  }

  #awaitTurn(response: http.IncomingMessage, limits: TimeLimits): void {
    limits.pause();
    response.pause();
    const release = this.#large.take(() => {
      limits.awaitAnswer();
      response.resume();
    });
    limits.atEnd(release);
  }
}

/** Loaded only for TLS: a server without it, an agent on this machine say, saves the executable 5 ms (measured). */
function secure(): typeof https {
  return process.getBuiltinModule("node:https");
}

interface Exchange {
  readonly method: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly agent: http.Agent;
  readonly signal: AbortSignal;
}

interface Settle {
  readonly fail: (error: Error) => void;
  readonly resolve: (raw: Raw) => void;
}

class StaleConnection extends BackendError {
  constructor() {
    super("unavailable", "connection reset");
  }
}

/** The body of an error status may be a proxy's. */
function tooLarge(url: URL, status = 0): BackendError {
  return new BackendError(
    status < 300 ? "invalid" : "unavailable",
    `${placeOf(url)}: the answer is larger than 32 MiB`,
  );
}
