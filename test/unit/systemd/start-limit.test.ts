/**
 * If the sidecar starts once too often, systemd leaves the service down; if it counts a start that never was, new
 * secrets arrive late.
 */
import { describe, expect, test } from "vitest";
import { StartLimit } from "../../../src/systemd/start-limit.ts";
import { FakeClock, FakeSystemd } from "../fakes.ts";

/** A target that started `ago` seconds ago. */
function started(restarts: number, ago = 1) {
  const clock = new FakeClock();
  const limit = new StartLimit(clock);
  const { state } = new FakeSystemd(clock);
  const at = clock.monotonic() - ago * 1e6;
  const first = { ...state, leftInactiveAt: at, mainStartedAt: at, restarts };
  limit.note(first);
  return { clock, limit, first, at };
}

describe("unseen automatic restarts", () => {
  test("count at the first look, right before the start that is seen", () => {
    const { limit, at } = started(2);
    expect(limit.times).toEqual([at - 2, at - 1, at]);
  });

  test("do not count again at a second look", () => {
    const { limit, first, at } = started(2);
    for (let look = 0; look < 10; look += 1) limit.note(first);
    expect(limit.times).toEqual([at - 2, at - 1, at]);
  });

  test("include two of three new starts when the sidecar sees only the last", () => {
    const { clock, limit, first, at } = started(1, 20);
    const now = clock.monotonic();
    limit.note({ ...first, mainStartedAt: now, restarts: 4 });
    expect(limit.times).toEqual([at - 1, at, now - 2, now - 1, now]);
  });

  test("count from zero after a manual start reset the counter", () => {
    const { clock, limit, first } = started(5, 60);
    const now = clock.monotonic();
    limit.note({ ...first, leftInactiveAt: now, mainStartedAt: now, restarts: 2 });
    expect(limit.times.slice(-3)).toEqual([now - 2, now - 1, now]);
  });

  test("never exceed the limit's room", () => {
    expect(started(1000).limit.times).toHaveLength(5);
  });
});

test("are none for a unit that never started, rather than one at boot", () => {
  const clock = new FakeClock();
  const limit = new StartLimit(clock);
  limit.note({ ...new FakeSystemd(clock).state, leftInactiveAt: 0, mainStartedAt: 0 });
  expect(limit.times).toEqual([]);
});

describe("another start", () => {
  test.each([
    [{ startLimitBurst: 0 }, 0],
    [{ startLimitInterval: 0 }, 0],
    // Two of three are used; the earliest leaves the interval, with a margin, after 9.25 s.
    [{ startLimitBurst: 3, startLimitInterval: 10 }, 9.25],
    [{ startLimitBurst: 4, startLimitInterval: 10 }, 0],
    [{ startLimitBurst: 1, startLimitInterval: 10 }, 10.25 - 0.5],
    [{ startLimitBurst: 3, startLimitInterval: 0.2 }, 0],
  ])("under %j waits %d s", (settings, seconds) => {
    const { clock, limit, first } = started(0);
    limit.remember([clock.monotonic() - 0.5e6]);
    expect(limit.untilAllowed({ ...first, ...settings })).toBeCloseTo(seconds, 6);
  });
});

describe("a service that crashes before it runs", () => {
  const settings = { startLimitBurst: 5, startLimitInterval: 10 };

  test("waits until its next start has room for as many automatic restarts as the last one", () => {
    const { limit, first } = started(2);
    // Three of five are used, and three more will be: two must leave.
    expect(limit.untilAllowed({ ...first, ...settings })).toBeCloseTo(9.25, 4);
    expect(limit.untilAllowed({ ...first, ...settings, restarts: 0 })).toBe(0);
  });

  test("counts what the start before needed while the newest is not over", () => {
    const { limit, first } = started(2);
    limit.begins(first);
    expect(limit.untilAllowed({ ...first, ...settings, restarts: 0 })).toBeCloseTo(9.25, 4);
    limit.begins({ ...first, restarts: 0 });
    expect(limit.untilAllowed({ ...first, ...settings, restarts: 0 })).toBe(0);
  });

  test("gets all of the limit's room where it needs more than that", async () => {
    const { clock, limit, first } = started(20);
    expect(limit.untilAllowed({ ...first, ...settings })).toBeCloseTo(9.25, 4);
    await clock.advance(9.3);
    expect(limit.untilAllowed({ ...first, ...settings })).toBe(0);
  });

  test("is over its limit once the interval has passed since systemd gave it up", async () => {
    const { clock, limit, first, at } = started(4);
    const failed = { ...first, ...settings, enteredInactiveAt: at + 0.5e6 };
    expect(limit.isOver(failed)).toBe(false);
    await clock.advance(10);
    expect(limit.isOver(failed)).toBe(true);
    // It failed with starts left, or without one of systemd's own.
    expect(limit.isOver({ ...failed, startLimitBurst: 6 })).toBe(false);
    expect(limit.isOver({ ...failed, restarts: 0 })).toBe(false);
  });
});
