/** Looks by a thread of the executable's addon. If these fail, a change in the store is not seen, or each look is a poll. */
import * as fs from "node:fs";
import net, { type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { beforeEach, expect, onTestFinished, test } from "vitest";
import type { Lookout, Plan } from "../../../src/contract/backend.ts";
import type { Sight } from "../../../src/contract/lookout.ts";
import { lookOutNatively, type NativeLookouts } from "../../../src/runtime/native-lookout.ts";
import { loadAddon } from "../../native-addon.ts";
import { needs } from "../../requirements.ts";

let addon: NativeLookouts | undefined;
const way = lookOutNatively(() => (addon ??= loadAddon() as NativeLookouts));

const request = "GET /v1/secret/data/app HTTP/1.1\r\nhost: vault\r\n\r\n";
const token = "canary-token-3341";
const id = "01234567-89ab-cdef-0123-456789abcdef";
const other = "fedcba98-7654-3210-fedc-ba9876543210";
const bodyWith = (identifier: string, value = "one") => `{"request_id":"${identifier}","data":{"user":"${value}"}}`;
const from = '{"request_id":"'.length;
const varies = [from, from + id.length] as const;
const answer = (body: string, head = "Date: Mon") =>
  `HTTP/1.1 200 OK\r\n${head}\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
const same = answer(bodyWith(id));
/** An answer in chunks of so many bytes; by itself Vault gives longer ones so. */
const chunked = (body: string, size: number, last = "0\r\n\r\n") => {
  const pieces = Array.from({ length: Math.ceil(body.length / size) }, (_, at) =>
    body.slice(at * size, (at + 1) * size),
  );
  const chunks = pieces.map((piece) => `${piece.length.toString(16)}\r\n${piece}\r\n`);
  return `HTTP/1.1 200 OK\r\nDate: Mon\r\nTransfer-Encoding: chunked\r\n\r\n${chunks.join("")}${last}`;
};

/** What becomes of a connection's next request. */
type Serve = (socket: Socket) => void;
const says =
  (text: string): Serve =>
  (socket) =>
    socket.write(text);

let directory: string;
let wordPath: string;
beforeEach(() => {
  directory = fs.mkdtempSync(join(tmpdir(), "fetcher-lookout-"));
  wordPath = join(directory, "token");
  fs.writeFileSync(wordPath, `${token}\n`);
  onTestFinished(() => {
    fs.rmSync(directory, { recursive: true });
  });
});

/** Answers each request with `serve`, which a test may replace. */
class Server {
  serve: Serve = says(same);
  readonly asked: string[] = [];
  connections = 0;
  port = 0;
  readonly #server = net.createServer((socket) => {
    this.connections += 1;
    this.sockets.add(socket);
    socket.on("error", () => undefined);
    let text = "";
    socket.on("data", (data) => {
      text += data.toString();
      for (let end = text.indexOf("\r\n\r\n"); end >= 0; end = text.indexOf("\r\n\r\n")) {
        this.asked.push(text.slice(0, end + 4));
        text = text.slice(end + 4);
        this.serve(socket);
      }
    });
  });
  readonly sockets = new Set<Socket>();

  async start(where: { readonly port: number; readonly host: string } | { readonly path: string }): Promise<this> {
    await new Promise<void>((resolve) => this.#server.listen(where, resolve));
    const address = this.#server.address();
    if (typeof address === "object") this.port = address?.port ?? 0;
    onTestFinished(() => {
      this.stop();
    });
    return this;
  }

  stop(): void {
    for (const socket of this.sockets) socket.destroy();
    this.#server.close();
  }
}

async function serverWith(serve: Serve = says(same)): Promise<Server> {
  const server = await new Server().start({ port: 0, host: "127.0.0.1" });
  server.serve = serve;
  return server;
}

interface Watch {
  news: number;
  readonly lookout: Lookout;
}

function look(server: Server, sight: Partial<Sight> = {}, plan: Partial<Plan> = {}): Watch {
  const watch = { news: 0 };
  const asked = [{ request: Buffer.from(request), body: Buffer.from(bodyWith(id)), varies }];
  const lookout = way(
    { peer: { host: "127.0.0.1", port: server.port }, word: { path: wordPath, text: token }, asked, ...sight },
    { first: 0.01, interval: 0.02, files: [], ...plan },
    () => {
      watch.news += 1;
    },
  );
  if (lookout === undefined) throw new Error("no lookout");
  onTestFinished(() => {
    lookout.end();
  });
  return Object.assign(watch, { lookout });
}

async function until(what: string, condition: () => boolean): Promise<void> {
  const end = performance.now() + 30_000;
  while (!condition()) {
    if (performance.now() > end) throw new Error(`never came: ${what}`);
    await delay(2);
  }
}

/** Several looks go by. */
async function staysQuiet(server: Server, watch: Watch): Promise<void> {
  const before = server.asked.length;
  await until("five looks", () => server.asked.length >= before + 5 || watch.news > 0);
  expect(watch.news).toBe(0);
}

async function hasNews(watch: Watch): Promise<void> {
  await until("news", () => watch.news > 0);
  await delay(60);
  expect(watch.news).toBe(1);
}

const byteByByte =
  (text: string): Serve =>
  (socket) => {
    socket.setNoDelay(true);
    void (async () => {
      for (const letter of text) {
        socket.write(letter);
        await new Promise((resolve) => setImmediate(resolve));
      }
    })();
  };
const closing: Serve = (socket) => socket.end(answer(bodyWith(id), "Connection: close"));

function replace(path: string): void {
  fs.writeFileSync(`${path}.new`, "value");
  fs.renameSync(`${path}.new`, path);
}

function askedOnce() {
  return { request: Buffer.from(request), body: Buffer.from(bodyWith(id)), varies };
}

needs("gcc").describe("a lookout", () => {
  test.each<readonly [string, Serve]>([
    ["the same answer", says(same)],
    ["another identifier of the request", says(answer(bodyWith(other)))],
    ["another date, and more fields", says(answer(bodyWith(id), "X-One: 1\r\nDate: Tue\r\nX-Two: 2"))],
    ["names of fields in other letters", says(same.replace("Content-Length", "content-LENGTH"))],
    ["an answer in single bytes", byteByByte(same)],
    ["an answer in one chunk", says(chunked(bodyWith(other), 1000))],
    ["an answer in many chunks", says(chunked(bodyWith(other), 1))],
    [
      "a size of a chunk in large letters and with zeros before it",
      says(chunked(bodyWith(id), 90).replace("4b\r\n", "0004B\r\n")),
    ],
    ["chunks in single bytes", byteByByte(chunked(bodyWith(id), 30))],
    ["a connection that ends with the answer, as it says", closing],
    ["a connection that ends with the answer, and does not say so", (socket) => socket.end(same)],
  ])("stays quiet for %s", async (_, serve) => {
    const server = await serverWith(serve);
    const watch = look(server);
    await staysQuiet(server, watch);
    expect(new Set(server.asked)).toEqual(new Set([request]));
  });

  test("keeps its connection from one look to the next", async () => {
    const server = await serverWith();
    await staysQuiet(server, look(server));
    expect(server.connections).toBe(1);
  });

  test("opens another connection where the server has ended the kept one", async () => {
    const server = await serverWith();
    const watch = look(server);
    await staysQuiet(server, watch);
    for (const socket of server.sockets) socket.destroy();
    await staysQuiet(server, watch);
    expect(server.connections).toBe(2);
  });

  test.each<readonly [string, Serve]>([
    ["another value", says(answer(bodyWith(id, "two")))],
    ["a longer value", says(answer(bodyWith(id, "three")))],
    ["a shorter value", says(answer(bodyWith(id, "1")))],
    ["an identifier of another kind", says(answer(bodyWith(id.toUpperCase())))],
    ["an identifier that ends the text", says(answer(bodyWith(`0","data":{"user":"two"},"x":"567890`)))],
    ["another status", says(same.replace("200 OK", "403 Forbidden"))],
    ["another success", says(same.replace("200 OK", "204 No Content"))],
    ["an answer before the answer", says(`HTTP/1.1 100 Continue\r\n\r\n${same}`)],
    ["no length", says(same.replace(/Content-Length: \d+\r\n/, ""))],
    ["a length with more behind it", says(same.replace(/Content-Length: (\d+)/, "Content-Length: $10"))],
    ["a length that is no number", says(same.replace(/Content-Length: (\d+)/, "Content-Length: $1x"))],
    ["a length with a sign", says(same.replace("Content-Length: ", "Content-Length: +"))],
    ["chunks and a length", says(same.replace("Date: Mon", "Transfer-Encoding: chunked"))],
    ["another value in chunks", says(chunked(bodyWith(id, "two"), 20))],
    ["a longer value in chunks", says(chunked(bodyWith(id, "three"), 20))],
    ["a shorter value in chunks", says(chunked(bodyWith(id, "1"), 20))],
    ["an endless chunk", says(`${chunked("", 1, "")}ffffffff\r\n${"x".repeat(9000)}`)],
    ["a chunk with an endless size", says(`${chunked("", 1, "")}${"0".repeat(9000)}`)],
    ["a chunk without a size", says(chunked(bodyWith(id), 1000).replace("4b\r\n", "\r\n"))],
    ["a chunk with more behind its size", says(chunked(bodyWith(id), 1000).replace("4b\r\n", "4b;x=y\r\n"))],
    ["a chunk that is longer than its size", says(chunked(bodyWith(id), 1000).replace("4b\r\n", "4a\r\n"))],
    ["a field behind the chunks", says(chunked(bodyWith(id), 1000, "0\r\nX: 1\r\n\r\n"))],
    ["more than the chunks", says(`${chunked(bodyWith(id), 1000)}HTTP/1.1`)],
    ["compressed chunks", says(chunked(bodyWith(id), 1000).replace("chunked", "gzip, chunked"))],
    ["an end in the middle of the chunks", (socket) => socket.end(chunked(bodyWith(id), 1000, ""))],
    ["more than the answer", says(`${same}HTTP/1.1 200 OK\r\n`)],
    ["a head without an end", says(`HTTP/1.1 200 OK\r\nX: ${"x".repeat(5000)}`)],
    ["a long head", says(answer(bodyWith(id), `X: ${"x".repeat(5000)}`))],
    ["something else", says("220 ESMTP\r\n\r\n")],
    ["a NUL in the head", says(answer(bodyWith(id), "X: \0"))],
    ["an end in the middle", (socket) => socket.end(same.slice(0, -5))],
    ["an end without an answer", (socket) => socket.destroy()],
    ["silence", () => undefined],
    ["silence in the middle", says(same.slice(0, -5))],
  ])("says once that there is news: %s", async (_, serve) => {
    const server = await serverWith();
    const watch = look(server);
    await staysQuiet(server, watch);
    server.serve = serve;
    await hasNews(watch);
    const { length } = server.asked;
    await delay(100);
    expect(server.asked.length).toBe(length);
  });

  test("asks once only where the answer is late, or nobody waits for it any more", async () => {
    const path = join(directory, "socket");
    const server = await new Server().start({ path });
    for (const isEnded of [true, false]) {
      server.serve = says(same);
      const watch = look(server, { peer: { path } });
      await staysQuiet(server, watch);
      server.serve = () => undefined;
      const { connections } = server;
      const { length } = server.asked;
      await until("the request", () => server.asked.length > length);
      if (isEnded) watch.lookout.end();
      else await hasNews(watch);
      await delay(100);
      expect(server.connections).toBe(connections);
    }
  });

  test("says that there is news when the server goes", async () => {
    const server = await serverWith();
    const watch = look(server);
    await staysQuiet(server, watch);
    server.stop();
    await hasNews(watch);
  });

  test("compares each of several answers", async () => {
    const server = await serverWith();
    const bodies = [bodyWith(id), bodyWith(id, "a value of another length"), "{}"];
    const asked = bodies.map((body, at) => ({
      request: Buffer.from(request.replace("app", `app${at}`)),
      body: Buffer.from(body),
      varies: body === "{}" ? ([0, 0] as const) : varies,
    }));
    let turn = 0;
    server.serve = (socket) => socket.write(answer(bodies[turn++ % 3] ?? ""));
    const watch = look(server, { asked });
    await staysQuiet(server, watch);
    expect(new Set(server.asked)).toEqual(new Set([0, 1, 2].map((at) => request.replace("app", `app${at}`))));
    bodies[2] = "[]";
    await hasNews(watch);
  });

  test("asks over a socket of the Unix kind", async () => {
    const path = join(directory, "socket");
    const server = await new Server().start({ path });
    await staysQuiet(server, look(server, { peer: { path } }));
  });

  needs("ipv6").test("asks over IPv6", async () => {
    const server = await new Server().start({ port: 0, host: "::1" });
    await staysQuiet(server, look(server, { peer: { host: "::1", port: server.port } }));
  });

  test.each<readonly [string, string | null, boolean]>([
    ["written again", token, false],
    ["with spaces around it", `\t ${token} \r\n\n`, false],
    ["another", "canary-token-3342", true],
    ["longer", `${token}1`, true],
    ["cut off", token.slice(0, -1), true],
    ["empty", "", true],
    ["with more behind it", `${token} ${token}`, true],
    ["far too long", "x".repeat(9000), true],
    ["gone", null, true],
  ])("reads the token's file at each look: %s", async (_, text, isNews) => {
    const server = await serverWith();
    const watch = look(server);
    await staysQuiet(server, watch);
    if (text === null) fs.rmSync(wordPath);
    else {
      fs.writeFileSync(`${wordPath}.new`, text);
      fs.renameSync(`${wordPath}.new`, wordPath);
    }
    await (isNews ? hasNews(watch) : staysQuiet(server, watch));
  });

  test("a pipe in place of the token's file is news, and waits for nobody", async () => {
    const server = await serverWith();
    const watch = look(server, { word: { path: "/dev/null", text: token } });
    await hasNews(watch);
  });

  test("needs no token", async () => {
    const server = await serverWith();
    await staysQuiet(server, look(server, { word: undefined }));
  });

  test.each<readonly [string, (path: string) => void]>([
    [
      "gone",
      (path) => {
        fs.rmSync(path);
      },
    ],
    [
      "written to",
      (path) => {
        fs.appendFileSync(path, "x");
      },
    ],
    ["replaced", replace],
    [
      "of another mode",
      (path) => {
        fs.chmodSync(path, 0o666);
      },
    ],
    [
      "a link",
      (path) => {
        fs.renameSync(path, `${path}.aside`);
        fs.symlinkSync(`${path}.aside`, path);
      },
    ],
  ])("looks at the files: one is %s", async (_, harm) => {
    const server = await serverWith();
    const files = ["one", "two"].map((name) => join(directory, name));
    for (const path of files) fs.writeFileSync(path, "value");
    // One that is missing stays so.
    const watch = look(server, {}, { files: [...files, join(directory, "missing")] });
    await staysQuiet(server, watch);
    harm(files[1] ?? "");
    await hasNews(watch);
  });

  test("a file that was missing is news once it is there", async () => {
    const server = await serverWith();
    const path = join(directory, "late");
    const watch = look(server, {}, { files: [path] });
    await staysQuiet(server, watch);
    fs.writeFileSync(path, "");
    await hasNews(watch);
  });

  test("looks first when it is told to, and then at its interval", async () => {
    const server = await serverWith();
    const watch = look(server, {}, { first: 0.4, interval: 100 });
    await delay(100);
    expect(server.asked.length).toBe(0);
    await until("a look", () => server.asked.length === 1);
    await delay(200);
    expect([server.asked.length, watch.news]).toEqual([1, 0]);
  });

  test("nothing comes after the end, even of a look that is under way", async () => {
    const server = await serverWith();
    const watch = look(server);
    await staysQuiet(server, watch);
    server.serve = () => {
      watch.lookout.end();
    };
    const before = server.asked.length;
    await until("a look", () => server.asked.length > before);
    await until("the end of the connection", () => [...server.sockets].every(({ destroyed }) => destroyed));
    expect([server.asked.length, watch.news]).toEqual([before + 1, 0]);
  });

  test("begins and ends often, and leaves no descriptor and no thread behind", async () => {
    const server = await serverWith();
    const counts = () => [fs.readdirSync("/proc/self/fd").length, fs.readdirSync("/proc/self/task").length];
    look(server).lookout.end();
    await until("the thread's end", () => [...server.sockets].every(({ destroyed }) => destroyed));
    await delay(50);
    const before = counts();
    let begun = 0;
    for (let round = 0; round < 300; round++) {
      const lookout = way(
        { peer: { host: "127.0.0.1", port: server.port }, word: undefined, asked: [askedOnce()] },
        { first: 0, interval: 0.001, files: [] },
        () => undefined,
      );
      if (lookout !== undefined) begun += 1;
      if (round % 3 === 0) await delay(2);
      lookout?.end();
      lookout?.end();
    }
    expect(begun).toBeGreaterThan(50);
    await until("as many as before", () => counts().every((count, at) => count <= (before[at] ?? 0)));
  });

  test("there are no more than two at a time: a file system may hang", async () => {
    const server = await serverWith();
    look(server);
    look(server);
    expect(() => look(server)).toThrow("no lookout");
  });

  test.each<readonly [string, Partial<Sight>]>([
    ["a name", { peer: { host: "localhost", port: 80 } }],
    ["no request", { asked: [] }],
    ["a part beyond the body", { asked: [{ ...askedOnce(), varies: [3, 4000] }] }],
    ["a part that ends before it begins", { asked: [{ ...askedOnce(), varies: [30, 3] }] }],
  ])("refuses %s", async (_, sight) => {
    const server = await serverWith();
    expect(() => look(server, sight)).toThrow("no lookout");
  });
});
