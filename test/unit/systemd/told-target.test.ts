/** How an action ends, what a target on its way up gets, and which targets hear of the newest set. */
import { describe, expect, test } from "vitest";
import { runningTarget, takeAlong } from "./running-target.ts";

describe("which targets know the newest set", () => {
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
    [{ loaded: false }, "warn", "does not exist, so nothing can use the new secrets"],
    [{ leftInactiveAt: Infinity }, "notice", "started since, with the new secrets"],
    [{ activeState: "inactive" }, "debug", "is not running; the new secrets are there for its next start"],
    // Between the stop and the start of a restart by hand.
    [
      { activeState: "inactive", hasJob: true },
      "notice",
      "is not running; the new secrets are there for its next start",
    ],
    [{ type: "oneshot" }, "notice", "is a oneshot service: not touched, its next run has the new secrets"],
    [
      { refusesRestart: true },
      "warn",
      "refuses to be restarted (RefuseManualStart= or RefuseManualStop=): the new secrets are there for its next start; remove that setting, or choose another action",
    ],
  ] as const)("informs the operator about %j", async (state, level, text) => {
    const { publish, clock, log } = runningTarget(state);
    publish();
    await clock.advance(5);
    expect(log.at(level)).toEqual([`app.service ${text}`]);
  });
});

describe("a starting target", () => {
  test("gets the action when it reads the secrets before its main process starts", async () => {
    const { publish, clock, systemd, count } = runningTarget({ activeState: "activating", subState: "start-pre" });
    publish();
    await clock.advance(5);
    systemd.state = { ...systemd.state, activeState: "active", subState: "running", mainStartedAt: clock.monotonic() };
    await clock.advance(5);
    expect(count("restart app.service")).toBe(1);
  });

  test.each([
    ["is being stopped", { activeState: "deactivating", subState: "stop-sigterm" }],
    ["is a oneshot with RemainAfterExit=", { activeState: "activating", type: "oneshot", remainAfterExit: true }],
  ])("is left alone when it %s for minutes", async (_, state) => {
    const { publish, clock, systemd } = runningTarget(state);
    publish();
    await clock.advance(300);
    expect(systemd.jobs).toEqual([]);
  });

  test("gets the action after a minute and a half, but not before minInterval allows it", async () => {
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

describe("the end of the action", () => {
  test("is logged, in progress and done", async () => {
    const { publish, clock, systemd, action, log } = runningTarget();
    systemd.jobTime = 5;
    publish();
    await clock.advance(1);
    expect(action.status).toBe("restart of app.service is in progress");
    await clock.advance(5);
    expect(log.at("info")).toEqual(["app.service: restart done"]);
  });

  test("does not restart a target again that was started, whatever systemctl said", async () => {
    const { publish, clock, systemd, count, action } = runningTarget();
    const restart = systemd.restart.bind(systemd);
    systemd.restart = async (unit, signal) => {
      await restart(unit, signal);
      return { ok: false, detail: "systemctl was killed by SIGKILL" };
    };
    publish();
    await clock.advance(60);
    expect(count("restart app.service")).toBe(1);
    expect(action.idle).toBe(true);
  });

  test.each([
    ["done", true, 1],
    ["refused", false, 2],
  ])("%s, when systemd does not tell the target's state now", async (_, ok, restarts) => {
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

describe("while the action is blocked", () => {
  const displaced = { ok: false, displaced: true, detail: "Transaction is destructive" };

  test("STATUS names the job that comes first, and the log does once", async () => {
    const { publish, clock, systemd, action, log } = runningTarget();
    systemd.refusals.push(displaced, displaced, displaced);
    publish();
    await clock.advance(0.1);
    expect(action.status).toBe("restart of app.service waits: another job of it comes first");
    await clock.advance(60);
    expect(log.at("info")).toEqual([
      "restart of app.service waits: another job of the unit comes first, such as a stop",
      "app.service: restart done",
    ]);
  });

  test("STATUS says why, and systemd gets no request for up to a second from the first time on", async () => {
    const { publish, clock, systemd, action, count } = runningTarget({}, { minInterval: 0 }, 0.999);
    for (let refusal = 0; refusal < 100; refusal += 1) systemd.refusals.push({ ok: false, detail: "busy" });
    publish();
    await clock.advance(0.9);
    expect(action.status).toBe("restart of app.service did not work yet: busy");
    expect(count("restart app.service")).toBe(1);
  });

  test("does not send an unchanged STATUS again", async () => {
    const { publish, clock, statuses } = runningTarget({ activeState: "activating" });
    publish();
    await clock.advance(60);
    expect(statuses).toEqual(["restart of app.service waits: it is activating"]);
  });
});

describe("the last message of a sidecar stopped during its action", () => {
  test.each([
    ["a target down without a known reason", { activeState: "inactive" }],
    ["a running target", { activeState: "active", unmet: "its ExecCondition=" }],
    ["no answer of systemd", undefined],
  ])("is absent with %s", async (_, state) => {
    const { publish, clock, systemd, log, stop, running } = runningTarget();
    takeAlong(systemd, state);
    publish();
    await clock.advance(1);
    systemd.answers = state !== undefined;
    stop.abort();
    await running;
    expect(log.at("warn", "error")).toEqual([]);
  });
});

describe("the last message of a sidecar whose systemctl gets the whole unit's SIGTERM", () => {
  const down = { activeState: "inactive", unmet: "its ExecCondition=" };
  const word = "app.service is down since the restart: its ExecCondition= is not met";

  test("comes from the next systemctl when the first is killed", async () => {
    const { publish, clock, systemd, log, stop, running } = runningTarget();
    takeAlong(systemd, down);
    publish();
    await clock.advance(1);
    const show = systemd.show.bind(systemd);
    let killed = 0;
    systemd.show = () => {
      // The question after the action is aborted, the first of the last ones is killed.
      if (killed === 2) return show();
      killed += 1;
      return Promise.resolve(undefined);
    };
    stop.abort();
    await running;
    expect(log.at("warn")).toEqual([word]);
  });

  test("comes even if that one dies before this process gets its signal", async () => {
    const { publish, clock, systemd, log, stop, running } = runningTarget();
    systemd.restart = () => {
      systemd.state = { ...systemd.state, ...down };
      return Promise.resolve({ ok: false, detail: "systemctl was killed by SIGTERM" });
    };
    publish();
    await clock.advance(0.1);
    stop.abort();
    await running;
    expect(log.at("warn").at(-1)).toBe(word);
  });
});

test("the default signal is SIGHUP", async () => {
  const { publish, clock, count } = runningTarget({}, { action: "signal", signal: null });
  publish();
  await clock.advance(1);
  expect(count("SIGHUP app.service")).toBe(1);
});

test("a signal starts nothing, so the start limit and RefuseManualStart= do not block it", async () => {
  const limits = { startLimitBurst: 1, refusesRestart: true, canReload: false };
  const { publish, clock, count } = runningTarget(limits, { action: "signal", signal: "SIGUSR1", minInterval: 0 });
  for (let rotation = 0; rotation < 5; rotation += 1) {
    publish();
    await clock.advance(0.1);
  }
  expect(count("SIGUSR1 app.service")).toBe(5);
});
