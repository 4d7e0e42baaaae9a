/** A daemon from a shell that takes itself for a unit's leaves secrets behind; and the other way round. */
import { expect, test } from "vitest";
import { forgetOtherUnit, isStartedBySystemd } from "../../../src/systemd/started-by-systemd.ts";

test.each([
  ["a unit's main process", { INVOCATION_ID: "x", SYSTEMD_EXEC_PID: "7" }, true],
  ["on systemd before 248", { INVOCATION_ID: "x" }, true],
  ["a unit's script without exec", { INVOCATION_ID: "x", SYSTEMD_EXEC_PID: "6", NOTIFY_SOCKET: "/n" }, true],
  ["a shell of a unit", { INVOCATION_ID: "x", SYSTEMD_EXEC_PID: "6" }, false],
  ["a shell below a unit's shell", { INVOCATION_ID: "x", SYSTEMD_EXEC_PID: "5", NOTIFY_SOCKET: "/n" }, false],
  ["a shell", {}, false],
])("%s", (_, environment, is) => {
  expect(isStartedBySystemd(environment, 7, 6)).toBe(is);
});

test("a main process in its own process namespace (PrivatePIDs=)", () => {
  expect(isStartedBySystemd({ INVOCATION_ID: "x", SYSTEMD_EXEC_PID: "4711" }, 1, 0)).toBe(true);
});

test.each([
  [
    "a unit's main process keeps all",
    { SYSTEMD_EXEC_PID: "7" },
    true,
    ["NOTIFY_SOCKET", "RUNTIME_DIRECTORY", "WATCHDOG_USEC"],
  ],
  ["a terminal inside a unit keeps nothing of that unit", { SYSTEMD_EXEC_PID: "5" }, true, []],
  ["a script deep in a unit says READY=1 for it", { SYSTEMD_EXEC_PID: "5" }, false, ["NOTIFY_SOCKET"]],
])("%s", (_, more, isByHand, kept) => {
  const environment: NodeJS.ProcessEnv = {
    ...{ INVOCATION_ID: "x", NOTIFY_SOCKET: "/n", RUNTIME_DIRECTORY: "/run/other", WATCHDOG_USEC: "1000000", ...more },
  };
  forgetOtherUnit(environment, isByHand, 7);
  expect(
    Object.keys(environment)
      .filter((name) => !/^(INVOCATION_ID|SYSTEMD_EXEC_PID)$/.test(name))
      .sort(),
  ).toEqual(kept);
});
