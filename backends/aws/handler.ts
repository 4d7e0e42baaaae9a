/** Limits what the SDK's own handler receives: the SDK reads any answer to its end, then parses it. */
import { isUtf8 } from "node:buffer";
import { BackendError } from "../../src/contract/backend.ts";
import { beginsAsObject, checking } from "../../src/contract/json.ts";
import type { Traffic } from "../../src/contract/limits.ts";
import { inSlices } from "../../src/contract/slices.ts";

const MIB = 1024 * 1024;

/** Bytes. The service keeps at most 64 KiB in a secret, and JSON makes at most six bytes of one. */
export const MAX_ANSWER = MIB;
/** Bytes of an answer to BatchGetSecretValue: 20 secrets. */
export const MAX_BATCH = 8 * MIB;
/** Bytes of the body of an error status. */
const MAX_REFUSAL = 64 * 1024;

/** What we use of the SDK's types, which say `any`. */
interface Request {
  readonly headers: Readonly<Record<string, string | undefined>>;
}
interface Response {
  readonly statusCode: number;
  body?: AsyncIterable<Buffer> | Buffer | undefined;
}
interface Handler {
  handle(request: Request, options: object): Promise<{ response: Response }>;
}

/** An answer that the SDK must not parse. The message quotes nothing of it. */
export class Unusable extends Error {
  override readonly name = "Unusable";
  /** `unavailable`: the answer is not the service's, so it says nothing about a secret. */
  readonly kind: "invalid" | "unavailable";

  constructor(message: string, kind: "invalid" | "unavailable" = "invalid") {
    super(message);
    this.kind = kind;
  }
}

/**
 * Makes the client's requests reject with Unusable for an answer that is too large, too deep or not UTF-8, and with
 * BackendError where all answers together are too large. The SDK hands the handler on to the clients of STS and SSO.
 */
export function limitAnswers(handler: Handler, traffic: Traffic): void {
  const handle = handler.handle.bind(handler);
  handler.handle = async (request, options) => {
    const { response } = await handle(request, options);
    const isRefusal = response.statusCode >= 300;
    const limit = isRefusal ? MAX_REFUSAL : limitOf(request);
    const body = await read(response.body, limit, traffic);
    // The status of a refusal says enough.
    if (body === undefined && !isRefusal) throw new Unusable(`the answer is larger than ${limit / MIB} MiB`);
    response.body = body ?? Buffer.alloc(0);
    if (!isRefusal) await check(response.body, request);
    // A gateway's error page: the SDK would report its parser's error instead of the status.
    else if (isJsonExpected(request) && !isJson(response.body)) response.body = Buffer.from("{}");
    return { response };
  };
}

function limitOf({ headers }: Request): number {
  return headers["x-amz-target"]?.endsWith(".BatchGetSecretValue") === true ? MAX_BATCH : MAX_ANSWER;
}

/** @returns undefined where the body is larger than `limit` bytes; the rest is not read. */
async function read(body: Response["body"], limit: number, traffic: Traffic): Promise<Buffer | undefined> {
  if (Buffer.isBuffer(body)) return body;
  const chunks: Buffer[] = [];
  let length = 0;
  // Leaving the loop ends the connection.
  for await (const chunk of body ?? []) {
    length += chunk.length;
    if (length > limit) return undefined;
    const refusal = traffic.take(chunk.length, "the service");
    if (refusal !== undefined) throw refusal;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** A request without a target gets no JSON: STS answers in XML, and has no secret. */
function isJsonExpected({ headers }: Request): boolean {
  return headers["x-amz-target"] !== undefined;
}

function isJson(body: Buffer): boolean {
  try {
    JSON.parse(body.toString("utf8"));
    return true;
  } catch {
    return false;
  }
}

async function check(body: Buffer, request: Request): Promise<void> {
  if (!isJsonExpected(request)) return;
  // The SDK would put U+FFFD into the value.
  if (!isUtf8(body)) {
    // We ask for no encoding: encoded bytes (`Content-Encoding: gzip`) are a proxy's.
    if (!beginsAsObject(body)) throw new Unusable("the answer is not from AWS", "unavailable");
    throw new Unusable("the answer is not UTF-8");
  }
  try {
    await inSlices(checking(body.toString("utf8"), "the answer"));
  } catch (error) {
    throw error instanceof BackendError ? new Unusable(error.message) : error;
  }
}
