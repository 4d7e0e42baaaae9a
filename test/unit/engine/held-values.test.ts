/** Who overwrites which buffer of a secret, and when a value with an end is due. */
import { expect, test } from "vitest";
import { hasLease, HeldValues, isEnding } from "../../../src/engine/held-values.ts";
import { FakeClock } from "../fakes.ts";

const bytes = (text: string) => Buffer.from(text);
const isZero = (buffer: Buffer) => buffer.every((byte) => byte === 0);
const value = (text: string, refreshAfter?: number) => ({
  ...{ status: "value" as const, value: bytes(text), version: "1" },
  ...(refreshAfter === undefined ? {} : { refreshAfter }),
});

function holding(values: Readonly<Record<string, ReturnType<typeof value>>>) {
  const clock = new FakeClock();
  const held = new HeldValues(clock);
  for (const [id, one] of Object.entries(values)) held.set(id, one);
  return { held, clock };
}

test("overwrites a replaced value, and the value of a removed secret", () => {
  const [first, second, other] = [value("first"), value("second"), value("other")];
  const { held } = holding({ a: first, b: other });
  held.set("a", second);
  expect(isZero(first.value)).toBe(true);
  expect(held.get("a")?.value.toString()).toBe("second");
  held.set("a", second);
  expect(second.value.toString(), "it is the same buffer").toBe("second");
  held.drop("b");
  expect(isZero(other.value)).toBe(true);
  expect([held.has("b"), held.size]).toEqual([false, 1]);
  held.drop("b");
  held.clear();
  expect(isZero(second.value)).toBe(true);
  expect(held.size).toBe(0);
});

test("going back to a published set drops and overwrites other values, and keeps no lease end", () => {
  const [stays, goes] = [value("stays", 60), value("goes", 60)];
  const { held } = holding({ a: stays, b: goes });
  expect(held.hasLease).toBe(true);
  held.restore(new Map([["a", bytes("before")]]), "published before");
  expect([isZero(stays.value), isZero(goes.value)]).toEqual([true, true]);
  expect([...held.bytes].map(([id, one]) => [id, one.toString()])).toEqual([["a", "before"]]);
  expect([...held.versions]).toEqual([["a", "published before"]]);
  expect(held.hasLease).toBe(false);
});

test("overwrites a fetched value that it does not hold, and keeps a held one", () => {
  const kept = value("kept");
  const { held } = holding({ a: kept });
  const [again, unknown] = [bytes("again"), bytes("unknown")];
  held.release([
    ["a", kept.value],
    ["a", again],
    ["b", unknown],
  ]);
  expect(kept.value.toString()).toBe("kept");
  expect([isZero(again), isZero(unknown)]).toEqual([true, true]);
});

test("identical bytes in the store are not a change; only their version and end are updated", () => {
  const { held, clock } = holding({ a: value("same") });
  const answer = { ...value("same", 30), version: "2" };
  expect([...held.changesIn(new Map([["a", answer]])).keys()]).toEqual([]);
  held.confirm("a", answer);
  expect(held.get("a")).toMatchObject({ version: "2", refreshAt: clock.monotonic() + 30e6 });
  held.confirm("b", answer);
  expect(held.has("b")).toBe(false);
  expect([...held.changesIn(new Map([["b", answer]])).keys()]).toEqual(["b"]);
});

test("values of one lease are due together, at most a tenth of a second apart, and a value without a lease never", async () => {
  const { held, clock } = holding({ a: value("a", 10), b: value("b", 10.1), c: value("c", 10.2), d: value("d") });
  const none = new Set<string>();
  expect(held.nextEnd(none)).toBe(clock.monotonic() + 10e6);
  expect(held.nextEnd(new Set(["a"]))).toBe(clock.monotonic() + 10.1e6);
  expect(held.nextEnd(new Set(["a", "b", "c"]))).toBe(Infinity);
  expect(held.ending(none)).toEqual([]);
  await clock.advance(10);
  expect(held.ending(none)).toEqual(["a", "b"]);
  expect(held.ending(new Set(["a"]))).toEqual(["b"]);
  expect(isEnding(held.get("d"), Infinity)).toBe(false);
  expect(isEnding(undefined, Infinity)).toBe(false);
});

test("tells whether a change has a lease", () => {
  expect(hasLease(new Map([["a", value("a")]]))).toBe(false);
  expect(
    hasLease(
      new Map([
        ["a", value("a")],
        ["b", value("b", 5)],
      ]),
    ),
  ).toBe(true);
});
