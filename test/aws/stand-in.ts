/**
 * A stand-in for AWS Secrets Manager and STS, after their API references (AWS JSON 1.1, and query with XML, over HTTP).
 * It is only for answers that the emulator cannot give: throttling, partial failures of a batch, refusals, garbage,
 * silence.
 */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export interface Call {
  /** `GetSecretValue`, `BatchGetSecretValue`, `AssumeRole`. */
  readonly operation: string;
  /** The access key that the request is signed with. */
  readonly accessKey: string | undefined;
  /** The region that the request is signed for. */
  readonly region: string | undefined;
  readonly body: Readonly<Record<string, unknown>>;
}

export interface Reply {
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
  /** Sends a string or bytes as they are, anything else as JSON. */
  readonly body: unknown;
  /** Sends half of the body, and then nothing. */
  readonly stalls?: boolean;
  /** After the body, sends more of the same for as long as a client reads it. */
  readonly floods?: boolean;
}

export class StandIn {
  readonly calls: readonly Call[];
  /** Answers that stall while a client waits for the rest. */
  readonly stalled: ReadonlySet<unknown>;
  readonly url: string;
  readonly close: () => Promise<void>;

  private constructor(url: string, calls: readonly Call[], stalled: ReadonlySet<unknown>, close: () => Promise<void>) {
    this.url = url;
    this.calls = calls;
    this.stalled = stalled;
    this.close = close;
  }

  /** @param answer undefined: it never answers the request. */
  static async start(answer: (call: Call) => Reply | undefined): Promise<StandIn> {
    const calls: Call[] = [];
    const stalled = new Set<unknown>();
    const server = createServer((request, response) => {
      void read(request).then((call) => {
        calls.push(call);
        const reply = answer(call);
        if (reply === undefined) return;
        response.writeHead(reply.status ?? 200, { "content-type": "application/x-amz-json-1.1", ...reply.headers });
        const { body } = reply;
        const text = typeof body === "string" || Buffer.isBuffer(body) ? body : JSON.stringify(body);
        if (reply.floods === true) {
          flood(response, text);
          return;
        }
        if (reply.stalls !== true) {
          response.end(text);
          return;
        }
        stalled.add(response);
        response.once("close", () => stalled.delete(response));
        response.write(text.slice(0, text.length / 2));
      });
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const close = () =>
      new Promise<void>((resolve) => {
        server.closeAllConnections();
        server.close(() => {
          resolve();
        });
      });
    return new StandIn(`http://127.0.0.1:${(server.address() as AddressInfo).port}`, calls, stalled, close);
  }

  count(operation: string): number {
    return this.calls.filter((call) => call.operation === operation).length;
  }
}

function flood(response: ServerResponse, text: string | Buffer): void {
  const more = Buffer.alloc(256 * 1024, text);
  const pour = () => {
    while (!response.destroyed && response.write(more));
  };
  response.on("drain", pour).write(text);
  pour();
}

/** An error in the words of the service. */
export function refusal(code: string, message: string, headers: Readonly<Record<string, string>> = {}): Reply {
  return { status: 400, headers: { "x-amzn-requestid": "7a62c49f", ...headers }, body: { __type: code, message } };
}

/** STS says yes. */
export function assumed(accessKey: string): Reply {
  const Credentials = `<AccessKeyId>${accessKey}</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken><Expiration>2100-01-01T00:00:00Z</Expiration>`;
  return xml(
    200,
    `<AssumeRoleResponse><AssumeRoleResult><Credentials>${Credentials}</Credentials></AssumeRoleResult></AssumeRoleResponse>`,
  );
}

/** STS says no. */
export function notAssumed(code: string, message: string, status = 403): Reply {
  return xml(status, `<ErrorResponse><Error><Code>${code}</Code><Message>${message}</Message></Error></ErrorResponse>`);
}

function xml(status: number, body: string): Reply {
  return { status, headers: { "content-type": "text/xml" }, body };
}

async function read(request: IncomingMessage): Promise<Call> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  const text = Buffer.concat(chunks).toString();
  // ACCESS_KEY/DATE/REGION/SERVICE/aws4_request
  const [accessKey, , region] = / Credential=([^,]*)/.exec(request.headers.authorization ?? "")?.[1]?.split("/") ?? [];
  const target = request.headers["x-amz-target"];
  if (target !== undefined) {
    const operation = String(target).replace("secretsmanager.", "");
    return { operation, accessKey, region, body: JSON.parse(text) as Record<string, unknown> };
  }
  const body = Object.fromEntries(new URLSearchParams(text));
  return { operation: body["Action"] ?? "", accessKey, region, body };
}
