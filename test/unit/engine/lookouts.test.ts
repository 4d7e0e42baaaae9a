/** A cheaper way to look at a store, in place of polls. If these fail, a change is seen late, or each look is a poll. */
import { expect, test } from "vitest";
import { BackendError, type Lookout, type Plan } from "../../../src/contract/backend.ts";
import type { Round } from "../../../src/engine/ask-times.ts";
import { type LookoutParts, Lookouts } from "../../../src/engine/lookouts.ts";
import { FakeClock, FakeStore, missing } from "../fakes.ts";
import { startSidecar } from "./running-sidecar.ts";

/** A store with lookouts, whose news a test gives. */
class WatchedStore extends FakeStore {
  override pollingInterval: number | null = 5;
  override watch = () => Promise.reject(new BackendError("unavailable", "cannot watch"));
  readonly plans: Plan[] = [];
  /** Gives news; undefined: nobody looks. */
  news: (() => void) | undefined;
  isAble = true;

  lookOut = (plan: Plan, news: () => void): Lookout | undefined => {
    if (!this.isAble) return undefined;
    if (this.news !== undefined) throw new Error("two at a time");
    this.plans.push(plan);
    this.news = news;
    return {
      end: () => {
        this.news = undefined;
      },
    };
  };
}

async function start(store = new WatchedStore({ a: "a1", b: "b1" }), config: object = {}) {
  return { ...(await startSidecar({ store, isConfigurable: true, ...config })), store };
}

test("begins after the first poll, and then the store is asked each half minute", async () => {
  const { store, clock, publisher, facts } = await start();
  expect(store.plans).toEqual([]);
  await clock.until(() => store.fetches.length === 2);
  expect(store.plans).toEqual([{ first: 5, interval: 5, files: publisher.watched }]);
  expect(publisher.watched.length).toBeGreaterThan(2);
  expect(Date.parse(facts()?.nextLookAt ?? "") - clock.now().getTime()).toBe(30_000);
  await clock.advance(29.9);
  expect(store.fetches.length).toBe(2);
  await clock.advance(0.2);
  expect(store.fetches.length).toBe(3);
  await clock.advance(300);
  expect([store.fetches.length, store.plans.length]).toEqual([13, 12]);
});

test.each([0, 0.5, 0.999])(
  "STATUS says the time of each poll between them, whatever the jitter: %f",
  async (random) => {
    const { store, clock, notifier } = await start(undefined, { random });
    await clock.until(() => store.news !== undefined);
    const [asked, said] = [store.fetches.length, notifier.statuses.length];
    await clock.advance(300);
    expect(store.fetches.length - asked).toBeGreaterThanOrEqual(9);
    // The first poll may follow the one before it too closely.
    expect(notifier.statuses.length - said).toBeGreaterThanOrEqual(store.fetches.length - asked - 1);
  },
);

test("news is followed by a poll at once", async () => {
  const { store, clock, file } = await start();
  await clock.until(() => store.news !== undefined);
  await clock.advance(1);
  store.put("a", "a2");
  store.news?.();
  expect(await clock.until(() => file("a") === "a2")).toBeLessThan(2);
  await clock.advance(10);
  expect(store.news).toBeDefined();
});

test.each([
  ["every 10 s", 10, true],
  ["every 11 s", 11, false],
  ["never", null, false],
])("a store that is polled %s", async (_, interval, isLookedAt) => {
  const store = new WatchedStore({ a: "a1", b: "b1" });
  store.pollingInterval = interval;
  const { clock } = await start(store);
  await clock.advance(100);
  expect(store.plans.length > 0).toBe(isLookedAt);
});

test("without reloadOnChange there is none", async () => {
  const { store, clock } = await start(undefined, { config: { config: { reloadOnChange: false } } });
  await clock.advance(100);
  expect(store.plans).toEqual([]);
});

test("where the store cannot, it is polled as ever", async () => {
  const store = new WatchedStore({ a: "a1", b: "b1" });
  store.isAble = false;
  const { clock } = await start(store);
  await clock.advance(100);
  expect(store.fetches.length).toBe(21);
});

test("a secret that the store does not give is asked for as ever", async () => {
  const store = new WatchedStore({ a: "a1", b: "b1" });
  const { clock } = await start(store);
  await clock.until(() => store.news !== undefined);
  store.put("b", new BackendError("denied", "no"));
  store.news?.();
  await clock.advance(0.1);
  const { length } = store.fetches;
  await clock.advance(50);
  expect(store.news).toBeUndefined();
  expect(store.fetches.length).toBe(length + 10);
  store.put("b", "b1");
  await clock.advance(6);
  expect(store.news).toBeDefined();
});

test("two false alarms in a row end it for an hour", async () => {
  const { store, clock } = await start();
  await clock.until(() => store.news !== undefined);
  store.news?.();
  await clock.advance(0.1);
  expect(store.news).toBeDefined();
  // A change between them counts.
  store.put("a", "a2");
  store.news?.();
  await clock.advance(10);
  for (let alarm = 0; alarm < 2; alarm++) {
    expect(store.news).toBeDefined();
    store.news?.();
    await clock.advance(0.1);
  }
  expect(store.news).toBeUndefined();
  const { length } = store.fetches;
  await clock.advance(3500);
  expect(store.fetches.length).toBe(length + 700);
  expect(store.news).toBeUndefined();
  await clock.advance(200);
  expect(store.news).toBeDefined();
});

test("a reload ends it, and another begins", async () => {
  const { store, clock, sidecar } = await start();
  await clock.until(() => store.news !== undefined);
  const { length } = store.fetches;
  await clock.advance(7);
  sidecar.reload();
  await clock.advance(0.1);
  expect([store.fetches.length, store.news]).toEqual([length + 1, undefined]);
  // The look of that time is a poll.
  await clock.advance(5);
  expect(store.fetches.length).toBe(length + 2);
  expect(store.news).toBeDefined();
});

test("a look at what others may have done leaves it alone", async () => {
  const { store, clock } = await start();
  await clock.until(() => store.fetches.length === 2);
  const { news } = store;
  await clock.advance(25);
  expect([store.news === news, store.fetches.length]).toEqual([true, 2]);
});

test("the end of the sidecar ends it", async () => {
  const { store, clock, stop } = await start();
  await clock.until(() => store.news !== undefined);
  await stop();
  expect(store.news).toBeUndefined();
});

/** Lookouts by themselves, of a store with two secrets; times are seconds from the beginning. */
function alone() {
  const store = new WatchedStore({ a: "a1", b: "b1" });
  const clock = new FakeClock();
  const begun = clock.monotonic();
  const seconds = (at: number) => (at - begun) / 1e6;
  const rung: string[] = [];
  const owed = {
    pollAt: begun + 5e6,
    pollAtTime: (at: number) => {
      owed.pollAt = at;
    },
  };
  const parts = {
    config: { reloadOnChange: true, secrets: [{}, {}] },
    store,
    publisher: { watched: ["/file"] },
    owed,
    clock,
    random: () => 0.5,
    isCalm: () => true,
    alarm: { ring: (reason: string) => rung.push(reason) },
  } as unknown as LookoutParts;
  const pollIn = (after: number) => {
    owed.pollAt = begun + after * 1e6;
  };
  return { lookouts: new Lookouts(parts), store, clock, rung, pollIn, pollsAt: () => seconds(owed.pollAt) };
}

const round = (result: Round["result"] = "unchanged", ...ids: string[]): Round => ({
  outcomes: new Map((ids.length === 0 ? ["a", "b"] : ids).map((id) => [id, missing(id)])),
  changes: new Map(),
  result,
});

test.each<readonly [string, Round | undefined, boolean]>([
  ["a whole one without a change", round(), true],
  ["one that was stopped", undefined, false],
  ["one of a secret alone", round("unchanged", "a"), false],
  ["a refused one", round("refused"), false],
  ["a failed one", round("failed"), false],
  ["one that published something", round(new Set(["a"])), false],
])("a round is followed by a lookout, or not: %s", (_, after, isLookedAt) => {
  const { lookouts, store } = alone();
  lookouts.begin(after);
  expect(store.plans.length === 1).toBe(isLookedAt);
});

test.each([
  [24.9, true],
  [25, false],
  [29, false],
])("two looks fit between two polls: the next is due in %f s", (after, isLookedAt) => {
  const { lookouts, store, pollIn } = alone();
  pollIn(after);
  lookouts.begin(round());
  expect(store.plans.length === 1).toBe(isLookedAt);
});

test.each([
  [0, 5],
  [4, 5],
  [5, 5],
  [5.5, 10],
  [17, 20],
  [29, 30],
])("its end after %f s has the next look's poll in its place", async (after, poll) => {
  const { lookouts, clock, pollsAt } = alone();
  lookouts.begin(round());
  expect(pollsAt()).toBe(30);
  await clock.advance(after);
  lookouts.end();
  expect(pollsAt()).toBe(poll);
  lookouts.end();
  expect(pollsAt()).toBe(poll);
});

test("news makes a poll due, and its end leaves that as it is", async () => {
  const { lookouts, store, clock, rung, pollsAt } = alone();
  lookouts.begin(round());
  await clock.advance(7);
  store.news?.();
  lookouts.end();
  expect([pollsAt(), rung]).toEqual([7, ["look"]]);
});

test("polls without news between two false alarms do not matter", () => {
  const { lookouts, store } = alone();
  lookouts.begin(round());
  for (const hasNews of [true, false, false, true]) {
    if (hasNews) store.news?.();
    lookouts.end();
    lookouts.begin(round());
  }
  expect(store.news).toBeUndefined();
});

test.each([
  ["looked, and found the same", 20, true],
  ["ended before its second look", 4, false],
])("two false alarms with a lookout between them that %s", async (_, seconds, goesOn) => {
  const { lookouts, store, clock } = alone();
  lookouts.begin(round());
  for (const hasNews of [true, false, true]) {
    if (hasNews) store.news?.();
    else await clock.advance(seconds);
    lookouts.end();
    lookouts.begin(round());
  }
  expect(store.news !== undefined).toBe(goesOn);
});

test.each<readonly [string, readonly (Round | undefined)[], boolean]>([
  ["two", [round(), round()], true],
  ["two, and a round that was stopped between them", [undefined, round(), round()], true],
  ["one, and a change", [round(), round(new Set(["a"])), round()], false],
])("how many false alarms end it: %s", (_, rounds, isOver) => {
  const { lookouts, store } = alone();
  lookouts.begin(round());
  for (const after of rounds) {
    store.news?.();
    lookouts.end();
    lookouts.begin(after);
    if (after?.result !== "unchanged") lookouts.begin(round());
  }
  expect(store.news === undefined).toBe(isOver);
});

test("a change that needed no alarm counts, too", () => {
  const { lookouts, store } = alone();
  lookouts.begin(round());
  store.news?.();
  lookouts.end();
  lookouts.begin(round());
  lookouts.end();
  lookouts.begin(round(new Set(["a"])));
  lookouts.begin(round());
  store.news?.();
  lookouts.end();
  lookouts.begin(round());
  expect(store.news).toBeDefined();
});
