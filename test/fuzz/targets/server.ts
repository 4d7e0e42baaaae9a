/** Servers on loopback that answer as told: with an HTTP answer, or with bytes. */
import { createServer, type Server } from "node:http";
import { createServer as createSocketServer, type AddressInfo } from "node:net";
import fc from "fast-check";
import { CANARY } from "../invariants.ts";
import { number, text } from "../arbitraries.ts";

export interface Answer {
  readonly status: number;
  readonly headers: readonly (readonly [string, string])[];
  readonly body: Buffer;
  /** How much of the body to send before the connection ends; undefined: all of it. */
  readonly cut?: number | undefined;
}

/** One server for all inputs. `answers` holds its next answers; it repeats the last one. */
export class Answering {
  answers: readonly Answer[] = [];
  asked = 0;
  #server: Server | undefined;

  async url(): Promise<string> {
    this.#server ??= await this.#listen();
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  close(): void {
    this.#server?.closeAllConnections();
    this.#server?.close();
  }

  async #listen(): Promise<Server> {
    const server = createServer((request, response) => {
      request.resume();
      request.on("end", () => {
        const answer = this.answers[Math.min(this.asked, this.answers.length - 1)];
        this.asked += 1;
        if (answer === undefined) return void response.destroy();
        response.statusCode = answer.status;
        for (const [name, value] of answer.headers) response.setHeader(name, value);
        if (answer.cut === undefined) return void response.end(answer.body);
        response.setHeader("content-length", answer.body.length + 10);
        response.write(answer.body.subarray(0, answer.cut), () => response.destroy());
      });
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return server;
  }
}

/** Writes bytes to every client, whatever it asks. */
export async function blurting(bytes: Buffer): Promise<{ readonly url: string; readonly close: () => void }> {
  const server = createSocketServer((socket) => {
    socket.on("error", () => undefined);
    socket.once("data", () => socket.end(bytes));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, close: () => server.close() };
}

export const status = fc.oneof(
  { weight: 3, arbitrary: fc.constant(200) },
  fc.constantFrom(204, 301, 302, 307, 400, 401, 403, 404, 405, 408, 412, 429, 472, 473, 500, 501, 502, 503),
  fc.integer({ min: 200, max: 599 }),
);

const headerValue = fc.oneof(
  fc.constantFrom("application/json", "application/x-amz-json-1.1", "text/html", "application/json; charset=utf-16"),
  fc.constantFrom(
    "0",
    "1",
    "-1",
    "1e9",
    "99999999999",
    "Wed, 21 Oct 2015 07:28:00 GMT",
    `/v1/${CANARY}`,
    "gzip",
    "http://[",
  ),
  text.map((value) => value.replaceAll(/[^\x20-\x7e]/g, "")),
  number.map(String),
);

export function headers(contentType: string): fc.Arbitrary<[string, string][]> {
  const names = [
    "retry-after",
    "location",
    "x-amzn-errortype",
    "x-amzn-requestid",
    "content-encoding",
    "x-vault-index",
    "date",
  ];
  return fc
    .tuple(
      fc.oneof({ weight: 5, arbitrary: fc.constant(contentType) }, headerValue),
      fc.array(fc.tuple(fc.constantFrom(...names), headerValue), { maxLength: 2 }),
    )
    .map(([type, more]) => [["content-type", type], ...more]);
}

/** An answer with a body of this kind, mostly whole. */
export function answer(contentType: string, body: fc.Arbitrary<Buffer>): fc.Arbitrary<Answer> {
  return fc.record({
    status,
    headers: headers(contentType),
    body,
    cut: fc.oneof({ weight: 9, arbitrary: fc.constant(undefined) }, fc.nat({ max: 20 })),
  });
}

/** A JSON document, or a part of one. */
export function bodyOf(document: fc.Arbitrary<unknown>): fc.Arbitrary<Buffer> {
  return fc.oneof(
    { weight: 6, arbitrary: document.map((value) => Buffer.from(JSON.stringify(value))) },
    { weight: 1, arbitrary: text.map((value) => Buffer.from(`${CANARY}${value}`)) },
    { weight: 1, arbitrary: document.map((value) => Buffer.from(JSON.stringify(value).slice(0, -2))) },
    { weight: 1, arbitrary: fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes)) },
  );
}
