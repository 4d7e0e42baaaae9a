/** Faults that each had their own consequence once. */
import * as fs from "node:fs";
import { join } from "node:path";
import { describe, expect } from "vitest";
import { needs } from "../requirements.ts";
import { eventually } from "../process/daemon.ts";
import { Scene } from "./scene.ts";

needs("gcc").test("a failed fsync of the directory: the set is published later, without a restart", async () => {
  const { scene, daemon } = await runningScene();
  scene.control.arm({ nth: 1, how: "once", error: "EIO", of: `fsync ${scene.place.output}$` });
  scene.next();
  daemon.signal("SIGHUP");
  expect((await daemon.says(/are not published/)).message).toContain(
    `cannot write ${scene.place.output}: i/o error (EIO)`,
  );
  await daemon.says(/^published/);
  expect(await scene.restProblemSoon()).toBeUndefined();
});

needs("gcc").test("a commit directory removed half-way: the next attempt publishes all of it", async () => {
  const { scene, daemon } = await runningScene();
  scene.control.arm({ nth: 3, how: "forever", error: "EIO", of: "/.fetcher-commit-" });
  scene.next();
  daemon.signal("SIGHUP");
  await daemon.says(/are not published: .*\(EIO\)/);
  const { output } = scene.place;
  for (const name of fs.readdirSync(output))
    if (name.startsWith(".fetcher-commit-")) fs.rmSync(join(output, name), { recursive: true });
  scene.control.disarm();
  await daemon.says(/^published/);
  expect(await scene.restProblemSoon()).toBeUndefined();
});

needs("gcc").test("an unreadable state ends the start, and the next start removes a dropped secret", async () => {
  const scene = await sceneWithDropped();
  const state = join(scene.place.output, ".fetcher-state");
  scene.control.arm({ nth: 1, how: "forever", error: "EIO", of: `read ${state}` });
  const { code, stderr } = await scene.start().exit;
  expect(code).toBe(74);
  expect(stderr).toContain(`output: cannot read ${state}: i/o error (EIO)`);
  scene.control.disarm();
  expect(fs.existsSync(join(scene.place.output, "opt"))).toBe(true);
  await scene.start().ready();
  await eventually("opt is gone", () => !fs.existsSync(join(scene.place.output, "opt")));
});

describe.each([
  ["the output", ""],
  ["the lock's file", "/.fetcher-lock"],
])("%s cannot be looked at once it is open", (_, name) => {
  needs("gcc").test("the start ends, and names it", async () => {
    const scene = new Scene();
    await scene.learn();
    const path = scene.place.output + name;
    // The first look at the open file is another one, at its owner.
    scene.control.arm({ nth: name === "" ? 1 : 2, how: "forever", error: "EIO", of: `fstat ${path}$` });
    const { code, stderr } = await scene.start().exit;
    expect(code).toBe(74);
    expect(stderr).toContain(`cannot read ${path}: i/o error (EIO)`);
  });
});

// Each call that looks for a file, or removes it, and may find nothing.
const callsOnNames = [
  ["lstat", "output"],
  ["lstat", "links"],
  ["readlink", "links"],
  ["unlink", "output"],
  ["unlink", "links"],
] as const;

describe.each(callsOnNames)("%s in %s once reports as missing", (call, where) => {
  const directoryOf = (scene: Scene) => (where === "output" ? scene.place.output : scene.links);

  needs("gcc").test("a dropped secret: it is no longer published", async () => {
    const scene = await sceneWithDropped();
    scene.control.arm({ nth: 1, how: "once", error: "ENOENT", of: `${call} ${directoryOf(scene)}/opt$` });
    await scene.start().ready();
    expect(await scene.restProblemSoon()).toBeUndefined();
    expect(scene.control.disarm().injected).toBe(1);
  });

  needs("gcc").test("a secret at the end: it is removed", async () => {
    const { scene, daemon } = await runningScene();
    scene.control.arm({ nth: 1, how: "once", error: "ENOENT", of: `${call} ${directoryOf(scene)}/a$` });
    await daemon.end();
    expect(scene.control.disarm().injected).toBe(1);
    expect(scene.remains).toEqual([]);
  });
});

describe.each(["unlink", "rmdir"])("an end during which %s once finds nothing", (call) => {
  needs("gcc").test("leaves nothing", async () => {
    const scene = new Scene();
    const last = call === "rmdir" ? "" : "/.fetcher-lock";
    await scene.learn();
    scene.withoutForeign();
    await scene.clear(false);
    const daemon = await scene.start().ready();
    scene.control.arm({ nth: 1, how: "once", error: "ENOENT", of: `${call} ${scene.place.output}${last}$` });
    await daemon.end();
    expect(scene.control.disarm().injected).toBe(1);
    expect(scene.remains).toEqual([]);
    expect(fs.existsSync(scene.place.output)).toBe(false);
  });
});

async function runningScene() {
  const scene = new Scene();
  await scene.learn();
  return { scene, daemon: await scene.running() };
}

/** No sidecar runs, and one secret of those that are published has left the configuration. */
async function sceneWithDropped(): Promise<Scene> {
  const { scene } = await runningScene();
  await scene.end();
  scene.next();
  scene.drop();
  return scene;
}
