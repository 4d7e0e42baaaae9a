/** What went wrong, in words for an operator. No message quotes a request or an answer. */
import { isRecord } from "../../src/contract/records.ts";
import { BackendError, type BackendErrorKind } from "../../src/contract/backend.ts";
import { errnoCode } from "../../src/contract/errors.ts";
import { type Headers, NotHttp } from "./answer-parser.ts";

/** The server answered with an error status. `inspect` and JSON do not reach the body: it may echo anything. */
export class Refused extends Error {
  override readonly name = "Refused";
  readonly status: number;
  /** Seconds. */
  readonly retryAfter: number | undefined;
  readonly #body: unknown;

  constructor(status: number, headers: Headers, body: unknown) {
    super(`status ${status}`);
    this.status = status;
    this.retryAfter = parseRetryAfter(headers["retry-after"]);
    this.#body = body;
  }

  /** For KV version 2, whose 404 may say more. */
  get body(): unknown {
    return this.#body;
  }

  /** The server cannot answer now. Any other status is its answer to the request. */
  get isTemporary(): boolean {
    return isTemporary(this.status);
  }

  /** The refusal is about the token. Some servers answer 400 to a request that has none. */
  get isOfToken(): boolean {
    return this.status === 403 || (this.status === 400 && this.says(/\bmissing client token\b/));
  }

  /**
   * The request depends on a clock or on another system: an identity provider, the cloud behind a secrets engine. Vault
   * and OpenBao answer 400 or 403 where that system fails, or where the clock of a machine is not right yet.
   */
  get isOfOthers(): boolean {
    return this.says(
      /\bservice ?unavailable\b|\binternal ?(failure|error|server error)\b|\bbad gateway\b|\bstatus( code)?:? 5\d\d\b|\btoo many (connections|clients|requests)\b|\b(starting up|shutting down)\b|\bunreachable\b|\bdial (tcp|udp)\b|\bconnection (refused|reset)\b|\bno such host\b|\btime(d )?-?out\b|\bdeadline exceeded\b|\bEOF\b|\bthrottl|\brate exceeded\b|\btry again\b|\btemporar|\b(is|has|token|signature) expired\b|\bnot yet (valid|current)\b|\bin the future\b|\b(iat|nbf|exp)\b/i,
    );
  }

  /** The namespace does not exist, so the answer says nothing about the path. */
  get isOfNamespace(): boolean {
    return this.status === 404 && this.says(/\bnamespace not found\b/);
  }

  /** Whether one of the server's own error texts matches. */
  says(pattern: RegExp): boolean {
    return this.#has("errors", pattern);
  }

  /** The same for its warnings. */
  warns(pattern: RegExp): boolean {
    return this.#has("warnings", pattern);
  }

  #has(key: "errors" | "warnings", pattern: RegExp): boolean {
    const texts = isRecord(this.#body) ? this.#body[key] : undefined;
    return Array.isArray(texts) && texts.some((text) => typeof text === "string" && pattern.test(text));
  }
}

export function isTemporary(status: number): boolean {
  return status >= 500 || [412, 429, 472, 473].includes(status);
}

/** The longest Retry-After that we obey, in seconds: beyond an hour it is a mistake. */
const LONGEST_RETRY_AFTER = 3600;

/** Seconds, from seconds or from a date (RFC 9110, 10.2.3). */
function parseRetryAfter(header: string | undefined): number | undefined {
  if (header === undefined) return undefined;
  const seconds = /^\d+$/.test(header.trim()) ? Number(header) : (Date.parse(header) - Date.now()) / 1000;
  return Number.isFinite(seconds) ? Math.min(Math.max(seconds, 0), LONGEST_RETRY_AFTER) : undefined;
}

/**
 * @param place what was asked for: `secret/data/app`, `the login at auth/approle`.
 * @param server the URL.
 * @param hint what to look at: the end of the sentence.
 */
export function ofStatus(refused: Refused, place: string, server: string, hint = ""): BackendError {
  const { status, retryAfter } = refused;
  const [kind, words, isAboutServer] = meaning(refused);
  return new BackendError(kind, `${isAboutServer ? server : place}: ${words} (status ${status})${hint}`, retryAfter);
}

function meaning(refused: Refused): readonly [BackendErrorKind, string, boolean] {
  const { status } = refused;
  switch (status) {
    case 400:
      // KV answers so while a mount becomes version 2; it takes a moment.
      if (refused.says(/\bfrom non-versioned to versioned data\b/))
        return ["unavailable", "the secrets engine is being upgraded to KV version 2", false];
      if (refused.isOfOthers) return ["unavailable", "the secrets engine cannot reach the system behind it", false];
      return ["invalid", "the server does not understand the request", false];
    case 401:
    case 403:
      return ["denied", "permission denied", false];
    case 404:
      if (refused.isOfNamespace) return ["invalid", "no such namespace: check `namespace`", true];
      return ["invalid", "nothing exists at this path", false];
    case 405:
      return ["invalid", "the server does not support this operation", false];
    case 412:
      return ["unavailable", "the server has not caught up with the cluster yet", true];
    case 429:
      return ["unavailable", "the server limits how often it is asked", true];
    case 472:
    case 473:
      return ["unavailable", "the server is a standby that answers no requests", true];
    case 501:
      return ["unavailable", "the server is not initialized", true];
    case 503:
      return [
        "unavailable",
        refused.says(/\bis sealed\b/) ? "the server is sealed" : "the server is sealed or under maintenance",
        true,
      ];
    default:
      if (status >= 500) return ["unavailable", "the server has an internal error", true];
      // Not a status of Vault's own: a proxy or a gateway before it answers.
      return ["unavailable", "a proxy before the server refuses the request", true];
  }
}

type Words = Readonly<Record<string, readonly [BackendErrorKind, string]>>;

/** Made for the first failure: a start needs none of them. */
let words: Words | undefined;

const refusedClient = ["denied", "the server refuses the client certificate"] as const;
/** Alerts of TLS about our certificate: OpenSSL's older name of each begins with SSLV3, the newer with SSL/TLS. */
const ofClient = (): Words => ({
  BAD_CERTIFICATE: refusedClient,
  CERTIFICATE_UNKNOWN: refusedClient,
  CERTIFICATE_REVOKED: refusedClient,
  UNSUPPORTED_CERTIFICATE: refusedClient,
  // Its file may be renewed.
  CERTIFICATE_EXPIRED: ["unavailable", "the client certificate has expired (or a clock is wrong)"],
  // All that TLS 1.2 says where the certificate is missing.
  HANDSHAKE_FAILURE: [
    "unavailable",
    "the server breaks off the TLS handshake: does it want a client certificate (tls.certFile)?",
  ],
});
const alerts = (): Words =>
  Object.fromEntries(
    Object.entries(ofClient()).flatMap(([alert, known]) =>
      ["SSLV3", "SSL/TLS"].map((name) => [`ERR_SSL_${name}_ALERT_${alert}`, known] as const),
    ),
  );

const allWords = (): Words => ({
  ECONNREFUSED: ["unavailable", "connection refused"],
  ECONNRESET: ["unavailable", "connection reset"],
  EPIPE: ["unavailable", "connection reset"],
  EAFNOSUPPORT: ["unavailable", "no network"],
  ENOENT: ["unavailable", "no such socket (yet)"],
  EACCES: ["unavailable", "no permission to connect"],
  EHOSTUNREACH: ["unavailable", "no route to the host"],
  ENETUNREACH: ["unavailable", "network unreachable"],
  ETIMEDOUT: ["unavailable", "connection timed out"],
  ENOTFOUND: ["unavailable", "the host's name is not known"],
  EAI_AGAIN: ["unavailable", "the host's name cannot be looked up now"],
  // A clock that is not set yet, or a certificate that is renewed soon.
  CERT_HAS_EXPIRED: ["unavailable", "the server's certificate has expired"],
  CERT_NOT_YET_VALID: ["unavailable", "the server's certificate is not valid yet (or the clock is wrong)"],
  // A load balancer or an ingress shows its own certificate until it has the server's.
  ERR_TLS_CERT_ALTNAME_INVALID: ["unavailable", "the server's certificate is for another name"],
  DEPTH_ZERO_SELF_SIGNED_CERT: ["unavailable", "the server's certificate is self-signed: name it in tls.caFile"],
  SELF_SIGNED_CERT_IN_CHAIN: [
    "unavailable",
    "the server's certificate is from an unknown authority: name it in tls.caFile",
  ],
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: [
    "unavailable",
    "the server's certificate is from an unknown authority: name it in tls.caFile",
  ],
  UNABLE_TO_GET_ISSUER_CERT: [
    "unavailable",
    "the server's certificate is from an unknown authority: name it in tls.caFile",
  ],
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: [
    "unavailable",
    "the server's certificate is from an unknown authority: name it in tls.caFile",
  ],
  CERT_SIGNATURE_FAILURE: ["unavailable", "the server's certificate is not signed by its authority"],
  CERT_REVOKED: ["unavailable", "the server's certificate is revoked"],
  ERR_SSL_WRONG_VERSION_NUMBER: ["unavailable", "the server does not speak TLS on that port"],
  ERR_SSL_PACKET_LENGTH_TOO_LONG: ["unavailable", "the server does not speak TLS on that port"],
  ERR_SSL_UNSUPPORTED_PROTOCOL: ["unavailable", "the server offers no TLS version that is allowed"],
  ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION: ["unavailable", "the server offers no TLS version that is allowed"],
  ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED: ["denied", "the server wants a client certificate"],
  // The same, as BoringSSL names it, and most of the others below.
  ERR_SSL_TLSV1_ALERT_CERTIFICATE_REQUIRED: ["denied", "the server wants a client certificate"],
  ...alerts(),
  ERR_SSL_TLSV1_ALERT_UNKNOWN_CA: refusedClient,
});

/** A failed connection. The error gives only its code: messages quote what the peer sent. */
export function ofConnection(error: unknown, server: string): BackendError {
  if (error instanceof NotHttp) return new BackendError("unavailable", `${server}: the answer is not HTTP`);
  const code = codeOf(error);
  words ??= allWords();
  const known = Object.hasOwn(words, code) ? words[code] : undefined;
  if (known !== undefined) return new BackendError(known[0], `${server}: ${known[1]}`);
  if (code === "EPROTO" || code.startsWith("ERR_SSL_") || code.startsWith("ERR_TLS_"))
    return new BackendError("unavailable", `${server}: no TLS connection (${code})`);
  return new BackendError("unavailable", `${server}: cannot connect (${code})`);
}

/** For a failed handshake Node 20 gives EPROTO, and the reason only as OpenSSL's own text in the message. */
function codeOf(error: unknown): string {
  const code = errnoCode(error) ?? "unknown error";
  if (code !== "EPROTO" || !(error instanceof Error)) return code;
  const reason = /:SSL routines:\w*:([a-z0-9/ ]+):/.exec(error.message)?.[1];
  return reason === undefined ? code : `ERR_SSL_${reason.toUpperCase().replaceAll(" ", "_")}`;
}
