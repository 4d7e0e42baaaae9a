/** The remains of a killed `fetcher add` or `fetcher remove`: none may stay for ever, and nothing may be lost. */
import { type ChildProcess, spawn } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { beforeEach, expect, onTestFinished, test } from "vitest";
import { takeTurn } from "../../../src/setup/alone.ts";
import { Changes } from "../../../src/setup/changes.ts";
import { needs } from "../../requirements.ts";
import { clearLeftovers, KEPT, type Places } from "../../../src/setup/leftovers.ts";

let root: string;
let places: Places;

beforeEach(() => {
  root = fs.mkdtempSync(join(tmpdir(), "fetcher-leftovers-"));
  onTestFinished(() => {
    fs.rmSync(root, { recursive: true });
  });
  places = {
    configDirectory: join(root, "config"),
    lastingUnits: join(root, "units"),
    runtimeUnits: join(root, "runtime"),
    generators: join(root, "generators"),
  };
});

function put(path: string, text: string): string {
  fs.mkdirSync(dirname(path), { recursive: true });
  fs.writeFileSync(path, text);
  return path;
}

/** Files, with their texts. */
function all(): Readonly<Record<string, string>> {
  const files = fs.readdirSync(root, { recursive: true, encoding: "utf8" }).sort();
  return Object.fromEntries(
    files.flatMap((name) => {
      const path = join(root, name);
      return fs.statSync(path).isFile() ? [[name, fs.readFileSync(path, "utf8")]] : [];
    }),
  );
}

test("restores a file that was being removed, in each directory where one can be", () => {
  const files = [
    join(places.configDirectory, "web.json"),
    join(places.generators, "fetcher"),
    join(places.lastingUnits, "web.service.d/zz-fetcher-import.conf"),
  ].map((path) => put(path, "text"));
  const before = all();
  // Killed before it is kept or taken back.
  for (const file of files) new Changes("remove").remove(file);
  expect(Object.keys(all())).toHaveLength(3);
  expect(all()).not.toEqual(before);
  const { back, isReloadDue } = clearLeftovers(places);
  expect([...back].sort()).toEqual([...files].sort());
  expect(isReloadDue).toBe(true);
  expect(all()).toEqual(before);
});

test("does not restore a file over one created since", () => {
  const file = put(join(places.configDirectory, "web.json"), "old");
  new Changes("remove").remove(file);
  put(file, "new");
  expect(clearLeftovers(places).back).toEqual([]);
  expect(all()).toEqual({ "config/web.json": "new" });
});

test("removes a half-written file, with its values, in a folder elsewhere too", () => {
  const folder = join(root, "elsewhere");
  put(join(places.configDirectory, "web.json"), JSON.stringify({ config: { secretsDir: folder } }));
  const before = all();
  for (const directory of [
    places.configDirectory,
    join(places.configDirectory, "web/secrets"),
    folder,
    join(places.lastingUnits, "a.service.d"),
  ])
    put(join(directory, ".fetcher-new-4711"), "canary");
  clearLeftovers(places);
  expect(all()).toEqual(before);
});

test("removes units that hide those of the generator, and keeps the administrator's and all other files", () => {
  put(join(places.runtimeUnits, "web-secrets.service"), "[Service]\n");
  put(join(places.configDirectory, ".fetcher-new-x"), "");
  put(join(places.configDirectory, "web/secrets/.hidden"), "");
  put(join(places.configDirectory, "web/secrets/.x.new-1"), "");
  const before = all();
  put(join(places.runtimeUnits, "app-secrets.service"), `${KEPT}[Service]\n`);
  fs.symlinkSync("/dev/null", join(places.runtimeUnits, "masked.service"));
  expect(clearLeftovers(places)).toEqual({ back: [], isReloadDue: true });
  expect(clearLeftovers(places)).toEqual({ back: [], isReloadDue: false });
  fs.rmSync(join(places.runtimeUnits, "masked.service"));
  expect(all()).toEqual(before);
});

test("does not follow a link in place of a file to restore, and keeps its target", () => {
  const victim = put(join(root, "victim/passwd"), "text");
  fs.mkdirSync(places.configDirectory);
  fs.symlinkSync(dirname(victim), join(places.configDirectory, ".fetcher-removed-1"));
  expect(clearLeftovers(places)).toEqual({ back: [], isReloadDue: false });
  expect(fs.readFileSync(victim, "utf8")).toBe("text");
});

for (const [what, owned] of [
  ["another user's folder", (folder: string) => folder],
  ["a folder below another user's", (folder: string) => dirname(folder)],
] as const)
  needs("root").test(`does nothing as root in ${what}, whose owner could have any file moved`, () => {
    const folder = join(root, "home/secrets");
    put(join(places.configDirectory, "web.json"), JSON.stringify({ config: { secretsDir: folder } }));
    put(join(folder, ".fetcher-new-1"), "a");
    put(join(folder, ".fetcher-removed-1/b"), "b");
    fs.chownSync(owned(folder), 12345, 12345);
    const before = all();
    expect(clearLeftovers(places).back).toEqual([]);
    expect(all()).toEqual(before);
  });

needs("root").test("ignores a folder that any user can write to, too", () => {
  const folder = join(root, "open");
  put(join(places.configDirectory, "web.json"), JSON.stringify({ config: { secretsDir: folder } }));
  put(join(folder, ".fetcher-removed-1/b"), "b");
  fs.chmodSync(folder, 0o777);
  expect(clearLeftovers(places).back).toEqual([]);
  expect(fs.readFileSync(join(folder, ".fetcher-removed-1/b"), "utf8")).toBe("b");
});

test("describes a change that fails half-way, or whose remains cannot be removed", () => {
  const directory = join(places.configDirectory, "web");
  put(join(places.configDirectory, "web.json"), "old");
  const changes = new Changes("remove");
  changes.remove(join(places.configDirectory, "web.json"));
  const [aside = ""] = fs.readdirSync(places.configDirectory);
  fs.rmSync(join(places.configDirectory, aside), { recursive: true });
  // It was there a moment ago, and the change is still complete.
  expect(() => {
    changes.keep();
  }).not.toThrow();
  expect(fs.existsSync(directory)).toBe(false);
});

async function holder(): Promise<ChildProcess> {
  const child = spawn("flock", ["--no-fork", root, "sh", "-c", "echo has it; exec sleep 60"], {
    stdio: ["ignore", "pipe", "ignore"],
  });
  onTestFinished(() => void child.kill());
  await new Promise((done) => child.stdout.once("data", done));
  return child;
}

// flock(1) is run where the runtime cannot lock by itself.
const byProgram = () => undefined;

test("two do not work at the same time: the second waits for the first, and gives up", async () => {
  const child = await holder();
  await expect(takeTurn("add", root, byProgram, 0.2)).rejects.toThrow(
    "add: another fetcher add or fetcher remove is running: try again when it has ended",
  );
  const waiting = takeTurn("add", root, byProgram);
  child.kill("SIGKILL");
  await waiting;
});

test("does not wait without systemd's directory", async () => {
  await takeTurn("add", join(root, "none"), byProgram);
});
