import * as fs from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { needs } from "../requirements.ts";
import { eventually, Place } from "./daemon.ts";
import { fakeSystemctl } from "./fake-systemctl.ts";

/** A place whose daemon published this, and was killed. */
async function killedAfterReady(secrets: Readonly<Record<string, string>>, config?: (place: Place) => object) {
  const place = new Place();
  place.put(secrets);
  const daemon = await place.start(config?.(place) ?? place.config(Object.keys(secrets))).ready();
  await daemon.end("SIGKILL");
  return place;
}

describe("a sidecar adopts a published set during an outage", () => {
  test("is READY with the old set, untouched, and notices the store's return", async () => {
    const place = await killedAfterReady({ a: "one", b: "one" });
    const before = place.published();
    const inode = fs.statSync(join(place.output, "a")).ino;
    fs.renameSync(place.store, place.path("away"));
    const daemon = await place.start(place.config(["a", "b"])).ready();
    expect(await daemon.says(/published before stays in use/)).toMatchObject({
      level: "notice",
      secrets: ["a", "b"],
    });
    expect(place.published()).toEqual(before);
    expect(fs.statSync(join(place.output, "a")).ino).toBe(inode);
    fs.writeFileSync(place.path("away", "a"), "two");
    fs.renameSync(place.path("away"), place.store);
    await eventually("the new value", () => place.read("a") === "two");
    expect(place.read("b")).toBe("one");
  });

  test("adopts a single missing secret at once, and publishes the others fresh", async () => {
    const place = await killedAfterReady({ gone: "old", fresh: "old" });
    fs.rmSync(join(place.store, "gone"));
    place.age();
    place.put({ fresh: "new" });
    const daemon = await place.start(place.config(["gone", "fresh"])).ready();
    expect(await daemon.says(/published before stays in use/)).toMatchObject({ secrets: ["gone"] });
    expect(place.published()).toMatchObject({ gone: "old", fresh: "new" });
  });

  test("adopts a set although an optional secret never existed", async () => {
    const config = (place: Place) => place.config({ id: {}, spare: { optional: true } });
    const place = await killedAfterReady({ id: "one" }, config);
    fs.rmSync(join(place.store, "id"));
    place.age();
    await place.start(config(place)).ready();
    expect(place.read("id")).toBe("one");
  });

  needs("root").test("recognizes its own files by their configured owner", async () => {
    const config = (place: Place) => place.config({ id: { owner: "daemon" } });
    const place = await killedAfterReady({ id: "one" }, config);
    fs.rmSync(join(place.store, "id"));
    place.age();
    await place.start(config(place)).ready();
    expect(place.read("id")).toBe("one");
  });
});

describe("a sidecar does not adopt an incomplete or foreign set", () => {
  test("a new secret in the configuration", async () => {
    const place = await killedAfterReady({ a: "one" });
    fs.rmSync(join(place.store, "a"));
    place.age();
    expect((await place.start(place.config(["a", "b"])).exit).code).toBe(66);
  });

  test.each<[string, (file: string, place: Place) => void]>([
    [
      "a missing file",
      (file) => {
        fs.rmSync(file);
      },
    ],
    [
      "a symbolic link",
      (file, place) => {
        fs.renameSync(file, place.path("elsewhere"));
        fs.symlinkSync(place.path("elsewhere"), file);
      },
    ],
    [
      "a hard link",
      (file, place) => {
        fs.linkSync(file, place.path("elsewhere"));
      },
    ],
  ])("%s", async (_, spoil) => {
    const place = await killedAfterReady({ a: "one", b: "one" });
    spoil(join(place.output, "a"), place);
    fs.rmSync(join(place.store, "a"));
    place.age();
    expect((await place.start(place.config(["a", "b"])).exit).code).toBe(66);
  });

  needs("root").test("another user's file", async () => {
    const place = await killedAfterReady({ a: "one" });
    fs.chownSync(join(place.output, "a"), 4321, 4321);
    fs.rmSync(join(place.store, "a"));
    place.age();
    expect((await place.start(place.config(["a"])).exit).code).toBe(66);
  });

  test.each([
    ["not JSON", "{"],
    ["of another shape", '{"files":{"a":1},"pending":7}'],
    ["null", "null"],
    ["empty", ""],
  ])("fetches as on a first start when the state file is %s", async (_, state) => {
    const place = await killedAfterReady({ a: "one" });
    fs.writeFileSync(join(place.output, ".fetcher-state"), state);
    place.put({ a: "two" });
    await place.start(place.config(["a"])).ready();
    expect(place.read("a")).toBe("two");
  });
});

test("a removed secret leaves the output, with its link", async () => {
  const config = (ids: string[]) => (place: Place) => place.config(ids, { output: { links: place.path("links") } });
  const place = await killedAfterReady({ stays: "one", goes: "one" }, config(["stays", "goes"]));
  expect(fs.readdirSync(place.path("links")).sort()).toEqual(["goes", "secrets.env", "stays"]);
  await place.start(config(["stays"])(place)).ready();
  expect(Object.keys(place.published())).toEqual(["secrets.env", "stays"]);
  expect(fs.readdirSync(place.path("links")).sort()).toEqual(["secrets.env", "stays"]);
  expect(place.read("secrets.env")).not.toContain("goes");
});

describe("the next start does an action that a crash prevented", () => {
  const more = { service: "target.service", onChange: { minInterval: 0 } };

  test("after a kill between publish and action", async () => {
    const place = new Place();
    place.put({ id: "one" });
    const systemctl = fakeSystemctl(place, join(place.output, "id"));
    systemctl.mute();
    const config = place.config(["id"], more);
    const first = await place.start(config, systemctl).ready();
    place.put({ id: "two" });
    await first.says(/systemd does not answer/);
    expect(place.read("id")).toBe("two");
    await first.end("SIGKILL");
    systemctl.unmute();
    const second = await place.start(config, systemctl).ready();
    await second.says(/target\.service: restart done/);
    expect(systemctl.calls()).toEqual([expect.stringMatching(/try-restart -- target\.service -> two$/)]);
    // Done is done: a third start does it no more, as its next action shows.
    await second.end("SIGKILL");
    const third = await place.start(config, systemctl).ready();
    place.put({ id: "three" });
    await third.says(/restart done/);
    expect(systemctl.calls().slice(1)).toEqual([expect.stringMatching(/-> three$/)]);
  });

  test("after a kill between publish and action, during an outage: it adopts the set and acts", async () => {
    const place = new Place();
    place.put({ id: "one" });
    const systemctl = fakeSystemctl(place, join(place.output, "id"));
    systemctl.mute();
    const config = place.config(["id"], more);
    const first = await place.start(config, systemctl).ready();
    place.put({ id: "two" });
    await first.says(/systemd does not answer/);
    await first.end("SIGKILL");
    fs.rmSync(join(place.store, "id"));
    place.age();
    systemctl.unmute();
    await (await place.start(config, systemctl).ready()).says(/restart done/);
    expect(systemctl.calls()).toEqual([expect.stringMatching(/-> two$/)]);
  });

  test("a target that has started since gets no action", async () => {
    const place = new Place();
    place.put({ id: "one" });
    const systemctl = fakeSystemctl(place, join(place.output, "id"));
    systemctl.mute();
    const config = place.config(["id"], more);
    const first = await place.start(config, systemctl).ready();
    place.put({ id: "two" });
    await first.says(/systemd does not answer/);
    await first.end("SIGKILL");
    systemctl.setState({ InactiveExitTimestampMonotonic: Number(process.hrtime.bigint() / 1000n) });
    systemctl.unmute();
    const second = await place.start(config, systemctl).ready();
    await second.says(/started since, with the new secrets/);
    expect(systemctl.calls()).toEqual([]);
  });

  test("publishes a change from its downtime, and acts on it only with reloadOnChange", async () => {
    for (const reloadOnChange of [true, false]) {
      const place = new Place();
      place.put({ id: "one" });
      const systemctl = fakeSystemctl(place, join(place.output, "id"));
      const config = place.config(["id"], { ...more, config: { reloadOnChange } });
      await (await place.start(config, systemctl).ready()).end("SIGKILL");
      place.put({ id: "two" });
      const second = await place.start(config, systemctl).ready();
      expect(place.read("id")).toBe("two");
      if (reloadOnChange) {
        await second.says(/restart done/);
        expect(systemctl.calls()).toHaveLength(1);
        continue;
      }
      // SIGHUP's publish gets the first action there is.
      place.put({ id: "three" });
      second.signal("SIGHUP");
      await second.says(/restart done/);
      expect(systemctl.calls()).toEqual([expect.stringMatching(/-> three$/)]);
    }
  });

  test("a first start does no action: the target has not started yet", async () => {
    const place = new Place();
    place.put({ id: "one" });
    const systemctl = fakeSystemctl(place, join(place.output, "id"));
    const daemon = await place.start(place.config(["id"], more), systemctl).ready();
    place.put({ id: "two" });
    await daemon.says(/restart done/);
    expect(systemctl.calls()).toEqual([expect.stringMatching(/-> two$/)]);
  });
});
