/** "resident": false, as a process: systemd acts on how it ends. */
import * as fs from "node:fs";
import { expect, test } from "vitest";
import { eventually, Place } from "./daemon.ts";

const oneshot = { resident: false, config: { reloadOnChange: false } };

test("it exits 0 by itself when all is published, and leaves the files", async () => {
  const place = new Place();
  place.put({ a: "1" });
  const exit = await place.start(place.config(["a"], oneshot)).exit;
  expect(exit).toMatchObject({ code: 0, signal: null });
  expect(place.published()).toEqual({ a: "1", "secrets.env": "a='1'\n" });
  expect(place.leftovers()).toEqual([]);
});

test("SIGTERM while it waits for the store is 143, and nothing is published", async () => {
  const place = new Place();
  fs.rmdirSync(place.store);
  const daemon = place.start(place.config(["a"], oneshot), { args: ["--log-level", "debug"] });
  await eventually("it waits", () => daemon.stderr.includes("trying again"));
  expect(await daemon.end()).toMatchObject({ code: 143 });
  expect(place.published()).toEqual({});
});

test("what only a person can mend ends it at once, with the usual code", async () => {
  const place = new Place();
  place.age();
  expect((await place.start(place.config(["a"], oneshot)).exit).code).toBe(66);
});
