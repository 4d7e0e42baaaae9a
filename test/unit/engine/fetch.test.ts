/** A question to the store is asked again until its answer is at rest, and never once too often for a lease. */
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { type Answer, fetchOnce, fetchSettled } from "../../../src/engine/fetch.ts";
import { HeldValues } from "../../../src/engine/held-values.ts";
import { configOf } from "../command-line.ts";
import { FakeClock, FakeStore, settled } from "../fakes.ts";

interface Options {
  readonly secrets?: Readonly<Record<string, string>>;
  readonly hinted?: boolean;
  readonly onDemand?: boolean;
  readonly ids?: readonly string[];
}

/** Holds a1 and b1, and asks a store that has something else for them; settle is 2 s. */
function asking({ secrets = { a: "a2", b: "b1" }, hinted = false, onDemand = false, ids = ["a", "b"] }: Options = {}) {
  const clock = new FakeClock();
  const store = new FakeStore(secrets);
  const held = new HeldValues(clock);
  for (const id of ["a", "b"]) held.set(id, { value: Buffer.from(`${id}1`), version: "1" });
  const resident = onDemand ? { resident: "on-change" } : {};
  const config = configOf({
    secrets: { a: {}, b: {} },
    onChange: { settle: 2 },
    ...resident,
    config: { reloadOnChange: true },
  });
  const stop = new AbortController();
  const parts = { config, store, held, clock };
  const { given } = store;
  let answer: Answer | undefined;
  const begin = () => {
    void fetchSettled(parts, ids, hinted, stop.signal).then((found) => (answer = found));
  };
  const changes = () => answer && [...answer.changes].map(([id, { value }]) => `${id}=${value.toString()}`).join();
  return { clock, store, stop, parts, given, begin, changes, answer: () => answer };
}

describe("one question", () => {
  test("says what differs from what is held", async () => {
    const { parts, store } = asking();
    const { outcomes, changes } = await fetchOnce(parts, ["a", "b"], new AbortController().signal);
    expect([[...outcomes.keys()], [...changes.keys()], store.fetches]).toEqual([["a", "b"], ["a"], [["a", "b"]]]);
  });

  test("about nothing does not reach the store", async () => {
    const { parts, store, begin, answer } = asking({ ids: [] });
    expect((await fetchOnce(parts, [], new AbortController().signal)).outcomes.size).toBe(0);
    begin();
    await settled();
    expect([answer()?.outcomes.size, store.fetches]).toEqual([0, []]);
  });

  test("counts a value that became empty as missing, which it may not stay", async () => {
    const { parts } = asking({ secrets: { a: "", b: "b1" } });
    const { outcomes, changes } = await fetchOnce(parts, ["a", "b"], new AbortController().signal);
    expect(outcomes.get("a")).toMatchObject({ status: "missing", mayAppear: true });
    expect(changes.size).toBe(0);
  });

  test("takes a new secret that is empty as it is: there is nothing better", async () => {
    const { parts, store } = asking();
    store.put("c", "");
    const { changes } = await fetchOnce(parts, ["c"], new AbortController().signal);
    expect([...changes.keys()]).toEqual(["c"]);
  });
});

describe("a question until all is at rest", () => {
  test("is one where nothing has changed", async () => {
    const { store, begin, changes } = asking({ secrets: { a: "a1", b: "b1" } });
    begin();
    await settled();
    expect([changes(), store.fetches.length]).toEqual(["", 1]);
  });

  test("is two where a change stays the same for settle seconds", async () => {
    const { clock, store, begin, changes } = asking();
    begin();
    await clock.advance(1.9);
    expect([changes(), store.fetches.length]).toEqual([undefined, 1]);
    await clock.advance(0.2);
    expect([changes(), store.fetches.length]).toEqual(["a=a2", 2]);
  });

  test.each([
    ["another value", "a", "a3", "a=a3"],
    ["another secret", "b", "b2", "a=a2,b=b2"],
  ])("is one more for %s meanwhile", async (_, id, value, expected) => {
    const { clock, store, begin, changes } = asking();
    begin();
    await clock.advance(1);
    store.put(id, value);
    await clock.advance(1.5);
    expect([changes(), store.fetches.length]).toEqual([undefined, 2]);
    await clock.advance(2);
    expect([changes(), store.fetches.length]).toEqual([expected, 3]);
  });

  test.each([
    ["one of two changes is taken back", { a: "a2", b: "b2" }, { b: "b1" }, "a=a2"],
    ["one change is taken back, and another comes", { a: "a2", b: "b1" }, { a: "a1", b: "b2" }, "b=b2"],
  ])("is one more where %s", async (_, secrets, then, expected) => {
    const { clock, store, begin, changes } = asking({ secrets });
    begin();
    await clock.advance(1);
    for (const [id, value] of Object.entries(then)) store.put(id, value);
    await clock.advance(1.5);
    expect([changes(), store.fetches.length]).toEqual([undefined, 2]);
    await clock.advance(2);
    expect([changes(), store.fetches.length]).toEqual([expected, 3]);
  });

  test("ends where the change is taken back", async () => {
    const { clock, store, begin, changes } = asking();
    begin();
    await clock.advance(1);
    store.put("a", "a1");
    await clock.advance(1.1);
    expect([changes(), store.fetches.length]).toEqual(["", 2]);
  });

  test("ends after 15 times settle with what there is by then", async () => {
    const { clock, store, begin, changes } = asking();
    begin();
    for (let at = 0; at < 29; at += 1) {
      store.put("a", `a at ${at}`);
      await clock.advance(1);
    }
    expect(changes()).toBeUndefined();
    await clock.advance(1.1);
    expect(changes()).toBe("a=a at 28");
  });

  test("is one where a lease is among the changes, because another answer would be another lease", async () => {
    const lease = asking({ secrets: { a: "a2", b: "b2" } });
    lease.store.leases.set("b", 600);
    lease.begin();
    await settled();
    expect([lease.changes(), lease.store.fetches.length]).toEqual(["a=a2,b=b2-1", 1]);
  });

  test("waits after a hint only for files that are younger than settle", async () => {
    const old = asking({ hinted: true });
    old.begin();
    await settled();
    expect([old.changes(), old.store.fetches.length]).toEqual(["a=a2", 1]);
    const young = asking({ hinted: true });
    young.store.age = (id) => (id === "a" ? 0.5 + (young.clock.monotonic() - 5_000_000_000) / 1e6 : undefined);
    young.begin();
    await young.clock.advance(1.4);
    expect(young.changes()).toBeUndefined();
    await young.clock.advance(0.2);
    expect([young.changes(), young.store.fetches.length]).toEqual(["a=a2", 2]);
  });

  test("waits for a young file without a hint, too", async () => {
    const { clock, store, begin, changes } = asking();
    store.age = (id) => (id === "a" ? (clock.monotonic() - 5_001_500_000) / 1e6 : undefined);
    begin();
    await clock.advance(3.4);
    expect(changes()).toBeUndefined();
    await clock.advance(0.2);
    expect(changes()).toBe("a=a2");
  });

  test.each([
    ["settle seconds: a watch has waited already", false, 2],
    ["7.5 times settle, where systemd tells only of the end of a write", true, 15],
  ])("waits after a hint for a file that never comes to rest no longer than %s", async (_, onDemand, seconds) => {
    const { clock, store, begin, changes } = asking({ hinted: true, onDemand });
    store.age = () => 0;
    begin();
    await clock.advance(seconds - 0.1);
    expect(changes()).toBeUndefined();
    await clock.advance(0.2);
    expect(changes()).toBe("a=a2");
  });

  test("leaves nothing of an earlier answer in memory", async () => {
    const { clock, store, given, begin, changes } = asking();
    begin();
    await clock.advance(1);
    store.put("a", "a3");
    await clock.advance(5);
    expect(changes()).toBe("a=a3");
    // b has not changed, and is released by whoever asked, as the last answer is.
    expect(given.map((bytes) => bytes.toString()).filter((text) => text.startsWith("a"))).toEqual(["a3"]);
  });

  test("leaves no copy of an answer in memory either, with which it compares the next one", async () => {
    const { clock, store, begin, changes } = asking();
    const from = vi.spyOn(Buffer, "from");
    onTestFinished(() => {
      from.mockRestore();
    });
    begin();
    await clock.advance(1);
    store.put("a", "a3");
    await clock.advance(5);
    const copies = from.mock.calls.flatMap(([source], index) =>
      Buffer.isBuffer(source) ? [from.mock.results[index]?.value as Buffer] : [],
    );
    expect(changes()).toBe("a=a3");
    expect(copies.map((copy) => copy.equals(Buffer.alloc(2)))).toEqual([true, true, true]);
  });

  test("ends at a stop", async () => {
    const { clock, store, stop, begin, answer } = asking();
    begin();
    await clock.advance(1);
    stop.abort();
    await settled();
    expect([answer() !== undefined, store.fetches.length, clock.sleepers]).toEqual([true, 1, 0]);
  });
});
