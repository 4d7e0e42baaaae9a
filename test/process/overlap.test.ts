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

describe("refuses an output among the secrets' originals, and touches nothing", () => {
  test("in the same directory", async () => {
    const place = new Place();
    expect(await refused(place, { directory: place.store })).toBe(
      `output.directory: is where the secrets come from (${place.store}): name another directory`,
    );
  });

  test("in the same directory by --output, and by --check=config", async () => {
    const place = new Place();
    expect(await refused(place, {}, ["--output", place.store])).toContain("is where the secrets come from");
    const other = new Place();
    expect(await refused(other, { directory: other.store }, ["--check=config"])).toContain(
      "is where the secrets come from",
    );
  });

  test("in the same directory through a symbolic link above it", async () => {
    const place = new Place();
    fs.symlinkSync(join(place.store, ".."), place.path("way"));
    const directory = join(place.path("way"), place.store.split("/").at(-1) ?? "");
    expect(await refused(place, { directory })).toContain("output.directory: is where the secrets come from");
  });

  test("below the directory, where nothing exists yet, and around it", async () => {
    const place = new Place();
    expect(await refused(place, { directory: join(place.store, "new", "pub") })).toContain("output.directory: lies in");
    const other = new Place();
    expect(await refused(other, { directory: join(other.store, "..") })).toContain("output.directory: holds");
  });

  needs("mount-namespace").test("in the same directory through a bind mount", async () => {
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

  test("with links in the directory", async () => {
    const place = new Place();
    expect(await refused(place, { links: place.store })).toContain("output.links: is where the secrets come from");
  });
});

describe("refuses the store's key files and templates in the output or at the name of a link", () => {
  test.each([
    ["output.directory: holds", { directory: "keys" }],
    ["output.links: would put a link in place of", { directory: "out", links: "keys" }],
  ])("%s", async (message, places) => {
    const place = new Place();
    fs.mkdirSync(place.path("keys"));
    for (const name of ["token", "ca"]) fs.writeFileSync(place.path("keys", name), "the original");
    const output = Object.fromEntries(Object.entries(places).map(([option, name]) => [option, place.path(name)]));
    const tls = { caFile: place.path("keys", "ca") };
    const config = {
      url: "https://127.0.0.1:1",
      mount: "secret",
      auth: { method: "token", tokenPath: place.path("keys", "token") },
      tls,
    };
    const secret = { source: { path: "a", key: "b" } };
    for (const [file, what] of [
      ["token", "token"],
      ["ca", "ca"],
    ] as const) {
      const other = file === "token" ? "ca" : "token";
      const name = message.includes("links") ? file : "unrelated";
      const { code, stderr } = await place.run([
        "--config",
        place.writeConfig({ backend: "vault", config, secrets: { [name]: secret }, output }),
      ]);
      expect(code).toBe(78);
      expect(stderr).toContain(message);
      if (message.includes("links")) expect(stderr).toContain(place.path("keys", what));
      expect(fs.readdirSync(place.path("keys")).sort()).toEqual(["ca", "token"]);
      expect(fs.readFileSync(place.path("keys", other), "utf8")).toBe("the original");
    }
  });

  test("a template", async () => {
    const place = new Place();
    place.put({ id: "one" });
    fs.mkdirSync(place.path("etc"));
    fs.writeFileSync(place.path("etc", "app.conf"), "{{id}}");
    const templates = { "app.conf": { template: place.path("etc", "app.conf") } };
    for (const output of [{ directory: place.path("etc") }, { directory: place.output, links: place.path("etc") }]) {
      const path = place.writeConfig(place.config(["id"], { output, templates }));
      const { code, stderr } = await place.run(["--config", path]);
      expect(code).toBe(78);
      expect(stderr).toContain("a template");
      expect(fs.readFileSync(place.path("etc", "app.conf"), "utf8")).toBe("{{id}}");
      expect(fs.lstatSync(place.path("etc", "app.conf")).isFile()).toBe(true);
    }
  });

  test("accepts them beside the links under another name", async () => {
    const place = new Place();
    place.put({ id: "one" });
    fs.mkdirSync(place.path("etc"));
    fs.writeFileSync(place.path("etc", "app.template"), "{{id}}");
    const templates = { "app.conf": { template: place.path("etc", "app.template") } };
    await place.start(place.config(["id"], { output: { links: place.path("etc") }, templates })).ready();
    expect(fs.readFileSync(place.path("etc", "app.conf"), "utf8")).toBe("one");
  });
});

test("--check=config already refuses a secret named like the mount point beside the links", async () => {
  const place = new Place();
  const output = { links: "/tmp" };
  const path = place.writeConfig(place.config({ id: { file: ".secrets" } }, { output }));
  const { code, stderr } = await place.run(["--config", path, "--check=config"]);
  expect(code).toBe(78);
  expect(stderr).toContain("secrets.id.file: is where output.linksTo lies");
});

test.each([
  ["a secret", { id: { file: "x" } }, ["links"], ["links", "x", "pub"], "secrets.id.file: is where output.directory"],
  ["a secret", { id: { file: "x" } }, ["out", "x", "links"], ["out"], "secrets.id.file: is where output.links lies"],
  ["secrets.env", { id: {} }, ["links"], ["links", "secrets.env"], "output.envFile: is where output.directory lies"],
])(
  "--check=config already refuses %s with the name of a directory beside it: %j",
  async (_, secrets, links, directory, words) => {
    const place = new Place();
    const output = { links: place.path(...links), directory: place.path(...directory) };
    const path = place.writeConfig(place.config(secrets, { output }));
    const { code, stderr } = await place.run(["--config", path, "--check=config"]);
    expect(stderr).toContain(words);
    expect(code).toBe(78);
  },
);
