/** A laptop or a machine that was suspended: a lease that ended during the sleep must not count as valid. */
import { uptime } from "node:os";
import { expect, test } from "vitest";
import { SleepingClock } from "../../../src/contract/sleeping-clock.ts";
import { takeUptimeFrom } from "../../../src/contract/uptime.ts";

/** Fakes of CLOCK_MONOTONIC and CLOCK_BOOTTIME. */
function clocks(awake: number, up: number) {
  const times = { awake, up };
  return { times, clock: new SleepingClock({ awake: () => times.awake, up: () => times.up }) };
}

test("counts a night asleep once, whenever it is asked", () => {
  const { times, clock } = clocks(10, 5010);
  times.awake += 60;
  times.up += 60 + 8 * 3600;
  expect(clock.slept).toBe(8 * 3600);
  expect(clock.now()).toBe(70 + 8 * 3600);
  expect(clock.now()).toBe(70 + 8 * 3600);
  times.awake += 5;
  times.up += 5;
  expect(clock.now()).toBe(75 + 8 * 3600);
});

test("adds up many short sleeps", () => {
  const { times, clock } = clocks(0, 0);
  for (let sleep = 0; sleep < 10; sleep += 1) {
    times.awake += 1;
    times.up += 2.5;
    expect(Math.abs(clock.now() - times.up)).toBeLessThan(2);
  }
  expect(clock.slept).toBeGreaterThan(13);
});

test("does not take an uptime in whole seconds for sleep, and makes no step", () => {
  const { times, clock } = clocks(0.9, 100);
  for (let step = 0; step < 100; step += 1) {
    times.awake += 0.1;
    times.up = Math.floor(100 + times.awake);
    expect(clock.now()).toBe(times.awake);
  }
});

test("an uptime that goes back, as in a moved container, takes no time away, and hides no later sleep", () => {
  const { times, clock } = clocks(1000, 90_000);
  times.up = 20;
  expect(clock.now()).toBe(1000);
  times.up += 3600;
  expect(clock.now()).toBe(4600);
});

test("the machine's own clocks agree while it is awake", () => {
  const clock = new SleepingClock();
  const [before, up] = [clock.now(), uptime()];
  expect(Math.abs(clock.now() - before - (uptime() - up))).toBeLessThan(1);
});

test("a runtime's own uptime counts, and the machine's where it has none", () => {
  let own: number | undefined = 5000;
  takeUptimeFrom(() => own);
  try {
    const clock = new SleepingClock();
    own += 3600;
    expect(clock.slept).toBeGreaterThan(3590);
    own = undefined;
    const usual = new SleepingClock();
    expect(Math.abs(usual.slept)).toBe(0);
  } finally {
    takeUptimeFrom(undefined);
  }
});
