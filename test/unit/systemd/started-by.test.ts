/** A daemon that somebody starts in a shell leaves secrets behind where it takes itself for a unit's; and the other way round. */
import { expect, test } from "vitest";
import { isStartedBySystemd } from "../../../src/systemd/started-by.ts";

test.each([
  ["a unit's main process", { INVOCATION_ID: "x", SYSTEMD_EXEC_PID: "7" }, true],
  ["on systemd before 248", { INVOCATION_ID: "x" }, true],
  ["a script of a unit that does not exec", { INVOCATION_ID: "x", SYSTEMD_EXEC_PID: "6", NOTIFY_SOCKET: "/n" }, true],
  ["a shell of a unit", { INVOCATION_ID: "x", SYSTEMD_EXEC_PID: "6" }, false],
  ["a shell below a unit's shell", { INVOCATION_ID: "x", SYSTEMD_EXEC_PID: "5", NOTIFY_SOCKET: "/n" }, false],
  ["a shell", {}, false],
])("%s", (_, environment, is) => {
  expect(isStartedBySystemd(environment, 7, 6)).toBe(is);
});

test("a process namespace of its own (PrivatePIDs=)", () => {
  expect(isStartedBySystemd({ INVOCATION_ID: "x", SYSTEMD_EXEC_PID: "4711" }, 1, 0)).toBe(true);
});
