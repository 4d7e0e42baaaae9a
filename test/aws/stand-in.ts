/**
 * A stand-in for AWS Secrets Manager, after its API reference (AWS JSON 1.1 over HTTP), only for what the emulator cannot
 * be made to answer: throttling, partial failures of a batch, refusals, garbage, silence.
 */
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";

export interface Call {
  /** `GetSecretValue`, `BatchGetSecretValue`. */
  readonly operation: string;
  readonly body: Readonly<Record<string, unknown>>;
}

export interface Reply {
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body: unknown;
}

export class StandIn {
  readonly calls: readonly Call[];
  readonly url: string;
  readonly close: () => Promise<void>;

  private constructor(url: string, calls: readonly Call[], close: () => Promise<void>) {
    this.url = url;
    this.calls = calls;
    this.close = close;
  }

  /** @param answer undefined: the request is never answered. */
  static async start(answer: (call: Call) => Reply | undefined): Promise<StandIn> {
    const calls: Call[] = [];
    const server = createServer((request, response) => {
      void read(request).then((call) => {
        calls.push(call);
        const reply = answer(call);
        if (reply === undefined) return;
        response.writeHead(reply.status ?? 200, { "content-type": "application/x-amz-json-1.1", ...reply.headers });
        response.end(typeof reply.body === "string" ? reply.body : JSON.stringify(reply.body));
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
    return new StandIn(`http://127.0.0.1:${(server.address() as AddressInfo).port}`, calls, close);
  }

  count(operation: string): number {
    return this.calls.filter((call) => call.operation === operation).length;
  }
}

/** An error as the service words it. */
export function refusal(code: string, message: string, headers: Readonly<Record<string, string>> = {}): Reply {
  return { status: 400, headers, body: { __type: code, message } };
}

async function read(request: IncomingMessage): Promise<Call> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  const operation = String(request.headers["x-amz-target"]).replace("secretsmanager.", "");
  return { operation, body: JSON.parse(Buffer.concat(chunks).toString()) as Record<string, unknown> };
}
