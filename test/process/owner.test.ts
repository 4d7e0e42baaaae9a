/** Two fetchers on one output: the second would remove, at its end, the files that the first one's service needs. */
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import * as fs from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { needs } from "../requirements.ts";
import { Place, withoutLibraries } from "./daemon.ts";

const inUse = (place: Place, pid: number) =>
  new RegExp(`output: ${place.output} is in use by .*\\bprocess ${pid}\\)?: stop that first`);

test("refuses a second daemon with the first one's name, and touches nothing published", async () => {
  const place = new Place();
  place.put({ id: "one" });
  const first = await place.start(place.config(["id"])).ready();
  const before = fs.statSync(join(place.output, "id"));
  const exit = await place.start(place.config(["id"], { config: { reloadOnChange: false } })).exit;
  expect(exit.code).toBe(73);
  expect(exit.stderr).toMatch(inUse(place, first.pid));
  expect(fs.statSync(join(place.output, "id")).ino).toBe(before.ino);
  place.put({ id: "two" });
  await first.says(/^published 1/);
  expect(place.read("id")).toBe("two");
});

test("neither --once nor a non-resident daemon writes where a sidecar is at work", async () => {
  const place = new Place();
  place.put({ id: "one" });
  const first = await place.start(place.config(["id"])).ready();
  place.put({ other: "x" });
  const config = place.writeConfig(place.config(["other"]), "other.json");
  const once = await place.run(["--config", config, "--once", "--output", place.output]);
  expect([once.code, once.stderr]).toEqual([73, expect.stringMatching(inUse(place, first.pid))]);
  const brief = place.config(["other"], { resident: false, config: { reloadOnChange: false } });
  const started = await place.run(["--config", place.writeConfig(brief, "brief.json")]);
  expect([started.code, started.stderr]).toEqual([73, expect.stringMatching(inUse(place, first.pid))]);
  expect(Object.keys(place.published())).toEqual(["id", "secrets.env"]);
});

test("a killed daemon does not stop the next one, which adopts at once", async () => {
  const place = new Place();
  place.put({ id: "one" });
  await (await place.start(place.config(["id"])).ready()).end("SIGKILL");
  fs.renameSync(place.store, place.path("away"));
  await place.start(place.config(["id"])).ready();
  expect(place.read("id")).toBe("one");
});

test("a daemon that was killed while it started a child does not stop the next one: the child has its lock for a moment", async () => {
  const place = new Place();
  place.put({ id: "one" });
  await (await place.start(place.config(["id"])).ready()).end("SIGKILL");
  const holder = spawn("flock", [join(place.output, ".fetcher-lock"), "sh", "-c", "echo held; sleep 0.3"], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  await once(holder.stdout, "data");
  await place.start(place.config(["id"])).ready();
  expect(place.read("id")).toBe("one");
});

test("starts despite a dead process's lock, or a link or a fifo in its place", async () => {
  const place = new Place();
  place.put({ id: "one" });
  const lock = join(place.output, ".fetcher-lock");
  const victim = place.path("victim");
  fs.writeFileSync(victim, "untouched");
  const traps = [
    () => {
      fs.writeFileSync(lock, JSON.stringify({ pid: process.pid, unit: "other.service" }));
    },
    () => {
      fs.symlinkSync(victim, lock);
    },
    () => {
      fs.linkSync(victim, lock);
    },
    () => {
      fs.mkdirSync(lock);
    },
  ];
  for (const trap of traps.slice(0, 3)) {
    fs.mkdirSync(place.output, { recursive: true });
    trap();
    const daemon = await place.start(place.config(["id"])).ready();
    expect((await daemon.end()).code).toBe(0);
    // Nobody else removes what a daemon without systemd leaves.
    expect(fs.existsSync(place.output) ? fs.readdirSync(place.output) : []).toEqual([]);
  }
  expect(fs.readFileSync(victim, "utf8")).toBe("untouched");
  fs.mkdirSync(place.output, { recursive: true });
  traps[3]?.();
  expect((await place.start(place.config(["id"])).exit).stderr).toContain(`cannot make ${lock}`);
});

const removals = {
  "its lock file": (output: string) => {
    fs.rmSync(join(output, ".fetcher-lock"));
  },
  "all of fetcher's own files": (output: string) => {
    for (const name of fs.readdirSync(output).filter((entry) => entry.startsWith(".fetcher-")))
      fs.rmSync(join(output, name));
  },
};

test.each(Object.entries(removals))(
  "refuses a second daemon, however often, when somebody has removed %s",
  async (_, remove) => {
    const place = new Place();
    place.put({ id: "one" });
    const first = await place.start(place.config(["id"])).ready();
    const before = fs.statSync(join(place.output, "id")).ino;
    remove(place.output);
    const path = place.writeConfig(place.config(["id"], { config: { reloadOnChange: false } }), "second.json");
    for (let attempt = 0; attempt < 2; attempt += 1) expect((await place.run(["--config", path])).code).toBe(73);
    expect(fs.statSync(join(place.output, "id")).ino).toBe(before);
    place.put({ id: "two" });
    await first.says(/^published 1/);
    expect(place.read("id")).toBe("two");
    // It has its lock file again, with its name.
    expect((await place.run(["--config", path])).stderr).toMatch(inUse(place, first.pid));
  },
);

needs("mount-namespace").test("refuses a second daemon without a lock file in other namespaces, too", async () => {
  const place = new Place();
  place.put({ id: "one" });
  await place.start(place.config(["id"])).ready();
  fs.rmSync(join(place.output, ".fetcher-lock"));
  const path = place.writeConfig(place.config(["id"]), "second.json");
  const exit = await place.run(["--config", path], { wrapper: ["unshare", "--net", "--pid", "--fork"] });
  expect([exit.code, exit.stderr]).toEqual([73, expect.stringContaining("is in use by")]);
  expect(place.read("id")).toBe("one");
});

needs("node").test("refuses a second daemon without a lock file where flock(1) takes the locks", async () => {
  const place = new Place();
  place.put({ id: "one" });
  const env = withoutLibraries(place);
  const first = await place.start(place.config(["id"]), { env }).ready();
  fs.rmSync(join(place.output, ".fetcher-lock"));
  const path = place.writeConfig(place.config(["id"]), "second.json");
  expect((await place.run(["--config", path], { env })).stderr).toMatch(inUse(place, first.pid));
  place.put({ id: "two" });
  await first.says(/^published 1/);
  expect((await place.run(["--config", path], { env })).stderr).toMatch(inUse(place, first.pid));
});

test("an owner that lost its directory to another neither writes nor removes there, until the other has ended", async () => {
  const place = new Place();
  place.put({ id: "one" });
  const first = await place.start(place.config(["id"])).ready();
  // Else it might make its directory again before the other comes.
  first.signal("SIGSTOP");
  fs.rmSync(place.output, { recursive: true });
  const second = await place.start(place.config(["id"], { config: { reloadOnChange: false } })).ready();
  first.signal("SIGCONT");
  const before = fs.statSync(join(place.output, "id")).ino;
  place.put({ id: "two" });
  expect((await first.says(/is in use by/)).message).toMatch(inUse(place, second.pid));
  expect(fs.statSync(join(place.output, "id")).ino).toBe(before);
  await second.end("SIGKILL");
  await first.says(/^published 1/);
  expect(place.read("id")).toBe("two");
});

test("an owner that lost its directory leaves the other's set at its end", async () => {
  const place = new Place();
  place.put({ id: "one" });
  const first = await place.start(place.config(["id"])).ready();
  first.signal("SIGSTOP");
  fs.rmSync(place.output, { recursive: true });
  const second = await place.start(place.config(["id"])).ready();
  first.signal("SIGCONT");
  const exit = await first.end();
  expect([exit.code, exit.stderr]).toEqual([
    73,
    expect.stringMatching(new RegExp(`is in use by .*${second.pid}.*: its files stay`)),
  ]);
  expect(place.read("id")).toBe("one");
});

test("a reader's lock on the directory, as systemd-tmpfiles takes it, keeps no sidecar out", async () => {
  const place = new Place();
  place.put({ id: "one" });
  fs.mkdirSync(place.output, { recursive: true });
  const reader = spawn("flock", [place.output, "sh", "-c", "echo held; sleep 1000"], {
    detached: true,
    stdio: ["ignore", "pipe", "inherit"],
  });
  try {
    await once(reader.stdout, "data");
    await (await place.start(place.config(["id"])).ready()).end("SIGKILL");
    expect((await (await place.start(place.config(["id"])).ready()).end()).code).toBe(0);
  } finally {
    if (reader.pid !== undefined) process.kill(-reader.pid, "SIGKILL");
  }
});

test("--once leaves no lock behind", async () => {
  const place = new Place();
  place.put({ id: "one" });
  const args = ["--config", place.writeConfig(place.config(["id"])), "--once", "--output", place.output];
  for (let run = 0; run < 2; run += 1) expect((await place.run(args)).code).toBe(0);
  expect(fs.existsSync(join(place.output, ".fetcher-lock"))).toBe(false);
});

needs("mount-namespace").test("refuses a second daemon in other network and process namespaces too", async () => {
  const place = new Place();
  place.put({ id: "one" });
  await place.start(place.config(["id"])).ready();
  const path = place.writeConfig(place.config(["id"]), "second.json");
  const exit = await place.run(["--config", path], { wrapper: ["unshare", "--net", "--pid", "--fork"] });
  expect(exit.stderr).toContain("is in use by");
});

needs("node").test("takes the lock with flock(1) where its library cannot be loaded", async () => {
  const place = new Place();
  place.put({ id: "one" });
  const env = withoutLibraries(place);
  const first = await place.start(place.config(["id"]), { env }).ready();
  expect(first.stderr).not.toContain("cannot lock the output against a second fetcher");
  const second = place.writeConfig(place.config(["id"]), "second.json");
  expect((await place.run(["--config", second])).stderr).toMatch(inUse(place, first.pid));
  await first.end();
  const other = await place.start(place.config(["id"])).ready();
  expect((await place.run(["--config", second], { env })).stderr).toMatch(inUse(place, other.pid));
});

needs("node").test("starts without that library and flock(1) too, and warns about it", async () => {
  const { place, env } = withoutPrograms();
  const daemon = await place.start(place.config(["id"]), { env: { ...env, ...withoutLibraries(place) } }).ready();
  expect((await daemon.says(/cannot lock the output against a second fetcher/)).level).toBe("warn");
});

test("takes the same lock as flock(1), without needing that program", async () => {
  const { place, env } = withoutPrograms();
  const daemon = await place.start(place.config(["id"]), { env }).ready();
  expect(daemon.stderr).not.toContain("cannot lock the output against a second fetcher");
  const second = place.writeConfig(place.config(["id"]), "second.json");
  expect((await place.run(["--config", second], { env })).stderr).toMatch(inUse(place, daemon.pid));
  const lock = fs.openSync(join(place.output, ".fetcher-lock"), "r");
  expect(spawnSync("flock", ["-n", "0"], { stdio: [lock, "ignore", "inherit"] }).status).toBe(1);
  await daemon.end("SIGKILL");
  expect(spawnSync("flock", ["-n", "0"], { stdio: [lock, "ignore", "inherit"] }).status).toBe(0);
  fs.closeSync(lock);
});

function withoutPrograms() {
  const place = new Place();
  place.put({ id: "one" });
  const empty = place.path("empty");
  fs.mkdirSync(empty);
  return { place, env: { PATH: empty } };
}
