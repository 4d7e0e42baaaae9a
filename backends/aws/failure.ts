/** Translates what the SDK throws. The SDK's errors carry requests and responses, so they are never attached. */
import { isIP } from "node:net";
import { BackendError, type BackendErrorKind, type Missing } from "../../src/contract/backend.ts";

import { Unusable } from "./handler.ts";

/** The SDK treats these as throttling, too. STS and the gateways before it send them with status 400. */
const throttling = [
  "BandwidthLimitExceeded",
  "EC2ThrottledException",
  "LimitExceededException",
  "PriorRequestNotComplete",
  "ProvisionedThroughputExceededException",
  "RequestLimitExceeded",
  "RequestThrottled",
  "RequestThrottledException",
  "SlowDown",
  "ThrottledException",
  "Throttling",
  "ThrottlingException",
  "TooManyRequestsException",
  "TransactionInProgressException",
];

/**
 * Seconds for which a start asks again. A new permission, secret or replica takes some time to reach all of AWS: IAM,
 * STS, KMS and Secrets Manager are eventually consistent.
 */
export const CONSISTENT_AFTER = 60;

/** By the error's name, which is the service's error code. The HTTP status decides for other names. */
const kinds: Readonly<Record<string, readonly [BackendErrorKind, string]>> = {
  ...Object.fromEntries(throttling.map((code) => [code, ["unavailable", "throttled"] as const])),
  AccessDeniedException: ["denied", "access denied: the role needs secretsmanager:GetSecretValue"],
  // Of STS.
  AccessDenied: ["denied", "access denied: allow fetcher's identity sts:AssumeRole, and let the role trust it"],
  UnrecognizedClientException: ["denied", "AWS does not know the access key"],
  InvalidClientTokenId: ["denied", "AWS does not know the access key"],
  InvalidSignatureException: ["denied", "the secret access key is wrong"],
  SignatureDoesNotMatch: ["denied", "the secret access key is wrong"],
  RequestTimeTooSkewed: ["unavailable", "the clock is not right (yet)"],
  RequestExpired: ["unavailable", "the clock is not right (yet)"],
  IncompleteSignature: ["denied", "the credentials are incomplete"],
  MissingAuthenticationToken: ["denied", "the credentials are incomplete"],
  OptInRequired: ["denied", "the account may not use this service"],
  DecryptionFailure: ["denied", "KMS cannot decrypt it: check its key and kms:Decrypt"],
  ValidationException: ["invalid", "the name or the version is not valid"],
  InvalidParameterException: ["invalid", "the name or the version is not valid"],
  ExpiredTokenException: ["unavailable", "the credentials have expired"],
  ExpiredToken: ["unavailable", "the credentials have expired"],
  CredentialsProviderError: ["unavailable", "there are no credentials (yet)"],
  InternalServiceError: ["unavailable", "the service has an internal error"],
  InternalServiceErrorException: ["unavailable", "the service has an internal error"],
  TimeoutError: ["unavailable", "no answer in time"],
  // From the SDK; perhaps a proxy before the service sent the answer.
  SyntaxError: ["unavailable", "the answer is not JSON"],
  RequestTimeout: ["unavailable", "the request arrived too slowly"],
  RequestTimeoutException: ["unavailable", "the request arrived too slowly"],
  // Of STS, where a web identity is checked.
  IDPCommunicationError: ["unavailable", "the identity provider does not answer"],
  IDPCommunicationErrorException: ["unavailable", "the identity provider does not answer"],
  AbortError: ["unavailable", "stopped"],
};

const network: Readonly<Record<string, string>> = {
  EAFNOSUPPORT: "no network",
  ECONNREFUSED: "connection refused",
  ECONNRESET: "connection reset",
  ENOTFOUND: "no such host (is the region right?)",
  EAI_AGAIN: "the name cannot be resolved now",
  ETIMEDOUT: "connection timed out",
  EHOSTUNREACH: "no route to the host",
  ENETUNREACH: "no route to the network",
};

/** Errors of TLS; for others the message gives the code. */
const certificate: Readonly<Record<string, string>> = {
  ERR_TLS_CERT_ALTNAME_INVALID: "is for another name",
  CERT_HAS_EXPIRED: "has expired",
  CERT_NOT_YET_VALID: "is not valid yet (or the clock is wrong)",
  ...Object.fromEntries(
    [
      "DEPTH_ZERO_SELF_SIGNED_CERT",
      "SELF_SIGNED_CERT_IN_CHAIN",
      "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
      "UNABLE_TO_GET_ISSUER_CERT",
      "UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
    ].map((code) => [code, "is from an unknown authority: name it in $NODE_EXTRA_CA_CERTS"]),
  ),
};

/** @returns undefined where something other than the connection failed. */
function ofConnection(code: string): string | undefined {
  if (Object.hasOwn(network, code)) return network[code];
  if (Object.hasOwn(certificate, code)) return `the server's certificate ${certificate[code] ?? ""}`;
  if (code.startsWith("HPE_")) return "the answer is not HTTP";
  return /^(?:EPROTO$|ERR_SSL_|ERR_TLS_|CERT_)/.test(code) ? `no TLS connection (${code})` : undefined;
}

/** Failures that new credentials may end: a person or another program may replace them while we run. */
const ofCredentials = new Set([
  "ExpiredTokenException",
  "ExpiredToken",
  "UnrecognizedClientException",
  "InvalidClientTokenId",
  "InvalidSignatureException",
  "IncompleteSignature",
  "MissingAuthenticationToken",
  // A login may hang; the SDK makes all later callers wait for the same one.
  "TimeoutError",
]);

/** Whether the service refuses the credentials, or they could not be got (in time). */
export function isOfCredentials(error: unknown): boolean {
  return error instanceof BackendError || ofCredentials.has(read(error).name);
}

/** The names in `kinds` that concern one secret. The others concern the service, the network or our identity. */
const ofSecret = new Set([
  "AccessDeniedException",
  "DecryptionFailure",
  "ValidationException",
  "InvalidParameterException",
]);

/**
 * @param place for people: which secret, in which region.
 * @param service the address that was asked, or the service and its region.
 */
export function failureOf(error: unknown, place: string, service: string): BackendError | Missing {
  if (error instanceof BackendError)
    return new BackendError(error.kind, `${service}: ${error.message}`, error.retryAfter, error.mayHealFor);
  const { name, code, message, retryAfter } = read(error);
  // For a secret that is scheduled for deletion the error has the name of a wrong request; only the text differs.
  if (name === "ResourceNotFoundException" || (name === "InvalidRequestException" && /deletion|deleted/i.test(message)))
    return { status: "missing", where: `no secret ${place}`, mayHealFor: CONSISTENT_AFTER };
  if (name === "InvalidRequestException")
    return new BackendError("invalid", `${place}: the secret has no such version`);
  const [kind, why] = judge(error);
  const isOfService = (Object.hasOwn(kinds, name) && !ofSecret.has(name)) || Object.hasOwn(network, code);
  return new BackendError(kind, `${isOfService ? service : place}: ${why}`, retryAfter, patience(kind));
}

/** @param what goes before the reason. */
export function loginFailure(error: unknown, what: string): BackendError {
  if (error instanceof BackendError)
    return new BackendError(error.kind, `${what}${error.message}`, error.retryAfter, error.mayHealFor);
  // Perhaps a proxy's answer: it says nothing about the secret.
  const [kind, why] = error instanceof Unusable ? (["unavailable", error.message] as const) : judge(error);
  return new BackendError(kind, `${what}${why}`, read(error).retryAfter, patience(kind));
}

function patience(kind: BackendErrorKind): number | undefined {
  return kind === "denied" ? CONSISTENT_AFTER : undefined;
}

function judge(error: unknown): readonly [BackendErrorKind, string] {
  if (error instanceof Unusable) return [error.kind, error.message];
  const { name, code, status, message, isOfAws, peer } = read(error);
  // The SDK signed the request too early or too late, by a wrong clock.
  if (/\bsignature (expired|not yet current)\b/i.test(message)) return ["unavailable", "the clock is not right (yet)"];
  if (name === "InvalidIdentityToken" && /\bretrieve verification key\b/i.test(message))
    return ["unavailable", "the identity provider does not answer"];
  // The SDK calls a reset connection a time-out, too.
  const connection = ofConnection(code);
  if (connection !== undefined) return ["unavailable", `${connection}${peer}`];
  const known = Object.hasOwn(kinds, name) ? kinds[name] : undefined;
  if (known !== undefined) return known;
  const why = status === undefined ? `failed (${shown(name)})` : `HTTP status ${status} (${shown(name)})`;
  // Services also use status 400 where they, or a service behind them, cannot answer now: KMSInternalException,
  // InternalFailure.
  if (/Internal|Unavailable|Timeout|Dependency|Throttl|Busy/.test(name)) return ["unavailable", why];
  // A proxy's refusal says nothing about AWS's answer.
  const refused = isOfAws && status !== undefined && status >= 400 && status < 500 && status !== 429 && status !== 408;
  return [refused ? "denied" : "unavailable", why];
}

/** The answer chose the name, so we show only what can be the name of an error. */
function shown(name: string): string {
  return /^[\w.]{1,64}$/.test(name) ? name : "an unknown error";
}

function read(error: unknown) {
  const fields = (typeof error === "object" && error !== null ? error : {}) as {
    name?: unknown;
    code?: unknown;
    message?: unknown;
    $metadata?: { httpStatusCode?: unknown; requestId?: unknown };
    $response?: { headers?: Record<string, unknown> };
    address?: unknown;
    port?: unknown;
    hostname?: unknown;
  };
  const status = fields.$metadata?.httpStatusCode;
  const retryAfter = Number(fields.$response?.headers?.["retry-after"]);
  return {
    name: identifier(fields.name),
    code: identifier(fields.code),
    message: typeof fields.message === "string" ? fields.message : "",
    status: typeof status === "number" ? status : undefined,
    /** Every answer of AWS has the id of its request in a header. */
    isOfAws: typeof fields.$metadata?.requestId === "string",
    peer: peerOf(fields),
    retryAfter: Number.isFinite(retryAfter) && retryAfter > 0 ? Math.min(retryAfter, 3600) : undefined,
  };
}

/**
 * The peer of the failed connection, as Node names it: the host of the service, of STS, of the machine's role, a proxy.
 */
function peerOf({ address, port, hostname }: { address?: unknown; port?: unknown; hostname?: unknown }): string {
  if (typeof address === "string" && isIP(address) > 0)
    return `: ${isIP(address) === 6 ? `[${address}]` : address}${typeof port === "number" ? `:${port}` : ""}`;
  return typeof hostname === "string" && /^[\w.-]{1,253}$/.test(hostname) ? `: ${hostname}` : "";
}

/** A server may call its error anything. */
function identifier(name: unknown): string {
  return typeof name === "string" && /^[A-Za-z][\w.]{0,60}$/.test(name) ? name : "Error";
}
