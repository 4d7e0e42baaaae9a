import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, open as openFile, rename, rm, symlink, unlink, utimes, writeFile, chmod } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";
import { WRITTEN_AFTER } from "../../../backends/files/files.ts";
import folder from "../../../backends/files/folder.ts";
import nixops from "../../../backends/files/nixops.ts";
import { BackendError } from "../../../src/contract/backend.ts";
import { ConfigError } from "../../../src/contract/errors.ts";
import { needs } from "../../requirements.ts";
import { asValue, Observed } from "../../contract/observed.ts";
import { temporary } from "../../contract/temporary.ts";

/** Leads a link to one name after the other, with pauses in which some of the files can be read. */
const swapWithoutEnd = `
  const { renameSync, symlinkSync } = require("node:fs");
  const [link, ...names] = process.argv.slice(1);
  const rest = new Int32Array(new SharedArrayBuffer(4));
  for (let n = 0; ; n++) {
    symlinkSync(names[n % names.length], link + ".new");
    renameSync(link + ".new", link);
    Atomics.wait(rest, 0, 0, (n % 30) / 10);
  }`;

/** Sets modes, as agenix sets owners once the files are there. */
const setModesWithoutEnd = `
  const { chmodSync } = require("node:fs");
  const [path] = process.argv.slice(1);
  console.log("begins");
  for (let n = 0; ; n++) chmodSync(path, n % 2 === 0 ? 0o400 : 0o440);`;

let root: string;
let directory: string;
let dispose: () => Promise<void>;

beforeEach(async () => {
  ({ path: root, dispose } = await temporary());
  directory = join(root, "secrets");
  await mkdir(directory);
});
afterEach(() => dispose());

const open = (secretsDir = directory) => Observed.open(folder, { secretsDir });
const write = (file: string, value: string) => writeFile(join(directory, file), value);

describe("neither blocks on nor publishes an irregular file", () => {
  const place = (id: string) => join(directory, id);
  const traps: [string, (path: string) => Promise<unknown>][] = [
    ["a fifo without a writer", (path) => Promise.resolve(execFileSync("mkfifo", [path]))],
    ["a directory", (path) => mkdir(path)],
    ["a link to a device", (path) => symlink("/dev/zero", path)],
    ["a link to a terminal", (path) => symlink("/dev/ptmx", path)],
    ["a link to itself", (path) => symlink(path, path)],
    ["a file of more than 16 MiB", (path) => makeLarge(path, 16 * 1024 * 1024 + 1)],
  ];

  test.each(traps)("%s is invalid, and the file beside it arrives", async (_, set) => {
    await write("good", "value");
    await set(place("trap"));
    const outcomes = await (await open()).fetch("trap", "good");
    expect(outcomes.get("trap")).toMatchObject({
      kind: "invalid",
      message: expect.stringContaining(place("trap")) as string,
    });
    expect(asValue(outcomes.get("good")).value.toString()).toBe("value");
  });

  test("a socket is invalid", async () => {
    const server = createServer().listen(place("trap"));
    await once(server, "listening");
    expect(await (await open()).outcome("trap")).toMatchObject({ kind: "invalid" });
    server.close();
  });

  test("a file of exactly 16 MiB arrives", async () => {
    await makeLarge(place("large"), 16 * 1024 * 1024);
    expect((await (await open()).value("large")).value.length).toBe(16 * 1024 * 1024);
  });

  test("reads a whole file whose size stat gives as 0, as on some FUSE file systems", async () => {
    await symlink("/proc/self/mountinfo", place("sizeless"));
    const { value } = await (await open()).value("sizeless");
    expect(value.toString()).toContain(" / ");
  });
});

describe("failures say what the operator must do", () => {
  test("waits for a missing directory: a mount or an activation comes late", async () => {
    const late = join(root, "late");
    const error = await (await open(late)).outage("one");
    expect(error).toMatchObject({ kind: "unavailable", message: `no directory ${late} (yet)` });
  });

  test("waits for a directory behind a dangling link: /run/secrets before its first generation", async () => {
    await symlink(join(root, "generation-1"), join(root, "link"));
    expect(await (await open(join(root, "link"))).outage("one")).toMatchObject({ kind: "unavailable" });
  });

  test("waits for a missing file for half a minute after the last new name in its directory", async () => {
    // Time stands still, so that a busy machine does not count.
    vi.useFakeTimers({ toFake: ["Date", "performance"] });
    onTestFinished(() => void vi.useRealTimers());
    const backend = await Observed.open(folder, { secretsDir: directory }, (id) => ({ file: `sub/${id}` }));
    const left = async (id: string) => {
      const outcome = await backend.outcome(id);
      return "mayHealFor" in outcome ? Math.round(outcome.mayHealFor ?? 0) : 0;
    };
    const age = async (path: string, seconds: number) => {
      const time = Date.now() / 1000 - seconds;
      await utimes(path, time, time);
    };
    await mkdir(join(directory, "sub"));
    await age(directory, 100);
    await age(join(directory, "sub"), 0);
    expect(await left("a")).toBe(WRITTEN_AFTER);
    await age(join(directory, "sub"), WRITTEN_AFTER - 10);
    expect(await left("a")).toBe(10);
    // It counts from when the file was first seen to be missing.
    vi.advanceTimersByTime(5000);
    await age(join(directory, "sub"), 0);
    expect(await left("a")).toBe(5 + WRITTEN_AFTER);
    await age(join(directory, "sub"), WRITTEN_AFTER);
    expect(await left("a")).toBe(0);
    await age(directory, WRITTEN_AFTER - 10);
    expect(await left("b")).toBe(10);
    await rm(join(directory, "sub"), { recursive: true });
    await age(directory, 100);
    expect(await left("b")).toBe(0);
    // By another clock than ours: that says nothing.
    await age(directory, -3600);
    expect(await left("b")).toBe(0);
  });

  test("reports a file in place of the directory as invalid", async () => {
    await write("file", "");
    expect(await (await open(join(directory, "file"))).outage("one")).toMatchObject({ kind: "invalid" });
  });

  test("names the file that a mistyped name may mean, unless another secret has it or too many names are there", async () => {
    const rest = async () => {
      await utimes(directory, 0, 0);
    };
    const missing = async (files: Record<string, string>) => {
      await rest();
      const sources = Object.entries(files).map(([id, file]) => ({ id, source: { file } }));
      const { backend } = await open();
      return (await backend.fetch(sources, AbortSignal.timeout(30_000))).get("a");
    };
    for (const name of ["db_password", "other", ".db_pasword"]) await write(name, "x");
    const where = `no file ${directory}/db_pasword`;
    expect(await missing({ a: "db_pasword" })).toEqual({
      status: "missing",
      where: `${where}; did you mean "db_password"?`,
    });
    expect(await missing({ a: "db_pasword", b: "db_password" })).toEqual({ status: "missing", where });
    expect(await missing({ a: "nothing" })).toEqual({ status: "missing", where: `no file ${directory}/nothing` });
    await utimes(directory, new Date(), new Date());
    const { backend } = await open();
    const young = [{ id: "a", source: { file: "db_pasword" } }];
    expect((await backend.fetch(young, AbortSignal.timeout(30_000))).get("a")).toMatchObject({
      where: `${where}; did you mean "db_password"?`,
      mayHealFor: expect.any(Number) as number,
    });
    for (let n = 0; n < 500; n += 1) await write(`n${n}`, "x");
    expect(await missing({ a: "db_pasword" })).toEqual({ status: "missing", where });
  });

  test("tells a link that leads nowhere from a file that is not there", async () => {
    await symlink("elsewhere", join(directory, "db"));
    await write("dbx", "x");
    expect(await (await open()).outcome("db")).toMatchObject({
      status: "missing",
      where: `no file ${directory}/db; a symbolic link is there, and what it leads to is not`,
    });
  });

  test("reports a path through a file as invalid; through a missing directory, as missing", async () => {
    await write("file", "");
    const backend = await Observed.open(folder, { secretsDir: directory }, (id) => ({ file: `${id}/key` }));
    expect(await backend.outcome("file")).toMatchObject({ kind: "invalid" });
    expect(await backend.outcome("nothing")).toMatchObject({
      status: "missing",
      where: `no file ${directory}/nothing/key`,
    });
  });

  needs("seteuid").test("reports an unreadable file as denied, and delays no other", async () => {
    await write("good", "value");
    await write("closed", "value");
    await chmod(join(directory, "closed"), 0);
    await chmod(root, 0o755);
    const backend = await open();
    const restore = withoutRoot();
    const outcomes = await backend.fetch("closed", "good").finally(restore);
    expect(outcomes.get("closed")).toMatchObject({
      kind: "denied",
      message: expect.stringContaining("EACCES") as string,
    });
    expect(outcomes.get("good")).toMatchObject({ status: "value" });
  });

  test("keeps a name with line ends on one line in messages: no forged journal entries", async () => {
    const backend = await open();
    expect(await backend.outcome("a\nb\u001b[31m")).toMatchObject({
      status: "missing",
      where: String.raw`no file ${directory}/a\nb\u001b[31m`,
    });
    expect(backend.describe("a\nb")).toBe(String.raw`${directory}/a\nb`);
  });
});

describe("versions", () => {
  test("change by a rename-over with the same mtime and size", async () => {
    const time = new Date("2024-01-01T00:00:00Z");
    await write("one", "first");
    await utimes(join(directory, "one"), time, time);
    const backend = await open();
    const before = await backend.value("one");
    await write("new", "other");
    await utimes(join(directory, "new"), time, time);
    await rename(join(directory, "new"), join(directory, "one"));
    const after = await backend.value("one");
    expect(before.version.startsWith("2024-01-01T00:00:00Z-")).toBe(true);
    expect(after.version).not.toBe(before.version);
  });

  test("change by a write in place with a restored mtime", async () => {
    const time = new Date("2024-01-01T00:00:00Z");
    const backend = await open();
    const versions = new Set<string>();
    for (const value of ["first", "other"]) {
      await write("one", value);
      await utimes(join(directory, "one"), time, time);
      versions.add((await backend.value("one")).version);
    }
    expect(versions.size).toBe(2);
  });
});

describe("a change during a fetch", () => {
  /** Swaps until `body` is over. */
  async function meanwhile<T>(step: (round: number) => Promise<void>, body: () => Promise<T>): Promise<T> {
    const running = { on: true };
    const swapping = (async () => {
      for (let round = 0; running.on; round++) await step(round);
    })();
    try {
      return await body();
    } finally {
      running.on = false;
      await swapping;
    }
  }

  const ids = Array.from({ length: 40 }, (_, index) => `secret-${index}`);
  async function generation(name: string): Promise<void> {
    await mkdir(join(root, name));
    for (const id of ids) await writeFile(join(root, name, id), name);
  }
  async function pointTo(name: string, link: string): Promise<void> {
    await symlink(name, `${link}.new`);
    await rename(`${link}.new`, link);
  }
  /**
   * A store that never rests is unavailable, which is right. But as a whole: of a part that did rest, the other part that
   * is published already would be another generation's.
   */
  async function theGeneration(backend: Observed): Promise<string | undefined> {
    const outcomes = [...(await backend.fetch(...ids)).values()];
    const unavailable = outcomes.filter((outcome) => outcome instanceof BackendError && outcome.kind === "unavailable");
    if (unavailable.length === ids.length) return undefined;
    const generations = outcomes.map((outcome) => asValue(outcome).value.toString());
    expect(new Set(generations).size).toBe(1);
    return generations[0];
  }
  async function expectOneGeneration(backend: Observed): Promise<void> {
    const seen = new Set<string>();
    for (let round = 0; round < 60; round++) {
      const generation = await theGeneration(backend);
      if (generation !== undefined) seen.add(generation);
    }
    expect([...seen].sort()).toEqual(["blue", "green"]);
  }

  test("never mixes two generations of a symlinked directory: a certificate with another's key", async () => {
    await generation("blue");
    await generation("green");
    const link = join(root, "current");
    await symlink("blue", link);
    const backend = await open(link);
    await meanwhile(
      async (round) => {
        await new Promise((resolve) => setTimeout(resolve, round % 20));
        await pointTo(round % 2 === 0 ? "green" : "blue", link);
      },
      () => expectOneGeneration(backend),
    );
  });

  test("reports a directory that changes without end as unavailable as a whole", async () => {
    const names = Array.from({ length: 50 }, (_, index) => `generation-${index}`);
    for (const name of names) await generation(name);
    const link = join(root, "current");
    await symlink("generation-0", link);
    const backend = await open(link);
    // Its own process: here the swaps would wait for the reads.
    const swapper = spawn(process.execPath, ["-e", swapWithoutEnd, link, ...names], { stdio: "ignore" });
    const ended = once(swapper, "exit");
    try {
      // Where others have the processors, most get through.
      let unavailable = 0;
      for (let round = 0; round < 5000 && unavailable < 20; round++)
        if ((await theGeneration(backend)) === undefined) unavailable++;
      expect(unavailable).toBe(20);
    } finally {
      swapper.kill();
      await ended;
    }
  }, 60_000);

  test("takes a file whose owner and mode change without end: its bytes do not", async () => {
    // So many that the clock of their file system goes on while they are read.
    const many = Array.from({ length: 800 }, (_, index) => `secret-${index}`);
    for (const id of many) await write(id, "value");
    const backend = await open();
    const writer = spawn(process.execPath, ["-e", setModesWithoutEnd, join(directory, "secret-0")], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const ended = once(writer, "exit");
    try {
      await once(writer.stdout, "data");
      for (let round = 0; round < 3; round++)
        for (const outcome of (await backend.fetch(...many)).values())
          expect(asValue(outcome).value.toString()).toBe("value");
      expect(writer.exitCode).toBe(null);
    } finally {
      writer.kill();
      await ended;
    }
  });

  test("never mixes two generations behind Kubernetes' ..data", async () => {
    await generation("blue");
    await generation("green");
    const data = join(directory, "..data");
    await symlink("../blue", data);
    for (const id of ids) await symlink(`..data/${id}`, join(directory, id));
    const backend = await open();
    await meanwhile(
      async (round) => {
        await new Promise((resolve) => setTimeout(resolve, round % 20));
        await pointTo(round % 2 === 0 ? "../green" : "../blue", data);
      },
      () => expectOneGeneration(backend),
    );
  });

  test("never returns a torn value while a writer works in place", async () => {
    const path = join(directory, "one");
    const values = ["a".repeat(300_000), "b".repeat(300_000)];
    await write("one", values[0] ?? "");
    const backend = await open();
    const seen = new Set<string>();
    const handle = await openFile(path, "r+");
    await meanwhile(
      async (round) => {
        const value = values[round % 2] ?? "";
        for (let at = 0; at < value.length; at += 50_000) await handle.write(value.slice(at, at + 50_000), at);
        await new Promise((resolve) => setTimeout(resolve, 8));
      },
      async () => {
        while (seen.size < 2) {
          const outcome = await backend.outcome("one");
          if (outcome instanceof BackendError) continue;
          const text = asValue(outcome).value.toString();
          expect([...new Set(text)].length, "a mixture of two values").toBe(1);
          seen.add(text);
        }
      },
    );
    await handle.close();
  });

  test("a vanishing directory never makes its secrets missing, which would end the sidecar for good", async () => {
    for (const id of ids) await write(id, "value");
    const backend = await open();
    await meanwhile(
      async () => {
        await rename(directory, `${directory}.away`);
        await new Promise((resolve) => setTimeout(resolve, 3));
        await rename(`${directory}.away`, directory);
        await new Promise((resolve) => setTimeout(resolve, 3));
      },
      async () => {
        for (let round = 0; round < 25; round++) {
          const outcomes = await backend.fetch(...ids).catch((error: unknown) => {
            expect(error).toMatchObject({ name: "BackendError", kind: "unavailable" });
            return new Map();
          });
          for (const outcome of outcomes.values()) expect(outcome).not.toMatchObject({ status: "missing" });
        }
      },
    );
  });
});

describe("sources stay inside the directory", () => {
  const settings = folder.parseSettings({ secretsDir: "/etc/secrets/" });

  test.each(["../shadow", "/etc/shadow", "a/../../b", "a//b", "a/", "./a", ".", "..", "", "a\0b"])(
    "refuses %j",
    (file) => {
      expect(() => folder.parseSource("one", { file }, settings)).toThrow(ConfigError);
      expect(() => folder.parseSource(file, {}, settings)).toThrow(/^configuration: file: /);
    },
  );

  test("accepts names with spaces, dots, .. inside them and directories", () => {
    for (const file of ["a b", ".hidden", "a..b", "..data", "grafana/tls/key.pem"]) {
      const source = folder.parseSource("one", { file }, settings);
      expect(folder.describe(source, settings)).toBe(`/etc/secrets/${file}`);
    }
  });

  test("requires an absolute directory", () => {
    expect(() => folder.parseSettings({ secretsDir: "secrets" })).toThrow("secretsDir: expected an absolute path");
    expect(() => folder.parseSettings({})).toThrow("secretsDir: is required");
    // What is mistyped is told, not what is missing for that.
    expect(() => folder.parseSettings({ secretDir: "/s" })).toThrow(
      'secretDir: unknown option: known here are secretsDir, reloadOnChange, pollingInterval, refreshInterval; did you mean "secretsDir"?',
    );
  });
});

describe("nixops", () => {
  test("waits for a key while its directory, the key or its content is missing, and says which", async () => {
    const keysDir = join(root, "keys");
    const backend = await Observed.open(nixops, { keysDir });
    const waiting = (where: string) => ({ status: "missing", where, mayAppear: true });
    expect(await backend.outcome("one")).toEqual(waiting(`no directory ${keysDir}`));
    await mkdir(keysDir);
    expect(await backend.outcome("one")).toEqual(waiting(`no file ${keysDir}/one`));
    await writeFile(join(keysDir, "one"), "");
    expect(await backend.outcome("one")).toEqual(waiting(`${keysDir}/one is still empty`));
    await writeFile(join(keysDir, "one"), "key");
    expect((await backend.value("one")).value.toString()).toBe("key");
    await unlink(join(keysDir, "one"));
    expect(await backend.outcome("one")).toEqual(waiting(`no file ${keysDir}/one`));
    await rm(keysDir, { recursive: true });
    expect(await backend.outcome("one")).toEqual(waiting(`no directory ${keysDir}`));
  });

  test("reads /run/keys by default, and accepts no key with a slash", () => {
    const settings = nixops.parseSettings({});
    expect(nixops.describe(nixops.parseSource("one", { key: "two" }, settings), settings)).toBe("/run/keys/two");
    expect(() => nixops.parseSource("one", { key: "a/b" }, settings)).toThrow("key: expected the name of a key");
  });
});

/** Root reads any file; the user nobody does not. @returns the way back. */
function withoutRoot(): () => void {
  if (process.geteuid?.() !== 0) return () => undefined;
  process.seteuid?.(65534);
  return () => process.seteuid?.(0);
}

async function makeLarge(path: string, size: number): Promise<void> {
  const handle = await openFile(path, "w");
  await handle.truncate(size);
  await handle.close();
}
