import { join } from "node:path";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { accountId } from "../../../src/publish/accounts.ts";
import { ConfigError } from "../../../src/contract/errors.ts";
import { runCommand } from "../../../src/contract/helper-command.ts";
import { endNoted, isAlive, notedPid } from "./noted-pid.ts";
import { freshDirectory } from "../engine/running-sidecar.ts";

describe("a helper command", () => {
  test.each([
    [["sh", "-c", "echo out; echo err >&2; exit 3"], { end: "exit", code: 3, stdout: "out\n", stderr: "err\n" }],
    [["sh", "-c", "kill -TERM $$"], { end: "signal", signal: "SIGTERM" }],
    [["/no/such/program"], { end: "not-started", reason: "ENOENT" }],
    [["/"], { end: "not-started", reason: "EACCES" }],
    [["true", "a\0b"], { end: "not-started", reason: "ERR_INVALID_ARG_VALUE" }],
  ])("%j never rejects: the result says how it ended", async (command, result) => {
    expect(await runCommand(command as [string, ...string[]])).toMatchObject(result);
  });

  test("reports a too long environment instead of throwing (spawn throws E2BIG)", async () => {
    const environment = { HUGE: "x".repeat(200_000) };
    expect(await runCommand(["true"], { environment })).toEqual({ end: "not-started", reason: "E2BIG" });
  });

  test("a time-out or a stop ends it and its children, even if they hold the output open", async () => {
    const command = ["sh", "-c", "sleep 600 & wait"] as const;
    expect(await runCommand(command, { timeout: 0.1 })).toEqual({ end: "timeout" });
    const stop = new AbortController();
    const run = runCommand(command, { signal: stop.signal });
    stop.abort();
    expect(await run).toMatchObject({ end: "signal", signal: "SIGKILL" });
    expect(await runCommand(command, { signal: stop.signal })).toMatchObject({ end: "signal", signal: "SIGKILL" });
  });

  test.each(["time-out", "stop"])(
    "a %s ends it, even if a daemon it left behind holds the output open",
    async (how) => {
      const noted = join(freshDirectory(), "pid");
      onTestFinished(() => {
        endNoted(noted);
      });
      // In its own session it is not killed with the program.
      const daemon = `setsid sh -c 'echo $$ >"$0"; exec sleep 600' "$1" &`;
      const script = `${daemon} until [ -s "$1" ]; do sleep 0.01; done; echo "the secret"`;
      const stop = new AbortController();
      const run = runCommand(
        ["sh", "-c", script, "sh", noted],
        how === "stop" ? { signal: stop.signal } : { timeout: 1 },
      );
      if (how === "stop") {
        await vi.waitUntil(() => notedPid(noted) !== undefined, { timeout: 20_000 });
        stop.abort();
      }
      expect(await run).toMatchObject({ end: how === "stop" ? "signal" : "timeout" });
    },
  );

  test("a time-out ends the rest of its group after it ended", async () => {
    const noted = join(freshDirectory(), "pid");
    onTestFinished(() => {
      endNoted(noted);
    });
    expect(await runCommand(["sh", "-c", `sleep 600 & echo $! >"$1"`, "sh", noted], { timeout: 1 })).toEqual({
      end: "timeout",
    });
    await vi.waitUntil(() => !isAlive(notedPid(noted)), { timeout: 20_000 });
  });

  test("kills nothing when another process reuses the number of an ended program", async () => {
    const noted = join(freshDirectory(), "pid");
    onTestFinished(() => {
      endNoted(noted);
    });
    // What has left the group keeps the output open: the time-out comes after the program's end.
    const script = `setsid sh -c 'echo $$ >"$0"; exec sleep 600' "$1" & until [ -s "$1" ]; do sleep 0.01; done`;
    // Numbers come round after thousands of processes: here each that is asked about is taken.
    const kill = vi.spyOn(process, "kill").mockReturnValue(true);
    const result = await runCommand(["sh", "-c", script, "sh", noted], { timeout: 1 });
    const calls = kill.mock.calls;
    kill.mockRestore();
    expect(result).toEqual({ end: "timeout" });
    expect(calls).toEqual([[expect.any(Number), 0]]);
  });

  test("drops output beyond the limit without blocking", async () => {
    const result = await runCommand(["sh", "-c", "head -c 1000000 /dev/zero | tr '\\0' x"]);
    expect(result).toMatchObject({ end: "exit", code: 0 });
    expect((result as { stdout: string }).stdout).toHaveLength(65_536);
  });

  test("gets a clean environment, with a TMPDIR outside /tmp", async () => {
    process.env["https_proxy"] = "http://canary";
    process.env["RUNTIME_DIRECTORY"] = "/run/x-secrets:/run/y";
    const result = await runCommand(["env"], { environment: { OWN: "1" } });
    delete process.env["https_proxy"];
    delete process.env["RUNTIME_DIRECTORY"];
    const names = (result as { stdout: string }).stdout.trim().split("\n").sort();
    expect(names).toEqual(["LC_ALL=C.UTF-8", "OWN=1", `PATH=${process.env["PATH"] ?? ""}`, "TMPDIR=/run/x-secrets"]);
  });
});

describe("accounts", () => {
  test("accepts names and numbers", async () => {
    expect(await accountId("passwd", "root", "p")).toBe(0);
    expect(await accountId("group", "root", "p")).toBe(0);
    expect(await accountId("passwd", "12345", "p")).toBe(12_345);
  });
  test.each(["no-such-account", "root:x", "", "4294967295", "99999999999999999999"])(
    "%j: the error names the option, before anything is published",
    async (name) => {
      const error: unknown = await accountId("passwd", name, "secrets.a.owner").catch((thrown: unknown) => thrown);
      expect(error).toBeInstanceOf(ConfigError);
      expect((error as ConfigError).path).toBe("secrets.a.owner");
    },
  );
});
