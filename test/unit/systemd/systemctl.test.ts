import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { job, parseShow, parseTimeSpan, systemctl } from "../../../src/systemd/systemctl.ts";

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
])("reads %j in systemctl show as %d s", (span, seconds) => {
  expect(parseTimeSpan(span)).toBeCloseTo(seconds, 6);
});

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
ActiveExitTimestampMonotonic=7653000
InactiveEnterTimestampMonotonic=7653500
Job=17
StartLimitIntervalUSec=1min 40s
StartLimitBurst=5
`;

describe("systemctl show", () => {
  test("reads a running service", () => {
    expect(parseShow(shown)).toEqual({
      loaded: true,
      activeState: "active",
      subState: "running",
      type: "notify",
      remainAfterExit: false,
      canReload: true,
      refusesRestart: false,
      unmet: undefined,
      isStopped: false,
      leftInactiveAt: 7_654_000,
      leftActiveAt: 7_653_000,
      mainStartedAt: 7_654_321,
      enteredInactiveAt: 7_653_500,
      hasJob: true,
      restarts: 3,
      startLimitInterval: 100,
      startLimitBurst: 5,
    });
  });
  test("reads a oneshot with RemainAfterExit= that cannot reload", () => {
    const oneshot = shown
      .replace("Type=notify", "Type=oneshot")
      .replace("RemainAfterExit=no", "RemainAfterExit=yes")
      .replace("CanReload=yes", "CanReload=no");
    expect(parseShow(oneshot)).toMatchObject({ type: "oneshot", remainAfterExit: true, canReload: false });
  });
  test.each([
    ["RefuseManualStart=yes\nRefuseManualStop=no\n", { refusesRestart: true }],
    ["RefuseManualStart=no\nRefuseManualStop=yes\n", { refusesRestart: true }],
    ["RefuseManualStart=no\nRefuseManualStop=no\n", { refusesRestart: false }],
    [
      "ConditionResult=no\nConditionTimestampMonotonic=7\nResult=success\n",
      { unmet: "one of its conditions (ConditionPathExists= and others)" },
    ],
    // systemd has unloaded it since, and knows of no test.
    ["ConditionResult=no\nConditionTimestampMonotonic=0\nResult=success\n", { unmet: undefined }],
    ["ConditionResult=no\nResult=exec-condition\n", { unmet: "its ExecCondition=" }],
    ["ConditionResult=yes\nResult=exit-code\n", { unmet: undefined }],
  ])("reads what prevents a restart of a service: %j", (more, state) => {
    expect(parseShow(`${shown}${more}`)).toMatchObject(state);
  });
  test.each([
    ["ExecReload", "signal", "killed", "15/TERM", true],
    ["ExecStartPre", "signal", "killed", "15/TERM", true],
    ["ExecStartPre", "timeout", "killed", "15/TERM", false],
    ["ExecReload", "exit-code", "exited", "15", false],
    ["ExecStartPre", "signal", "killed", "11/SEGV", false],
    ["ExecStart", "signal", "killed", "15/TERM", false],
  ])("sees whether a stop killed a command of it: %s, %s, %s %s", (command, result, code, status, isStopped) => {
    // As 252 and 257 print it.
    const line = `${command}={ path=/bin/sh ; argv[]=/bin/sh -c x ; ignore_errors=no ; start_time=[n/a] ; stop_time=[n/a] ; pid=9 ; code=${code} ; status=${status} }`;
    const other = line.replace(/code=.*/, "code=exited ; status=0 }");
    for (const lines of [`${line}\n${other}`, `${other}\n${line}`])
      expect(parseShow(`${shown}Result=${result}\n${lines}\n`)).toMatchObject({ isStopped });
  });
  test("reads a unit that does not exist (no service properties)", () => {
    expect(
      parseShow("LoadState=not-found\nActiveState=inactive\nSubState=dead\nInactiveExitTimestampMonotonic=0\n"),
    ).toMatchObject({
      loaded: false,
      activeState: "inactive",
      startLimitBurst: 0,
      leftInactiveAt: 0,
    });
  });
  test.each(["", "Failed to connect to bus", "\n\n=\n"])("rejects an answer without properties: %j", (answer) => {
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
    expect(job({ end: "exit", code: 1, stdout: "", stderr })).toEqual({
      ok: false,
      displaced,
      detail: stderr.split("\n")[0],
    });
  });

  test("ignores systemd's remark about a cancelled job when the job worked", () => {
    const stderr = "Job for app.service canceled.\n";
    expect(job({ end: "exit", code: 0, stdout: "", stderr })).toMatchObject({ ok: true, displaced: false });
  });

  test("does not take a service's output about a cancelled job for systemd's", () => {
    const stderr = "Status of app.service: Job for b canceled.\n";
    expect(job({ end: "exit", code: 1, stdout: "", stderr })).toMatchObject({ ok: false, displaced: false });
  });

  test.each([
    [{ end: "signal", signal: "SIGKILL", stdout: "", stderr: "" }, "systemctl was killed by SIGKILL"],
    [{ end: "timeout" }, "systemctl did not answer"],
    [{ end: "not-started", reason: "ENOENT" }, "cannot run systemctl: no such file or directory (ENOENT)"],
  ] as const)("explains the failure %j", (result, detail) => {
    expect(job(result)).toEqual({ ok: false, detail });
  });
});

/** A fake systemctl(1), first in $PATH: it notes what it was called with, and then does as `script` says. */
function fakeSystemctl(script: string): { readonly calls: () => string[] } {
  const directory = mkdtempSync(join(tmpdir(), "fetcher-systemctl-"));
  const noted = join(directory, "calls");
  // One write for each call.
  const note = `line=; for word; do line="$line [$word]"; done; echo "$line" >>'${noted}'`;
  writeFileSync(join(directory, "systemctl"), `#!/bin/sh\n${note}\n${script}\n`, { mode: 0o755 });
  const path = process.env["PATH"] ?? "";
  process.env["PATH"] = `${directory}${delimiter}${path}`;
  onTestFinished(() => {
    process.env["PATH"] = path;
    rmSync(directory, { recursive: true });
  });
  return { calls: () => (existsSync(noted) ? readFileSync(noted, "utf8").trimEnd().split("\n") : []) };
}

describe("a request to systemctl", () => {
  const never = new AbortController().signal;

  test.each([
    ["restart", () => systemctl.restart("a.service", never), "--job-mode=fail] [try-restart"],
    ["reload", () => systemctl.reload("a.service", never), "--job-mode=fail] [try-reload-or-restart"],
    ["signal", () => systemctl.signal("a.service", "SIGUSR1", never), "kill] [--kill-whom=main] [--signal=SIGUSR1"],
  ] as const)("%s: affects running units only, without a password, and cancels no queued stop", async (_, ask, is) => {
    const { calls } = fakeSystemctl("exit 0");
    expect(await ask()).toEqual({ ok: true, displaced: false, detail: "" });
    expect(calls()).toEqual([` [--no-ask-password] [${is}] [--] [a.service]`]);
  });

  test.each([
    ["restart", () => systemctl.restart("a.service", never)],
    ["reload", () => systemctl.reload("a.service", never)],
    ["signal", () => systemctl.signal("a.service", "SIGUSR1", never)],
  ] as const)("%s that fails: gives systemctl's first line as the reason", async (_, ask) => {
    fakeSystemctl("echo 'Failed: because' >&2; echo 'See the manual' >&2; exit 5");
    expect(await ask()).toEqual({ ok: false, displaced: false, detail: "Failed: because" });
  });

  test("revive: resets the start limit first, and cancels no queued stop", async () => {
    const { calls } = fakeSystemctl("exit 0");
    expect(await systemctl.revive("a.service", never)).toMatchObject({ ok: true });
    expect(calls()).toEqual([
      " [--no-ask-password] [reset-failed] [--] [a.service]",
      " [--no-ask-password] [--job-mode=fail] [start] [--] [a.service]",
    ]);
  });

  test("revive together with the stopping sidecar: queues a start after the stop, without waiting for it", async () => {
    const { calls } = fakeSystemctl("exit 0");
    expect(await systemctl.reviveBoth("a.service", never)).toMatchObject({ ok: true });
    expect(calls().at(-1)).toBe(" [--no-ask-password] [--no-block] [start] [--] [a.service]");
  });

  test.each([
    ["stopping", true],
    ["running", false],
    ["degraded", false],
  ])("a machine that is %s", async (word, goesDown) => {
    fakeSystemctl(`echo ${word}; exit 1`);
    expect(await systemctl.isStopping(never)).toBe(goesDown);
  });

  test("show: leaves properties unknown that it does not ask for", async () => {
    const all = `${shown.replace("RemainAfterExit=no", "RemainAfterExit=yes")}FragmentPath=/nowhere\nRefuseManualStop=yes\nConditionResult=no\nConditionTimestampMonotonic=7\nResult=signal\nExecReload={ path=/x ; code=killed ; status=15/TERM }\n`;
    // Like the real one, it prints only what is asked for.
    const { calls } = fakeSystemctl(`while IFS= read -r line; do
      case ",\${2#--property=}," in *",\${line%%=*},"*) echo "$line" ;; esac
    done <<'EOF'\n${all}EOF`);
    const state = await systemctl.show("-a.service", never);
    expect(state).toEqual(parseShow(all));
    expect(Object.values(state ?? {}).filter((value) => value === 0 || value === false || value === "")).toEqual([]);
    expect(calls()).toEqual([expect.stringMatching(/^ \[show\] \[--property=[^ ]+\] \[--\] \[-a\.service\]$/)]);
    // They tell whether a reload shows it new secrets.
    expect(calls()[0]).toMatch(/FragmentPath,DropInPaths,RefreshOnReload,RefuseManualStart,RefuseManualStop,Result,/);
  });

  test.each([
    ["fails", "echo ActiveState=active; exit 1"],
    ["is killed", "echo ActiveState=active; kill -9 $$"],
    ["says nothing", "exit 0"],
  ])("show: returns no answer when systemctl %s", async (_, script) => {
    fakeSystemctl(script);
    expect(await systemctl.show("a.service", never)).toBeUndefined();
  });

  test("does not delay a stop for a hanging systemctl", async () => {
    const { calls } = fakeSystemctl("exec sleep 600");
    const stop = new AbortController();
    const all = Promise.all([
      systemctl.show("a.service", stop.signal),
      systemctl.restart("a.service", stop.signal),
      systemctl.reload("a.service", stop.signal),
      systemctl.signal("a.service", "SIGHUP", stop.signal),
    ]);
    await expect.poll(() => calls().length, { timeout: 20_000 }).toBe(4);
    stop.abort();
    const [state, ...jobs] = await all;
    expect(state).toBeUndefined();
    for (const one of jobs) expect(one).toEqual({ ok: false, detail: "systemctl was killed by SIGKILL" });
  });
});
