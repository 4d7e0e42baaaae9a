/**
 * When the store is asked for which secret. If these fail, an operator's store is stormed, leases are issued again and
 * again, or a secret is asked for too late.
 */
import { describe, expect, test } from "vitest";
import { BackendError, type Outcome } from "../../../src/contract/backend.ts";
import { AskTimes, type PublishResult } from "../../../src/engine/ask-times.ts";
import { HeldValues, PUBLISHED_BEFORE } from "../../../src/engine/held-values.ts";
import { FakeClock, missing, refused } from "../fakes.ts";

const denied = new BackendError("denied", "permission denied");
const value = (text: string, refreshAfter?: number): Outcome => ({
  status: "value",
  value: Buffer.from(text),
  version: text,
  ...(refreshAfter === undefined ? {} : { refreshAfter }),
});

interface Options {
  readonly lease?: number;
  readonly version?: string;
  readonly ids?: readonly string[];
  readonly random?: number;
}

/** `a` and `b` are held, the lease of `a` for `lease` seconds. A random 0.5 is the middle of each range. */
function asking({ lease, version = "0", ids = ["a", "b"], random = 0.5 }: Options = {}) {
  const clock = new FakeClock();
  const held = new HeldValues(clock);
  const asks = new AskTimes(ids, held, clock, () => random);
  held.set("a", { value: Buffer.from("a0"), version, ...(lease === undefined ? {} : { refreshAfter: lease }) });
  held.set("b", { value: Buffer.from("b0"), version });
  const settle = (
    answers: Readonly<Record<string, Outcome>>,
    result: Exclude<PublishResult, object> | readonly string[],
    failures = 0,
  ) => {
    const outcomes = new Map(Object.entries(answers));
    const round = {
      outcomes,
      changes: held.changesIn(outcomes),
      result: typeof result === "string" ? result : new Set(result),
    };
    return asks.settle(round, failures);
  };
  /** Seconds until the next one is due. */
  const next = () => (asks.next - clock.monotonic()) / 1e6;
  return { clock, held, asks, settle, next };
}

describe("polls", () => {
  test("begin at a random moment of the interval, and keep its pace", async () => {
    const { asks, clock, next } = asking();
    expect(next()).toBe(Infinity);
    asks.poll(30);
    expect(next()).toBe(15);
    await clock.advance(10);
    // The same interval again changes nothing.
    asks.poll(30);
    expect([next(), asks.due(undefined)]).toEqual([5, undefined]);
    await clock.advance(5);
    expect([asks.due(undefined), next()]).toEqual([["a", "b"], 30]);
    expect(asks.due(undefined)).toBeUndefined();
    asks.poll(60);
    expect(next()).toBe(30);
    asks.poll(Infinity);
    expect(next()).toBe(Infinity);
    await clock.advance(600);
    expect(asks.due(undefined)).toBeUndefined();
  });

  test("neither a poll nor a hint requests a lease again; a reload does", async () => {
    const { asks, clock } = asking({ lease: 400 });
    asks.poll(30);
    await clock.advance(15);
    expect([asks.due(undefined), asks.due("hint"), asks.due("reload")]).toEqual([["b"], ["b"], ["a", "b"]]);
  });

  test("polls without a request still count as rounds", async () => {
    const { asks, clock } = asking({ lease: 400, ids: ["a"] });
    asks.poll(30);
    await clock.advance(15);
    expect([asks.due(undefined), asks.due("hint"), asks.due(undefined)]).toEqual([[], [], undefined]);
  });
});

describe("a secret missing at the start", () => {
  test("is requested soon from a silent store, otherwise once a minute, and by every poll and hint", async () => {
    const { asks, clock, next } = asking();
    asks.missedByStart(["a"], true);
    expect(next()).toBeCloseTo(0.51, 6);
    expect(asks.due(undefined)).toBeUndefined();
    expect(asks.due("hint")).toEqual(["a", "b"]);
    await clock.advance(next());
    expect(asks.due(undefined)).toEqual(["a"]);
    asks.missedByStart(["a"], false);
    expect(next()).toBe(60);
  });

  test("is requested less and less often", async () => {
    const { asks, clock, next, settle } = asking();
    asks.missedByStart(["a"], true);
    const pauses = [];
    for (let round = 0; round < 3; round += 1) {
      await clock.advance(next());
      settle({ a: refused }, "unchanged");
      pauses.push(Number(next().toFixed(2)));
    }
    expect(pauses).toEqual([1.01, 2.01, 4.01]);
  });

  test("stays quiet until it arrives, or until a reload", () => {
    const { asks, settle } = asking();
    asks.missedByStart(["a"], true);
    settle({ a: refused }, "unchanged");
    expect([asks.isQuiet("a"), asks.isQuiet("b")]).toEqual([true, false]);
    settle({ a: value("a1") }, ["a"]);
    expect(asks.isQuiet("a")).toBe(false);
    asks.missedByStart(["a"], true);
    asks.due("reload");
    expect(asks.isQuiet("a")).toBe(false);
    settle({ a: refused }, "unchanged");
    expect(asks.isQuiet("a")).toBe(false);
  });

  test("a refused secret is requested once a minute while an earlier life's value is in use", () => {
    for (const answer of [denied, missing("a")])
      for (const [version, seconds] of [
        [PUBLISHED_BEFORE, 60],
        ["1", Infinity],
      ] as const) {
        const { asks, settle, next } = asking({ version });
        asks.missedByStart(["a"], false);
        settle({ a: answer }, "unchanged");
        expect(next()).toBe(seconds);
      }
    // Without a miss at the start, polls are enough.
    const { settle, next } = asking({ version: PUBLISHED_BEFORE });
    settle({ a: denied }, "unchanged");
    expect(next()).toBe(Infinity);
  });

  test("a secret that verify refuses is requested once a minute, and a lease once an hour, because each answer is another lease", () => {
    for (const [lease, seconds] of [
      [undefined, 60],
      [9000, 3600],
    ] as const) {
      const { asks, settle, next } = asking();
      asks.missedByStart(["a"], false);
      settle({ a: value("a1", lease) }, "refused");
      expect(next()).toBe(seconds);
    }
    const { settle, next } = asking();
    settle({ a: value("a1") }, "refused");
    expect(next()).toBe(Infinity);
  });
});

describe("a failure", () => {
  test("one secret's failure does not slow down another, and the disk's failures count too", () => {
    const { settle, next } = asking();
    expect(settle({ a: refused }, "unchanged")).toBeCloseTo(0.51, 6);
    expect(settle({ a: refused }, "unchanged")).toBeCloseTo(1.01, 6);
    expect(settle({ a: value("a0"), b: refused }, "unchanged")).toBeCloseTo(0.51, 6);
    expect(next()).toBeCloseTo(0.51, 6);
    expect(settle({ a: value("a1") }, "failed", 3)).toBeCloseTo(2.01, 6);
    expect(settle({}, "failed", 4)).toBeCloseTo(4.01, 6);
    // A refusal between two silences does not begin a new outage's pace at the old one.
    settle({ b: denied }, "unchanged");
    expect(settle({ b: refused }, "unchanged")).toBeCloseTo(0.51, 6);
  });

  test("ends with the answer", () => {
    const { settle, next } = asking();
    settle({ a: refused }, "unchanged");
    settle({ a: value("a1") }, ["a"]);
    expect(next()).toBe(Infinity);
  });

  test("neither polls nor hints ask earlier than Retry-After", async () => {
    const { asks, clock, settle, next } = asking();
    settle({ a: new BackendError("unavailable", "throttled", 300) }, "unchanged");
    expect(next()).toBeCloseTo(300.5, 6);
    await clock.advance(299);
    expect(asks.due("hint")).toEqual(["b"]);
    await clock.advance(1);
    expect(asks.due("hint")).toEqual(["a", "b"]);
  });

  test("a lease that has not ended is requested at its end, and then soon", async () => {
    const { asks, clock, settle, next } = asking({ lease: 100 });
    settle({ a: refused }, "unchanged");
    expect(next()).toBe(100);
    await clock.advance(100);
    expect(asks.due(undefined)).toEqual(["a"]);
    settle({ a: missing("a") }, "unchanged");
    expect(next()).toBeCloseTo(0.51, 6);
    expect(asks.due(undefined)).toBeUndefined();
  });

  test("a required secret that a reload added is requested once a minute, an optional one is not", () => {
    const { asks, settle, next } = asking();
    asks.secretsAre(["a", "b", "c", "d"], new Set(["a", "c"]));
    settle({ d: missing("d") }, "unchanged");
    expect(next()).toBe(Infinity);
    settle({ c: missing("c"), a: missing("a") }, "unchanged");
    expect(next()).toBe(60);
    asks.secretsAre(["a", "b"], new Set(["a"]));
    expect(next()).toBe(Infinity);
    // What was planned for it is forgotten, also where it comes back.
    asks.secretsAre(["a", "b", "c"], new Set());
    expect(next()).toBe(Infinity);
  });
});

describe("an unpublished value", () => {
  test("is requested soon after a disk failure; a new lease once a minute, and hints do not change that", async () => {
    const { asks, clock, settle, next } = asking();
    settle({ b: value("b1") }, "failed", 1);
    expect(next()).toBeCloseTo(0.51, 6);
    settle({ a: value("a1", 9000), b: value("b1") }, ["b"]);
    settle({ a: value("a1", 9000) }, "failed", 1);
    expect(next()).toBe(60);
    await clock.advance(59);
    expect(asks.due("hint")).toEqual(["b"]);
    await clock.advance(1);
    expect(asks.due("hint")).toEqual(["a", "b"]);
  });

  test("is requested at the end of the lease in use, if that comes sooner", async () => {
    const { asks, clock, settle, next } = asking({ lease: 20 });
    settle({ a: value("a1", 9000) }, "failed", 1);
    expect(next()).toBe(20);
    await clock.advance(20);
    expect(asks.due("hint")).toEqual(["a", "b"]);
    settle({ a: value("a2", 9000) }, "refused");
    // Its end is over: that plans nothing any more.
    expect(next()).toBe(60);
  });

  test("stays wanted: a store that refuses it now is asked once a minute", () => {
    const { settle, next } = asking();
    settle({ b: value("b1") }, "failed", 1);
    settle({ b: denied }, "unchanged");
    expect(next()).toBe(60);
    settle({ b: value("b0") }, "unchanged");
    settle({ b: denied }, "unchanged");
    expect(next()).toBe(Infinity);
    settle({ b: refused }, "failed", 1);
    settle({ b: denied }, "unchanged");
    expect(next()).toBe(Infinity);
  });

  test("a value that can be published now is requested at once, and stays wanted until it is published", () => {
    const { asks, settle, next } = asking();
    asks.askNow(["b"]);
    expect([next(), asks.due(undefined), asks.isQuiet("b")]).toEqual([0, ["b"], false]);
    settle({ b: denied }, "unchanged");
    expect(next()).toBe(60);
    asks.missedByStart(["a"], true);
    asks.askNow(["a"]);
    expect([next(), asks.isQuiet("a")]).toEqual([0, true]);
  });

  test("is left to polls when others of its round are published, unless it was requested already", () => {
    const { settle, next } = asking();
    settle({ a: value("a1"), b: value("b1") }, ["b"]);
    expect(next()).toBe(Infinity);
  });
});

test("a polling that ends has no next poll, whatever the random phase", () => {
  const { asks, next } = asking({ random: 0 });
  asks.poll(30);
  asks.poll(Infinity);
  expect(next()).toBe(Infinity);
});

test("a secret without a value is polled, and asked for soon or not at all, as the store answers", () => {
  const { asks, settle, next } = asking({ ids: ["a", "b", "c"] });
  expect(asks.due("hint")).toEqual(["a", "b", "c"]);
  settle({ c: refused }, "unchanged");
  expect(next()).toBeCloseTo(0.51, 6);
  asks.missedByStart(["c"], false);
  settle({ c: denied }, "unchanged");
  expect(next()).toBe(Infinity);
});

describe("a plan outlives", () => {
  test("a reload that is stopped, and a configuration that still has the secret", () => {
    const { asks, next } = asking();
    asks.missedByStart(["a"], true);
    asks.due("reload");
    expect(next()).toBeCloseTo(0.51, 6);
    asks.secretsAre(["a", "b", "c"], new Set());
    expect(next()).toBeCloseTo(0.51, 6);
  });

  test("an outage: what the start missed, or no file has, is asked for once a minute after it", () => {
    const missed = asking({ version: PUBLISHED_BEFORE });
    missed.asks.missedByStart(["a"], true);
    const unwritten = asking();
    unwritten.settle({ a: value("a1") }, "failed", 1);
    const other = asking({ version: PUBLISHED_BEFORE });
    for (const [{ settle, next }, seconds] of [
      [missed, 60],
      [unwritten, 60],
      [other, Infinity],
    ] as const) {
      settle({ a: refused }, "unchanged");
      settle({ a: denied }, "unchanged");
      expect(next()).toBe(seconds);
    }
  });

  test("a refusal without its pace: the next outage begins anew", () => {
    const { settle } = asking();
    settle({ b: value("b1") }, "failed", 1);
    settle({ b: denied }, "unchanged");
    settle({ b: denied }, "unchanged");
    expect(settle({ b: refused }, "unchanged")).toBeCloseTo(0.51, 6);
  });

  test("no set that verify refused, unless the start missed it", () => {
    const { asks, settle, next } = asking();
    asks.askNow(["b"]);
    settle({ b: value("b1") }, "refused");
    expect(next()).toBe(Infinity);
    // Nor is it taken for one that no disk could write.
    asks.missedByStart(["b"], false);
    settle({ b: value("b1") }, "refused");
    settle({ b: denied }, "unchanged");
    expect(next()).toBe(Infinity);
  });
});
