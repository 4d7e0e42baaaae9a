import { describe, expect, test } from "vitest";
import { job, parseShow, parseTimeSpan } from "../../../src/systemd/systemctl.ts";

test.each([
  ["10s", 10],
  ["1min 30s", 90],
  ["500ms", 0.5],
  ["1h 2min 3s 4ms 5us", 3723.004005],
  ["5.5s", 5.5],
  ["1d 2h", 93_600],
  ["1w 1d", 691_200],
  ["2month 3d", 5_518_800],
  ["1y", 31_557_600],
  ["0", 0],
  ["10000000", 10],
  ["infinity", Infinity],
  ["[not set]", 0],
  ["", 0],
])("systemctl show's %j is %d s", (span, seconds) => {
  expect(parseTimeSpan(span)).toBeCloseTo(seconds, 6);
});

describe("systemctl show", () => {
  // As systemd 252 prints it.
  const shown = `Type=notify
RemainAfterExit=no
ExecMainStartTimestampMonotonic=7654321
NRestarts=3
LoadState=loaded
ActiveState=active
SubState=running
CanReload=yes
InactiveExitTimestampMonotonic=7654000
StartLimitIntervalUSec=1min 40s
StartLimitBurst=5
`;
  test("of a running service", () => {
    expect(parseShow(shown)).toEqual({
      loaded: true,
      activeState: "active",
      subState: "running",
      type: "notify",
      remainAfterExit: false,
      canReload: true,
      leftInactiveAt: 7_654_000,
      mainStartedAt: 7_654_321,
      restarts: 3,
      startLimitInterval: 100,
      startLimitBurst: 5,
    });
  });
  test("of a unit that does not exist (no service properties)", () => {
    expect(
      parseShow("LoadState=not-found\nActiveState=inactive\nSubState=dead\nInactiveExitTimestampMonotonic=0\n"),
    ).toMatchObject({
      loaded: false,
      activeState: "inactive",
      startLimitBurst: 0,
      leftInactiveAt: 0,
    });
  });
  test.each(["", "Failed to connect to bus", "\n\n=\n"])("an answer that is none: %j", (answer) => {
    expect(parseShow(answer)).toBeUndefined();
  });
});

describe("the end of a job", () => {
  test.each([
    [
      "a stop is queued",
      "Failed to try-restart app.service: Transaction for app.service/restart is destructive (app.service has 'stop' job queued, but 'restart' is included in transaction).\nSee system logs and 'systemctl status app.service' for details.\n",
      true,
    ],
    ["a stop took its place", "Job for app.service canceled.\n", true],
    ["the service fails", "Job for app.service failed because the control process exited with error code.\n", false],
    [
      "a person may not stop it",
      "Failed to try-restart app.service: Operation refused, unit app.service may be requested by dependency only (it is configured to refuse manual start/stop).\n",
      false,
    ],
  ])("%s", (_, stderr, displaced) => {
    expect(job({ end: "exit", code: 1, stdout: "", stderr })).toMatchObject({ ok: false, displaced });
  });
});
