import * as fs from "node:fs";
import { constants } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { needs } from "../requirements.ts";
import { countingBackend } from "./counting-backend.ts";
import { eventually, forHelper, Place } from "./daemon.ts";

test("SIGUSR1 does not open a debugger's port, where any local user could read the secrets", async () => {
  const place = new Place();
  place.put({ a: "one" });
  const daemon = await place.start(place.config(["a"])).ready();
  daemon.signal("SIGUSR1");
  daemon.signal("SIGHUP");
  await daemon.says(/^fetched again/);
  expect(daemon.stderr).not.toMatch(/debugger|inspector/i);
});

/** Whether a handler of the process's own gets SIGUSR1: Node has one before any JavaScript runs. */
function catchesUsr1(pid: number): boolean {
  const [, mask = "0"] = /^SigCgt:\s*([0-9a-f]+)$/m.exec(fs.readFileSync(`/proc/${pid}/status`, "utf8")) ?? [];
  return (BigInt(`0x${mask}`) & (1n << BigInt(constants.signals.SIGUSR1 - 1))) !== 0n;
}

needs("node").test("SIGUSR1 does not open one even as soon as Node could hear it", async () => {
  const place = new Place();
  place.put({ a: "one" });
  let early = 0;
  // On a busy machine, more of them may come late.
  for (let start = 0; start < 10 || (early === 0 && start < 60); start += 1) {
    // By its first line, as units and shells start it.
    const daemon = place.start(place.config(["a"]), { wrapper: ["sh", "-c", 'shift; exec "$@"', "sh"] });
    await eventually("a handler", () => catchesUsr1(daemon.pid));
    daemon.signal("SIGUSR1");
    await eventually("ready", () => daemon.stderr.includes('"ready:'));
    daemon.signal("SIGUSR1");
    const { code, stderr } = await daemon.end();
    expect(code).toBe(0);
    expect(stderr).not.toMatch(/debugger listening/i);
    if (stderr.includes("Starting inspector on 240.0.0.1:9229 failed")) early += 1;
  }
  // Else no signal came before ours was there.
  expect(early).toBeGreaterThan(0);
});

test("starts with a circular link in PATH", async () => {
  const place = new Place();
  place.put({ a: "one" });
  const loop = place.path("loop");
  fs.symlinkSync(loop, loop);
  const env = { PATH: `${loop}:${process.env["PATH"] ?? ""}`, NOTIFY_SOCKET: forHelper };
  const daemon = await place.start(place.config(["a"]), { env }).ready();
  place.put({ a: "two" });
  await eventually("the rotation", () => place.read("a") === "two");
  const { code, stderr } = await daemon.end();
  expect(stderr).not.toContain("bug");
  expect(code).toBe(0);
});

test("a stop at any moment of a start takes back the directories that were made for it", async () => {
  const place = new Place();
  place.put({ a: "one" });
  const template = place.path("template");
  fs.writeFileSync(template, "{{a}}");
  const made = place.path("made");
  const config = {
    ...place.config(["a"], { output: { directory: join(made, "deep", "output") } }),
    templates: { "app.ini": { template } },
  };
  const begun = performance.now();
  const first = await place.start(config).ready();
  const length = performance.now() - begun;
  await first.end();
  let early = 0;
  for (let at = 0; at < 40 || (early < 5 && at < 200); at += 1) {
    const daemon = place.start(config);
    await delay((length * (at % 40)) / 40);
    const { code, signal, stderr } = await daemon.end();
    // Before it can hear it, the signal ends it.
    if (signal === null) expect(code).toBe(0);
    else expect(signal).toBe("SIGTERM");
    if (signal === null && !stderr.includes('"ready:')) early += 1;
    expect(fs.existsSync(made)).toBe(false);
  }
  // Else every stop came too early or too late.
  expect(early).toBeGreaterThanOrEqual(5);
}, 120_000);

describe("start", () => {
  test("says READY when every file is there, complete", async () => {
    const place = new Place();
    place.put({ a: "one", b: "it's $two\n" });
    const daemon = place.start(place.config(["a", "b"]));
    const line = await daemon.says(/^ready:/);
    expect(place.published()).toMatchObject({ a: "one", b: "it's $two\n" });
    expect(place.read("secrets.env")).toContain(`a='one'\nb='it'"'"'s $two'\n`);
    expect(line).toMatchObject({ level: "info", directory: place.output });
    expect(line.message).toContain("2 secrets from folder");
  });

  test("starts without a missing optional secret, names it, and publishes it when it comes", async () => {
    const place = new Place();
    place.put({ must: "one" });
    const daemon = await place.start(place.config({ must: {}, may: { optional: true } })).ready();
    expect(await daemon.says(/published without it/)).toMatchObject({ level: "warn", secrets: ["may"] });
    expect(place.read("may")).toBeUndefined();
    place.put({ may: "late" });
    await eventually("the optional secret", () => place.read("may") === "late");
    expect(place.read("must")).toBe("one");
  });

  test("files have mode 0400 by default in a directory that others can reach; the directory can be entered", async () => {
    const place = new Place("/dev/shm");
    fs.chmodSync(place.root, 0o755);
    place.put({ plain: "1", open: "2" });
    await place.start(place.config({ plain: {}, open: { mode: "0644" } })).ready();
    expect(modes(place)).toMatchObject({ plain: "400", open: "644", "secrets.env": "400" });
    expect(fs.statSync(place.output).mode & 0o7777).toBe(0o755);
  });

  test("files have mode 0444 where only root and the target's mount can reach them, for a dynamic user", async () => {
    const place = new Place("/dev/shm");
    place.put({ plain: "1", strict: "2" });
    await place.start(place.config({ plain: {}, strict: { mode: "0400" } })).ready();
    expect(modes(place)).toMatchObject({ plain: "444", strict: "400", "secrets.env": "444" });
    // What is stricter than secrets.env does not enter it unasked.
    expect(place.read("secrets.env")).toContain("plain=");
    expect(place.read("secrets.env")).not.toContain("strict=");
  });

  test("files below /tmp have the sticky bit, so systemd-tmpfiles does not remove them", async () => {
    const place = new Place("/tmp");
    place.put({ id: "1" });
    await place.start(place.config(["id"])).ready();
    expect(modes(place)).toMatchObject({ id: "1444", "secrets.env": "1444" });
  });

  needs("root").test("files have their final owner, group and mode at once, by name and by number", async () => {
    const place = new Place("/dev/shm");
    place.put({ named: "1", numbered: "2", grouped: "3" });
    const secrets = {
      named: { owner: "daemon", group: "daemon" },
      numbered: { owner: 4321, group: 4322, mode: "0440", env: "NUMBERED" },
      grouped: { group: 4322, mode: "0640" },
    };
    await place.start(place.config(secrets)).ready();
    const owners = ["named", "numbered", "grouped"].map((name) => {
      const { uid, gid } = fs.statSync(join(place.output, name));
      return [uid, gid];
    });
    expect(owners).toEqual([
      [1, 1],
      [4321, 4322],
      [0, 4322],
    ]);
    expect(modes(place)).toMatchObject({ named: "400", numbered: "440", grouped: "640" });
    expect(place.read("secrets.env")).toContain("NUMBERED='2'");
    expect(place.read("secrets.env")).not.toMatch(/named=|grouped=/);
  });
});

describe("rotation", () => {
  test("publishes secrets that change together at once", async () => {
    const place = new Place();
    const ids = ["a", "b", "c", "d"];
    place.put(Object.fromEntries(ids.map((id) => [id, "old"])));
    // Long enough that all four writes lie within it on any machine.
    const daemon = await place.start(place.config(ids, { onChange: { settle: 1 } })).ready();
    // The watch hints once when it is armed; a change before that is found by the same fetch.
    place.put(Object.fromEntries(ids.map((id) => [id, "new"])));
    const line = await daemon.says(/^published/);
    expect(line).toMatchObject({ level: "notice", message: "published 4 changed secrets", secrets: ids });
    expect(place.published()).toMatchObject(Object.fromEntries(ids.map((id) => [id, "new"])));
  });

  test("compares only bytes: the same bytes written again publish nothing", async () => {
    const place = new Place();
    place.put({ id: "one", other: "one" });
    const daemon = await place.start(place.config(["id", "other"])).ready();
    const inode = fs.statSync(join(place.output, "id")).ino;
    place.put({ id: "one" });
    place.put({ other: "two" });
    expect(await daemon.says(/^published/)).toMatchObject({ secrets: ["other"] });
    expect(fs.statSync(join(place.output, "id")).ino).toBe(inode);
  });

  test("without reloadOnChange it neither polls nor watches, until SIGHUP publishes the changes", async () => {
    const place = new Place();
    place.put({ id: "one" });
    const { backend, fetches } = countingBackend(place);
    const start = async (reloadOnChange: boolean, output: string) => {
      const config = place.config(["id"], { config: { secretsDir: undefined, reloadOnChange, pollingInterval: 0.05 } });
      const path = place.writeConfig({ ...config, backend, output: { directory: output } }, `${reloadOnChange}.json`);
      return place.spawn(["--config", path]).ready();
    };
    const daemon = await start(false, place.output);
    expect(fetches()).toBe(1);
    // A second daemon that does poll is the measure of time; it stops before its polls are counted.
    const polling = await start(true, place.path("other"));
    place.put({ id: "two" });
    await eventually("polls", () => fetches() > 10);
    await polling.says(/^published/);
    await polling.end();
    expect(place.read("id")).toBe("one");
    const before = fetches();
    daemon.signal("SIGHUP");
    await daemon.says(/^published 1 changed secret$/);
    expect(fetches()).toBe(before + 1);
    expect(place.read("id")).toBe("two");
  });

  test("SIGHUP reports that nothing is new, and touches nothing", async () => {
    const place = new Place();
    place.put({ id: "one" });
    const daemon = await place.start(place.config(["id"])).ready();
    const { ino, mtimeMs } = fs.statSync(join(place.output, "id"));
    daemon.signal("SIGHUP");
    await daemon.says(/nothing has changed/);
    expect(fs.statSync(join(place.output, "id"))).toMatchObject({ ino, mtimeMs });
  });

  test("a reader with the old file open keeps the old bytes whole", async () => {
    const place = new Place();
    place.put({ id: "x".repeat(100_000) });
    const daemon = await place.start(place.config(["id"])).ready();
    const fd = fs.openSync(join(place.output, "id"), "r");
    place.put({ id: "short" });
    await daemon.says(/^published/);
    expect(fs.readFileSync(fd, "utf8")).toBe("x".repeat(100_000));
    fs.closeSync(fd);
  });

  test("links lead to each file, SIGHUP repairs them, and each goes with its secret", async () => {
    const place = new Place();
    place.put({ id: "one" });
    const links = place.path("links");
    const daemon = await place.start(place.config(["id"], { output: { links } })).ready();
    expect(fs.readFileSync(join(links, "id"), "utf8")).toBe("one");
    expect(fs.readFileSync(join(links, "secrets.env"), "utf8")).toContain("id='one'");
    fs.rmSync(join(links, "id"));
    daemon.signal("SIGHUP");
    await eventually("the mended link", () => fs.existsSync(join(links, "id")));
    expect(await daemon.end()).toMatchObject({ code: 0 });
    expect(fs.existsSync(links)).toBe(false);
  });
});

describe("stop", () => {
  test.each(["SIGTERM", "SIGINT"] as const)(
    "%s ends a daemon in a terminal with 0, and removes its files",
    async (signal) => {
      const place = new Place();
      place.put({ id: "one" });
      const daemon = await place.start(place.config(["id"])).ready();
      expect(await daemon.end(signal)).toMatchObject({ code: 0, signal: null });
      expect(fs.existsSync(place.output)).toBe(false);
    },
  );

  test("removes every directory that it made for files and links, one in the other", async () => {
    const place = new Place("/dev/shm");
    place.put({ id: "one" });
    const output = { directory: place.path("made", "links", "deep", "pub"), links: place.path("made", "links") };
    const daemon = await place.start(place.config(["id"], { output })).ready();
    expect(fs.readdirSync(output.links).sort()).toEqual(["deep", "id", "secrets.env"]);
    expect(await daemon.end()).toMatchObject({ code: 0 });
    expect(fs.readdirSync(place.root)).not.toContain("made");
  });

  test.each([
    ["a directory cannot be made", ["a", "n".repeat(256)], {}, "ENAMETOOLONG", 73],
    ["an owner does not exist", ["a", "b"], { owner: "no-such-user-here" }, "no-such-user-here", 78],
  ])("a start that fails leaves no directory: %s", async (_, names, secret, words, status) => {
    const place = new Place();
    place.put({ id: "one" });
    const output = { directory: place.path("made", ...names), links: place.path("made", "links") };
    const { code, stderr } = await place.start(place.config({ id: secret }, { output })).exit;
    expect(stderr).toContain(words);
    expect([code, fs.existsSync(place.path("made"))]).toEqual([status, false]);
  });

  test("a stop before anything is published leaves no directory", async () => {
    const place = new Place();
    fs.rmdirSync(place.store);
    const output = { directory: place.path("made", "a", "pub"), links: place.path("made", "links") };
    const daemon = place.start(place.config(["id"], { output }));
    await daemon.says(/trying again/);
    expect(await daemon.end()).toMatchObject({ code: 0 });
    expect(fs.existsSync(place.path("made"))).toBe(false);
  });

  test("keeps other programs' files in the output", async () => {
    const place = new Place();
    place.put({ id: "one" });
    fs.mkdirSync(place.output);
    fs.writeFileSync(join(place.output, "note"), "mine");
    const daemon = await place.start(place.config(["id"])).ready();
    await daemon.end();
    expect(fs.readdirSync(place.output)).toEqual(["note"]);
  });

  test("removes the files in a shell of a unit too, which has the unit's $INVOCATION_ID", async () => {
    const place = new Place();
    place.put({ id: "one" });
    const other = place.path("other");
    fs.mkdirSync(other);
    const unit = { INVOCATION_ID: "0".repeat(32), SYSTEMD_EXEC_PID: String(process.pid) };
    const env = { ...unit, RUNTIME_DIRECTORY: other };
    const daemon = await place.start(place.config(["id"]), { env }).ready();
    // The directory of that unit is not ours.
    expect(fs.readdirSync(other)).toEqual([]);
    await daemon.end();
    expect(place.published()).toEqual({});
  });

  test("keeps the files under systemd ($INVOCATION_ID), because the target still needs them when the sidecar restarts", async () => {
    const place = new Place();
    place.put({ id: "one" });
    const daemon = await place.start(place.config(["id"]), { env: { INVOCATION_ID: "0".repeat(32) } }).ready();
    expect(await daemon.end()).toMatchObject({ code: 0 });
    expect(place.published()).toMatchObject({ id: "one" });
  });

  test("exits 0 at once on a stop while it waits for the store, and publishes nothing", async () => {
    const place = new Place();
    fs.rmdirSync(place.store);
    const daemon = place.start(place.config(["id"]));
    await daemon.says(/trying again/);
    expect(await daemon.end()).toMatchObject({ code: 0 });
    expect(place.published()).toEqual({});
  });
});

/** name → permission bits, octal. */
function modes(place: Place): Record<string, string> {
  const names = fs.readdirSync(place.output);
  return Object.fromEntries(
    names.map((name) => [name, (fs.statSync(join(place.output, name)).mode & 0o7777).toString(8)]),
  );
}
