/**
 * Values that are written in steps are one rotation: otherwise a service restarts with half of it, and may not survive
 * that.
 */
import { describe, expect, test } from "vitest";
import { BackendError, type Outcome } from "../../../src/contract/backend.ts";
import { fetchSettled } from "../../../src/engine/fetch.ts";
import { HeldValues } from "../../../src/engine/held-values.ts";
import { fetchForStart, fetchUntilQuiet, untilQuiet, youth } from "../../../src/engine/settle.ts";
import { Alarm } from "../../../src/runtime/alarm.ts";
import { configOf } from "../command-line.ts";
import { FakeClock, FakeStore, missing, settled } from "../fakes.ts";
import { startSidecar } from "./running-sidecar.ts";

/** A store whose files say how old they are. */
function aged(secrets: Readonly<Record<string, string>>) {
  const clock = new FakeClock();
  const store = new FakeStore(secrets);
  const written = new Map<string, number>();
  store.age = (id) => {
    const at = written.get(id);
    return at === undefined ? 1000 : (clock.monotonic() - at) / 1e6;
  };
  const write = (id: string, value: string) => {
    store.put(id, value);
    written.set(id, clock.monotonic());
  };
  return { clock, store, write };
}

describe("with a watch", () => {
  test("several steps within settle are one publish and one action", async () => {
    const { store, clock, file, log, restarts } = await startSidecar();
    await clock.advance(1);
    for (let step = 1; step <= 15; step += 1) {
      store.put("a", `step ${step}`);
      store.hint();
      await clock.advance(0.4);
    }
    expect(file("a")).toBe("a1");
    await clock.advance(5);
    expect(file("a")).toBe("step 15");
    expect(log.at("notice")).toEqual(["published 1 changed secret", "app.service: restart for the new secrets"]);
    expect(restarts()).toBe(1);
  });

  test("endless changes are published after 15 times settle", async () => {
    const { store, clock, file } = await startSidecar();
    await clock.advance(1);
    store.put("b", "b2");
    const seconds = async () => {
      const begun = clock.monotonic();
      while (file("b") !== "b2") {
        store.hint();
        await clock.advance(0.25);
      }
      return (clock.monotonic() - begun) / 1e6;
    };
    expect(await seconds()).toBeCloseTo(15 * 0.5, 0);
  });

  test("looks again at a file younger than settle, even without a hint for its last step", async () => {
    const { clock, store, write } = aged({ a: "a1", b: "b1" });
    const { file, log } = await startSidecar({ clock, store });
    await clock.advance(1);
    write("a", "half");
    store.hint();
    await clock.advance(0.4);
    write("a", "whole");
    await clock.advance(0.2);
    expect(file("a")).toBe("a1");
    await clock.until(() => file("a") === "whole", 1);
    expect(log.at("notice")).toContain("published 1 changed secret");
    expect(log.at("notice").filter((line) => line.startsWith("published"))).toHaveLength(1);
  });
});

test("a look waits for a file written in place, although systemd reports only its end", async () => {
  const { clock, store, write } = aged({ a: "a1", b: "b1" });
  const config = configOf({
    resident: "on-change",
    secrets: { a: {} },
    onChange: { settle: 0.5 },
    config: { reloadOnChange: true },
  });
  write("a", "step 0");
  const held = new HeldValues(clock);
  let found: string | undefined;
  const answer = fetchSettled({ config, store, held, clock }, ["a"], true, new AbortController().signal).then(
    ({ changes }) => {
      found = changes.get("a")?.value.toString();
    },
  );
  for (let step = 1; step <= 8; step += 1) {
    await clock.advance(0.4);
    expect(found).toBeUndefined();
    write("a", `step ${step}`);
  }
  await clock.advance(1);
  await answer;
  expect(found).toBe("step 8");
});

test("a poll that finds a change asks until the answer stays the same for settle seconds", async () => {
  const store = new FakeStore({ a: "a1", b: "b1" });
  store.watch = undefined;
  const { clock, file, log } = await startSidecar({ store });
  store.put("a", "cert 2");
  await clock.until(() => store.fetches.length === 2, 31);
  await clock.advance(0.4);
  store.put("b", "key 2");
  await clock.advance(0.4);
  store.put("a", "cert 2 and chain");
  await clock.advance(0.3);
  expect([file("a"), file("b")]).toEqual(["a1", "b1"]);
  await clock.advance(2);
  expect([file("a"), file("b")]).toEqual(["cert 2 and chain", "key 2"]);
  expect(log.at("notice").filter((line) => line.startsWith("published"))).toEqual(["published 2 changed secrets"]);
});

describe("a start", () => {
  test("waits for a file still being written: without reloadOnChange, half of it would stay", async () => {
    const { clock, store, write } = aged({ a: "a1", b: "b1" });
    write("a", "hal");
    const { notifier, file } = await startSidecar({ clock, store, config: { config: {}, onChange: { settle: 2 } } });
    for (const text of ["half", "half of", "half of it"]) {
      await clock.advance(1);
      write("a", text);
    }
    expect(notifier.readies).toEqual([]);
    expect(notifier.last).toBe("waiting for fake: the place of a is still being written");
    await clock.until(() => notifier.readies.length > 0, 3);
    expect(file("a")).toBe("half of it");
  });

  test("does not wait for a long `settle`: a file untouched for 2 s is whole", async () => {
    const { clock, store, write } = aged({ a: "a1", b: "b1" });
    write("a", "a2");
    const { notifier } = await startSidecar({ clock, store, config: { onChange: { settle: 600 } } });
    await clock.until(() => notifier.readies.length > 0, 2.1);
  });

  test("does not wait for ever for a file written without end", async () => {
    const { clock, store, write } = aged({ a: "a1", b: "b1" });
    const { notifier } = await startSidecar({
      clock,
      store,
      config: { config: {} },
      opened: () => {
        write("a", "0");
      },
    });
    for (let at = 0; notifier.readies.length === 0 && at < 100; at += 1) {
      write("a", String(at));
      await clock.advance(0.1);
    }
    expect(notifier.readies).toHaveLength(1);
  });

  test("with an earlier set uses the earlier value after five seconds for a file still being written", async () => {
    const { clock, store, write } = aged({ a: "a1", b: "b1" });
    const config = { onChange: { settle: 2 } };
    const first = await startSidecar({ clock, store, config });
    await first.stop();
    write("a", "part 0");
    let at = 1;
    const { notifier, file } = await startSidecar({ clock, store, config, directory: first.directory });
    while (notifier.readies.length === 0 && at < 100) {
      write("a", `part ${at++}`);
      store.hint();
      await clock.advance(0.1);
    }
    expect(file("a")).toBe("a1");
    expect(notifier.last).toContain("the place of a is still being written");
    await clock.until(() => file("a") === `part ${at - 1}`, 40);
  });
});

describe("a wait for quiet", () => {
  function waiting(settle: number) {
    const clock = new FakeClock();
    const alarm = new Alarm<"hint" | "reload">(clock);
    const stop = new AbortController();
    let answer: boolean | undefined;
    void untilQuiet(alarm, clock, settle, stop.signal).then((isAsked) => (answer = isAsked));
    return { clock, alarm, stop, answer: () => answer };
  }

  test("begins anew at each hint, and ends when none has come for that long", async () => {
    const { clock, alarm, answer } = waiting(2);
    for (let hint = 0; hint < 4; hint += 1) {
      await clock.advance(1.9);
      alarm.ring("hint");
    }
    await clock.advance(1.9);
    expect(answer()).toBeUndefined();
    await clock.advance(0.2);
    expect(answer()).toBe(false);
  });

  test("ends after 15 times that, whatever hints come", async () => {
    const { clock, alarm, answer } = waiting(2);
    while (answer() === undefined && clock.monotonic() < 5_100_000_000) {
      alarm.ring("hint");
      await clock.advance(0.5);
    }
    expect(answer()).toBe(false);
    expect((clock.monotonic() - 5_000_000_000) / 1e6).toBeCloseTo(30, 0);
  });

  test("ends at once for a reload, which asks for the store, and at a stop", async () => {
    const reloaded = waiting(600);
    await reloaded.clock.advance(1);
    reloaded.alarm.ring("hint");
    await settled();
    expect(reloaded.answer()).toBeUndefined();
    reloaded.alarm.ring("reload");
    await settled();
    expect(reloaded.answer()).toBe(true);
    const stopped = waiting(600);
    stopped.alarm.ring("hint");
    await settled();
    stopped.stop.abort();
    await settled();
    expect([stopped.answer(), stopped.clock.sleepers]).toEqual([false, 0]);
  });

  test("is none where nothing is to settle", async () => {
    const { answer } = waiting(0);
    await settled();
    expect(answer()).toBe(false);
  });
});

const value = (text: string): Outcome => ({ status: "value", value: Buffer.from(text), version: "1" });
const textsOf = (outcomes: ReadonlyMap<string, Outcome>) =>
  [...outcomes].map(([id, outcome]) =>
    "status" in outcome && outcome.status === "value" ? `${id}=${outcome.value.toString()}` : `${id} failed`,
  );

describe("rounds of a fetch", () => {
  /** Each round has its answers; the last one is repeated. */
  function fetching(rounds: readonly Readonly<Record<string, Outcome>>[], limit: number, restless = 1) {
    const clock = new FakeClock();
    const stop = new AbortController();
    let fetches = 0;
    let answer: readonly string[] | undefined;
    const fetch = (ids: readonly string[]) => {
      const round = rounds[Math.min(fetches, rounds.length - 1)] ?? {};
      fetches += 1;
      return Promise.resolve(new Map(ids.flatMap((id) => (round[id] === undefined ? [] : [[id, round[id]] as const]))));
    };
    const waits = () => (fetches < rounds.length ? restless : 0);
    void fetchUntilQuiet({ fetch, restless: waits }, ["a", "b"], clock, limit, stop.signal).then(
      (outcomes) => (answer = textsOf(outcomes)),
    );
    return { clock, stop, fetches: () => fetches, answer: () => answer };
  }

  test("keep a value that a later one does not get, take a newer one, and overwrite what it replaces", async () => {
    const [first, kept] = [Buffer.from("a1"), Buffer.from("b1")];
    const { clock, answer } = fetching(
      [
        { a: { status: "value", value: first, version: "1" }, b: { status: "value", value: kept, version: "1" } },
        { a: value("a2"), b: missing("b") },
      ],
      60,
    );
    await clock.advance(1);
    expect(answer()).toEqual(["a=a2", "b=b1"]);
    expect([first.equals(Buffer.alloc(2)), kept.toString()]).toEqual([true, "b1"]);
  });

  test("take what a later one gets at last, and the last failure", async () => {
    const none = { a: missing("a"), b: missing("b") };
    const { clock, answer } = fetching([none, { a: value("a1"), b: new BackendError("denied", "no") }], 60);
    await clock.advance(1);
    expect(answer()).toEqual(["a=a1", "b failed"]);
  });

  test("end at their limit, and wait no longer than what is left of it", async () => {
    const rounds = Array.from({ length: 100 }, (_, round) => ({ a: value(`a${round}`) }));
    const { clock, fetches, answer } = fetching(rounds, 4.5, 2);
    await clock.advance(4.4);
    expect([fetches(), answer()]).toEqual([3, undefined]);
    await clock.advance(0.1);
    expect([fetches(), answer()]).toEqual([4, ["a=a3"]]);
  });

  test("end at a stop, with what there is", async () => {
    const { clock, stop, fetches, answer } = fetching([{ a: value("a1") }, { a: value("a2") }], 60, 30);
    await clock.advance(1);
    stop.abort();
    await settled();
    expect([fetches(), answer(), clock.sleepers]).toEqual([1, ["a=a1"], 0]);
  });
});

test("the youngest of several files says how long to wait: until it has been left alone for that long", () => {
  const written = (writtenAgo?: number): Outcome => ({
    ...{ status: "value", value: Buffer.from("x"), version: "1" },
    ...(writtenAgo === undefined ? {} : { writtenAgo }),
  });
  expect(youth([], 2)).toBe(0);
  expect(youth([missing("a"), written(), written(5)], 2)).toBe(0);
  expect(youth([written(1.5), written(0.75), written(5)], 2)).toBe(1.25);
  expect(youth([written(2)], 2)).toBe(0);
  // The clocks of files and of the process may differ by a tick.
  expect(youth([written(1.99)], 2)).toBe(0);
  expect(youth([written(1.97)], 2)).toBeCloseTo(0.03);
});

describe("a fetch of a start", () => {
  async function started(store: FakeStore, clock: FakeClock, patience: number | undefined, seconds: number) {
    const statuses: string[] = [];
    let answer: ReadonlyMap<string, Outcome> | undefined;
    const parts = { config: configOf({ secrets: { a: {}, b: {} }, onChange: { settle: 2 } }), store, clock };
    const status = (text: string) => statuses.push(text);
    const stop = new AbortController();
    void fetchForStart({ ...parts, status }, ["a", "b"], 7, patience, stop.signal).then((given) => (answer = given));
    await clock.advance(seconds);
    return { statuses, answer: () => answer };
  }

  test("asks once where a lease is among the secrets, because another answer would be another lease", async () => {
    const { clock, store, write } = aged({ a: "a1", b: "b1" });
    write("b", "half");
    store.leases.set("a", 600);
    const { answer, statuses } = await started(store, clock, undefined, 0);
    expect([textsOf(answer() ?? new Map()), store.fetches.length, statuses]).toEqual([["a=a1-1", "b=half"], 1, []]);
  });

  test("gives each request its time", async () => {
    const { clock, store } = aged({ a: "a1", b: "b1" });
    await started(store, clock, undefined, 0);
    expect(store.limits).toEqual([7]);
  });

  test("takes no file that is still being written when its time is over, and every other one", async () => {
    const { clock, store, write } = aged({ a: "a1", b: "b1" });
    write("a", "half");
    const { given } = store;
    const { answer, statuses } = await started(store, clock, 1, 1);
    const outcomes = answer() ?? new Map<string, Outcome>();
    expect(textsOf(outcomes)).toEqual(["a failed", "b=b1"]);
    expect(outcomes.get("a")).toMatchObject({
      kind: "unavailable",
      message: "the place of a is still being written",
    });
    expect(statuses[0]).toBe("waiting for fake: the place of a is still being written");
    // Nothing of it stays in memory.
    expect(given.filter((bytes) => bytes.includes("half"))).toEqual([]);
  });

  test("takes it in the end where nothing limits the start", async () => {
    const { clock, store } = aged({ a: "a1", b: "b1" });
    store.age = (id) => (id === "a" ? 0 : undefined);
    const { answer } = await started(store, clock, undefined, 29.9);
    expect(answer()).toBeUndefined();
    await clock.advance(0.2);
    expect(textsOf(answer() ?? new Map())).toEqual(["a=a1", "b=b1"]);
  });
});
