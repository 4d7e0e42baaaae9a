import * as fs from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { eventually, logLines, ordinary, Place } from "./daemon.ts";

describe("before READY", () => {
  test("a folder that comes late is waited for, and then published at once", async () => {
    const place = new Place();
    fs.rmdirSync(place.store);
    const daemon = place.start(place.config(["id"]));
    expect(await daemon.says(/trying again/)).toMatchObject({ level: "warn", secrets: ["id"] });
    expect(daemon.lines.some(({ message }) => message.startsWith("ready"))).toBe(false);
    fs.mkdirSync(place.path("late"));
    fs.writeFileSync(place.path("late", "id"), "one");
    fs.renameSync(place.path("late"), place.store);
    await daemon.ready();
    expect(place.read("id")).toBe("one");
  });

  test("a NixOps key that is uploaded late is waited for, half-made files are not taken", async () => {
    const place = new Place();
    const keysDir = place.path("keys");
    const config = { ...place.config(["key"]), backend: "nixops", config: { keysDir } };
    const daemon = place.start(config);
    await daemon.says(/no directory .*keys; trying again/);
    fs.mkdirSync(keysDir);
    fs.writeFileSync(join(keysDir, "key"), "");
    fs.writeFileSync(join(keysDir, "other"), "x");
    fs.writeFileSync(join(keysDir, "key"), "uploaded");
    await daemon.ready();
    expect(place.read("key")).toBe("uploaded");
  });

  test("a required secret that is missing ends the start at once with 66 and the one line that says why", async () => {
    const place = new Place();
    place.put({ there: "one" });
    place.age();
    const exit = await place.start(place.config(["there", "absent"])).exit;
    expect(exit.code).toBe(66);
    const lines = logLines(exit.stderr);
    expect(lines.at(-1)).toMatchObject({
      level: "error",
      message: `folder: secret "absent": no file ${join(place.store, "absent")}`,
    });
    expect(place.published()).toEqual({});
  });

  test("a file is waited for while others come into its folder: what decrypts them writes one after the other", async () => {
    const place = new Place();
    place.put({ one: "1" });
    const daemon = place.start(place.config(["one", "two", "three"]));
    expect(await daemon.says(/trying again/)).toMatchObject({ level: "warn", secrets: ["two", "three"] });
    place.put({ two: "2" });
    place.put({ three: "3" });
    await daemon.ready();
    expect(place.published()).toMatchObject({ one: "1", two: "2", three: "3" });
  });

  test("a file that does not come ends the start with 66 once its folder has been quiet for half a minute", async () => {
    const place = new Place();
    place.put({ there: "one" });
    place.age(29);
    const exit = await place.start(place.config(["there", "absent"])).exit;
    expect(exit.code).toBe(66);
    const [waits, ends] = logLines(exit.stderr);
    const why = `folder: no file ${join(place.store, "absent")}`;
    expect(waits).toMatchObject({ level: "warn", message: `${why}; trying again` });
    expect(ends).toMatchObject({ level: "error", message: why.replace(" no", ' secret "absent": no') });
  });

  test("a refused secret ends the start at once with 77", async () => {
    const place = new Place(undefined, ordinary);
    place.put({ id: "one" });
    fs.chmodSync(join(place.store, "id"), 0);
    const exit = await place.start(place.config(["id"]), ordinary).exit;
    expect(exit.code).toBe(77);
    expect(logLines(exit.stderr)).toHaveLength(1);
  });

  test("startTimeout ends the wait with 69, and the line names the store's last answer", async () => {
    const place = new Place();
    fs.rmdirSync(place.store);
    const exit = await place.start({ ...place.config(["id"]), startTimeout: 0.2 }).exit;
    expect(exit.code).toBe(69);
    expect(logLines(exit.stderr).at(-1)?.message).toMatch(/no directory .*gave up after startTimeout, 0\.2 s/);
  });
});

describe("after READY nothing that the store does ends the daemon or takes a file away", () => {
  test("the folder goes and comes back with new values: said once each, old files meanwhile, then the new ones", async () => {
    const place = new Place();
    place.put({ a: "one", b: "one" });
    const daemon = await place.start(place.config(["a", "b"])).ready();
    const before = place.published();
    fs.renameSync(place.store, place.path("away"));
    daemon.signal("SIGHUP");
    expect(await daemon.says(/what is published stays/)).toMatchObject({ level: "warn", secrets: ["a", "b"] });
    expect(place.published()).toEqual(before);
    for (const id of ["a", "b"]) fs.writeFileSync(place.path("away", id), "two");
    fs.renameSync(place.path("away"), place.store);
    expect(await daemon.says(/answers again/)).toMatchObject({ level: "notice", secrets: ["a", "b"] });
    await eventually("the new values", () => place.read("a") === "two" && place.read("b") === "two");
    const outages = daemon.lines.map(({ message }) => message).filter((message) => message.includes("published stays"));
    expect(outages).toEqual([expect.stringContaining(`no directory ${place.store}`)]);
    expect(daemon.running).toBe(true);
  });

  test("a secret that was deleted keeps its last value, while the others rotate", async () => {
    const place = new Place();
    place.put({ kept: "one", rotates: "one" });
    const daemon = await place.start(place.config(["kept", "rotates"])).ready();
    fs.rmSync(join(place.store, "kept"));
    expect(await daemon.says(/no file .*kept; what is published stays/)).toMatchObject({ secrets: ["kept"] });
    place.put({ rotates: "two" });
    await eventually("the rotation of the other", () => place.read("rotates") === "two");
    expect(place.read("kept")).toBe("one");
    expect(place.read("secrets.env")).toContain("kept='one'");
  });

  test("a value that can be no variable any more keeps its last one, holds up no other, and the next one is published", async () => {
    const place = new Place();
    place.put({ id: "one", other: "one" });
    const daemon = await place.start(place.config({ id: { env: "ID" }, other: {} })).ready();
    place.put({ id: Buffer.from("bad\0"), other: "two" });
    expect(await daemon.says(/are not published/)).toMatchObject({ level: "error" });
    await eventually("the rotation of the other", () => place.read("other") === "two");
    expect(place.read("id")).toBe("one");
    expect(place.read("secrets.env")).toContain("ID='one'");
    place.put({ id: "three" });
    // secrets.env is the last name that a publish renames.
    await eventually("the good value", () => place.read("secrets.env")?.includes("ID='three'") === true);
    expect(place.read("id")).toBe("three");
  });
});
