/** The operator's last word about a set: what the command gets, and what each of its ends means. */
import { openSync, closeSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { verify } from "../../../src/engine/verify.ts";
import { freshDirectory } from "./running-sidecar.ts";

interface Set {
  /** id → variable. */
  readonly names?: Readonly<Record<string, string>>;
  readonly values?: Readonly<Record<string, string>>;
  readonly timeout?: number;
  readonly stop?: AbortSignal;
}

function asked(command: [string, ...string[]], { names, values = {}, timeout = 30, stop }: Set = {}) {
  const env =
    names === undefined
      ? undefined
      : { content: Buffer.alloc(0), names: new Map(Object.entries(names)), leftOut: new Map<string, string>() };
  const nothing = () => undefined;
  const staged = {
    directory: "/the/stage",
    env,
    warnings: new Map(),
    refused: new Map(),
    commit: nothing,
    discard: nothing,
  };
  const bytes = new Map(Object.entries(values).map(([id, value]) => [id, Buffer.from(value)]));
  return verify({ command, timeout }, staged, bytes, stop ?? new AbortController().signal);
}

/** @param script of sh; `$1` is a file for its notes. */
async function noted(script: string, set: Set = {}) {
  const path = join(freshDirectory(), "notes");
  const why = await asked(["sh", "-c", script, "verify", path], set);
  expect(why).toBeUndefined();
  return readFileSync(path, "utf8");
}

describe("the command gets", () => {
  const set = { names: { a: "A", "b/c": "B_C" }, values: { a: "one", "b/c": "two", d: "not in secrets.env" } };

  test("the place of the set, each variable of secrets.env, and nothing else of a secret", async () => {
    expect(await noted('printf %s "$SECRETS_DIRECTORY,$A,$B_C" > "$1"', set)).toBe("/the/stage,one,two");
    const names = await noted('env | sed "s/=.*//" | sort | grep -v -e _$ -e PWD -e SHLVL > "$1"', set);
    const own = ["LC_ALL", "PATH", "SECRETS_DIRECTORY", "TMPDIR"];
    expect(names.split("\n").filter((name) => name !== "" && !own.includes(name))).toEqual(["A", "B_C"]);
  });

  test("the values without the newlines at their ends, and no others", async () => {
    const values = { a: "\n one\n\ntwo \n\n", b: "ä\n" };
    expect(await noted('printf "%s|" "$A" "$B" > "$1"', { names: { a: "A", b: "B" }, values })).toBe(
      "\n one\n\ntwo |ä|",
    );
  });

  test("the place of the set also without secrets.env, and whatever a secret is called", async () => {
    expect(await noted('printf %s "$SECRETS_DIRECTORY" > "$1"')).toBe("/the/stage");
    const names = { a: "SECRETS_DIRECTORY" };
    expect(await noted('printf %s "$SECRETS_DIRECTORY" > "$1"', { names, values: { a: "x" } })).toBe("/the/stage");
  });

  test("an empty variable for a secret without a value", async () => {
    expect(await noted('printf %s "${A-unset}," > "$1"', { names: { a: "A" } })).toBe(",");
  });

  test("no place for its output, which may be secrets", async () => {
    const fds = await noted('fds=$(readlink "/proc/$$/fd/1" "/proc/$$/fd/2"); printf %s "$fds" > "$1"');
    expect(fds).toBe("/dev/null\n/dev/null");
  });
});

describe("a set is refused where the command", () => {
  test.each([
    ["exits with 1", "exit 1", "the verify command exited with 1"],
    ["exits with 255", "exit 255", "the verify command exited with 255"],
    ["is killed", "kill -TERM $$", "the verify command was killed by SIGTERM"],
  ])("%s", async (_, script, why) => {
    expect(await asked(["sh", "-c", script])).toBe(why);
  });

  test("takes too long", async () => {
    expect(await asked(["sleep", "600"], { timeout: 0.2 })).toBe("the verify command took longer than 0.2 s");
  });

  test("is ended by a stop", async () => {
    const stop = new AbortController();
    const answer = asked(["sleep", "600"], { stop: stop.signal });
    stop.abort();
    expect(await answer).toBe("the verify command was killed by SIGKILL");
  });

  test("does not exist, or is no program", async () => {
    expect(await asked(["/no/such/program"])).toBe("cannot run the verify command: no such file or directory (ENOENT)");
    const path = join(freshDirectory(), "verify");
    writeFileSync(path, "", { mode: 0o600 });
    expect(await asked([path])).toBe("cannot run the verify command: permission denied (EACCES)");
  });
});

describe("nothing is said of the set, which is tried again later, where", () => {
  test("the command is being written", async () => {
    const path = join(freshDirectory(), "verify");
    writeFileSync(path, "#!/bin/sh\n", { mode: 0o700 });
    const writer = openSync(path, "a");
    try {
      await expect(asked([path])).rejects.toMatchObject({
        exitCode: 74,
        message: expect.stringMatching(/^cannot run the verify command: .*\(ETXTBSY\)$/) as string,
      });
    } finally {
      closeSync(writer);
    }
  });

  test.each(["EAGAIN", "ENOMEM", "EMFILE", "ENFILE", "EIO"])("no program can start: %s", async (code) => {
    const spawn = vi.spyOn(process.getBuiltinModule("node:child_process"), "spawn").mockImplementation(() => {
      throw Object.assign(new Error("spawn"), { code });
    });
    onTestFinished(() => {
      spawn.mockRestore();
    });
    await expect(asked(["true"])).rejects.toMatchObject({
      exitCode: 74,
      message: expect.stringContaining(`(${code})`) as string,
    });
  });
});
