import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { needs } from "../requirements.ts";
import { logLines, Place } from "./daemon.ts";

/** Starts with this output, and looks at what is left of the store. */
async function refused(place: Place, output: Readonly<Record<string, unknown>>, args: readonly string[] = []) {
  place.put({ id: "the original" });
  const before = fs.readdirSync(place.store);
  const path = place.writeConfig(place.config(["id"], { output }));
  const { code, stderr } = await place.run(["--config", path, ...args]);
  expect(fs.readFileSync(join(place.store, "id"), "utf8")).toBe("the original");
  expect(fs.lstatSync(join(place.store, "id")).isFile()).toBe(true);
  expect(fs.readdirSync(place.store)).toEqual(before);
  const messages = logLines(stderr).map(({ message }) => message);
  expect(messages).toHaveLength(1);
  expect(code).toBe(78);
  return messages[0]?.replace("configuration: ", "");
}

describe("an output among the secrets' originals is refused, and nothing is touched", () => {
  test("the same directory", async () => {
    const place = new Place();
    expect(await refused(place, { directory: place.store })).toBe(
      `output.directory: is where the secrets come from (${place.store}): name another directory`,
    );
  });

  test("the same by --output, and by --check=config", async () => {
    const place = new Place();
    expect(await refused(place, {}, ["--output", place.store])).toContain("is where the secrets come from");
    const other = new Place();
    expect(await refused(other, { directory: other.store }, ["--check=config"])).toContain(
      "is where the secrets come from",
    );
  });

  test("the same through a symbolic link above it", async () => {
    const place = new Place();
    fs.symlinkSync(join(place.store, ".."), place.path("way"));
    const directory = join(place.path("way"), place.store.split("/").at(-1) ?? "");
    expect(await refused(place, { directory })).toContain("output.directory: is where the secrets come from");
  });

  test("below it, where nothing is yet, and around it", async () => {
    const place = new Place();
    expect(await refused(place, { directory: join(place.store, "new", "pub") })).toContain("output.directory: lies in");
    const other = new Place();
    expect(await refused(other, { directory: join(other.store, "..") })).toContain("output.directory: holds");
  });

  needs("mount-namespace").test("the same through a bind mount", async () => {
    const place = new Place();
    const way = place.path("way");
    fs.mkdirSync(way);
    execFileSync("mount", ["--bind", place.store, way]);
    try {
      expect(await refused(place, { directory: way })).toContain("output.directory: is where the secrets come from");
    } finally {
      execFileSync("umount", [way]);
    }
  });

  test("links in it", async () => {
    const place = new Place();
    expect(await refused(place, { links: place.store })).toContain("output.links: is where the secrets come from");
  });
});

test("a secret at the name of the mount point beside the links fails in --check=config already", async () => {
  const place = new Place();
  const output = { links: "/tmp" };
  const path = place.writeConfig(place.config({ id: { file: ".secrets" } }, { output }));
  const { code, stderr } = await place.run(["--config", path, "--check=config"]);
  expect(code).toBe(78);
  expect(stderr).toContain("secrets.id.file: is the file of output.linksTo already");
});
