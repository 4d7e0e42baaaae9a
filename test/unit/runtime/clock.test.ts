import { describe, expect, test } from "vitest";
import { Alarm } from "../../../src/runtime/alarm.ts";
import { backoff, clockTime, isAborted, jittered, systemClock } from "../../../src/runtime/clock.ts";
import { FakeClock, settled } from "../fakes.ts";

const never = new AbortController().signal;

describe("backoff", () => {
  test("doubles from 0.25 s to 30 s, to spare a store that is down", () => {
    const longest = [0, 1, 2, 3, 4, 5, 6, 7, 8, 100, 10_000].map((attempt) => backoff(attempt, () => 1));
    expect(longest.map((delay) => Number(delay.toFixed(2)))).toEqual([
      0.26, 0.51, 1.01, 2.01, 4.01, 8.01, 16.01, 30.01, 30.01, 30.01, 30.01,
    ]);
  });
  test("has full jitter, so a fleet does not ask at once", () => {
    expect(backoff(10, () => 0)).toBeLessThan(0.1);
    expect(backoff(10, () => 0.5)).toBeCloseTo(15, 0);
  });
  test("is never 0, which would spin", () => {
    expect(backoff(0, () => 0)).toBeGreaterThan(0);
  });
  test.each([0, 0.5, 0.999])("never comes before Retry-After (random %d)", (random) => {
    expect(backoff(3, () => random, 17)).toBeGreaterThanOrEqual(17);
  });
});

test("polls drift by 10 % at most", () => {
  expect(jittered(100, () => 0)).toBeCloseTo(90);
  expect(jittered(100, () => 1)).toBeCloseTo(110);
});

test("shows times as the journal does", () => {
  const { TZ } = process.env;
  try {
    for (const [zone, shown] of [
      ["UTC", "03:04:05Z"],
      ["Asia/Kolkata", "08:34:05+05:30"],
      ["America/St_Johns", "23:34:05-03:30"],
    ] as const) {
      process.env["TZ"] = zone;
      expect(clockTime(new Date(Date.UTC(2026, 0, 1, 3, 4, 5)))).toBe(shown);
    }
  } finally {
    if (TZ === undefined) delete process.env["TZ"];
    else process.env["TZ"] = TZ;
  }
});

describe("the system's clock", () => {
  test("is systemd's CLOCK_MONOTONIC in microseconds", () => {
    const uptime = Number(process.hrtime.bigint()) / 1000;
    expect(Math.abs(systemClock.monotonic() - uptime)).toBeLessThan(5e6);
    expect(Math.abs(systemClock.now().getTime() - Date.now())).toBeLessThan(5e3);
  });
  test("a sleep ends with its signal, whether it comes before or during", async () => {
    const stop = new AbortController();
    const sleep = systemClock.sleep(3600, stop.signal);
    stop.abort();
    await sleep;
    await systemClock.sleep(3600, stop.signal);
    expect(isAborted(stop.signal)).toBe(true);
  });
  test.each([0, -1, 0.001])("sleeps %d s", async (seconds) => {
    await expect(systemClock.sleep(seconds, never)).resolves.toBeUndefined();
  });
  test("an endless sleep does not end at once (setTimeout overflows beyond 2^31 ms)", async () => {
    const stop = new AbortController();
    let over = false;
    const sleep = systemClock.sleep(Infinity, stop.signal).then(() => (over = true));
    await systemClock.sleep(0.02, never);
    expect(over).toBe(false);
    stop.abort();
    await sleep;
  });
});

describe("alarm", () => {
  test("keeps a ring while nothing waits; two rings count once", async () => {
    const alarm = new Alarm<"hint" | "reload">(new FakeClock());
    alarm.ring("hint");
    alarm.ring("hint");
    alarm.ring("reload");
    expect([...(await alarm.wait(60, never))]).toEqual(["hint", "reload"]);
  });
  test("does not ring when the time is over", async () => {
    const clock = new FakeClock();
    const wait = new Alarm<"hint">(clock).wait(60, never);
    await clock.advance(60);
    expect([...(await wait)]).toEqual([]);
  });
  test.each(["ring", "abort"])("wakes at once on %s, and leaves no timer", async (how) => {
    const clock = new FakeClock();
    const alarm = new Alarm<"hint">(clock);
    const stop = new AbortController();
    const wait = alarm.wait(Infinity, stop.signal);
    await settled();
    if (how === "ring") alarm.ring("hint");
    else stop.abort();
    expect((await wait).size).toBe(how === "ring" ? 1 : 0);
    expect(clock.sleepers).toBe(0);
  });
});
