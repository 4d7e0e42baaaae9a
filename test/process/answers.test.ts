/**
 * Answers in all the shapes that HTTP/1.1 allows, and in some that it does not, as proxies in front of Vault make them:
 * each runtime has its own parser. If these fail, a sidecar never becomes ready behind such a proxy, or publishes half
 * of a value.
 */
import type net from "node:net";
import { expect, test } from "vitest";
import { eventually, Place } from "./daemon.ts";
import { listener, publishes, refuses, value, vaultAt } from "./network.ts";

const head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
const withLength = (body: string) => `${head}content-length: ${body.length}\r\n\r\n${body}`;
const chunk = (text: string, extension = "") => `${text.length.toString(16)}${extension}\r\n${text}\r\n`;
const chunked = (body: string, end = "0\r\n\r\n") =>
  `${head}transfer-encoding: chunked\r\n\r\n${chunk(body.slice(0, 9))}${chunk(body.slice(9), ";name=1")}${end}`;

/** What a Vault would say, in a shape: text is sent at once, a list a part at a time. */
type Shape = (body: string) => string | readonly string[];

/** @param closes the connection after each answer. @returns the server's port. */
async function vaultThatSays(shape: Shape, closes: boolean): Promise<number> {
  return await listener((socket) => {
    let asked = "";
    socket.setNoDelay(true).on("data", (data) => {
      asked += data.toString("latin1");
      for (let end = asked.indexOf("\r\n\r\n"); end >= 0; end = asked.indexOf("\r\n\r\n")) {
        const [, path = ""] = asked.split(" ", 2);
        asked = asked.slice(end + 4);
        void say(socket, shape(bodyOf(path)), closes);
      }
    });
  });
}

function bodyOf(path: string): string {
  const data = path.includes("/mounts/")
    ? { type: "kv", options: { version: "2" } }
    : { data: { id: value }, metadata: { version: 1 } };
  return JSON.stringify({ data });
}

async function say(socket: net.Socket, answer: string | readonly string[], closes: boolean): Promise<void> {
  for (const part of typeof answer === "string" ? [answer] : answer) {
    // Each part is its own packet.
    await new Promise((sent) => socket.write(part, "latin1", sent));
    await new Promise(setImmediate);
  }
  if (closes) socket.end();
}

const whole: readonly [shape: string, Shape, closes?: boolean][] = [
  ["in chunks, with extensions", (body) => chunked(body)],
  ["in chunks, with trailers", (body) => chunked(body, "0\r\nx-checksum: 1\r\n\r\n")],
  [
    "in chunks of a byte",
    (body) => `${head}transfer-encoding: chunked\r\n\r\n${Array.from(body, (one) => chunk(one)).join("")}0\r\n\r\n`,
  ],
  ["in packets of a byte", (body) => Array.from(chunked(body))],
  ["with a length, in packets of a byte", (body) => Array.from(withLength(body))],
  ["until the connection ends", (body) => `${head}\r\n${body}`, true],
  ["by HTTP/1.0", (body) => `${head.replace("1.1", "1.0")}\r\n${body}`, true],
  [
    "with a length, and the connection ends",
    (body) => withLength(body).replace("\r\n", "\r\nconnection: close\r\n"),
    true,
  ],
  [
    "after interim answers",
    (body) => `HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n${withLength(body)}`,
  ],
  [
    "with header names in capitals, and no reason",
    (body) => withLength(body).replace("200 OK", "200 ").replace("content-length", "CONTENT-LENGTH"),
  ],
  ["with 8 KiB of cookies", (body) => withLength(body).replace("\r\n", `\r\nset-cookie: a=${"b".repeat(8192)}\r\n`)],
];

test.each(whole)("reads an answer %s as complete, poll after poll", async (_, shape, closes = false) => {
  const place = new Place();
  let polls = 0;
  const counting: Shape = (body) => {
    polls += body.includes(value) ? 1 : 0;
    return shape(body);
  };
  const port = await vaultThatSays(counting, closes);
  const daemon = await publishes(place, vaultAt(place, `http://127.0.0.1:${port}`, { pollingInterval: 0.1 }));
  await eventually("some polls", () => polls >= 4);
  const { stderr } = await daemon.end();
  expect(stderr).not.toContain("stays");
});

const broken: readonly [shape: string, Shape, says: RegExp][] = [
  ["in chunks, without the last of them", (body) => chunked(body, ""), /connection reset/],
  ["in chunks, the last one cut off", (body) => chunked(body).slice(0, -20), /connection reset/],
  ["shorter than its length", (body) => withLength(body).slice(0, -5), /connection reset/],
  [
    "until the connection ends, cut off",
    (body) => `${head}\r\n${body.slice(0, -5)}`,
    /the answer is not from Vault or OpenBao/,
  ],
  [
    "with a length and in chunks",
    (body) => chunked(body).replace("\r\n", "\r\ncontent-length: 3\r\n"),
    /the answer is not HTTP/,
  ],
  [
    "with two lengths",
    (body) => withLength(body).replace("\r\n", "\r\ncontent-length: 3\r\n"),
    /the answer is not HTTP/,
  ],
  [
    "with a chunk size that is not a number",
    (body) => chunked(body).replace("\r\n\r\n9\r\n", "\r\n\r\nzz\r\n"),
    /the answer is not HTTP/,
  ],
];

test.each(broken)("refuses an answer %s", async (_, shape, says) => {
  const place = new Place();
  const port = await vaultThatSays(shape, true);
  await refuses(place, vaultAt(place, `http://127.0.0.1:${port}`), says);
});
