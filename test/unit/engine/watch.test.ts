/** A watch that breaks comes back, and a store that is replaced is watched no longer. */
import { describe, expect, test } from "vitest";
import { BackendError } from "../../../src/contract/backend.ts";
import { keepWatching, Watching } from "../../../src/engine/watch.ts";
import { FakeClock, FakeStore, recordingLog, settled } from "../fakes.ts";

function watched(store = new FakeStore({ a: "a1" })) {
  const clock = new FakeClock();
  const log = recordingLog();
  const stop = new AbortController();
  let hints = 0;
  const hint = () => (hints += 1);
  return { store, clock, log, stop, hint, hints: () => hints, parts: { store, clock, log } };
}

/** Runs until `stop`. */
function keeping(store?: FakeStore) {
  const life = watched(store);
  let hasEnded = false;
  void keepWatching(life.parts, life.hint, life.stop.signal).then(() => (hasEnded = true));
  return { ...life, ended: () => hasEnded };
}

describe("one watch", () => {
  test("hands on each hint, until it is stopped", async () => {
    const { store, stop, hints, ended, log, clock } = keeping();
    await settled();
    expect(hints()).toBe(1);
    store.hint();
    expect(hints()).toBe(2);
    expect(ended()).toBe(false);
    stop.abort();
    await settled();
    expect(ended()).toBe(true);
    expect([log.lines, clock.sleepers, store.watches]).toEqual([[], 0, 1]);
  });

  test("of a store that cannot be watched, or that is stopped before, is none", async () => {
    const store = new FakeStore({});
    store.watch = undefined;
    const { clock, log } = keeping(store);
    await settled();
    expect([clock.sleepers, log.lines]).toEqual([0, []]);
    const before = watched();
    before.stop.abort();
    await keepWatching(before.parts, before.hint, before.stop.signal);
    expect([before.store.watches, before.hints()]).toEqual([0, 0]);
  });

  test("is tried again each minute where it breaks: the log warns once, and says when it works again", async () => {
    const { store, clock, log, hints } = keeping();
    await settled();
    const { watch } = store;
    const broken = new BackendError("unavailable", "inotify is used up");
    store.watch = () => {
      store.watches += 1;
      return Promise.reject(broken);
    };
    store.breakWatch();
    await settled();
    expect([store.watches, log.lines.map(({ level, message }) => [level, message])]).toEqual([
      1,
      [["warn", "fake: cannot watch: inotify is used up; polling continues"]],
    ]);
    await clock.advance(59.9);
    expect(store.watches).toBe(1);
    await clock.advance(0.2);
    expect(store.watches).toBe(2);
    expect(log.at("warn")).toHaveLength(1);
    expect(log.at("debug")).toEqual(["fake: cannot watch: inotify is used up; polling continues"]);
    expect([hints(), log.at("notice")]).toEqual([1, []]);
    store.watch = watch;
    await clock.advance(60);
    expect([hints(), log.at("notice")]).toEqual([2, ["fake: watches again"]]);
    store.hint();
    expect([hints(), log.at("notice")]).toEqual([3, ["fake: watches again"]]);
    store.breakWatch();
    await settled();
    expect(log.at("warn")).toHaveLength(2);
  });

  test.each([
    ["ends by itself", () => Promise.resolve(), "it ended"],
    // eslint-disable-next-line @typescript-eslint/prefer-promise-reject-errors -- what a third party's module may do
    ["throws what is no error", () => Promise.reject("secret"), "failed"],
  ])("that %s is tried again after a pause, too", async (_, watch, why) => {
    const store = new FakeStore({});
    store.watch = () => {
      store.watches += 1;
      return watch();
    };
    const { clock, log, stop, ended } = keeping(store);
    await settled();
    expect(log.at("warn")).toEqual([`fake: cannot watch: ${why}; polling continues`]);
    await clock.advance(600);
    expect(store.watches).toBe(11);
    stop.abort();
    await settled();
    expect([ended(), clock.sleepers]).toEqual([true, 0]);
  });
});

describe("the watch of a sidecar", () => {
  test("moves to another store: what the one before says counts no longer", async () => {
    const { parts, store, stop, hint, hints } = watched();
    const watching = new Watching();
    const signals: AbortSignal[] = [];
    const spied = (one: FakeStore) => {
      const { watch } = one;
      one.watch = (given, signal) => {
        signals.push(signal);
        return watch?.(given, signal) ?? Promise.resolve();
      };
      return one;
    };
    watching.begin({ ...parts, store: spied(store) }, hint, stop.signal);
    await settled();
    expect([hints(), signals.map(({ aborted }) => aborted)]).toEqual([1, [false]]);
    const next = spied(new FakeStore({}));
    watching.begin({ ...parts, store: next }, hint, stop.signal);
    await settled();
    expect([hints(), signals.map(({ aborted }) => aborted)]).toEqual([2, [true, false]]);
    store.hint();
    expect(hints()).toBe(2);
    next.hint();
    expect(hints()).toBe(3);
    watching.begin(undefined, hint, stop.signal);
    await settled();
    expect(signals.map(({ aborted }) => aborted)).toEqual([true, true]);
    next.hint();
    expect(hints()).toBe(3);
    await watching.ended();
  });

  test("ends with the sidecar, and does not begin after it", async () => {
    const { parts, store, stop, hint, hints, log } = watched();
    const watching = new Watching();
    watching.begin(parts, hint, stop.signal);
    await settled();
    let hasEnded = false;
    const ended = watching.ended().then(() => (hasEnded = true));
    await settled();
    expect(hasEnded).toBe(false);
    stop.abort();
    await ended;
    watching.begin(parts, hint, stop.signal);
    await settled();
    expect([store.watches, hints(), log.lines]).toEqual([1, 1, []]);
  });

  test("leaves no listener at the end of the sidecar for each store that it left", async () => {
    const { parts, stop, hint } = watched();
    const watching = new Watching();
    let listeners = 0;
    const { signal } = stop;
    const [add, remove] = [signal.addEventListener.bind(signal), signal.removeEventListener.bind(signal)];
    signal.addEventListener = (...args: Parameters<typeof add>) => {
      if (args[0] === "abort") listeners += 1;
      add(...args);
    };
    signal.removeEventListener = (...args: Parameters<typeof remove>) => {
      if (args[0] === "abort") listeners -= 1;
      remove(...args);
    };
    for (let store = 0; store < 3; store += 1) {
      watching.begin({ ...parts, store: new FakeStore({}) }, hint, signal);
      await settled();
    }
    expect(listeners).toBe(1);
  });
});
