/** A connection of the executable's addon. If these fail, a request waits for ever, or a file is closed that is another's by then. */
import net, { type AddressInfo } from "node:net";
import { afterEach, expect, test } from "vitest";
import type { Connection, ConnectionEvents } from "../../../src/contract/connection.ts";
import { type NativeSockets, openNatively } from "../../../src/runtime/native-connection.ts";
import { loadAddon } from "../../native-addon.ts";
import { needs } from "../../requirements.ts";

/** The addon, of which the test says what comes and how much of a text the system takes. */
class Fake implements NativeSockets {
  dialed: number | undefined = 7;
  room = Infinity;
  isQuiet = true;
  readonly done: string[] = [];
  readonly turns: { readonly isReading: boolean; readonly end: (answer: Buffer | number) => void }[] = [];
  dial(address: string, port: number): number | undefined {
    this.done.push(`dial ${address} ${port}`);
    return this.dialed;
  }
  tell(file: number, bytes: Uint8Array): number {
    const taken = Math.min(this.room, bytes.length);
    this.done.push(`tell ${file} ${Buffer.from(bytes.subarray(0, Math.max(0, taken))).toString()}`);
    return taken;
  }
  turn(file: number, isReading: boolean): Promise<Buffer | number> | undefined {
    this.done.push(`${isReading ? "read" : "write"} ${file}`);
    return new Promise((end) => this.turns.push({ isReading, end }));
  }
  quiet(file: number, patience: number): boolean {
    this.done.push(`quiet ${file} ${patience}`);
    return this.isQuiet;
  }
  hangUp(file: number, mayWait: boolean): void {
    this.done.push(`${mayWait ? "shut" : "close"} ${file}`);
  }
}

let connection: Connection | undefined;
let events: ConnectionEvents | undefined;
/** The next test begins without one. */
afterEach(() => {
  connection?.destroy();
});

async function settled(): Promise<void> {
  for (let turn = 0; turn < 3; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}

function open(fake: Fake, peer: Parameters<typeof openNatively>[1] = { host: "127.0.0.1", port: 80 }) {
  const said: string[] = [];
  events = {
    opened: () => said.push("opened"),
    received: (bytes) => said.push(bytes.toString()),
    ended: (error) => said.push(`ended ${(error as NodeJS.ErrnoException | undefined)?.code ?? ""}`),
  };
  connection = openNatively(fake, peer, events);
  return said;
}

test("opens, sends, reads until the end, and closes once", async () => {
  const fake = new Fake();
  const said = open(fake);
  expect(said).toEqual([]);
  await settled();
  connection?.send(Buffer.from("question"));
  expect(connection?.isSent).toBe(true);
  fake.turns[0]?.end(Buffer.from("answer"));
  await settled();
  fake.turns[1]?.end(Buffer.from(""));
  await settled();
  expect(said).toEqual(["opened", "answer", "ended "]);
  connection?.destroy();
  expect(fake.done).toEqual(["dial 127.0.0.1 80", "read 7", "tell 7 question", "read 7", "close 7"]);
});

test("waits where the connection is not made at once, and says why it is not made at all", async () => {
  const fake = new Fake();
  fake.dialed = -8;
  const said = open(fake, { path: "/run/socket" });
  await settled();
  expect([said, fake.done]).toEqual([[], ["dial /run/socket 0", "write 7"]]);
  fake.turns[0]?.end(0);
  await settled();
  expect([said, fake.done.at(-1)]).toEqual([["opened"], "read 7"]);
  connection?.destroy();
  const refused = new Fake();
  refused.dialed = -8;
  const why = open(refused);
  refused.turns[0]?.end(111);
  await settled();
  expect([why, refused.done.at(-1)]).toEqual([["ended ECONNREFUSED"], "close 7"]);
});

test("sends the rest once the system has room again", async () => {
  const fake = new Fake();
  fake.room = 4;
  open(fake);
  await settled();
  connection?.send(Buffer.from("question"));
  expect(connection?.isSent).toBe(false);
  fake.turns.find(({ isReading }) => !isReading)?.end(0);
  await settled();
  expect(connection?.isSent).toBe(true);
  expect(fake.done.filter((one) => one.startsWith("tell"))).toEqual(["tell 7 ques", "tell 7 tion"]);
});

test("a request that cannot be sent ends it", async () => {
  const fake = new Fake();
  fake.room = -32;
  const said = open(fake);
  await settled();
  connection?.send(Buffer.from("question"));
  await settled();
  expect(said).toEqual(["opened", "ended EPIPE"]);
});

test("stays open for a thread that waits for it, and says nothing after it is destroyed", async () => {
  const fake = new Fake();
  const said = open(fake);
  await settled();
  connection?.destroy();
  expect(fake.done.at(-1)).toBe("shut 7");
  fake.turns[0]?.end(Buffer.from("late"));
  await settled();
  expect([said, fake.done.at(-1)]).toEqual([["opened"], "close 7"]);
});

test("reads no more while it is paused", async () => {
  const fake = new Fake();
  const said = open(fake);
  await settled();
  connection?.pause();
  fake.turns[0]?.end(Buffer.from("a little"));
  await settled();
  expect([said.at(-1), fake.turns.length]).toEqual(["a little", 1]);
  connection?.resume();
  await settled();
  expect(fake.turns.length).toBe(2);
});

test("what is sent meanwhile follows the rest", async () => {
  const fake = new Fake();
  fake.room = 4;
  open(fake);
  await settled();
  connection?.send(Buffer.from("one"));
  connection?.send(Buffer.from("question"));
  connection?.send(Buffer.from(" more"));
  fake.room = Infinity;
  fake.turns.find(({ isReading }) => !isReading)?.end(0);
  await settled();
  expect(connection?.isSent).toBe(true);
  const told = fake.done.filter((each) => each.startsWith("tell"));
  expect(told).toEqual(["tell 7 one", "tell 7 ques", "tell 7 tion more"]);
});

test("rests once its answer is there: no thread waits for it until it wakes", async () => {
  const fake = new Fake();
  open(fake);
  await settled();
  expect(connection?.rest?.(), "a thread waits").toBe(false);
  const rested: (boolean | undefined)[] = [];
  if (events !== undefined) events.received = () => rested.push(connection?.rest?.());
  fake.turns[0]?.end(Buffer.from("answer"));
  await settled();
  expect([rested, fake.turns.length]).toEqual([[true], 1]);
  expect(connection?.wake?.(3)).toBe(true);
  expect(fake.done.slice(-2)).toEqual(["quiet 7 3000", "read 7"]);
  fake.turns[1]?.end(Buffer.from("answer"));
  await settled();
  fake.isQuiet = false;
  expect(connection?.wake?.(undefined)).toBe(false);
  expect(fake.done.at(-1)).toBe("quiet 7 0");
  connection?.destroy();
  expect(fake.done.at(-1)).toBe("close 7");
  expect([connection?.rest?.(), connection?.wake?.(3)]).toEqual([false, false]);
});

needs("gcc").test("the addon tells a connection on which nothing has come from one that has ended", async () => {
  const addon = loadAddon() as NativeSockets;
  const quiet = (file: number, patience: number) => addon.quiet(file, patience);
  const sockets: net.Socket[] = [];
  const server = net.createServer((socket) => sockets.push(socket));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const dialed = [0, 1, 2].map(() => addon.dial("127.0.0.1", port) ?? 0).map((file) => (file < 0 ? -1 - file : file));
  while (sockets.length < 3) await new Promise((resolve) => setTimeout(resolve, 5));
  expect(dialed.map((file) => quiet(file, 3000))).toEqual([true, true, true]);
  sockets.forEach((socket, at) => (at === 0 ? socket.end() : at === 1 ? socket.write("x") : socket.resume()));
  while (dialed.filter((file) => quiet(file, 0)).length > 1) await new Promise((resolve) => setTimeout(resolve, 5));
  expect(dialed.map((file) => quiet(file, 0)).sort()).toEqual([false, false, true]);
  for (const file of dialed) addon.hangUp(file, false);
  for (const socket of sockets) socket.destroy();
  server.close();
});

test("is the only one, and none where the addon cannot reach the address", () => {
  const fake = new Fake();
  open(fake);
  const first = connection;
  open(fake);
  expect(connection).toBeUndefined();
  first?.destroy();
  open(fake);
  expect(connection).toBeDefined();
  connection?.destroy();
  fake.dialed = undefined;
  open(fake, { host: "vault.example", port: 80 });
  expect(connection).toBeUndefined();
});
