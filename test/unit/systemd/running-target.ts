import { onTestFinished } from "vitest";
import { OneTarget } from "../../../src/systemd/one-target.ts";
import type { OnChangeConfig } from "../../../src/config/config.ts";
import type { UnitState } from "../../../src/systemd/systemctl.ts";
import { FakeClock, FakeSystemd, recordingLog } from "../fakes.ts";

const restartAlways: OnChangeConfig = {
  action: "restart",
  signal: null,
  settle: 0.5,
  minInterval: 3,
  splay: 0,
  verify: null,
};

/**
 * A restart takes the sidecar along: the target is in `state` when the sidecar stops, and systemctl is killed with it.
 */
export function takeAlong(systemd: FakeSystemd, state: Partial<UnitState> = {}): void {
  systemd.restart = (_, signal) => {
    systemd.state = { ...systemd.state, ...state };
    return new Promise((done) => {
      signal.addEventListener("abort", () => {
        done({ ok: false, detail: "systemctl was killed by SIGKILL" });
      });
    });
  };
}

/** The action of one target in this state, on a fake systemd and the test's own clock, until the test ends. */
export function runningTarget(state: Partial<UnitState> = {}, onChange: Partial<OnChangeConfig> = {}, random = 0.5) {
  const stop = new AbortController();
  const clock = new FakeClock();
  const systemd = new FakeSystemd(clock, state);
  const log = recordingLog();
  const statuses: (string | undefined)[] = [];
  let settledCount = 0;
  const action: OneTarget = new OneTarget("app.service", {
    onChange: { ...restartAlways, ...onChange },
    systemd,
    clock,
    random: () => random,
    log,
    changed: () => statuses.push(action.status),
  });
  const running = action.run(stop.signal, () => {
    settledCount += 1;
  });
  onTestFinished(async () => {
    stop.abort();
    await running;
  });
  const publish = () => {
    action.request(clock.monotonic());
  };
  const count = (what: string) => systemd.jobs.filter((job) => job.what === what).length;
  const counts = { count, settledCount: () => settledCount };
  return { clock, systemd, log, statuses, action, publish, stop, running, ...counts };
}
