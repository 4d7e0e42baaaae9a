import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { openLog, isLogFormat, isLogLevel } from "../../../src/runtime/log.ts";
import { bySystemdNotify, openNotifier, watchdogPeriod } from "../../../src/systemd/notify.ts";
import { freshDirectory } from "../engine/running-sidecar.ts";

describe("the log", () => {
  const lines = (level: Parameters<typeof openLog>[0], format: Parameters<typeof openLog>[1]) => {
    const written: string[] = [];
    const log = openLog(level, format, (line) => written.push(line));
    for (const name of ["error", "warn", "notice", "info", "debug", "trace"] as const) log[name](`m-${name}`, { n: 1 });
    return written;
  };

  test("gives each JSON line the priority that journald reads (syslog(3))", () => {
    const written = lines("trace", "json");
    expect(written.map((line) => line.slice(0, 3))).toEqual(["<3>", "<4>", "<5>", "<6>", "<7>", "<7>"]);
    expect(JSON.parse(written[2]?.slice(3) ?? "")).toMatchObject({ level: "notice", message: "m-notice", n: 1 });
    expect(written.every((line) => line.indexOf("\n") === line.length - 1)).toBe(true);
  });

  test.each([
    ["error", 1],
    ["warn", 2],
    ["notice", 3],
    ["info", 4],
    ["trace", 6],
  ] as const)("--log-level %s", (level, count) => {
    expect(lines(level, "json")).toHaveLength(count);
  });

  test("pretty is for people: no JSON, no priority", () => {
    const [line] = lines("error", "pretty");
    expect(line).toMatch(/^\d\d:\d\d:\d\d(?:Z|[+-]\d\d:\d\d) error {2}m-error n=1\n$/);
  });

  test("a message with line breaks is one entry of the journal", () => {
    const written: string[] = [];
    openLog("info", "json", (line) => written.push(line)).warn('a\n<0>b "c"', { secrets: ["x\ny"] });
    expect(written).toHaveLength(1);
    expect(written[0]?.trimEnd()).not.toContain("\n");
  });

  test.each([
    ["secrets", "a problem", { secrets: Array.from({ length: 5000 }, (_, number) => `secret-${number}-é\n`) }],
    ["text in a message", "\u0001".repeat(100_000), {}],
    ["both", "é".repeat(100_000), { secrets: Array.from({ length: 5000 }, () => "\u0001".repeat(20)) }],
  ])("journald does not break a line of many %s, which is JSON as a whole", (_, message, fields) => {
    const written: string[] = [];
    openLog("info", "json", (line) => written.push(line)).warn(message, fields);
    expect(written).toHaveLength(1);
    // LineMax= of journald.conf(5).
    expect(Buffer.byteLength(written[0] ?? "")).toBeLessThan(48 * 1024);
    const line = JSON.parse(written[0]?.slice(3) ?? "") as { message: string; secrets?: string[] };
    expect(line.message.slice(0, 9)).toBe(message.slice(0, 9));
    if (line.secrets === undefined) return;
    expect(line.secrets.at(-1)).toBe(`… and ${5001 - line.secrets.length} more`);
    expect(line.secrets.length).toBeGreaterThan(100);
  });

  test("what fits is written whole", () => {
    const written: string[] = [];
    const secrets = Array.from({ length: 500 }, (_, number) => `secret-${number}`);
    openLog("info", "json", (line) => written.push(line)).warn("m".repeat(2000), { secrets });
    expect(JSON.parse(written[0]?.slice(3) ?? "")).toMatchObject({ message: "m".repeat(2000), secrets });
  });

  test("knows its words", () => {
    expect([isLogLevel("notice"), isLogLevel("fatal"), isLogFormat("json"), isLogFormat("xml")]).toEqual([
      true,
      false,
      true,
      false,
    ]);
  });
});

describe("the watchdog", () => {
  test.each([
    [{}, undefined],
    [{ WATCHDOG_USEC: "" }, undefined],
    [{ WATCHDOG_USEC: "x" }, undefined],
    [{ WATCHDOG_USEC: "30000000" }, 15_000],
    [{ WATCHDOG_USEC: "30000000", WATCHDOG_PID: String(process.pid) }, 15_000],
    [{ WATCHDOG_USEC: "30000000", WATCHDOG_PID: "1" }, undefined],
    [{ WATCHDOG_USEC: "1" }, 50],
  ])("%j is served every %s ms", (environment, period) => {
    expect(watchdogPeriod(environment)).toBe(period);
  });
});

test.each([{}, { NOTIFY_SOCKET: "" }])("without systemd nobody is told: %j", async (environment) => {
  const notifier = openNotifier(environment);
  notifier.ready("x");
  notifier.status("x");
  await notifier.flush();
  expect(notifier.how).toBe("none");
});

test("by systemd-notify, what is said last stands last: READY does not overtake a newer status", async () => {
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

test("a socket that is gone costs no more than the message", async () => {
  const notifier = openNotifier({ NOTIFY_SOCKET: "/no/such/socket" });
  notifier.status("one\ntwo");
  notifier.ready("x");
  notifier.stopping();
  await expect(notifier.flush()).resolves.toBeUndefined();
});
