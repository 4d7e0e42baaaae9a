import { existsSync } from "node:fs";
import { copyFile, open, unlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { loadBackend } from "../../backends/index.ts";
import type { ConfigError } from "../../src/contract/errors.ts";
import { endNoted } from "../unit/contract/noted-pid.ts";
import { contractSuite, type Fixture } from "./contract.ts";
import { asValue, Observed } from "./observed.ts";
import { temporary } from "./temporary.ts";

const canary = "canary-9d20c4f1";

/** A store behind a shell script that keeps to sysexits(3). */
async function fixture(): Promise<Fixture> {
  const { path: directory, dispose } = await temporary();
  const gate = join(directory, "gate");
  const script =
    `while [ -e ${gate}-stalls ]; do sleep 0.05; done; [ ! -e ${gate}-away ] || exit 69; ` +
    `[ ! -e "$1.refused" ] || exit 77; [ -e "$1" ] || exit 66; exec cat "$1"`;
  return {
    module: await loadBackend("command", "/"),
    settings: () => ({ command: ["sh", "-c", script, "sh"] }),
    source: (id) => ({ args: [join(directory, id)] }),
    place: () => "sh",
    put: (id, value) => writeFile(join(directory, id), value),
    remove: (id) => unlink(join(directory, id)),
    async outage() {
      await writeFile(`${gate}-away`, "");
      return () => unlink(`${gate}-away`);
    },
    async refuse(id) {
      await writeFile(join(directory, `${id}.refused`), "");
      return "denied";
    },
    stall: () => writeFile(`${gate}-stalls`, ""),
    dispose,
  };
}

contractSuite(
  "command",
  {
    values: "bytes",
    empty: "value",
    mayAppear: false,
    changes: true,
    watches: false,
    // Each secret has its own program: there is no store that could be away as a whole.
    outage: false,
    refuses: true,
    stalls: true,
  },
  fixture,
);

async function opened(settings: Record<string, unknown>, source: Record<string, unknown> = {}) {
  return Observed.open(await loadBackend("command", "/"), settings, () => source);
}

describe("a program", () => {
  test("gets its words unchanged: no shell, no expansion", async () => {
    const backend = await opened({ command: ["printf", "%s"] }, { args: ["$HOME `id` * 'x'"] });
    expect((await backend.value("id")).value.toString()).toBe("$HOME `id` * 'x'");
  });

  test("gets the secret's id as its argument by default", async () => {
    const backend = await opened({ command: ["printf", "%s"] });
    expect((await backend.value("db password")).value.toString()).toBe("db password");
  });

  test("sees only PATH, a locale and the configured variables, and nothing else of the sidecar's environment", async () => {
    process.env["CREDENTIALS_DIRECTORY"] = canary;
    process.env["HTTPS_PROXY"] = canary;
    const backend = await opened({ command: ["env"], environment: { GNUPGHOME: "/etc/keys" } }, { args: [] });
    const output = (await backend.value("id")).value.toString();
    delete process.env["CREDENTIALS_DIRECTORY"];
    delete process.env["HTTPS_PROXY"];
    expect(output).toContain("GNUPGHOME=/etc/keys\n");
    expect(output).toContain("PATH=");
    expect(output).not.toContain(canary);
  });

  test("kills a program that hangs, with its children, and fetches the others", async () => {
    const backend = await Observed.open(await loadBackend("command", "/"), {}, (id) =>
      id === "hangs" ? { command: ["sh", "-c", "sleep 60 & wait"], timeout: 0.3 } : { command: ["echo", "good"] },
    );
    const outcomes = await backend.fetch("hangs", "good");
    expect(outcomes.get("hangs")).toMatchObject({ kind: "unavailable", message: "sh took longer than 0.3 s" });
    expect(asValue(outcomes.get("good")).value.toString()).toBe("good\n");
  });

  test("times out on a program whose daemon keeps the output open, and fetches the others", async () => {
    const { path, dispose } = await temporary();
    const noted = join(path, "pid");
    onTestFinished(async () => {
      endNoted(noted);
      await dispose();
    });
    const leaves = `setsid sh -c 'echo $$ >"$0"; exec sleep 600' "$1" & until [ -s "$1" ]; do sleep 0.01; done; echo x`;
    const backend = await Observed.open(await loadBackend("command", "/"), {}, (id) =>
      id === "leaves" ? { command: ["sh", "-c", leaves, "sh", noted], timeout: 4 } : { command: ["echo", "good"] },
    );
    const outcomes = await backend.fetch("leaves", "good");
    expect(outcomes.get("leaves")).toMatchObject({ kind: "unavailable", message: "sh took longer than 4 s" });
    expect(asValue(outcomes.get("good")).value.toString()).toBe("good\n");
  });

  test("keeps the value of a program that ended before the fetch is stopped, and stops only the others", async () => {
    const { path, dispose } = await temporary();
    onTestFinished(dispose);
    const begun = join(path, "begun");
    const sleeps = { command: ["sleep", "600"] };
    // Four at a time: the last begins when the good one has ended.
    const backend = await Observed.open(await loadBackend("command", "/"), { timeout: 100 }, (id) => {
      if (id === "good") return { command: ["echo", "good"] };
      return id === "last" ? { command: ["sh", "-c", `touch "$0"; exec sleep 600`, begun] } : sleeps;
    });
    const abort = new AbortController();
    const fetching = backend.backend.fetch(backend.requests("a", "b", "c", "good", "last", "never"), abort.signal);
    await vi.waitUntil(() => existsSync(begun), { timeout: 50_000 });
    abort.abort();
    const outcomes = await fetching;
    expect(asValue(outcomes.get("good")).value.toString()).toBe("good\n");
    for (const id of ["a", "b", "c", "last", "never"])
      expect(outcomes.get(id)).toMatchObject({ kind: "unavailable", message: "stopped" });
  });

  test("stops a program that prints without end, and reports an error", async () => {
    const backend = await opened({ command: ["cat", "/dev/zero"] }, { args: [] });
    expect(await backend.outcome("id")).toMatchObject({ kind: "invalid", message: "cat printed more than 16 MiB" });
  });

  test("names a program that does not exist, and says what to do", async () => {
    onTestFinished(() => void vi.unstubAllEnvs());
    // The PATH of the tests' user may have directories that this user cannot search.
    vi.stubEnv("PATH", "/usr/bin:/bin");
    const backend = await opened({ command: ["no-such-program"] });
    expect(await backend.outcome("id")).toMatchObject({
      kind: "invalid",
      message: expect.stringMatching(/no-such-program.*PATH/) as string,
    });
  });

  test("names PATH when a program on it may not be executed", async () => {
    const { path, dispose } = await temporary();
    onTestFinished(dispose);
    await writeFile(join(path, "no-such-program"), "", { mode: 0o644 });
    onTestFinished(() => void vi.unstubAllEnvs());
    vi.stubEnv("PATH", path);
    const backend = await opened({ command: ["no-such-program"] });
    expect(await backend.outcome("id")).toMatchObject({
      kind: "invalid",
      message: expect.stringMatching(/cannot run .*no-such-program: .*PATH.*EACCES/) as string,
    });
  });

  test("retries a program that is still being written (ETXTBSY): only permanent errors end a start", async () => {
    const { path, dispose } = await temporary();
    onTestFinished(dispose);
    const program = join(path, "program");
    await copyFile("/bin/echo", program);
    const backend = await opened({ command: [program, "-n"] });
    const writer = await open(program, "r+");
    try {
      expect(await backend.outcome("the value")).toMatchObject({
        kind: "unavailable",
        message: expect.stringContaining("(ETXTBSY)") as string,
      });
    } finally {
      await writer.close();
    }
    expect((await backend.value("the value")).value.toString()).toBe("the value");
  });

  test.each([
    ["a directory", ["/"], "EACCES"],
    ["below a file", ["/etc/passwd/program"], "ENOTDIR"],
    ["too long a name", [`/${"x".repeat(300)}`], "ENAMETOOLONG"],
    ["with more than the kernel takes", ["true", "x".repeat(200_000)], "E2BIG"],
  ])("reports a permanent error for a program that is %s", async (_, argv, code) => {
    const backend = await opened({ command: argv }, { args: [] });
    expect(await backend.outcome("id")).toMatchObject({
      kind: "invalid",
      message: expect.stringMatching(`cannot run .*: .*\\(${code}\\)$`) as string,
    });
  });

  test("reports a failing program's status and words, but nothing that could be a secret", async () => {
    const script = `echo "progress" >&2; printf '%s' 'hunter two'; echo "gpg: decryption failed: No secret key ${canary} hunter AKIA1234567890 p@ss" >&2; exit 2`;
    const backend = await opened({ command: ["sh", "-c", script] });
    const outcome = await backend.outcome("id");
    expect(outcome).toMatchObject({
      kind: "unavailable",
      message: "sh exited with 2: gpg: decryption failed: No secret key ***",
    });
    expect(backend.said.join("\n")).not.toContain(canary);
  });
});

test.each([
  ["no command at all", {}, {}, "command"],
  ["an empty one", { command: [] }, {}, "command"],
  ["a line instead of words", { command: "pass show x" }, {}, "command"],
  ["a loader's variable", { command: ["x"], environment: { LD_PRELOAD: "x" } }, {}, "environment"],
  ["a time longer than the engine allows", { command: ["x"], timeout: 101 }, {}, "timeout"],
  ["a time longer than the engine allows, for one secret", { command: ["x"] }, { timeout: 101 }, "timeout"],
  ["arguments other than strings", { command: ["x"] }, { args: [1] }, "args[0]"],
])("%s: the error names the option", async (_, settings, source, path) => {
  const module = await loadBackend("command", "/");
  let error: unknown;
  try {
    module.parseSource("id", source, module.parseSettings(settings));
  } catch (thrown) {
    error = thrown;
  }
  expect((error as ConfigError).path).toBe(path);
});
