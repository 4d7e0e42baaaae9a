import { describe, expect, test } from "vitest";
import type { UnitState } from "../../../src/systemd/systemctl.ts";
import { settled } from "../fakes.ts";
import { runningTarget, takeAlong } from "./running-target.ts";

let stop = new AbortController();
let running: Promise<void> = Promise.resolve();

function target(...given: Parameters<typeof runningTarget>) {
  const parts = runningTarget(...given);
  ({ stop, running } = parts);
  return parts;
}

/** The most starts in any interval of this many seconds. */
function densest(starts: readonly number[], interval: number): number {
  return Math.max(...starts.map((from) => starts.filter((at) => at >= from && at < from + interval).length));
}

describe("pacing", () => {
  test.each([
    { startLimitInterval: 10, startLimitBurst: 5, allowed: 4 },
    { startLimitInterval: 60, startLimitBurst: 3, allowed: 2 },
    { startLimitInterval: 10, startLimitBurst: 2, allowed: 1 },
    { startLimitInterval: 10, startLimitBurst: 1, allowed: 1 },
  ])(
    "100 rotations in 10 s never bring a target to $startLimitBurst starts in $startLimitInterval s",
    async (limit) => {
      const { clock, systemd, publish, action } = target(limit, { minInterval: 0 });
      let last = 0;
      for (let rotation = 0; rotation < 100; rotation += 1) {
        publish();
        last = clock.monotonic();
        await clock.advance(0.1);
      }
      await clock.advance(180);
      expect(densest(systemd.starts, limit.startLimitInterval)).toBe(limit.allowed);
      expect(systemd.state.activeState).toBe("active");
      // The last set is the one that it runs with.
      expect(systemd.state.leftInactiveAt).toBeGreaterThanOrEqual(last);
      expect(action.idle).toBe(true);
    },
  );

  test("counts the target's own starts: a crash loop and rotations together stay below the limit", async () => {
    const { clock, systemd, publish } = target({}, { minInterval: 0 });
    for (let round = 0; round < 40; round += 1) {
      if (round % 12 === 0) systemd.start();
      publish();
      await clock.advance(1);
    }
    expect(systemd.state.activeState).toBe("active");
    expect(systemd.starts.length).toBeGreaterThan(8);
  });

  test.each([
    ["before the first look", false],
    ["between two looks", true],
  ])("automatic restarts %s count", async (_, looked) => {
    const { clock, systemd, publish } = target({ startLimitInterval: 10, startLimitBurst: 5 }, { minInterval: 0 });
    if (looked) {
      publish();
      await clock.advance(60);
    }
    const before = systemd.starts.length;
    for (let restart = 0; restart < 4; restart += 1) {
      await clock.advance(0.1);
      systemd.start();
    }
    systemd.state = { ...systemd.state, restarts: 4 };
    await clock.advance(0.1);
    publish();
    await clock.advance(9);
    // With ours it would be at its limit, with none in reserve.
    expect(systemd.starts.length - before).toBe(4);
    await clock.advance(5);
    expect(systemd.starts.length - before).toBe(5);
    expect(systemd.state.activeState).toBe("active");
  });

  test("counts the starts that an earlier life has seen, except those in the future", async () => {
    const { clock, systemd, publish, action } = target({ startLimitInterval: 60 }, { minInterval: 0 });
    const now = clock.monotonic();
    action.remember([now - 70e6, now - 3e6, now - 2e6, now - 1e6, now + 9e6]);
    systemd.state = { ...systemd.state, leftInactiveAt: now - 1e6, mainStartedAt: now - 1e6 };
    publish();
    await clock.advance(0.1);
    // One more is below 5 by one, and a second is not.
    expect(systemd.starts).toHaveLength(1);
    publish();
    await clock.advance(50);
    expect(systemd.starts).toHaveLength(1);
    await clock.advance(10);
    expect(systemd.starts).toHaveLength(2);
    expect(action.starts).toHaveLength(5);
  });

  test("keeps minInterval between actions", async () => {
    const { clock, systemd, publish } = target({ startLimitBurst: 0 }, { minInterval: 7 });
    for (let rotation = 0; rotation < 30; rotation += 1) {
      publish();
      await clock.advance(1);
    }
    await clock.advance(10);
    expect(systemd.starts.length).toBeGreaterThan(3);
    expect(densest(systemd.starts, 6.99)).toBe(1);
  });

  test("does not wait without a start limit", async () => {
    const { clock, systemd, publish } = target({ startLimitInterval: 0 }, { minInterval: 0 });
    for (let rotation = 0; rotation < 20; rotation += 1) {
      publish();
      await clock.advance(0.1);
    }
    expect(systemd.starts).toHaveLength(20);
  });

  test("STATUS shows a wait", async () => {
    const { clock, publish, action } = target();
    publish();
    await clock.advance(1);
    publish();
    await clock.advance(0.1);
    expect(action.status).toBe("restart of app.service in 2 s (paced)");
    await clock.advance(3);
    expect(action.status).toBeUndefined();
  });

  test("a start by hand ends a long wait within half a minute", async () => {
    const { clock, systemd, publish, action } = target({ startLimitInterval: 3600, startLimitBurst: 3 });
    publish();
    await clock.advance(1);
    expect(systemd.starts).toHaveLength(1);
    publish();
    await clock.advance(10);
    expect(action.status).toMatch(/^restart of app\.service in 3\d{3} s \(paced\)$/);
    systemd.state = { ...systemd.state, leftInactiveAt: clock.monotonic(), mainStartedAt: clock.monotonic() };
    await clock.advance(31);
    expect(action.status).toBeUndefined();
    expect(action.idle).toBe(true);
  });

  test("a start limit without an end gets words, and no number", async () => {
    const { clock, systemd, publish, action } = target({ startLimitInterval: Infinity, startLimitBurst: 3 });
    publish();
    await clock.advance(1);
    publish();
    await clock.advance(600);
    expect(systemd.starts).toHaveLength(1);
    expect(action.status).toBe(
      "restart of app.service waits: StartLimitIntervalSec=infinity leaves no start for it: restart it by hand",
    );
    systemd.state = { ...systemd.state, leftInactiveAt: clock.monotonic(), mainStartedAt: clock.monotonic() };
    await clock.advance(31);
    expect(action.idle).toBe(true);
  });

  test("splay spreads a fleet, and one action serves everything published meanwhile", async () => {
    const { clock, systemd, publish, action } = target({}, { splay: 60 }, 0.5);
    publish();
    await clock.advance(29);
    expect(action.status).toBe("restart of app.service in 30 s (splay)");
    expect(systemd.jobs).toEqual([]);
    publish();
    await clock.advance(2);
    expect(systemd.starts).toHaveLength(1);
    expect(action.idle).toBe(true);
  });

  test("a reload starts nothing and ignores the start limit, unless the target cannot reload", async () => {
    const able = target({ canReload: true, startLimitBurst: 1 }, { action: "reload", minInterval: 0 });
    for (let rotation = 0; rotation < 5; rotation += 1) {
      able.publish();
      await able.clock.advance(0.1);
    }
    expect(able.count("reload app.service")).toBe(5);
    stop.abort();
    const unable = target({ canReload: false, startLimitBurst: 2 }, { action: "reload", minInterval: 0 });
    for (let rotation = 0; rotation < 20; rotation += 1) {
      unable.publish();
      await unable.clock.advance(0.1);
    }
    expect(unable.count("restart app.service")).toBe(1);
  });

  test("acts after a while on a target that stays activating, at its usual pace", async () => {
    const { clock, systemd, publish, log } = target({ activeState: "activating", subState: "start" });
    publish();
    await clock.advance(85);
    expect(systemd.jobs).toEqual([]);
    for (let refusal = 0; refusal < 1000; refusal += 1) systemd.refusals.push({ ok: false, detail: "timeout" });
    await clock.advance(60);
    // minInterval alone would allow 20.
    expect(systemd.jobs).toHaveLength(1);
    expect(log.at("warn")).toEqual(["app.service: restart did not work: timeout; trying again"]);
  });
});

describe("a target in another state", () => {
  test.each([
    ["failed", "failed", "app.service has failed and stays so; the new secrets are there for its next start"],
    ["inactive", "dead", undefined],
  ])("%s: leaves it alone", async (activeState, subState, status) => {
    const { clock, systemd, publish, action, settledCount } = target({ activeState, subState });
    publish();
    await clock.advance(60);
    expect(systemd.jobs).toEqual([]);
    expect(action.status).toBe(status);
    expect(action.idle).toBe(true);
    expect(settledCount()).toBe(1);
  });

  test("reports a missing unit once, and does not wait for it", async () => {
    const { clock, systemd, publish, log } = target({ loaded: false, activeState: "inactive" });
    publish();
    await clock.advance(60);
    expect(systemd.jobs).toEqual([]);
    expect(log.at("warn")).toEqual(["app.service does not exist, so nothing can use the new secrets"]);
  });

  test.each(["active", "activating"])("does not kill a oneshot that is %s in the middle of its work", async (state) => {
    const { clock, systemd, publish, action } = target({ type: "oneshot", activeState: state, subState: "start" });
    publish();
    await clock.advance(200);
    expect(systemd.jobs).toEqual([]);
    expect(action.idle).toBe(true);
  });

  test("restarts a oneshot with RemainAfterExit=", async () => {
    const { clock, systemd, publish } = target({ type: "oneshot", remainAfterExit: true });
    publish();
    await clock.advance(1);
    expect(systemd.starts).toHaveLength(1);
  });

  test("activating: waits, then acts, because it may have read the old set", async () => {
    const { clock, systemd, publish, action } = target({ activeState: "activating", subState: "start-pre" });
    publish();
    await clock.advance(20);
    expect(systemd.jobs).toEqual([]);
    expect(action.status).toBe("restart of app.service waits: it is activating");
    systemd.state = { ...systemd.state, activeState: "active" };
    await clock.advance(1);
    expect(systemd.starts).toHaveLength(1);
  });

  test.each([
    ["activating", "auto-restart"],
    ["deactivating", "stop-sigterm"],
  ])(
    "%s (%s): its own next start reads the new set, and the sidecar adds no second one",
    async (activeState, subState) => {
      const { clock, systemd, publish, action, settledCount } = target({ activeState, subState });
      publish();
      await clock.advance(2);
      expect(systemd.jobs).toEqual([]);
      // An automatic restart need not leave the unit inactive in between.
      systemd.state = { ...systemd.state, activeState: "active", mainStartedAt: clock.monotonic() };
      await clock.advance(5);
      expect(systemd.jobs).toEqual([]);
      expect(action.idle).toBe(true);
      expect(settledCount()).toBe(1);
    },
  );

  test("does not restart a target that somebody started while the action waited", async () => {
    const { clock, systemd, publish, action } = target();
    publish();
    await clock.advance(0.5);
    publish();
    await clock.advance(0.5);
    systemd.start();
    const before = systemd.starts.length;
    await clock.advance(20);
    expect(systemd.starts).toHaveLength(before);
    expect(action.idle).toBe(true);
  });

  test.each([
    ["after it, and so with the new secrets", 1, 2, 0],
    ["before it, and so perhaps with the old secrets", -2, 1, 1],
    ["after it, and is not up again", 1, -2, 1],
  ])(
    "handles a run that ended while the action waits, without being inactive, started again %s",
    async (_, ended, started, restarts) => {
      const { clock, systemd, publish, count } = target({}, { minInterval: 30 });
      publish();
      await clock.advance(10);
      publish();
      const published = clock.monotonic();
      await clock.advance(10);
      systemd.state = {
        ...systemd.state,
        leftActiveAt: published + ended * 1e6,
        mainStartedAt: published + started * 1e6,
      };
      const before = count("restart app.service");
      await clock.advance(30);
      expect(count("restart app.service") - before).toBe(restarts);
    },
  );

  test("asks again until systemd answers", async () => {
    const { clock, systemd, publish, log } = target();
    systemd.answers = false;
    publish();
    await clock.advance(100);
    expect(log.at("warn")).toEqual(["app.service: restart did not work: systemd does not answer; trying again"]);
    systemd.answers = true;
    await clock.advance(40);
    expect(systemd.starts).toHaveLength(1);
  });
});

describe("the job", () => {
  test("restart, reload and signal each send their own request to systemd", async () => {
    for (const [onChange, job] of [
      [{ action: "restart" }, "restart app.service"],
      [{ action: "reload" }, "reload app.service"],
      [{ action: "signal", signal: "SIGUSR1" }, "SIGUSR1 app.service"],
    ] as const) {
      const { clock, publish, systemd, log } = target({ canReload: true }, onChange);
      publish();
      await clock.advance(1);
      expect(systemd.jobs.filter(({ what }) => what !== "start").map(({ what }) => what)).toEqual([job]);
      expect(log.at("notice")).toEqual([`app.service: ${onChange.action} for the new secrets`]);
      stop.abort();
    }
  });

  test("retries a failed action, and reports it once", async () => {
    const { clock, systemd, publish, log, action, count } = target();
    systemd.refusals.push({ ok: false, detail: "Transaction is destructive" }, { ok: false, detail: "busy" });
    publish();
    await clock.advance(60);
    expect(count("restart app.service")).toBe(3);
    expect(log.at("warn")).toEqual(["app.service: restart did not work: Transaction is destructive; trying again"]);
    expect(log.at("notice")).toEqual(["app.service: restart for the new secrets"]);
    expect(action.idle).toBe(true);
    expect(action.status).toBeUndefined();
  });

  test("does not restart for ever a target that fails with the new secrets, and informs the operator", async () => {
    const { clock, systemd, publish, log, action } = target({ startLimitBurst: 0 });
    systemd.restart = () => {
      systemd.jobs.push({ what: "restart", at: 0 });
      systemd.state = { ...systemd.state, activeState: "failed" };
      return Promise.resolve({ ok: false, detail: "Job failed" });
    };
    publish();
    await clock.advance(300);
    expect(systemd.jobs).toHaveLength(1);
    expect(log.at("error")).toEqual(["app.service failed after the restart (see systemctl status app.service)"]);
    expect(action.status).toBe("app.service failed after the restart");
  });

  test("starts a target that an action broke again when newer secrets come, at most three times in a row", async () => {
    const { clock, systemd, publish, log, count } = target();
    let isGood = false;
    const restart = systemd.restart.bind(systemd);
    systemd.restart = async (unit, signal) => {
      const result = await restart(unit, signal);
      // Its own restarts end at the start limit.
      systemd.fail();
      return result;
    };
    const revive = systemd.revive.bind(systemd);
    systemd.revive = async (unit, signal) => {
      const result = await revive(unit, signal);
      if (!isGood) systemd.fail();
      return result;
    };
    publish();
    await clock.advance(10);
    expect(count("revive app.service")).toBe(0);
    publish();
    publish();
    await clock.advance(10);
    expect(count("revive app.service")).toBe(1);
    expect(log.at("notice").at(-1)).toBe(
      "app.service failed after the restart: started again, newer secrets are there",
    );
    for (let more = 0; more < 5; more += 1) {
      publish();
      await clock.advance(10);
    }
    expect(count("revive app.service")).toBe(3);
    expect(log.at("warn").at(-1)).toContain("has failed and stays so");
    isGood = true;
    systemd.start();
    await clock.advance(100);
    publish();
    await clock.advance(10);
    publish();
    await clock.advance(10);
    expect(count("revive app.service")).toBe(4);
    expect(systemd.state.activeState).toBe("active");
  });

  test("does not revive a target that failed by itself long after an action", async () => {
    const { clock, systemd, publish, count } = target();
    publish();
    await clock.advance(100);
    systemd.fail();
    publish();
    await clock.advance(100);
    expect(count("revive app.service")).toBe(0);
  });

  test.each([
    ["its ExecCondition=", "its ExecCondition= is not met"],
    [undefined, "it has ended, or somebody stopped it"],
  ])(
    "informs the operator about a target that is down after its restart without a failure (%s)",
    async (unmet, why) => {
      const { clock, systemd, publish, log, action, settledCount } = target();
      systemd.restart = () => {
        systemd.state = { ...systemd.state, activeState: "inactive", subState: "dead", unmet };
        return Promise.resolve({ ok: true, detail: "" });
      };
      publish();
      await clock.advance(60);
      expect(action.status).toBe(`app.service is down since the restart: ${why}`);
      expect(log.at("warn")).toEqual([`app.service is down since the restart: ${why}`]);
      expect(log.at("info")).toEqual([]);
      expect(settledCount()).toBe(1);
    },
  );

  test("reports why a target is down even if it stops the sidecar, because its condition fails", async () => {
    const { clock, systemd, publish, log, action } = target();
    takeAlong(systemd, { activeState: "inactive", subState: "dead", unmet: "its ExecCondition=" });
    publish();
    await clock.advance(1);
    stop.abort();
    await running;
    expect(log.at("warn")).toEqual(["app.service is down since the restart: its ExecCondition= is not met"]);
    expect(action.idle).toBe(false);
  });

  test("does not restart a target that refuses manual restarts, but reloads it", async () => {
    const refusing = { refusesRestart: true, canReload: true };
    const restarted = target(refusing);
    restarted.publish();
    await restarted.clock.advance(300);
    expect(restarted.systemd.jobs).toEqual([]);
    expect(restarted.log.at("notice")).toEqual([]);
    expect(restarted.log.at("warn")).toEqual([`${restarted.action.status}`]);
    expect(restarted.action.status).toMatch(/^app\.service refuses to be restarted \(RefuseManualStart= or /);
    expect(restarted.action.told).toBe(false);
    stop.abort();
    const reloaded = target(refusing, { action: "reload" });
    reloaded.publish();
    await reloaded.clock.advance(5);
    expect(reloaded.count("reload app.service")).toBe(1);
    stop.abort();
    const unable = target({ ...refusing, canReload: false }, { action: "reload" });
    unable.publish();
    await unable.clock.advance(5);
    expect(unable.systemd.jobs).toEqual([]);
  });

  test("a publish during it causes one more", async () => {
    const { clock, systemd, publish, settledCount } = target({}, { minInterval: 0 });
    systemd.jobTime = 5;
    publish();
    await clock.advance(1);
    publish();
    publish();
    expect(settledCount()).toBe(0);
    await clock.advance(60);
    expect(systemd.starts).toHaveLength(2);
    expect(settledCount()).toBe(1);
  });

  test("an earlier answer does not cancel a publish made during the look at the target", async () => {
    const { clock, systemd, publish } = target();
    let answer: ((state: UnitState) => void) | undefined;
    const show = systemd.show.bind(systemd);
    systemd.show = () => new Promise((done) => (answer = done));
    publish();
    await settled();
    const before: UnitState = { ...systemd.state, activeState: "inactive" };
    await clock.advance(1);
    publish();
    systemd.show = show;
    answer?.(before);
    await clock.advance(1);
    expect(systemd.starts).toHaveLength(1);
  });
});

describe("another job of the target comes first", () => {
  const displaced = { ok: false, displaced: true, detail: "Transaction is destructive" };

  test("a stop that wins: no further action, no warning", async () => {
    const { clock, systemd, publish, action, count, log } = target();
    systemd.refusals.push(displaced);
    publish();
    await settled();
    systemd.state = { ...systemd.state, activeState: "inactive", subState: "dead" };
    await clock.advance(30);
    expect(count("restart app.service")).toBe(1);
    expect(systemd.starts).toHaveLength(0);
    expect(action.idle).toBe(true);
    expect(log.at("warn", "error")).toEqual([]);
  });

  test("a stop that kills its ExecReload=, so that it fails: no error, and nobody starts it again", async () => {
    const { clock, systemd, publish, action, log } = target({ canReload: true }, { action: "reload" });
    systemd.refusals.push({ ok: false, displaced: true, detail: "Job for app.service canceled." });
    publish();
    await settled();
    systemd.fail();
    systemd.state = { ...systemd.state, isStopped: true };
    await clock.advance(90);
    expect(systemd.jobs.map(({ what }) => what)).toEqual(["reload app.service"]);
    expect([action.idle, action.counts]).toEqual([true, { done: 0, failed: 0 }]);
    expect(log.at("error")).toEqual([]);
    expect(await action.brokenNow(new AbortController().signal)).toBeUndefined();
  });

  test("a cancelled stop: the action is done, logged once, without waiting for minInterval", async () => {
    const { clock, systemd, publish, action, log } = target({}, { minInterval: 300 });
    systemd.refusals.push(displaced, displaced, displaced);
    publish();
    await clock.advance(30);
    expect(systemd.starts).toHaveLength(1);
    expect(action.idle).toBe(true);
    expect(log.at("notice")).toEqual(["app.service: restart for the new secrets"]);
    expect(log.at("warn", "error")).toEqual([]);
  });

  test("looks at a steady pace meanwhile", async () => {
    const { clock, systemd, publish, count } = target();
    systemd.refusals.push(...Array.from({ length: 1000 }, () => displaced));
    publish();
    await clock.advance(90);
    expect(count("restart app.service")).toBeGreaterThan(15);
    expect(count("restart app.service")).toBeLessThan(60);
  });
});

describe("stop", () => {
  test.each([
    ["idle", {}, {}, 0],
    ["during splay", {}, { splay: 600 }, 1],
    ["while paced", { startLimitBurst: 1, leftInactiveAt: 5_000_000_000 - 1e6 }, {}, 1],
    ["while the target is activating", { activeState: "activating" }, {}, 1],
  ] as const)("%s: ends at once and leaves no timer", async (_, state, onChange, requests) => {
    const { clock, publish, settledCount } = target(state, onChange);
    if (requests > 0) publish();
    await clock.advance(0.3);
    stop.abort();
    await running;
    await settled();
    expect(clock.sleepers).toBe(0);
    expect(settledCount()).toBe(0);
  });

  test("during a question to systemd: a missing answer is not a failure", async () => {
    const { clock, systemd, publish, log, action } = target();
    systemd.show = () =>
      new Promise((done) => {
        stop.signal.addEventListener("abort", () => {
          done(undefined);
        });
      });
    publish();
    await clock.advance(1);
    stop.abort();
    await running;
    expect(log.lines).toEqual([]);
    expect(action.status).toBeUndefined();
  });

  test("during a job: does not wait for a target that may itself wait for us, and the action stays due", async () => {
    const { clock, systemd, publish, settledCount, action, log } = target();
    systemd.jobTime = 90;
    publish();
    await clock.advance(1);
    stop.abort();
    await running;
    expect(action.idle).toBe(false);
    expect(settledCount()).toBe(0);
    expect(log.at("warn", "error")).toEqual([]);
    expect(clock.sleepers).toBe(0);
  });
});
