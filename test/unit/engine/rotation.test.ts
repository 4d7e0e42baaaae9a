import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { until } from "../../contract/until.ts";
import { FakeStore, refused } from "../fakes.ts";
import { FailingDisk } from "./failing-disk.ts";
import { freshDirectory, type Options, startSidecar } from "./running-sidecar.ts";

const canary = "canary-7e57";

/** A sidecar whose verify command is this text of sh; `$1` is a directory for its notes. */
async function verifying(script: string, timeout = 30) {
  const notes = freshDirectory();
  const verify = { command: ["sh", "-c", script, "verify", notes], timeout };
  const life = await startSidecar({ config: { onChange: { verify } }, store: new FakeStore({ a: "a1", b: "b1" }) });
  await life.clock.advance(1);
  const note = (name: string) => readFileSync(join(notes, name), "utf8");
  const runs = () => (existsSync(join(notes, "runs")) ? note("runs").length : 0);
  /** Changes `a`, and waits for the outcome: the command is a real one. */
  const rotate = async (value: string) => {
    const { length } = life.log.at("error", "notice");
    life.store.put("a", value);
    life.store.hint();
    await life.clock.advance(0.6);
    await until(() => life.log.at("error", "notice").length > length);
  };
  return { ...life, notes, note, runs, rotate };
}

describe("verify", () => {
  test("sees the whole new set, and its variables, before any reader does", async () => {
    const { rotate, note, file } = await verifying(
      'cat "$SECRETS_DIRECTORY/a" "$SECRETS_DIRECTORY/b" > $1/files; printf %s "$a,$b" > $1/variables; printf %s "$PATH" > $1/path',
    );
    await rotate("a2");
    expect(note("files")).toBe("a2b1");
    expect(note("variables")).toBe("a2,b1");
    expect(note("path")).toBe(process.env["PATH"]);
    expect(file("a")).toBe("a2");
  });

  test("inherits nothing of the sidecar's environment", async () => {
    process.env["FETCHER_UNIT_TOKEN"] = canary;
    const { rotate, note } = await verifying("env > $1/env");
    await rotate("a2");
    delete process.env["FETCHER_UNIT_TOKEN"];
    expect(note("env")).not.toContain(canary);
  });

  test("does not gate the first set", async () => {
    const { notifier, runs } = await verifying("printf x >> $1/runs; exit 1");
    expect(notifier.readies).toHaveLength(1);
    expect(runs()).toBe(0);
  });

  test.each([
    ["the verify command exited with 7", `echo ${canary}; echo ${canary} >&2; exit 7`],
    ["the verify command was killed by SIGKILL", "kill -9 $$"],
  ])(
    "%s: keeps the old set, leaves the target alone, and reports why, without the command's output",
    async (why, script) => {
      const { rotate, file, log, notifier, directory, systemd, clock } = await verifying(script);
      await rotate(canary);
      await clock.advance(0);
      expect(file("a")).toBe("a1");
      expect(log.at("error")).toEqual([`the new secrets are not published: ${why}`]);
      expect(notifier.last).toContain(why);
      expect(systemd.jobs).toEqual([]);
      expect(readdirSync(directory).filter((name) => name.includes("stage"))).toEqual([]);
      expect(JSON.stringify([log.lines, notifier.statuses])).not.toContain(canary);
    },
  );

  test("kills a command that takes too long, with its children", async () => {
    const { rotate, log, note } = await verifying('sleep 600 & echo $! > "$1/child"; wait', 0.3);
    await rotate("a2");
    expect(log.at("error")).toEqual(["the new secrets are not published: the verify command took longer than 0.3 s"]);
    const child = Number(note("child"));
    await until(() => !isAlive(child));
  });

  test("reports a command that does not exist", async () => {
    const verify = { command: ["/no/such/program"] };
    const { store, clock, log, file } = await startSidecar({ config: { onChange: { verify } } });
    store.put("a", "a2");
    store.hint();
    await clock.advance(1);
    await until(() => log.at("error").length > 0);
    expect(log.at("error")).toEqual([
      "the new secrets are not published: cannot run the verify command: no such file or directory (ENOENT)",
    ]);
    expect(file("a")).toBe("a1");
  });

  test("does not run again on a refused set, until the next change or SIGHUP", async () => {
    const { rotate, runs, clock, notes, sidecar, file, log, notifier } = await verifying(
      'printf x >> $1/runs; test -e "$1/good"',
    );
    await rotate("a2");
    await clock.advance(300);
    expect(runs()).toBe(1);
    await rotate("a3");
    expect(runs()).toBe(2);
    writeFileSync(join(notes, "good"), "");
    await clock.advance(300);
    expect(runs()).toBe(2);
    sidecar.reload();
    await clock.advance(1);
    await until(() => log.at("notice").includes("published 1 changed secret"));
    await clock.advance(0);
    expect(file("a")).toBe("a3");
    expect(notifier.last).not.toContain("not published");
  });

  test("clears the problem once the store takes back a refused set", async () => {
    const { rotate, store, clock, notifier, systemd } = await verifying("exit 1");
    await rotate("a2");
    await clock.advance(0);
    expect(notifier.last).toContain("exited with 1");
    store.put("a", "a1");
    await clock.advance(60);
    expect(notifier.last).not.toContain("exited");
    expect(systemd.jobs).toEqual([]);
  });

  test("a refused set stays refused while the store is silent", async () => {
    const { rotate, store, clock, notifier, runs } = await verifying("printf x >> $1/runs; exit 7");
    await rotate("a2");
    store.down = refused;
    await clock.advance(120);
    expect(notifier.last).toContain("connection refused");
    expect(notifier.last).toContain("the verify command exited with 7");
    store.down = undefined;
    await clock.advance(120);
    expect([notifier.last.includes("exited with 7"), runs()]).toEqual([true, 1]);
  });

  test("ends at a stop, and the log says nothing about the set", async () => {
    const { store, clock, stop, log, end, runs } = await verifying("printf x >> $1/runs; sleep 600");
    store.put("a", "a2");
    store.hint();
    await clock.advance(1);
    await until(() => runs() === 1);
    await stop();
    expect(end()).toBe("stopped");
    expect(log.at("error")).toEqual([]);
  });
});

describe("a start with an earlier published set", () => {
  /** a1 and b1 are published, and the store has other values now. The script is of sh, with `$1` for its notes. */
  async function secondLife({
    script,
    values = { a: "a2", b: "b1" },
    secrets,
    ...options
  }: Omit<Options, "store"> & { script?: string; values?: Record<string, string>; secrets?: object } = {}) {
    const { directory = join(freshDirectory(), "pub") } = options;
    const first = await startSidecar({ directory, ...(secrets === undefined ? {} : { config: { secrets } }) });
    await first.stop();
    const notes = freshDirectory();
    const verify = script === undefined ? {} : { verify: { command: ["sh", "-c", script, "verify", notes] } };
    const life = await startSidecar({
      ...options,
      directory,
      config: { onChange: verify, ...(secrets === undefined ? {} : { secrets }) },
      store: new FakeStore(values),
    });
    const runs = () => (existsSync(join(notes, "runs")) ? readFileSync(join(notes, "runs"), "utf8").length : 0);
    const ready = async () => {
      await until(() => life.notifier.readies.length > 0);
    };
    return { ...life, notes, runs, ready };
  }

  test("does not publish a refused set: READY comes with the old one, and SIGHUP asks verify again", async () => {
    const life = await secondLife({ script: 'printf x >> $1/runs; test -e "$1/good" || exit 7' });
    await life.ready();
    const why = "the new secrets are not published: the verify command exited with 7";
    expect([life.file("a"), life.log.at("error")]).toEqual(["a1", [why]]);
    await life.clock.advance(300);
    expect(life.notifier.last).toContain(why);
    expect([life.runs(), life.file("a"), life.systemd.jobs]).toEqual([1, "a1", []]);
    writeFileSync(join(life.notes, "good"), "");
    life.sidecar.reload();
    await life.clock.advance(1);
    await until(() => life.log.at("notice").includes("published 1 changed secret"));
    expect(life.file("a")).toBe("a2");
    await life.clock.until(() => life.restarts() === 1, 60);
  });

  test("keeps saying that the refused set is not published while the store is silent, and does not try it again after", async () => {
    const life = await secondLife({ script: 'printf x >> $1/runs; grep -q a1 "$SECRETS_DIRECTORY/a" || exit 7' });
    await life.ready();
    const why = "the new secrets are not published: the verify command exited with 7";
    life.store.down = refused;
    await life.clock.until(() => life.notifier.last.includes("connection refused"), 600);
    await life.clock.advance(120);
    expect(life.notifier.last).toContain(why);
    life.store.down = undefined;
    await life.clock.until(() => !life.notifier.last.includes("connection refused"), 600);
    expect(life.notifier.last).toContain(why);
    // It is asked about the old set, too, whose files the settings may have changed.
    expect([life.runs(), life.file("a"), life.log.at("error")]).toEqual([2, "a1", [why]]);
    life.store.put("a", "a1");
    await life.clock.until(() => !life.notifier.last.includes(why), 600);
  });

  test("publishes an accepted set, and the service gets its action", async () => {
    const life = await secondLife({ script: "printf x >> $1/runs" });
    await life.ready();
    expect([life.runs(), life.file("a"), life.log.at("error")]).toEqual([1, "a2", []]);
    await life.clock.until(() => life.restarts() === 1, 60);
  });

  test("does not ask verify about an unchanged set", async () => {
    const life = await secondLife({ script: "printf x >> $1/runs; exit 1", values: { a: "a1", b: "b1" } });
    await life.ready();
    await life.clock.advance(300);
    expect([life.runs(), life.file("a"), life.log.at("error")]).toEqual([0, "a1", []]);
    expect(life.systemd.jobs).toEqual([]);
  });

  test("a stop ends verify, and the log says nothing about the set", async () => {
    const life = await secondLife({ script: "printf x >> $1/runs; sleep 600" });
    await until(() => life.runs() === 1);
    await life.stop();
    expect([life.file("a"), life.log.at("error")]).toEqual(["a1", []]);
  });

  test("a full disk does not end a start: the old set stays, and the new one is published when there is room", async () => {
    let disk: FailingDisk | undefined;
    const directory = join(freshDirectory(), "pub");
    const life = await secondLife({
      directory,
      opened: () => {
        disk = new FailingDisk(directory);
        disk.fail(0);
      },
    });
    await life.ready();
    expect(life.file("a")).toBe("a1");
    expect(life.log.at("error")).toHaveLength(1);
    expect(life.log.at("error")[0]).toMatch(/^the new secrets are not published: .* no space left on .* \(ENOSPC\)$/);
    disk?.heal();
    await life.clock.until(() => life.file("a") === "a2", 600);
    await life.clock.until(() => life.restarts() === 1, 60);
  });

  test("a value that does not fit its variable does not end a start: the old set stays whole", async () => {
    const secrets = { a: { env: "A" }, b: {} };
    const life = await secondLife({ secrets, values: { a: `${canary}\0`, b: "b1" } });
    await life.ready();
    expect([life.file("a"), life.file("b")]).toEqual(["a1", "b1"]);
    expect(life.log.at("error")).toEqual([
      'the new secrets are not published: secret "a": a variable cannot hold its NUL bytes',
    ]);
    life.store.put("a", "a3");
    await life.clock.until(() => life.file("a") === "a3", 600);
  });
});

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return !readFileSync(`/proc/${pid}/stat`, "utf8").includes(") Z ");
  } catch {
    return false;
  }
}

test("a value that does not fit its explicit variable holds back only its own secret", async () => {
  const { store, clock, file, log, restarts, notifier } = await startSidecar({
    config: { secrets: { a: { env: "A" }, b: {} } },
  });
  store.put("a", `${canary}\0`);
  store.put("b", "b2");
  await clock.advance(120);
  expect([file("a"), file("b")]).toEqual(["a1", "b2"]);
  expect(restarts()).toBe(1);
  expect(new Set(log.at("error"))).toEqual(
    new Set(['the new secrets are not published: secret "a": a variable cannot hold its NUL bytes']),
  );
  expect(notifier.last).toContain('secret "a": a variable cannot hold its NUL bytes');
  store.put("a", "a2");
  await clock.advance(60);
  expect(file("a")).toBe("a2");
});

test("reports a value that does not fit its variable for as long as the store is silent", async () => {
  const { store, clock, file, notifier } = await startSidecar({ config: { secrets: { a: { env: "A" }, b: {} } } });
  store.put("a", `${canary}\0`);
  store.put("b", "b2");
  await clock.until(() => file("b") === "b2", 60);
  store.down = refused;
  await clock.advance(120);
  expect(notifier.last).toContain("connection refused");
  expect(notifier.last).toContain("a variable cannot hold its NUL bytes");
});
