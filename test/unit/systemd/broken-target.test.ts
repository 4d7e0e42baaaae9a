/**
 * How a target does after an action: which failure counts as the action's doing, and what the sidecar says about it.
 */
import { describe, expect, test } from "vitest";
import type { OnChangeConfig } from "../../../src/config/config.ts";
import type { UnitState } from "../../../src/systemd/systemctl.ts";
import { runningTarget } from "./running-target.ts";

const revived = "revive app.service";
const never = new AbortController().signal;

/** A target that fails with each start that is asked for, until `isGood` says otherwise. */
function fragile(onChange: Partial<OnChangeConfig> = {}, state: Partial<UnitState> = {}) {
  const parts = runningTarget(state, onChange);
  const { systemd, publish, clock } = parts;
  const mended = { isGood: false };
  for (const job of ["restart", "revive"] as const) {
    const asked = systemd[job].bind(systemd);
    systemd[job] = async (unit, signal) => {
      const result = await asked(unit, signal);
      if (!mended.isGood) systemd.fail();
      return result;
    };
  }
  const rotate = async (seconds = 10) => {
    publish();
    await clock.advance(seconds);
  };
  return { ...parts, mended, rotate };
}

describe("a target that an action broke", () => {
  test("has a start paced by minInterval, shown in STATUS", async () => {
    const { rotate, action, count, clock } = fragile({ minInterval: 60 });
    await rotate(20);
    await rotate();
    expect(action.status).toBe("start of app.service in 40 s (paced)");
    expect(count(revived)).toBe(0);
    await clock.advance(29);
    expect(count(revived)).toBe(0);
    await clock.advance(2);
    expect(count(revived)).toBe(1);
  });

  test("shows its start in progress, and the log says when it is done", async () => {
    const { rotate, action, systemd, mended, clock, log } = fragile();
    await rotate();
    mended.isGood = true;
    systemd.jobTime = 20;
    await rotate();
    expect(action.status).toBe("start of app.service is in progress");
    await clock.advance(20);
    expect(action.status).toBeUndefined();
    expect(log.at("info")).toEqual(["app.service: start done"]);
  });

  test("is not started a fourth time in a row after it ran for less than a minute", async () => {
    const { rotate, count, systemd, mended } = fragile();
    for (let more = 0; more < 4; more += 1) await rotate();
    expect(count(revived)).toBe(3);
    mended.isGood = true;
    systemd.start();
    await rotate(20);
    mended.isGood = false;
    await rotate();
    await rotate();
    expect(count(revived)).toBe(3);
  });

  test("is started again after it ran for a minute", async () => {
    const { rotate, count, systemd, mended, clock } = fragile();
    for (let more = 0; more < 4; more += 1) await rotate();
    mended.isGood = true;
    systemd.start();
    await clock.advance(70);
    mended.isGood = false;
    await rotate();
    await rotate();
    expect(count(revived)).toBe(4);
  });

  test("failed by itself if it did not run before either, and is not revived", async () => {
    const { rotate, count, clock } = fragile({}, { activeState: "activating", subState: "start" });
    await rotate(100);
    expect(count("restart app.service")).toBe(1);
    await rotate();
    await clock.advance(60);
    expect(count(revived)).toBe(0);
  });

  test("a broken target counts as told, so old leases may end", async () => {
    const { rotate, action } = fragile();
    await rotate();
    expect(action.status).toBe("app.service failed after the restart");
    expect(action.told).toBe(true);
  });
});

describe("a stopping sidecar", () => {
  test("does not count a target as broken that was stopped after an action", async () => {
    const { publish, clock, systemd, action } = runningTarget();
    publish();
    await clock.advance(5);
    systemd.fail();
    systemd.state = { ...systemd.state, activeState: "inactive", subState: "dead" };
    expect(await action.brokenNow(never)).toBeUndefined();
    systemd.fail();
    expect(await action.brokenNow(never)).toEqual({ hasNewer: false, hasJob: false });
  });

  test("does not count a target as broken that failed because a stop killed one of its commands", async () => {
    const { rotate, action, systemd } = fragile();
    await rotate();
    systemd.state = { ...systemd.state, isStopped: true };
    expect(await action.brokenNow(never)).toBeUndefined();
  });

  test.each([
    ["no action was ever done", 0, 0],
    ["the last action is minutes ago", 1, 130],
  ])("where %s, does not even ask systemd: a stop does not wait for its answer", async (_, rotations, seconds) => {
    const { publish, clock, systemd, action } = runningTarget();
    for (let rotation = 0; rotation < rotations; rotation += 1) publish();
    await clock.advance(seconds);
    let asked = 0;
    systemd.show = () => {
      asked += 1;
      return Promise.resolve(undefined);
    };
    expect(await action.brokenNow(never)).toBeUndefined();
    expect(asked).toBe(0);
  });

  test("starts the target again for secrets newer than those that broke it", async () => {
    const { publish, rotate, action } = fragile();
    await rotate();
    expect(await action.brokenNow(never)).toEqual({ hasNewer: false, hasJob: false });
    publish();
    expect(await action.brokenNow(never)).toEqual({ hasNewer: true, hasJob: false });
  });

  test.each([
    ["at the last of five looks", 4, { hasNewer: false, hasJob: false }],
    ["never", 5, undefined],
  ])("when systemd answers %s, waits for two seconds at most", async (_, silent, found) => {
    const { rotate, action, systemd, clock } = fragile();
    await rotate();
    const show = systemd.show.bind(systemd);
    let asked = 0;
    systemd.show = () => {
      asked += 1;
      return asked > silent ? show() : Promise.resolve(undefined);
    };
    let ended = false;
    const looking = action.brokenNow(never).finally(() => (ended = true));
    await clock.advance(1.9);
    expect(ended).toBe(false);
    await clock.advance(0.1);
    expect(ended).toBe(true);
    expect(await looking).toEqual(found);
    expect(asked).toBe(5);
  });

  test("does not blame an action on a target that was only starting", async () => {
    const { rotate, action, systemd, clock } = fragile({}, { activeState: "activating", subState: "start" });
    await rotate(95);
    systemd.fail();
    await clock.advance(1);
    expect(await action.brokenNow(never)).toBeUndefined();
  });
});
