/** How the vault backend shares its connections. If these fail, a request waits for ever, or gets another one's answer. */
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Connections, type Line, type User } from "../../../backends/vault/connections.ts";
import type { Connection, ConnectionEvents } from "../../../src/contract/connection.ts";

class Fake implements Connection {
  readonly events: ConnectionEvents;
  isSent = true;
  isDestroyed = false;
  constructor(events: ConnectionEvents) {
    this.events = events;
  }
  send(): void {
    this.isSent = true;
  }
  pause(): void {
    // Nothing comes by itself.
  }
  resume(): void {
    // The same.
  }
  destroy(): void {
    this.isDestroyed = true;
  }
}

class Request implements User {
  readonly said: string[] = [];
  line: Line | undefined;
  begin(line: Line): void {
    this.line = line;
    this.said.push(line.isReused ? "reuses" : "begins");
  }
  opened(): void {
    this.said.push("opened");
  }
  received(bytes: Buffer): void {
    this.said.push(bytes.toString());
  }
  ended(): void {
    this.said.push("ended");
  }
}

let made: Fake[];
let pool: Connections;
beforeEach(() => {
  vi.useFakeTimers();
  made = [];
  pool = new Connections((events) => {
    const connection = new Fake(events);
    made.push(connection);
    return connection;
  });
});
afterEach(() => {
  vi.useRealTimers();
});

function request() {
  const user = new Request();
  return { user, done: pool.take(user) };
}
const open = () => made.filter(({ isDestroyed }) => !isDestroyed).length;

test("opens eight at once, and gives the first that is free to the request that waits longest", () => {
  const requests = Array.from({ length: 10 }, request);
  expect(made).toHaveLength(8);
  for (const { events } of made) events.opened();
  expect(requests.map(({ user }) => user.said.join())).toEqual([...Array<string>(8).fill("begins,opened"), "", ""]);
  requests[5]?.done(true);
  expect(requests[8]?.user.said).toEqual(["reuses"]);
  expect(requests[8]?.user.line?.isOpen).toBe(true);
  expect(requests[9]?.user.said).toEqual([]);
  made[5]?.events.received(Buffer.from("x"));
  expect(requests[8]?.user.said).toEqual(["reuses", "x"]);
  expect(requests[5]?.user.said).toEqual(["begins", "opened"]);
});

test("opens another one for a request that waits when a connection fails", () => {
  const requests = Array.from({ length: 9 }, request);
  made[0]?.events.ended(new Error("refused"));
  requests[0]?.done(false);
  expect(requests[0]?.user.said).toEqual(["begins", "ended"]);
  expect(requests[8]?.user.said).toEqual(["begins"]);
  expect([made.length, open()]).toEqual([9, 8]);
});

test("forgets a request that gives up the wait", () => {
  const requests = Array.from({ length: 10 }, request);
  requests[8]?.done(false);
  requests[0]?.done(true);
  expect(requests[8]?.user.said).toEqual([]);
  expect(requests[9]?.user.said).toEqual(["reuses"]);
  expect(made).toHaveLength(8);
});

test("keeps a connection for three seconds, or until the fetch ends", () => {
  request().done(true);
  vi.advanceTimersByTime(2900);
  const second = request();
  expect(second.user.said).toEqual(["reuses"]);
  vi.advanceTimersByTime(10_000);
  expect(open(), "in use").toBe(1);
  second.done(true);
  vi.advanceTimersByTime(3100);
  expect(open()).toBe(0);
  request().done(true);
  pool.end();
  expect(open()).toBe(0);
  expect(request().user.said).toEqual(["begins"]);
});

/** One that can rest. */
class Resting extends Fake {
  isQuiet = true;
  readonly patience: (number | undefined)[] = [];
  isResting = false;
  rest(): boolean {
    this.isResting = true;
    return true;
  }
  wake(patience: number | undefined): boolean {
    this.patience.push(patience);
    this.isResting = false;
    return this.isQuiet;
  }
}

function restingPool(): Resting[] {
  const all: Resting[] = [];
  pool = new Connections((events) => {
    const connection = new Resting(events);
    all.push(connection);
    return connection;
  });
  return all;
}

test("keeps one connection for the next fetch, where it costs nothing and another one is near", () => {
  const all = restingPool();
  const requests = [request(), request()];
  for (const { done } of requests) done(true);
  expect(all.map(({ isResting }) => isResting)).toEqual([true, true]);
  const within = request();
  expect(within.user.line).toMatchObject({ isReused: true, isKept: false });
  within.done(true);
  pool.end(true);
  expect(all.map(({ isDestroyed }) => isDestroyed)).toEqual([false, true]);
  vi.advanceTimersByTime(39_000);
  const next = request();
  expect(next.user.line).toMatchObject({ isReused: true, isKept: true });
  // Within a fetch nobody can have forgotten it.
  expect(all.map(({ patience }) => patience)).toEqual([[3], [undefined]]);
  next.done(true);
  pool.end(true);
  vi.advanceTimersByTime(41_000);
  expect(all.every(({ isDestroyed }) => isDestroyed)).toBe(true);
  request().done(true);
  pool.end(false);
  expect(all.at(-1)?.isDestroyed).toBe(true);
});

test("keeps none that cannot rest", () => {
  request().done(true);
  pool.end(true);
  expect(open()).toBe(0);
});

test("uses none that is not quiet any more, and none for a write", () => {
  const all = restingPool();
  const first = request();
  first.done(true);
  pool.end(true);
  if (all[0] !== undefined) all[0].isQuiet = false;
  const second = request();
  expect([second.user.line?.isReused, all[0]?.isDestroyed]).toEqual([false, true]);
  second.done(true);
  pool.forget();
  expect(all[1]?.isDestroyed, "it is of this fetch").toBe(false);
  pool.end(true);
  pool.forget();
  expect(all[1]?.isDestroyed).toBe(true);
  expect(request().user.line?.isReused).toBe(false);
});

test.each([
  ["after five minutes", 301_000],
  ["after the clock was set back", -1000],
])("keeps none %s", (_, change) => {
  const all = restingPool();
  const busy = request();
  vi.setSystemTime(Date.now() + change);
  busy.done(true);
  pool.end(true);
  expect(all[0]?.isDestroyed).toBe(true);
});

test.each<readonly [string, (connection: Fake | undefined) => void]>([
  [
    "sends something that nobody asked for",
    (connection) => connection?.events.received(Buffer.from("HTTP/1.1 200 OK")),
  ],
  ["closes it", (connection) => connection?.events.ended()],
])("uses no connection again on which the server %s while it is idle", (_, act) => {
  request().done(true);
  act(made[0]);
  expect(open()).toBe(0);
  expect(request().user.said).toEqual(["begins"]);
});

test("uses no connection again that is not fit for it, or has not sent the whole request", () => {
  request().done(false);
  const unsent = request();
  if (made[1] !== undefined) made[1].isSent = false;
  unsent.done(true);
  expect([made.length, open()]).toEqual([2, 0]);
});

test("takes none back once others replace it, and lets requests end", () => {
  const [idle, busy] = [request(), request()];
  idle.done(true);
  pool.retire();
  expect(open()).toBe(1);
  made[1]?.events.received(Buffer.from("x"));
  expect(busy.user.said).toEqual(["begins", "x"]);
  busy.done(true);
  expect(open()).toBe(0);
});

test("fails every request when it is closed, those that wait too", () => {
  const requests = Array.from({ length: 9 }, request);
  pool.close();
  expect(open()).toBe(0);
  for (const { user } of requests) expect(user.said.at(-1)).toBe("ended");
  expect(made).toHaveLength(8);
});
