import { describe, expect, test } from "vitest";
import { BackendError } from "../../../src/contract/backend.ts";
import { FatalError } from "../../../src/contract/errors.ts";
import { firstLoad } from "../../../src/engine/first-load.ts";
import { HeldValues } from "../../../src/engine/held-values.ts";
import { FETCH_LIMIT } from "../../../src/engine/store.ts";
import { Problems } from "../../../src/engine/problems.ts";
import { configOf } from "../command-line.ts";
import { FakeClock, FakeStore, missing, recordingLog, refused } from "../fakes.ts";

interface Options {
  readonly published?: ReadonlyMap<string, Buffer>;
  readonly random?: number;
  readonly secrets?: object;
  readonly startTimeout?: number;
}

function load(store: FakeStore, { published, random = 1, ...json }: Options = {}) {
  const clock = new FakeClock();
  const log = recordingLog();
  const held = new HeldValues(clock);
  const statuses: string[] = [];
  const stop = new AbortController();
  const config = configOf({ secrets: { a: {}, b: {} }, ...json });
  let end: { adopted: readonly string[] } | { error: unknown } | undefined;
  const parts = {
    config,
    store,
    held,
    log,
    clock,
    problems: new Problems(store, log, clock),
    random: () => random,
    status: (text: string) => statuses.push(text),
  };
  void firstLoad(parts, published, stop.signal).then(
    (failed) => (end = { adopted: [...failed.keys()].filter((id) => published?.has(id) === true) }),
    (error: unknown) => (end = { error }),
  );
  const texts = () => Object.fromEntries([...held.bytes].map(([id, bytes]) => [id, bytes.toString()]));
  return { clock, log, held, statuses, stop, texts, end: () => end, ended: () => end !== undefined };
}

async function ended<Started extends ReturnType<typeof load>>(started: Started): Promise<Started> {
  await started.clock.until(started.ended);
  return started;
}

function exit(end: unknown): string {
  const { error } = end as { error: FatalError };
  expect(error).toBeInstanceOf(FatalError);
  return `${error.exitCode} ${error.message}`;
}

const before = (values: Readonly<Record<string, string>>) =>
  new Map(Object.entries(values).map(([id, value]) => [id, Buffer.from(value)]));

describe("a store that answers", () => {
  test("gets one request for all secrets", async () => {
    const store = new FakeStore({ a: "1", b: "2" });
    const { clock, texts, end } = load(store);
    await clock.advance(0);
    expect(end()).toEqual({ adopted: [] });
    expect(texts()).toEqual({ a: "1", b: "2" });
    expect(store.fetches).toEqual([["a", "b"]]);
  });

  test("gives an empty value at the first start of all, when there is nothing better", async () => {
    const { clock, texts, end } = load(new FakeStore({ a: "", b: "2" }));
    await clock.advance(0);
    expect(end()).toEqual({ adopted: [] });
    expect(texts()).toEqual({ a: "", b: "2" });
  });

  test.each([
    ["missing", missing("b"), '66 fake: secret "b": no b here'],
    ["refused", new BackendError("denied", "permission denied"), '77 fake: secret "b": permission denied'],
    ["invalid", new BackendError("invalid", "no key b"), '78 fake: secret "b": no key b'],
  ] as const)("ends the start at once for a %s secret, which only a person can fix", async (_, outcome, message) => {
    const { clock, end } = load(new FakeStore({ a: "1", b: outcome }));
    await clock.advance(0);
    expect(exit(end())).toBe(message);
  });

  test.each([
    ["refused", new BackendError("denied", "access denied", undefined, 60), "77"],
    ["missing", { status: "missing", where: "no b", mayHealFor: 60 }, "66"],
  ] as const)("gets further requests for a %s secret for as long as its answer may change", async (_, no, code) => {
    const late = new FakeStore({ a: "1", b: no });
    const healed = load(late);
    await healed.clock.advance(40);
    expect(healed.ended()).toBe(false);
    expect(healed.statuses[0]).toMatch(/^waiting for fake: /);
    late.put("b", "2");
    await healed.clock.until(healed.ended, 20);
    expect(healed.texts()).toEqual({ a: "1", b: "2" });
    const never = load(new FakeStore({ a: "1", b: no }));
    const taken = await never.clock.until(never.ended, 90);
    expect(exit(never.end())).toMatch(new RegExp(`^${code} `));
    expect(Math.round(taken)).toBe(60);
  });

  test("does not extend that period after an outage in between", async () => {
    const no = new BackendError("denied", "access denied", undefined, 60);
    const store = new FakeStore({ a: "1", b: no });
    const { clock, ended, end } = load(store);
    await clock.advance(30);
    store.put("b", refused);
    await clock.advance(60);
    expect(ended()).toBe(false);
    store.put("b", no);
    await clock.until(ended, 31);
    expect(exit(end())).toMatch(/^77 /);
  });

  test("has that period anew for a secret that arrived in between", async () => {
    const no = new BackendError("denied", "access denied", undefined, 60);
    const store = new FakeStore({ a: no, b: refused });
    store.watch = undefined;
    const { clock, texts, ended, end } = load(store);
    await clock.advance(30);
    store.leases.set("a", 20);
    store.put("a", "1");
    await clock.until(() => "a" in texts(), 31);
    store.put("a", no);
    const { length } = store.fetches;
    await clock.until(() => store.fetches.slice(length).some((ids) => ids.includes("a")), 31);
    expect(Math.round(await clock.until(ended, 90))).toBe(60);
    expect(exit(end())).toMatch(/^77 /);
  });

  test("ends the start for a final failure even if another one may heal", async () => {
    const { clock, end } = load(new FakeStore({ a: refused, b: missing("b") }));
    await clock.advance(0);
    expect(exit(end())).toMatch(/^66 /);
  });

  test.each([
    ["missing", missing("b")],
    ["refused", new BackendError("denied", "permission denied")],
    ["invalid", new BackendError("invalid", "no text")],
  ])("publishes without an optional secret that is %s, and does not ask for it again", async (_, outcome) => {
    const store = new FakeStore({ a: "1", b: outcome });
    const { clock, texts, end, log } = load(store, { secrets: { a: {}, b: { optional: true } } });
    await clock.advance(0);
    expect(end()).toEqual({ adopted: [] });
    expect(texts()).toEqual({ a: "1" });
    expect(log.at("warn").join()).toMatch(/published without it$/);
  });

  test("delays the start for an optional secret during an outage, because its existence is unknown", async () => {
    const store = new FakeStore({ a: "1", b: refused });
    const { clock, texts, ended } = load(store, { secrets: { a: {}, b: { optional: true } } });
    await clock.advance(10);
    expect(ended()).toBe(false);
    store.put("b", "2");
    await clock.until(ended, 31);
    expect(texts()).toEqual({ a: "1", b: "2" });
  });
});

describe("a store that does not answer", () => {
  test("for one secret does not let another secret's lease end meanwhile", async () => {
    const store = new FakeStore({ a: "lease", b: refused });
    store.leases.set("a", 10);
    store.watch = undefined;
    const { clock, texts, ended } = load(store);
    await clock.advance(60);
    const asked = store.fetches.flatMap((ids, index) => (ids.includes("a") ? [index] : []));
    expect(asked.length).toBeGreaterThanOrEqual(5);
    store.put("b", "2");
    await clock.until(ended, 31);
    expect(Object.keys(texts()).sort()).toEqual(["a", "b"]);
    expect(texts()["a"]).not.toBe("lease-1");
  });

  test("gets no request for as long as it asks, even if another secret's lease ends meanwhile", async () => {
    const store = new FakeStore({ a: "lease", b: new BackendError("unavailable", "busy", 300) });
    store.leases.set("a", 20);
    store.watch = undefined;
    const { clock, statuses } = load(store);
    await clock.advance(295);
    expect(store.fetches.filter((ids) => ids.includes("b"))).toHaveLength(1);
    expect(store.fetches.filter((ids) => ids.includes("a")).length).toBeGreaterThan(10);
    expect(statuses).toEqual(["waiting for fake: busy (attempt 1, next in 300 s)"]);
  });

  test("gets requests with growing delays, for failed secrets only, with one log line", async () => {
    const store = new FakeStore({ a: "1", b: refused });
    store.watch = undefined;
    const { clock, texts, ended, log, statuses } = load(store);
    await clock.advance(64);
    // 0.26 + 0.51 + 1.01 + 2.01 + 4.01 + 8.01 + 16.01 = 31.8 s, then 30.01 s each.
    expect(store.fetches).toHaveLength(9);
    expect(store.fetches.slice(1).every((ids) => ids.join() === "b")).toBe(true);
    expect(log.at("warn")).toEqual(["fake: connection refused; trying again"]);
    expect(statuses.slice(0, 3)).toEqual([
      "waiting for fake: connection refused (attempt 1, next in 0.3 s)",
      "waiting for fake: connection refused (attempt 2, next in 0.5 s)",
      "waiting for fake: connection refused (attempt 3, next in 1 s)",
    ]);
    store.put("b", "2");
    await clock.until(ended, 31);
    expect(texts()).toEqual({ a: "1", b: "2" });
    expect(log.at("notice")).toEqual(["fake: answers again"]);
  });

  test("gets no request for as long as it asks (Retry-After)", async () => {
    const store = new FakeStore({ a: new BackendError("unavailable", "throttled", 17), b: refused });
    store.watch = undefined;
    const { clock, statuses } = load(store, { random: 0 });
    await clock.advance(16.9);
    expect(store.fetches).toHaveLength(1);
    expect(statuses).toEqual(["waiting for fake: throttled (and 1 more) (attempt 1, next in 17 s)"]);
    await clock.advance(0.2);
    expect(store.fetches).toHaveLength(2);
  });

  test("ends the start with 69 after startTimeout", async () => {
    const store = new FakeStore({ a: refused, b: "2" });
    const { clock, ended, end } = load(store, { startTimeout: 20 });
    const seconds = await clock.until(ended);
    expect(exit(end())).toBe('69 fake: secret "a": connection refused (gave up after startTimeout, 20 s)');
    expect(seconds).toBeCloseTo(20, 0);
  });

  test("cannot hang beyond startTimeout either", async () => {
    const store = new FakeStore({ a: "1", b: "2" });
    const { clock } = load(store, { startTimeout: 20 });
    await clock.advance(0);
    expect(store.limits).toEqual([20]);
  });

  test("delays the start without limit by default", async () => {
    const store = new FakeStore({ a: refused, b: "2" });
    const { clock, ended } = load(store);
    await clock.advance(7200);
    expect(ended()).toBe(false);
  });

  test("does not delay a stop, and leaves no timer", async () => {
    const store = new FakeStore({ a: refused, b: "2" });
    const { clock, stop, end } = load(store);
    await clock.advance(60);
    stop.abort();
    await clock.advance(0);
    expect(end()).toEqual({ adopted: [] });
    expect(clock.sleepers).toBe(0);
  });
});

test("says of an optional secret that the others are published without it, and of the others that it asks again", async () => {
  const secrets = { a: {}, b: { optional: true } };
  const { clock, log } = load(new FakeStore({ a: refused, b: missing("b") }), { secrets });
  await clock.advance(1);
  expect(log.at("warn")).toEqual(["fake: no b here; published without it", "fake: connection refused; trying again"]);
});

test("asks after a hint for what failed and for a lease that ended with it", async () => {
  const store = new FakeStore({ a: "1", b: missing("b", true) });
  store.leases.set("a", 3);
  const { clock, ended, texts } = load(store);
  await clock.advance(2.9);
  store.put("b", "2");
  store.hint();
  await clock.until(ended, 0.05);
  expect(store.fetches.at(-1)).toEqual(["b", "a"]);
  expect(texts()).toEqual({ a: `1-${store.fetches.length}`, b: "2" });
});

test("watches no longer when it ends", async () => {
  const store = new FakeStore({ a: "1", b: missing("b", true) });
  let signal: AbortSignal | undefined;
  const { watch } = store;
  store.watch = (hint, given) => {
    signal = given;
    return watch?.(hint, given) ?? Promise.resolve();
  };
  const { clock, ended } = load(store);
  await clock.advance(1);
  expect(signal?.aborted).toBe(false);
  store.put("b", "2");
  store.hint();
  await clock.until(ended, 10);
  expect(signal?.aborted).toBe(true);
});

describe("the watch of a start", () => {
  test("is one, begins with the first failure, and none is with an earlier set, which ends the start soon", async () => {
    const good = load(new FakeStore({ a: "1", b: "2" }));
    await good.clock.advance(0);
    expect(good.ended()).toBe(true);
    const store = new FakeStore({ a: refused, b: "2" });
    const { clock } = load(store);
    expect(store.watches).toBe(0);
    await clock.advance(600);
    expect(store.watches).toBe(1);
    const other = new FakeStore({ a: refused, b: "2" });
    const adopting = load(other, { published: before({ a: "old a", b: "old b" }) });
    await ended(adopting);
    expect(other.watches).toBe(0);
  });

  test.each([
    ["says why it is over", new BackendError("unavailable", "inotify is used up"), "inotify is used up"],
    ["is over for no reason that may be said", "a third party's own text", "watching failed"],
  ])("is none for an operator to mend where it %s: the start asks again anyway", async (_, reason, line) => {
    const store = new FakeStore({ a: refused, b: "2" });
    // eslint-disable-next-line @typescript-eslint/prefer-promise-reject-errors -- what a third party's module may do
    store.watch = () => Promise.reject(reason);
    const { clock, log, ended } = load(store);
    await clock.advance(1);
    expect([log.at("debug")[0], log.at("warn")]).toEqual([line, ["fake: connection refused; trying again"]]);
    store.put("a", "1");
    await clock.until(ended, 31);
  });
});

test("gives a request the time that is left until startTimeout, and always some", async () => {
  const free = new FakeStore({ a: refused, b: "2" });
  await load(free).clock.advance(60);
  expect(new Set(free.limits)).toEqual(new Set([FETCH_LIMIT]));
  const store = new FakeStore({ a: refused, b: "2" });
  await ended(load(store, { startTimeout: 20 }));
  expect(store.limits[0]).toBe(20);
  const left = store.limits.map(Number);
  expect(left).toEqual([...left].sort((a, b) => b - a));
  expect(Math.min(...left)).toBe(0.05);
});

test("keeps a newer value of a secret that is refused later, beside those of an earlier set", async () => {
  const store = new FakeStore({ a: "new a", b: refused });
  store.leases.set("a", 1);
  const { clock, end, texts } = load(store, { published: before({ a: "old a", b: "old b" }) });
  await clock.advance(0.2);
  store.put("a", new BackendError("denied", "permission denied"));
  await clock.advance(1.5);
  expect(end()).toEqual({ adopted: ["b", "a"] });
  expect(texts()).toEqual({ a: "new a-1", b: "old b" });
});

describe("a secret that may still appear", () => {
  test("delays the start, and a hint shortens the wait", async () => {
    const store = new FakeStore({ a: "1", b: missing("b", true) });
    const { clock, texts, end, ended } = load(store);
    await clock.advance(600);
    expect(ended()).toBe(false);
    store.put("b", "late");
    store.hint();
    await clock.advance(0);
    expect(end()).toEqual({ adopted: [] });
    expect(texts()).toEqual({ a: "1", b: "late" });
  });

  test("arrives without a hint too, when the watch is broken", async () => {
    const store = new FakeStore({ a: "1", b: missing("b", true) });
    const { clock, ended } = load(store);
    await clock.advance(1);
    store.breakWatch();
    await clock.advance(60);
    store.put("b", "late");
    await clock.until(ended, 31);
  });

  test("ends the start with 69 at startTimeout, because it may still appear", async () => {
    const { clock, end, ended } = load(new FakeStore({ a: "1", b: missing("b", true) }), { startTimeout: 5 });
    await clock.until(ended);
    expect(exit(end())).toMatch(/^69 .*no b here/);
  });
});

describe("with an earlier published set", () => {
  const published = before({ a: "old a", b: "old b" });

  test("waits 5 s for a silent store, then adopts the set", async () => {
    const { clock, end, ended, texts, log } = load(new FakeStore({ a: refused, b: refused }), { published });
    const seconds = await clock.until(ended);
    expect(end()).toEqual({ adopted: ["a", "b"] });
    expect(texts()).toEqual({ a: "old a", b: "old b" });
    expect(seconds).toBeGreaterThan(4);
    expect(seconds).toBeLessThan(5.5);
    expect(log.at("warn")).toEqual(["fake: connection refused; trying again"]);
  });

  test("adopts the set at a shorter startTimeout too", async () => {
    const store = new FakeStore({ a: refused, b: refused });
    const { clock, end, ended } = load(store, { published, startTimeout: 1 });
    await clock.until(ended);
    expect(end()).toEqual({ adopted: ["a", "b"] });
  });

  test.each([
    ["missing", missing("b")],
    ["denied", new BackendError("denied", "permission denied")],
    ["invalid", new BackendError("invalid", "no key")],
  ])("adopts a %s secret at once, and takes the others from the store", async (_, outcome) => {
    const { clock, end, texts } = load(new FakeStore({ a: "new a", b: outcome }), { published });
    await clock.advance(0);
    expect(end()).toEqual({ adopted: ["b"] });
    expect(texts()).toEqual({ a: "new a", b: "old b" });
  });

  test("keeps the value of a refused optional secret, and drops that of a removed one", async () => {
    const store = new FakeStore({ a: new BackendError("denied", "permission denied"), b: missing("b") });
    const secrets = { a: { optional: true }, b: { optional: true } };
    const { clock, end, texts } = load(store, { published, secrets });
    await clock.advance(0);
    expect(end()).toEqual({ adopted: ["a"] });
    expect(texts()).toEqual({ a: "old a" });
  });

  test("uses the values of a store that comes back within 5 s", async () => {
    const store = new FakeStore({ a: refused, b: "new b" });
    const { clock, end, ended, texts } = load(store, { published });
    await clock.advance(2);
    store.put("a", "new a");
    await clock.until(ended);
    expect(end()).toEqual({ adopted: [] });
    expect(texts()).toEqual({ a: "new a", b: "new b" });
  });

  test("keeps a value that became empty while no sidecar ran", async () => {
    const { clock, end, ended, texts } = load(new FakeStore({ a: "", b: "new b" }), { published });
    await clock.until(ended);
    expect(end()).toEqual({ adopted: ["a"] });
    expect(texts()).toEqual({ a: "old a", b: "new b" });
  });

  test("says in the log what stays as it was, and what is published without a secret", async () => {
    const secrets = { a: {}, b: {}, c: { optional: true } };
    const no = new BackendError("denied", "permission denied");
    const { log } = await ended(load(new FakeStore({ a: "new a", b: no, c: missing("c") }), { published, secrets }));
    expect(log.at("warn")).toEqual([
      "fake: permission denied; what was published before stays in use",
      "fake: no c here; what was published before stays in use",
    ]);
    const first = await ended(load(new FakeStore({ a: "1", b: "2", c: missing("c") }), { secrets }));
    expect(first.log.at("warn")).toEqual(["fake: no c here; published without it"]);
  });

  test("gives a hanging fetch only the rest of the 5 s", async () => {
    const store = new FakeStore({ a: refused, b: refused });
    const { clock, ended } = load(store, { published });
    await clock.until(ended);
    expect(store.limits[0]).toBe(5);
    expect(Math.max(...store.limits.slice(1).map(Number))).toBeLessThan(5);
  });
});

describe("a path that the unit's sandbox hides", () => {
  const hidden =
    "no directory /var/x (yet); hidden by this unit's sandbox (TemporaryFileSystem=/var): add BindReadOnlyPaths=/var to the unit";
  const away = () => new BackendError("unavailable", hidden);

  test("gets ten seconds to appear, then a new sandbox", async () => {
    const store = new FakeStore({ a: "1" });
    const { clock, end, ended } = load(store, { secrets: { a: {} } });
    store.down = away();
    await clock.advance(9.5);
    expect(ended()).toBe(false);
    await clock.advance(0.6);
    expect(exit(end())).toBe(`75 fake: secret "a": ${hidden} (restarting, in case it is there by now)`);
  });

  test("is told beside a secret that fails for another reason", async () => {
    const { clock, end, ended } = load(new FakeStore({ a: refused, b: away() }));
    await clock.until(ended, 11);
    expect(exit(end())).toMatch(/^75 fake: secret "b": no directory/);
  });

  test("does not end the start when it appears meanwhile", async () => {
    const store = new FakeStore({ a: "1" });
    const { clock, end } = load(store, { secrets: { a: {} } });
    store.down = away();
    await clock.advance(5);
    store.down = undefined;
    await clock.advance(5);
    expect(end()).toEqual({ adopted: [] });
  });

  test("ends a start only at startTimeout, if one is set", async () => {
    const store = new FakeStore({ a: "1" });
    const { clock, end, ended } = load(store, { secrets: { a: {} }, startTimeout: 30 });
    store.down = away();
    await clock.advance(29);
    expect(ended()).toBe(false);
    await clock.advance(1.5);
    expect(exit(end())).toMatch(/^69 .*gave up after startTimeout, 30 s/);
  });

  test("does not matter once an earlier set is adopted", async () => {
    const store = new FakeStore({ a: "1" });
    const { clock, end } = load(store, { secrets: { a: {} }, published: before({ a: "old" }) });
    store.down = away();
    await clock.advance(5.2);
    expect(end()).toEqual({ adopted: ["a"] });
  });
});
