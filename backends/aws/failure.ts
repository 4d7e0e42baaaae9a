/** What the SDK throws, in our words. Its own errors carry requests and responses, and are never attached. */
import { isIP } from "node:net";
import { BackendError, type BackendErrorKind, type Missing } from "../../src/contract/backend.ts";

import { Unusable } from "./handler.ts";

/** What the SDK takes for throttling, too. STS and the gateways before it say it with status 400. */
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
 * Seconds for which a start asks again. What somebody permits, makes or replicates reaches all of AWS some time later: IAM,
 * STS, KMS and Secrets Manager are eventually consistent.
 */
export const CONSISTENT_AFTER = 60;

/** By the error's name, which is the service's error code. For what is not here the HTTP status decides. */
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
  // Of the SDK, about what is before the service, perhaps.
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

/** Of TLS; what is not here is told by its code. */
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

/** @returns undefined where it is not the connection that failed. */
function ofConnection(code: string): string | undefined {
  if (Object.hasOwn(network, code)) return network[code];
  if (Object.hasOwn(certificate, code)) return `the server's certificate ${certificate[code] ?? ""}`;
  if (code.startsWith("HPE_")) return "the answer is not HTTP";
  return /^(?:EPROTO$|ERR_SSL_|ERR_TLS_|CERT_)/.test(code) ? `no TLS connection (${code})` : undefined;
}

/** What a person or another program may replace on this machine while we run. */
const ofCredentials = new Set([
  "ExpiredTokenException",
  "ExpiredToken",
  "UnrecognizedClientException",
  "InvalidClientTokenId",
  "InvalidSignatureException",
  "IncompleteSignature",
  "MissingAuthenticationToken",
  // It may be a login that hangs, which the SDK lets all wait for who ask later.
  "TimeoutError",
]);

/** Whether it is the credentials that the service does not take, or that could not be had (in time). */
export function isOfCredentials(error: unknown): boolean {
  return error instanceof BackendError || ofCredentials.has(read(error).name);
}

/** What is about one secret, of what is in `kinds`. The rest is about the service, the network or who we are. */
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
  // A secret that is scheduled for deletion has the name of a wrong request; only the text tells.
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
  // Of a proxy, perhaps: it is not what the secret's own place has.
  const [kind, why] = error instanceof Unusable ? (["unavailable", error.message] as const) : judge(error);
  return new BackendError(kind, `${what}${why}`, read(error).retryAfter, patience(kind));
}

function patience(kind: BackendErrorKind): number | undefined {
  return kind === "denied" ? CONSISTENT_AFTER : undefined;
}

function judge(error: unknown): readonly [BackendErrorKind, string] {
  if (error instanceof Unusable) return [error.kind, error.message];
  const { name, code, status, message, isOfAws, peer } = read(error);
  // By the SDK's reading of the clock the request was signed too early or too late.
  if (/\bsignature (expired|not yet current)\b/i.test(message)) return ["unavailable", "the clock is not right (yet)"];
  if (name === "InvalidIdentityToken" && /\bretrieve verification key\b/i.test(message))
    return ["unavailable", "the identity provider does not answer"];
  // The SDK calls a connection that was reset a time-out, too.
  const connection = ofConnection(code);
  if (connection !== undefined) return ["unavailable", `${connection}${peer}`];
  const known = Object.hasOwn(kinds, name) ? kinds[name] : undefined;
  if (known !== undefined) return known;
  const why = status === undefined ? `failed (${shown(name)})` : `HTTP status ${status} (${shown(name)})`;
  // Services say with status 400, too, that they, or one behind them, cannot answer now: KMSInternalException, InternalFailure.
  if (/Internal|Unavailable|Timeout|Dependency|Throttl|Busy/.test(name)) return ["unavailable", why];
  // A proxy's word says nothing of what AWS would.
  const refused = isOfAws && status !== undefined && status >= 400 && status < 500 && status !== 429 && status !== 408;
  return [refused ? "denied" : "unavailable", why];
}

/** The answer chose it: what is no name of an error is not told. */
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
    /** Every answer of theirs has the id of its request, in a header. */
    isOfAws: typeof fields.$metadata?.requestId === "string",
    peer: peerOf(fields),
    retryAfter: Number.isFinite(retryAfter) && retryAfter > 0 ? Math.min(retryAfter, 3600) : undefined,
  };
}

/** With whom the connection failed, as Node has it: the service's own host, that of STS, of the machine's role, a proxy. */
function peerOf({ address, port, hostname }: { address?: unknown; port?: unknown; hostname?: unknown }): string {
  if (typeof address === "string" && isIP(address) > 0)
    return `: ${isIP(address) === 6 ? `[${address}]` : address}${typeof port === "number" ? `:${port}` : ""}`;
  return typeof hostname === "string" && /^[\w.-]{1,253}$/.test(hostname) ? `: ${hostname}` : "";
}

/** What a server calls its error could be anything. */
function identifier(name: unknown): string {
  return typeof name === "string" && /^[A-Za-z][\w.]{0,60}$/.test(name) ? name : "Error";
}
