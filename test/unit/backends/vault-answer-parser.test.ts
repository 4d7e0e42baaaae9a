/** What the vault backend takes for an answer. If these fail, a proxy or an attacker decides where an answer ends. */
import { expect, test } from "vitest";
import { AnswerParser, type Headers, NotHttp } from "../../../backends/vault/answer-parser.ts";

interface Seen {
  interim: number;
  status: number | undefined;
  headers: Headers;
  parts: Buffer[];
  /** undefined: not complete. */
  isReusable: boolean | undefined;
}

function parser() {
  const seen: Seen = { interim: 0, status: undefined, headers: {}, parts: [], isReusable: undefined };
  const it = new AnswerParser({
    interim: () => {
      seen.interim += 1;
    },
    head: (status, headers) => {
      Object.assign(seen, { status, headers });
    },
    part: (part) => seen.parts.push(part),
    complete: (isReusable) => {
      expect(seen.isReusable, "once").toBeUndefined();
      seen.isReusable = isReusable;
    },
  });
  return { it, seen };
}

/** @param size of the pieces in which the bytes come. */
function parse(text: string, size = Infinity): Seen {
  const { it, seen } = parser();
  const bytes = Buffer.from(text, "latin1");
  for (let at = 0; at < bytes.length && seen.isReusable === undefined; at += size)
    it.take(Buffer.from(bytes.subarray(at, Math.min(at + size, bytes.length))));
  return seen;
}

const ok = "HTTP/1.1 200 OK\r\n";
const chunked = `${ok}Transfer-Encoding: chunked\r\n\r\n`;

test.each([
  ["a length", `${ok}Content-Length: 5\r\n\r\nhello`, "hello"],
  ["no body", `${ok}content-length:0\r\n\r\n`, ""],
  ["chunks", `${chunked}3\r\nhel\r\n2;a;b=c;d="e f"\r\nlo\r\n0\r\n\r\n`, "hello"],
  ["chunks of CR and LF", `${chunked}4\r\n\r\n\r\n\r\n0\r\n\r\n`, "\r\n\r\n"],
  ["chunks with leading zeros and capitals", `${chunked}00A\r\n0123456789\r\n000\r\n\r\n`, "0123456789"],
  ["trailers", `${chunked}1\r\nx\r\n0\r\nExpires: 0\r\nX: y\r\n\r\n`, "x"],
  ["status 204, whatever its fields say", "HTTP/1.1 204 No Content\r\nContent-Length: 7\r\n\r\n", ""],
  ["status 304", "HTTP/1.1 304 \r\nTransfer-Encoding: chunked\r\n\r\n", ""],
  ["a status without a reason", "HTTP/1.1 503\r\nContent-Length: 1\r\n\r\nx", "x"],
  ["other answers before it", `HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 x\r\nLink: a\r\n\r\n${chunked}0\r\n\r\n`, ""],
])("takes an answer with %s, in one piece or byte by byte", (_, text, body) => {
  for (const size of [Infinity, 1, 2, 3, 7]) {
    const { parts, isReusable } = parse(text, size);
    expect(Buffer.concat(parts).toString("latin1")).toBe(body);
    expect(isReusable).toBe(true);
  }
});

test("takes what comes until the server closes for the body of an answer without a length", () => {
  const { it, seen } = parser();
  it.take(Buffer.from(`${ok}Content-Type: x\r\n\r\nhel`));
  it.take(Buffer.from("lo"));
  expect(seen.isReusable).toBeUndefined();
  expect(it.end()).toBe(true);
  expect(Buffer.concat(seen.parts).toString()).toBe("hello");
  expect(seen.isReusable).toBe(false);
});

test.each([
  "",
  "HTTP/1.1 200 OK\r\nContent-",
  `${ok}Content-Length: 5\r\n\r\nhell`,
  `${chunked}5\r\nhello`,
  `${chunked}5\r\nhello\r\n0\r\n`,
  "HTTP/1.1 100 Continue\r\n\r\n",
])("takes %j for no answer when the server closes", (text) => {
  const { it, seen } = parser();
  if (text !== "") it.take(Buffer.from(text));
  expect(it.hasBegun).toBe(text !== "");
  expect(it.end()).toBe(false);
  expect(seen.isReusable).toBeUndefined();
});

test.each([
  "220 mail ESMTP\r\n",
  "\r\n",
  "http/1.1 200 OK\r\n\r\n",
  "HTTP/2 200 OK\r\n\r\n",
  "HTTP/1.2 200 OK\r\n\r\n",
  "HTTP/1.1  200 OK\r\n\r\n",
  "HTTP/1.1 20 OK\r\n\r\n",
  "HTTP/1.1 2000 OK\r\n\r\n",
  "HTTP/1.1 099 OK\r\n\r\n",
  "HTTP/1.1 200\tOK\r\n\r\n",
  "HTTP/1.1 200 O\rK\r\n\r\n",
  "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
  "HTTP/1.1 100 Continue\r\nContent-Length: 3\r\n\r\n",
  "HTTP/1.1 100 Continue\r\nConnection: close\r\n\r\n",
  "HTTP/1.0 100 Continue\r\n\r\n",
  "HTTP/1.1 200 OK\n",
  `${ok}A: b\nContent-Length: 0\r\n\r\n`,
  `${ok}A: b\r\n folded\r\n\r\n`,
  `${ok}A : b\r\n\r\n`,
  `${ok}: b\r\n\r\n`,
  `${ok}A\r\n\r\n`,
  `${ok}A: \0\r\n\r\n`,
  `${ok}\xe4: b\r\n\r\n`,
  `${ok}Content-Length: -1\r\n\r\n`,
  `${ok}Content-Length: +1\r\n\r\n`,
  `${ok}Content-Length: 1e1\r\n\r\n`,
  `${ok}Content-Length: 0x1\r\n\r\n`,
  `${ok}Content-Length: \r\n\r\n`,
  `${ok}Content-Length: 3, 3\r\n\r\n`,
  `${ok}Content-Length: 3\t\r\n\r\n`,
  `${ok}Content-Length: 9999999999999999\r\n\r\n`,
  `${ok}Content-Length: 3\r\nContent-Length: 3\r\n\r\n`,
  `${ok}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n`,
  `${ok}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n`,
  `${ok}Transfer-Encoding: gzip, chunked\r\n\r\n`,
  `${ok}Transfer-Encoding: chunked, gzip\r\n\r\n`,
  `${ok}Transfer-Encoding: \xa0chunked\r\n\r\n`,
  `${ok}Transfer-Encoding: \r\n\r\n`,
  "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
  `${chunked}\r\n`,
  `${chunked}g\r\n`,
  `${chunked}0x1\r\n`,
  `${chunked}-1\r\n`,
  `${chunked} 1\r\n`,
  `${chunked}1 \r\n`,
  `${chunked}1\n`,
  `${chunked}1;\0\r\n`,
  `${chunked}1;\ta=b\r\n`,
  `${chunked}1;a="b\r\n`,
  `${chunked}fffffffffffff\r\n`,
  `${chunked}1\r\nxx\r\n`,
  `${chunked}1\r\nx0\r\n\r\n`,
  `${chunked}0\r\nA\r\n\r\n`,
  `${chunked}0\r\nA: b\n\r\n`,
  `${chunked}0\r\nContent-Length: 3\r\n`,
  `${chunked}0\r\n folded\r\n\r\n`,
])("refuses %j", (text) => {
  for (const size of [Infinity, 1])
    expect(() => {
      parse(`${text}\r\n`, size);
    }).toThrow(NotHttp);
});

test.each([
  ["a head", `${ok}A: ${"x".repeat(16 * 1024)}`],
  ["many fields", `${ok}${"A: b\r\n".repeat(4096)}`],
  ["the line of a chunk", `${chunked}1;${"x".repeat(16 * 1024)}`],
  ["the lines of chunks together", `${chunked}${`1;${"x".repeat(999)}\r\nx\r\n`.repeat(17)}`],
  ["trailers", `${chunked}0\r\n${"A: b\r\n".repeat(4096)}`],
])("refuses %s of more than 16 KiB", (_, text) => {
  for (const size of [Infinity, 1000])
    expect(() => {
      parse(text, size);
    }).toThrow(NotHttp);
});

test.each([
  ["HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", false],
  ["HTTP/1.1 200 OK\r\nConnection: x\r\nConnection: y, CLOSE\r\nContent-Length: 0\r\n\r\n", false],
  ["HTTP/1.1 200 OK\r\nConnection: closed\r\nContent-Length: 0\r\n\r\n", true],
  ["HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n", false],
  // What comes after it may belong to an answer to another request.
  [`${ok}Content-Length: 1\r\n\r\nxy`, false],
  [`${chunked}0\r\n\r\nHTTP/1.1 200 OK\r\n`, false],
])("after %j the connection serves another request: %s", (text, isReusable) => {
  expect(parse(text).isReusable).toBe(isReusable);
});

test("gives the first of several fields, by its lower-case name, without blanks around it", () => {
  const { status, headers } = parse(
    `HTTP/1.1 307 x\r\nLOCATION:\t /a b \t\r\nLocation: /c\r\nRetry-After:\r\nconstructor: 1\r\n__proto__: x\r\n\xe4`.replace(
      "\xe4",
      "Content-Length: 0\r\n\r\n",
    ),
  );
  expect(status).toBe(307);
  expect(headers["location"]).toBe("/a b");
  expect(headers["retry-after"]).toBe("");
  expect(Object.getPrototypeOf(headers)).toBeNull();
});

test("leaves the body nowhere but in the parts that it hands over", () => {
  const { it, seen } = parser();
  const pieces = [`${chunked}3\r\nsec`, "\r\n3", "\r\nret\r\n0\r\n", "\r\n"].map((text) => Buffer.from(text));
  for (const piece of pieces) it.take(piece);
  expect(Buffer.concat(seen.parts).toString()).toBe("secret");
  for (const part of seen.parts) part.fill(0);
  for (const piece of pieces) expect(piece.every((byte) => byte === 0)).toBe(true);
});
