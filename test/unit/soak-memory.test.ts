/** What the soak calls a leak: if this fails, it misses one, or calls garbage one. */
import { expect, test } from "vitest";
import { MemorySeries } from "../soak/memory.ts";

/** A quarter of an hour of a process that makes garbage for 70 s and collects it, and keeps some of it. */
function slopeOf(keptPerHour: number): number {
  const series = new MemorySeries();
  for (let at = 0; at <= 1000; at += 1) {
    const garbage = (at % 70) * 10;
    const kib = 12_000 + garbage + (keptPerHour * 1024 * at) / 3600;
    series.add(1, at, { own: kib, uss: kib + at });
  }
  // Another one, which ran for a shorter time.
  for (let at = 900; at <= 1000; at += 1) series.add(2, at, { own: at * 100, uss: at * 100 });
  return series.slope(100)?.own ?? NaN;
}

test("does not count temporary garbage as growth", () => {
  expect(Math.abs(slopeOf(0))).toBeLessThan(0.5);
});

test.each([1.5, 3, 30])("finds a growth of %s MiB per hour below the garbage", (kept) => {
  expect(Math.abs(slopeOf(kept) - kept)).toBeLessThan(0.5 + kept / 20);
});

test("says nothing about too short a life", () => {
  const series = new MemorySeries();
  for (let at = 0; at < 200; at += 1) series.add(1, at, { own: at, uss: at });
  expect(series.slope(0)).toBeUndefined();
});
