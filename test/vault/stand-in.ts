/**
 * A stand-in for a Vault server, for answers that a real one cannot be made to give: 412, 429, 472 and 473, garbage,
 * half-open connections, redirects; and to see what a login with AWS IAM sends. It imitates what the public
 * documentation of Vault's HTTP API says about `secret/data`, `sys/internal/ui/mounts`, status codes and
 * `auth/aws/login`. It is no test of anything else.
 */
import http from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { onTestFinished } from "vitest";

export interface Asked {
  readonly method: string;
  readonly path: string;
  readonly headers: http.IncomingHttpHeaders;
  readonly body: string;
}

/** Handles one request; `false`: answer it as a Vault would. */
export type Answering = (asked: Asked, response: http.ServerResponse, socket: Socket) => boolean;

export class StandIn {
  /** All requests so far. */
  readonly asked: Asked[] = [];
  /** The data at `secret/data/app`. */
  data: Readonly<Record<string, unknown>> = {};
  answering: Answering = () => false;
  readonly #server: http.Server;

  private constructor() {
    this.#server = http.createServer((request, response) => {
      let body = "";
      request.setEncoding("utf8").on("data", (chunk: string) => {
        body += chunk;
      });
      request.on("end", () => {
        const { method = "", url = "", headers, socket } = request;
        const asked = { method, path: url, headers, body };
        this.asked.push(asked);
        if (!this.answering(asked, response, socket)) this.#asVault(asked, response);
      });
    });
  }

  static async start(): Promise<StandIn> {
    const standIn = new StandIn();
    await new Promise<void>((resolve) => standIn.#server.listen(0, "127.0.0.1", resolve));
    onTestFinished(() => {
      standIn.#server.closeAllConnections();
      standIn.#server.close();
    });
    return standIn;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  #asVault({ path }: Asked, response: http.ServerResponse): void {
    if (path.startsWith("/v1/sys/internal/ui/mounts/"))
      reply(response, 200, { data: { type: "kv", options: { version: "2" } } });
    else if (path === "/v1/secret/data/app")
      reply(response, 200, { data: { data: this.data, metadata: { version: 1 } } });
    else reply(response, 404, { errors: [] });
  }
}

export function reply(
  response: http.ServerResponse,
  status: number,
  body: unknown,
  headers: Readonly<Record<string, string>> = {},
): void {
  response.writeHead(status, { "content-type": "application/json", ...headers });
  response.end(JSON.stringify(body));
}
