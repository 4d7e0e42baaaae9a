/**
 * The parser of answers beside Node's own client: what the parser takes, the client takes too, with the same result; and
 * the parser takes every answer that is as it should be.
 */
import http from "node:http";
import { Duplex } from "node:stream";
import fc from "fast-check";
import { expect } from "vitest";
import { AnswerParser, type Headers, NotHttp } from "../../../backends/vault/answer-parser.ts";
import { target } from "../target.ts";

interface Result {
  readonly status: number;
  readonly headers: Headers;
  readonly body: string;
}

interface Parsed {
  /** undefined: refused, or not complete. */
  readonly result: Result | undefined;
  readonly isRefused: boolean;
  /** Bytes until then. */
  readonly length: number;
}

/** Those that the program reads. Node joins several of the name `date`. */
const read = ["content-type", "retry-after", "location"] as const;
const only = (headers: Headers | http.IncomingHttpHeaders): Headers =>
  Object.fromEntries(read.flatMap((name) => (headers[name] === undefined ? [] : [[name, headers[name]]])));

/** @param sizes of the pieces in which the bytes come; the last one is repeated. The server then sends no more. */
function parse(bytes: Buffer, sizes: readonly number[]): Parsed {
  const seen: { status: number; headers: Headers; isOver: boolean } = { status: 0, headers: {}, isOver: false };
  const parts: Buffer[] = [];
  const parser = new AnswerParser({
    interim: () => undefined,
    head: (status, headers) => Object.assign(seen, { status, headers }),
    part: (part) => parts.push(part),
    complete: () => {
      seen.isOver = true;
    },
  });
  let at = 0;
  try {
    for (let piece = 0; at < bytes.length && !seen.isOver; piece += 1) {
      const size = Math.max(1, sizes[Math.min(piece, sizes.length - 1)] ?? 1);
      // A copy: the parser overwrites what it gets.
      parser.take(Buffer.from(bytes.subarray(at, at + size)));
      at += size;
    }
    if (!seen.isOver) parser.end();
  } catch (error) {
    if (!(error instanceof NotHttp)) throw error;
    return { result: undefined, isRefused: true, length: at };
  }
  const { status, headers, isOver } = seen;
  const result = { status, headers: only(headers), body: Buffer.concat(parts).toString("latin1") };
  return { result: isOver ? result : undefined, isRefused: false, length: Math.min(at, bytes.length) };
}

/** What Node's client makes of these bytes. undefined: an error. */
async function askNode(bytes: Buffer): Promise<Result | undefined> {
  const socket = new Duplex({
    read: () => undefined,
    write: (_chunk, _encoding, done) => {
      done();
      socket.push(bytes);
      socket.push(null);
    },
  });
  return await new Promise((resolve) => {
    const failed = () => {
      resolve(undefined);
    };
    const request = http.get({ createConnection: () => socket }, (response) => {
      const parts: Buffer[] = [];
      response.on("data", (part: Buffer) => parts.push(part));
      response.on("error", failed);
      response.on("end", () => {
        const { statusCode: status = 0, headers, complete } = response;
        const body = Buffer.concat(parts).toString("latin1");
        resolve(complete ? { status, headers: only(headers), body } : undefined);
      });
    });
    request.on("error", failed);
  });
}

const anyOf = (characters: string) => fc.nat({ max: characters.length - 1 }).map((at) => characters.charAt(at));
const word = fc.string({ unit: anyOf("abAB09-_.~"), minLength: 1, maxLength: 6 });
const value = fc.string({ unit: anyOf('ab \t:;,="/\xe4\xff'), maxLength: 9 });
const field = fc.oneof(
  fc.constantFrom(
    "Content-Type: application/json",
    "content-type:text/html",
    "Date: Thu, 01 Jan 1970 00:00:00 GMT",
    "Retry-After: 7",
    "Location: /v1/x",
    "Connection: close",
    "Connection: keep-alive, x",
  ),
  fc.tuple(word, value).map(([name, text]) => `X-${name}: ${text}`),
);
const fields = fc.array(field, { maxLength: 4 });
const text = fc.string({ unit: anyOf("ab{}\r\n \xff0"), maxLength: 40 });
/** A body in chunks. */
const chunks = fc.array(fc.tuple(text, fc.constantFrom("", ";a", ";a=b", ';a="b c"')), { maxLength: 5 });
const chunked = fc
  .tuple(chunks, fields)
  .map(([pieces, trailers]) =>
    [
      ...pieces
        .filter(([piece]) => piece !== "")
        .map(([piece, more]) => `${piece.length.toString(16)}${more}\r\n${piece}\r\n`),
      "0\r\n",
      ...trailers.map((line) => `${line}\r\n`),
      "\r\n",
    ].join(""),
  );
const statusCode = fc.constantFrom(200, 201, 204, 304, 307, 403, 404, 429, 503, 999);
const line = fc.tuple(fc.constantFrom("1.1", "1.1", "1.0"), statusCode, fc.constantFrom("", " ", " OK", " \xe4 b"));
const isEmpty = (status: number) => status === 204 || status === 304;
const head = (first: string, lines: readonly string[]) => `${[first, ...lines].join("\r\n")}\r\n\r\n`;
const interim = fc.array(
  fc.tuple(fc.constantFrom(100, 102, 103), fields).map(([status, lines]) =>
    head(
      `HTTP/1.1 ${status} x`,
      lines.filter((one) => !one.startsWith("Connection")),
    ),
  ),
  { maxLength: 2 },
);

/** An answer as it should be. */
const good = fc
  .tuple(line, fields, fc.constantFrom("sized", "chunked", "until the end"), text, chunked, interim)
  .map(([[version, status, reason], lines, framing, plain, pieces, before]) => {
    const first = `HTTP/${version} ${status}${reason}`;
    const start = before.join("");
    if (isEmpty(status)) return start + head(first, lines);
    if (framing === "until the end") return start + head(first, lines) + plain;
    if (framing === "sized" || version === "1.0")
      return start + head(first, [`Content-Length: ${plain.length}`, ...lines]) + plain;
    return start + head(first, [...lines, "Transfer-Encoding: chunked"]) + pieces;
  });

const trap = fc.constantFrom(
  "\n",
  "\r",
  "\r\n",
  "\0",
  " ",
  "\t",
  ":",
  "0",
  "-",
  "+1",
  "0x1",
  "ffffffffffffffffff\r\n",
  "Content-Length: 3\r\n",
  "Content-Length: 3, 3\r\n",
  "Transfer-Encoding: chunked\r\n",
  "Transfer-Encoding: gzip, chunked\r\n",
  "Transfer-Encoding:\r\n",
  " folded\r\n",
  "HTTP/1.1 200 OK\r\n\r\n",
  "HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
);
/** Some places of it changed. */
const nearly = fc
  .tuple(good, fc.array(fc.tuple(fc.nat(), fc.nat({ max: 3 }), trap), { minLength: 1, maxLength: 3 }))
  .map(([whole, changes]) =>
    changes.reduce((so, [place, cut, more]) => {
      const at = place % (so.length + 1);
      return so.slice(0, at) + more + so.slice(at + cut);
    }, whole),
  );
/** A line is replaced or repeated: mostly it stays HTTP. */
const relined = fc.tuple(good, fc.nat(), trap).map(([whole, place, more]) => {
  const lines = whole.split("\r\n");
  lines.splice(1 + (place % lines.length), place % 2, more.trim());
  return lines.join("\r\n");
});
const sizes = fc.array(fc.oneof(fc.integer({ min: 1, max: 9 }), fc.constant(1e6)), { minLength: 1, maxLength: 6 });

export const httpAnswers = target({
  title: "the parser takes an answer only as Node's own client does, in whatever pieces it comes",
  weight: 4,
  input: fc.tuple(
    fc.oneof(
      good.map((whole) => [whole, true] as const),
      nearly.map((whole) => [whole, false] as const),
      relined.map((whole) => [whole, false] as const),
    ),
    sizes,
  ),
  async check([[said, isGood], pieces]) {
    const bytes = Buffer.from(said, "latin1");
    const slowly = parse(bytes, [1]);
    // Pieces may hold more than the answer.
    const other = parse(bytes, pieces);
    expect(other.result).toEqual(slowly.result);
    if (slowly.result !== undefined) expect(await askNode(bytes.subarray(0, slowly.length))).toEqual(slowly.result);
    if (!isGood) return;
    expect(slowly.isRefused).toBe(false);
    expect(slowly.result).toBeDefined();
    expect(slowly.length).toBe(bytes.length);
  },
});
