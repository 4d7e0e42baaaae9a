import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { bySystemdNotify, openNotifier, watchdogPeriod } from "../../../src/systemd/notify.ts";
import { freshDirectory } from "../engine/running-sidecar.ts";

describe("the watchdog", () => {
  test.each([
    [{}, undefined],
    [{ WATCHDOG_USEC: "" }, undefined],
    [{ WATCHDOG_USEC: "x" }, undefined],
    [{ WATCHDOG_USEC: "30000000" }, 15_000],
    [{ WATCHDOG_USEC: "30000000", WATCHDOG_PID: String(process.pid) }, 15_000],
    [{ WATCHDOG_USEC: "30000000", WATCHDOG_PID: "1" }, undefined],
    [{ WATCHDOG_USEC: "1" }, 50],
  ])("serves %j every %s ms", (environment, period) => {
    expect(watchdogPeriod(environment)).toBe(period);
  });
});

test.each([{}, { NOTIFY_SOCKET: "" }])("sends no notification without systemd: %j", async (environment) => {
  const notifier = openNotifier(environment);
  notifier.ready("x");
  notifier.status("x");
  await notifier.flush();
  expect(notifier.how).toBe("none");
});

test("keeps the order through systemd-notify: READY does not overtake a newer status", async () => {
  const directory = freshDirectory();
  const said = join(directory, "said");
  writeFileSync(join(directory, "systemd-notify"), `#!/bin/sh\nshift\necho "$*" >>'${said}'\n`, { mode: 0o755 });
  vi.stubEnv("PATH", `${directory}:${process.env["PATH"] ?? ""}`);
  onTestFinished(() => void vi.unstubAllEnvs());
  const notifier = bySystemdNotify("/no/such/socket");
  notifier.watchdog();
  notifier.status("loading");
  notifier.status("still loading");
  notifier.ready("2 secrets");
  notifier.status("a problem");
  notifier.status("another problem");
  await notifier.flush();
  expect(readFileSync(said, "utf8").trim().split("\n")).toEqual([
    "WATCHDOG=1",
    "--status=still loading",
    "--ready --status=2 secrets",
    "--status=another problem",
  ]);
});

test("loses only the message when the socket is gone", async () => {
  const notifier = openNotifier({ NOTIFY_SOCKET: "/no/such/socket" });
  notifier.status("one\ntwo");
  notifier.ready("x");
  notifier.stopping();
  await expect(notifier.flush()).resolves.toBeUndefined();
});
