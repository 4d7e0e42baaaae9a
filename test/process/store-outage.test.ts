import * as fs from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { eventually, logLines, ordinary, Place } from "./daemon.ts";

describe("before READY", () => {
  test("waits for a late folder, and then publishes at once", async () => {
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

  test("waits for a late NixOps key, and does not take half-made files", async () => {
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

  test("ends the start at once with 66 when a required secret is missing, and one line says why", async () => {
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

  test("waits for a file while others appear in its folder, because a decrypting program writes them one by one", async () => {
    const place = new Place();
    place.put({ one: "1" });
    const daemon = place.start(place.config(["one", "two", "three"]));
    expect(await daemon.says(/trying again/)).toMatchObject({ level: "warn", secrets: ["two", "three"] });
    place.put({ two: "2" });
    place.put({ three: "3" });
    await daemon.ready();
    expect(place.published()).toMatchObject({ one: "1", two: "2", three: "3" });
  });

  test("ends the start with 66 once the folder of a missing file has been quiet for half a minute", async () => {
    const place = new Place();
    place.put({ there: "one" });
    place.age(15);
    const exit = await place.start(place.config(["there", "absent"])).exit;
    expect(exit.code).toBe(66);
    const [waits, ends] = logLines(exit.stderr);
    const why = `folder: no file ${join(place.store, "absent")}`;
    expect(waits).toMatchObject({ level: "warn", message: `${why}; trying again` });
    expect(ends).toMatchObject({ level: "error", message: why.replace(" no", ' secret "absent": no') });
  });

  test("ends the start at once with 77 when the store refuses a secret", async () => {
    const place = new Place(undefined, ordinary);
    place.put({ id: "one" });
    fs.chmodSync(join(place.store, "id"), 0);
    const exit = await place.start(place.config(["id"]), ordinary).exit;
    expect(exit.code).toBe(77);
    expect(logLines(exit.stderr)).toHaveLength(1);
  });

  test("ends the wait with 69 after startTimeout, and names the store's last answer", async () => {
    const place = new Place();
    fs.rmdirSync(place.store);
    const exit = await place.start({ ...place.config(["id"]), startTimeout: 2 }).exit;
    expect(exit.code).toBe(69);
    expect(logLines(exit.stderr).at(-1)?.message).toMatch(/no directory .*gave up after startTimeout, 2 s/);
  });
});

describe("after READY a store's failure neither ends the daemon nor removes a file", () => {
  test("reports that the folder is gone and back once each, keeps the old files meanwhile, then publishes the new values", async () => {
    const place = new Place();
    place.put({ a: "one", b: "one" });
    const daemon = await place.start(place.config(["a", "b"])).ready();
    const before = place.published();
    fs.renameSync(place.store, place.path("away"));
    daemon.signal("SIGHUP");
    expect(await daemon.says(/the published values stay in use/)).toMatchObject({ level: "warn", secrets: ["a", "b"] });
    expect(place.published()).toEqual(before);
    for (const id of ["a", "b"]) fs.writeFileSync(place.path("away", id), "two");
    fs.renameSync(place.path("away"), place.store);
    expect(await daemon.says(/answers again/)).toMatchObject({ level: "notice", secrets: ["a", "b"] });
    await eventually("the new values", () => place.read("a") === "two" && place.read("b") === "two");
    const outages = daemon.lines
      .map(({ message }) => message)
      .filter((message) => message.includes("published values stay"));
    expect(outages).toEqual([expect.stringContaining(`no directory ${place.store}`)]);
    expect(daemon.running).toBe(true);
  });

  test("keeps the last value of a deleted secret, while the others rotate", async () => {
    const place = new Place();
    place.put({ kept: "one", rotates: "one" });
    const daemon = await place.start(place.config(["kept", "rotates"])).ready();
    fs.rmSync(join(place.store, "kept"));
    expect(await daemon.says(/no file .*kept; the published values stay in use/)).toMatchObject({ secrets: ["kept"] });
    place.put({ rotates: "two" });
    await eventually("the rotation of the other", () => place.read("rotates") === "two");
    expect(place.read("kept")).toBe("one");
    expect(place.read("secrets.env")).toContain("kept='one'");
  });

  test("keeps the last value when a new one does not fit its variable, holds up no other, and publishes the next one", async () => {
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
