/** What became of a target after an action: which failure counts as the action's doing, and what is told of it. */
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
  test("its start is paced by minInterval, and shows in STATUS", async () => {
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

  test("its start shows while it is under way, and is said when it is done", async () => {
    const { rotate, action, systemd, mended, clock, log } = fragile();
    await rotate();
    mended.isGood = true;
    systemd.jobTime = 20;
    await rotate();
    expect(action.status).toBe("start of app.service is under way");
    await clock.advance(20);
    expect(action.status).toBeUndefined();
    expect(log.at("info")).toEqual(["app.service: start done"]);
  });

  test("that runs for less than a minute in between is not started for the fourth time in a row", async () => {
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

  test("that ran for a minute since is helped again", async () => {
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

  test("while it did not run before either, has failed by itself: it is not revived", async () => {
    const { rotate, count, clock } = fragile({}, { activeState: "activating", subState: "start" });
    await rotate(100);
    expect(count("restart app.service")).toBe(1);
    await rotate();
    await clock.advance(60);
    expect(count(revived)).toBe(0);
  });

  test("has the newest set all the same, so old leases may end", async () => {
    const { rotate, action } = fragile();
    await rotate();
    expect(action.status).toBe("app.service failed after the restart");
    expect(action.told).toBe(true);
  });
});

describe("what a sidecar that is stopped finds", () => {
  test("a target that was stopped after an action is not broken", async () => {
    const { publish, clock, systemd, action } = runningTarget();
    publish();
    await clock.advance(5);
    systemd.fail();
    systemd.state = { ...systemd.state, activeState: "inactive", subState: "dead" };
    expect(await action.brokenNow(never)).toBeUndefined();
    systemd.fail();
    expect(await action.brokenNow(never)).toEqual({ hasNewer: false, hasJob: false });
  });

  test.each([
    ["no action was ever done", 0, 0],
    ["the last action is minutes ago", 1, 130],
  ])("where %s, systemd is not even asked: a stop does not wait for its answer", async (_, rotations, seconds) => {
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

  test("newer secrets than those that broke it are worth another start", async () => {
    const { publish, rotate, action } = fragile();
    await rotate();
    expect(await action.brokenNow(never)).toEqual({ hasNewer: false, hasJob: false });
    publish();
    expect(await action.brokenNow(never)).toEqual({ hasNewer: true, hasJob: false });
  });

  test.each([
    ["at the last of five looks", 4, { hasNewer: false, hasJob: false }],
    ["never", 5, undefined],
  ])("systemd answers %s: a stop waits for two seconds, no longer", async (_, silent, found) => {
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

  test("an action on a target that was only starting is not what broke it", async () => {
    const { rotate, action, systemd, clock } = fragile({}, { activeState: "activating", subState: "start" });
    await rotate(95);
    systemd.fail();
    await clock.advance(1);
    expect(await action.brokenNow(never)).toBeUndefined();
  });
});

describe("who has been told of the newest set", () => {
  test.each([
    ["has started since", { leftInactiveAt: Infinity }, true],
    ["has failed by itself", { activeState: "failed" }, true],
    ["is not running", { activeState: "inactive" }, true],
    ["does not exist", { loaded: false }, false],
    ["is a oneshot in the middle of its work", { type: "oneshot", activeState: "activating" }, false],
    ["is a oneshot", { type: "oneshot" }, false],
    ["was restarted", {}, true],
  ])("a target that %s", async (_, state, told) => {
    const { action, clock, publish } = runningTarget(state);
    publish();
    await clock.advance(5);
    expect(action.idle).toBe(true);
    expect(action.told).toBe(told);
  });

  test.each([
    [{ loaded: false }, "warn", "does not exist: nobody to tell of the new secrets"],
    [{ leftInactiveAt: Infinity }, "notice", "started since, with the new secrets"],
    [{ activeState: "inactive" }, "debug", "is not running; the new secrets are there for its next start"],
    [{ type: "oneshot" }, "notice", "is a oneshot service: not touched, its next run has the new secrets"],
    [
      { refusesRestart: true },
      "warn",
      "refuses to be restarted (RefuseManualStart= or RefuseManualStop=): the new secrets are there for its next start; take that setting away, or choose another action",
    ],
  ] as const)("with %j an operator is told so", async (state, level, text) => {
    const { publish, clock, log } = runningTarget(state);
    publish();
    await clock.advance(5);
    expect(log.at(level)).toEqual([`app.service ${text}`]);
  });
});

describe("a target on its way", () => {
  test("that reads the secrets before its main process starts gets the action", async () => {
    const { publish, clock, systemd, count } = runningTarget({ activeState: "activating", subState: "start-pre" });
    publish();
    await clock.advance(5);
    systemd.state = { ...systemd.state, activeState: "active", subState: "running", mainStartedAt: clock.monotonic() };
    await clock.advance(5);
    expect(count("restart app.service")).toBe(1);
  });

  test.each([
    ["is being stopped", { activeState: "deactivating", subState: "stop-sigterm" }],
    ["is a oneshot that remains", { activeState: "activating", type: "oneshot", remainAfterExit: true }],
  ])("that %s for minutes is not disturbed", async (_, state) => {
    const { publish, clock, systemd } = runningTarget(state);
    publish();
    await clock.advance(300);
    expect(systemd.jobs).toEqual([]);
  });

  test("for longer than a minute and a half gets the action not before minInterval allows it", async () => {
    const { publish, clock, systemd, count } = runningTarget({}, { minInterval: 300 });
    publish();
    await clock.advance(10);
    systemd.state = { ...systemd.state, activeState: "activating", subState: "start" };
    publish();
    await clock.advance(280);
    expect(count("restart app.service")).toBe(1);
    await clock.advance(20);
    expect(count("restart app.service")).toBe(2);
  });
});

describe("how the action ended", () => {
  test("under way and done, it is said", async () => {
    const { publish, clock, systemd, action, log } = runningTarget();
    systemd.jobTime = 5;
    publish();
    await clock.advance(1);
    expect(action.status).toBe("restart of app.service is under way");
    await clock.advance(5);
    expect(log.at("info")).toEqual(["app.service: restart done"]);
  });

  test("a target that was started all the same is not restarted again, whatever systemctl said", async () => {
    const { publish, clock, systemd, count, action } = runningTarget();
    const restart = systemd.restart.bind(systemd);
    systemd.restart = async (unit, signal) => {
      await restart(unit, signal);
      return { ok: false, detail: "systemctl ended by SIGKILL" };
    };
    publish();
    await clock.advance(60);
    expect(count("restart app.service")).toBe(1);
    expect(action.idle).toBe(true);
  });

  test.each([
    ["done", true, 1],
    ["refused", false, 2],
  ])("%s, when systemd does not answer what the target does now", async (_, ok, restarts) => {
    const { publish, clock, systemd, count, action } = runningTarget();
    const restart = systemd.restart.bind(systemd);
    systemd.restart = async (unit, signal) => {
      systemd.answers = false;
      if (ok) return await restart(unit, signal);
      systemd.jobs.push({ what: "restart app.service", at: 0 });
      systemd.restart = restart;
      return { ok, detail: "busy" };
    };
    publish();
    await clock.advance(1);
    systemd.answers = true;
    await clock.advance(60);
    expect(count("restart app.service")).toBe(restarts);
    expect(action.idle).toBe(true);
    expect(action.told).toBe(true);
  });
});

test("a signal starts nothing: neither the start limit nor RefuseManualStart= holds it up", async () => {
  const limits = { startLimitBurst: 1, refusesRestart: true, canReload: false };
  const { publish, clock, count } = runningTarget(limits, { action: "signal", signal: "SIGUSR1", minInterval: 0 });
  for (let rotation = 0; rotation < 5; rotation += 1) {
    publish();
    await clock.advance(0.1);
  }
  expect(count("SIGUSR1 app.service")).toBe(5);
});
