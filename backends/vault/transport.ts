/** One request and its answer, within its time limits, to one server only. No proxy, nothing from the environment. */
import type { ConnectionOptions, SecureContextOptions } from "node:tls";
import { BackendError } from "../../src/contract/backend.ts";
import { type OpenConnection, ownWays, type Peer } from "../../src/contract/connection.ts";
import { type Asked, canLookOut } from "../../src/contract/lookout.ts";
import { connectionOpener } from "../../src/contract/socket-connection.ts";
import { tlsOpener } from "../../src/contract/tls-connection.ts";
import { Traffic } from "../../src/contract/limits.ts";
import { hiddenHint, networkHint } from "../../src/contract/unit-sandbox.ts";
import { Connections, KEPT } from "./connections.ts";
import { Evidence } from "./evidence.ts";
import { exchange, type Shared, StaleConnection } from "./exchange.ts";
import { type Answer, interpret, placeOf, type Raw, shortened } from "./interpret.ts";
import { Mutex } from "./mutex.ts";
import type { Settings } from "./settings.ts";
import { TlsFiles } from "./tls-files.ts";
import { encoded } from "../../src/contract/text.ts";

/** What node-vault hands to its `request-promise`. */
export interface Request {
  readonly method: string;
  readonly uri: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly json?: unknown;
  readonly signal: AbortSignal;
}

const MAX_REDIRECTS = 3;

/** @throws (all of it) BackendError for what is wrong with the connection or the answer; Refused for an error status. */
export class Transport {
  readonly #settings: Settings;
  readonly #tls: TlsFiles | undefined;
  readonly #shared: Shared;
  #connections: Connections | undefined;
  readonly #evidence = new Evidence();
  /** ms by which the server's clock is ahead of ours, as of its last answer. */
  #ahead = 0;
  /** ms since 1970. */
  #endedAt = 0;
  /** The fetches follow each other so closely that a connection is kept. */
  #isFrequent = false;

  constructor(settings: Settings) {
    this.#settings = settings;
    this.#shared = { settings, traffic: new Traffic(), large: new Mutex() };
    this.#tls = settings.url.startsWith("https:") ? new TlsFiles(settings.tls) : undefined;
  }

  async send({ method, uri, headers, json, signal }: Request): Promise<Answer> {
    const { server } = this.#settings;
    const body = json === undefined ? undefined : encoded(JSON.stringify(json));
    const connections = await this.#ready(signal);
    let url = new URL(uri);
    try {
      for (let redirects = 0; ; redirects++) {
        const raw = await this.#exchange(url, { method, headers, connections, signal }, body);
        try {
          const date = Date.parse(raw.headers["date"] ?? "");
          if (Number.isFinite(date)) this.#ahead = date - Date.now();
          if (raw.status < 300 || raw.status >= 400) return await interpret(raw, server, placeOf(url), signal);
          raw.body.fill(0);
          url = this.#follow(url, raw, method);
        } finally {
          raw.release();
        }
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
    this.#shared.traffic.begin();
    this.#evidence.begin();
    const pause = Date.now() - this.#endedAt;
    this.#isFrequent = pause >= 0 && pause < KEPT;
  }

  /**
   * What all requests of the last fetch were and got; the caller's own. The fetches after the first call note it.
   *
   * @returns undefined where nothing but this program can ask so: over TLS, to a name, or where they are no plain reads.
   */
  takeEvidence(): { readonly peer: Peer; readonly asked: readonly Asked[] } | undefined {
    const peer = this.#peer;
    const hasAddress = "path" in peer || isAddress(new URL(this.#settings.url).hostname);
    if (this.#tls !== undefined || !hasAddress || !canLookOut()) return undefined;
    const asked = this.#evidence.take();
    return asked && { peer, asked };
  }

  /**
   * A fetch ends, and with it its idle connections, but one that costs nothing until the next fetch, where that is near: an
   * open connection of Bun's wakes the process again and again, and a TLS handshake costs as much as the rest of a poll.
   */
  end(): void {
    this.#connections?.end(this.#tls !== undefined && this.#isFrequent);
    this.#endedAt = Date.now();
  }

  close(): void {
    this.#evidence.end();
    this.#connections?.close();
  }

  /**
   * Makes new connections where the TLS files have changed; requests under way end on the old ones. No session is
   * resumed: that would skip the check of the server's certificate, which may have expired since.
   */
  async #ready(signal: AbortSignal): Promise<Connections> {
    if (this.#tls === undefined) {
      if (this.#connections !== undefined) return this.#connections;
      const open = await connectionOpener();
      return (this.#connections ??= this.#connect(open));
    }
    const context = await this.#tls.changed(signal);
    if (context !== undefined || this.#connections === undefined) {
      this.#connections?.retire();
      const ways = await ownWays();
      const resting = () => (this.#isFrequent ? ways?.resting : undefined);
      this.#connections = this.#connect(tlsOpener(this.#tlsOptions(context ?? {}), resting));
    }
    return this.#connections;
  }

  get #peer(): Peer {
    const { url, socketPath } = this.#settings;
    if (socketPath !== undefined) return { path: socketPath };
    const { hostname, port, protocol } = new URL(url);
    return { host: hostname.replace(/^\[|\]$/g, ""), port: Number(port) || (protocol === "https:" ? 443 : 80) };
  }

  #connect(open: OpenConnection): Connections {
    const peer = this.#peer;
    return new Connections((events) => open(peer, events));
  }

  #tlsOptions(context: SecureContextOptions): ConnectionOptions {
    const { minVersion, serverName, insecureDoNotVerifyServer } = this.#settings.tls;
    const { hostname } = new URL(this.#settings.url);
    // The dot that ends a whole name is for the resolver only: Go refuses a handshake with it (RFC 6066, section 3).
    const name = (serverName ?? (isAddress(hostname) ? undefined : hostname))?.replace(/(?<=[^.])\.$/, "");
    return {
      ...context,
      // As curl and Go do, trust what `caFile` holds, be it the issuing authority or the server's certificate alone.
      allowPartialTrustChain: context.ca !== undefined,
      minVersion,
      ...(name === undefined ? {} : { servername: name }),
      // Set explicitly: the default comes from NODE_TLS_REJECT_UNAUTHORIZED.
      rejectUnauthorized: !insecureDoNotVerifyServer,
      ALPNProtocols: ["http/1.1"],
    };
  }

  /**
   * During a fail-over a standby redirects to a leader that is gone: so no redirect proves a mistake in the settings.
   */
  #follow(from: URL, { status, headers }: Raw, method: string): URL {
    const { server } = this.#settings;
    const location = headers["location"];
    if (location === undefined || !URL.canParse(location, from.href))
      throw new BackendError("unavailable", `${server}: a redirect that leads nowhere (status ${status})`);
    const to = new URL(location, from);
    // `file:` and the like have no origin to name.
    const hasOrigin = /^https?:$/.test(to.protocol);
    const strange = !hasOrigin ? to.protocol : to.username + to.password === "" ? undefined : "a user in it";
    if (strange !== undefined)
      throw new BackendError(
        "unavailable",
        `${server}: redirects to a URL with ${shortened(strange)}, as no Vault does: see what answers at \`url\``,
      );
    if (to.origin !== from.origin)
      throw new BackendError(
        "unavailable",
        `${server}: redirects to another origin, ${shortened(to.origin)}, and fetcher sends no token there: if it is right, put it into \`url\``,
      );
    if (method !== "GET" && status !== 307 && status !== 308)
      throw new BackendError("unavailable", `${server}: redirects a write (status ${status})`);
    return to;
  }

  async #exchange(url: URL, options: Exchange, body: Buffer | undefined): Promise<Raw> {
    const { connections, method, signal } = options;
    const bytes = requestOf(url, options, body);
    const once = async () => {
      const raw = await exchange(bytes, url, connections, this.#shared, signal);
      this.#evidence.note(bytes, method === "GET", raw.status, raw.body);
      return raw;
    };
    try {
      // What it asks for must not be done twice, and nobody knows what has become of a connection meanwhile.
      if (method !== "GET") connections.forget();
      const raw = await once();
      if (!isElsewhere(raw.status)) return raw;
      connections.end();
      if (!raw.isKept || method !== "GET" || signal.aborted) return raw;
      // A new connection may lead to another server, which is not sealed, or is the leader now.
      raw.body.fill(0);
      raw.release();
      return await once();
    } catch (error) {
      if (!(error instanceof StaleConnection)) throw await this.#explained(error, signal);
      // The server closed an idle connection just as we used it: it has not seen the request, and has closed the others.
      connections.end();
      if (method !== "GET") throw error;
      return await once();
    } finally {
      bytes.fill(0);
    }
  }

  /** Our own unit may keep us from the server. */
  async #explained(error: unknown, signal: AbortSignal): Promise<unknown> {
    if (signal.aborted || !(error instanceof BackendError) || error.kind !== "unavailable") return error;
    const { socketPath } = this.#settings;
    const hint = socketPath === undefined ? await networkHint() : hiddenHint(socketPath);
    return hint === "" ? error : new BackendError(error.kind, `${error.message}${hint}`, error.retryAfter);
  }
}

interface Exchange {
  readonly method: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly connections: Connections;
  readonly signal: AbortSignal;
}

/** That server sends us away, or cannot serve; or a proxy has waited too long (408), or is not for this name any more (421). */
function isElsewhere(status: number): boolean {
  return status >= 500 || [408, 421, 472, 473].includes(status) || (status >= 300 && status < 400);
}

/** @throws TypeError where a header has a character that would end it. */
function requestOf(url: URL, { method, headers }: Exchange, body: Buffer | undefined): Buffer {
  const fields = {
    ...headers,
    accept: "application/json",
    ...(body === undefined ? {} : { "content-type": "application/json" }),
    ...(method === "GET" && body === undefined ? {} : { "content-length": body?.length ?? 0 }),
    host: url.host,
    connection: "keep-alive",
  };
  const lines = Object.entries(fields).map(([name, value]) => `${name}: ${value}`);
  if (!lines.every((line) => /^[\t\x20-\x7e\x80-\xff]*$/.test(line)))
    throw new TypeError("a header with other characters");
  const head = `${method} ${url.pathname}${url.search} HTTP/1.1\r\n${lines.join("\r\n")}\r\n\r\n`;
  return Buffer.concat([encoded(head, "latin1"), ...(body === undefined ? [] : [body])]);
}

/** Of a URL: it has an IPv6 address in brackets, and an IPv4 address in its usual form. */
function isAddress(hostname: string): boolean {
  return hostname.startsWith("[") || /^[\d.]+$/.test(hostname);
}
