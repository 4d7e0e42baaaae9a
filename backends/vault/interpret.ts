/** Decides whether an answer is a Vault's, and within the limits. */
import { isUtf8 } from "node:buffer";
import { BackendError } from "../../src/contract/backend.ts";
import { beginsAsObject, parsing } from "../../src/contract/json.ts";
import { isRecord } from "../../src/contract/records.ts";
import { inSlices } from "../../src/contract/slices.ts";
import type { Headers } from "./answer-parser.ts";
import { isTemporary, Refused } from "./failures.ts";
import { stopped } from "./time-limits.ts";

export interface Raw {
  readonly status: number;
  readonly headers: Headers;
  readonly body: Buffer;
  /** Lets the next large answer in. Call it once the body is parsed. */
  readonly release: () => void;
  /** It came over a connection of an earlier fetch. */
  readonly isKept: boolean;
}

export interface Answer {
  readonly statusCode: number;
  /** Parsed JSON; undefined where the server sends none (204). */
  readonly body: Readonly<Record<string, unknown>> | undefined;
}

/** Characters of what a server named. */
const LONGEST_SHOWN = 100;

/** A proxy's error page with status 200 is not a Vault's answer, nor are its 404 or 403, with a text or without. */
export async function interpret(
  { status, headers, body }: Raw,
  server: string,
  place: string,
  signal: AbortSignal,
): Promise<Answer> {
  const isEmpty = body.length === 0;
  let parsed;
  try {
    parsed = await bodyOf(headers, body, place, signal);
  } catch (error) {
    if (signal.aborted) throw stopped();
    // The status of a refusal says enough.
    if (status < 400) throw error;
  } finally {
    body.fill(0);
  }
  if (status >= 400) {
    if (!isTemporary(status) && (parsed === undefined || !isOwn(parsed))) throw notVault(server, status, headers);
    throw new Refused(status, headers, parsed);
  }
  if (status === 204 || (status === 200 && isEmpty)) return { statusCode: 204, body: undefined };
  if (status !== 200 || parsed === undefined) throw notVault(server, status, headers);
  return { statusCode: status, body: parsed };
}

/** Every refusal of Vault's has a list of errors; that of a deleted version has data and the id of its request. */
function isOwn(body: Readonly<Record<string, unknown>>): boolean {
  return Array.isArray(body["errors"]) || typeof body["request_id"] === "string";
}

async function bodyOf(
  headers: Headers,
  body: Buffer,
  place: string,
  signal: AbortSignal,
): Promise<Readonly<Record<string, unknown>> | undefined> {
  if (!/^application\/json\b/i.test(headers["content-type"] ?? "")) return undefined;
  if (!isUtf8(body)) {
    // We ask for no encoding: encoded bytes (`Content-Encoding: gzip`) are a proxy's.
    if (!beginsAsObject(body)) return undefined;
    throw new BackendError("invalid", `${place}: the answer is not UTF-8`);
  }
  const parsed = await inSlices(parsing(body.toString("utf8"), place), signal);
  return isRecord(parsed) ? parsed : undefined;
}

/** `secret/data/app` */
export function placeOf({ pathname }: URL): string {
  const path = pathname.replace(/^\/v1\//, "");
  try {
    return shortened(decodeURIComponent(path));
  } catch {
    // A redirect may lead to a path that is not encoded text (`%ff`).
    return shortened(path);
  }
}

/** The server chose the text: it may be a token, or of any length. */
export function shortened(text: string): string {
  return text.length <= LONGEST_SHOWN ? text : `${text.slice(0, LONGEST_SHOWN)}…`;
}

function notVault(server: string, status: number, headers: Headers): BackendError {
  const type = /^[\w.+-]{1,40}\/[\w.+-]{1,40}(?![\w.+-])/.exec(headers["content-type"] ?? "")?.[0] ?? "no content type";
  // Go and nginx answer so where they expect TLS, nginx also where it expects another certificate or any.
  const isOfTls = status === 400 && !type.includes("json");
  const wish = server.startsWith("https:")
    ? "the server may expect another `tls.certFile`"
    : "that port may expect https";
  const hint = isOfTls && !server.startsWith("unix:") ? `; ${wish}` : "";
  return new BackendError(
    "unavailable",
    `${server}: the answer is not from Vault or OpenBao (status ${status}, ${type})${hint}`,
  );
}
