/** "resident": false, as a process: systemd acts on how it ends. */
import * as fs from "node:fs";
import { expect, test } from "vitest";
import { eventually, Place } from "./daemon.ts";

const oneshot = { resident: false, config: { reloadOnChange: false } };

test("exits 0 after it has published all secrets, and leaves the files", async () => {
  const place = new Place();
  place.put({ a: "1" });
  const exit = await place.start(place.config(["a"], oneshot)).exit;
  expect(exit).toMatchObject({ code: 0, signal: null });
  expect(place.published()).toEqual({ a: "1", "secrets.env": "a='1'\n" });
  expect(place.leftovers()).toEqual([]);
});

test("exits 143 on SIGTERM while it waits for the store, and publishes nothing", async () => {
  const place = new Place();
  fs.rmdirSync(place.store);
  const daemon = place.start(place.config(["a"], oneshot), { args: ["--log-level", "debug"] });
  await eventually("it waits", () => daemon.stderr.includes("trying again"));
  expect(await daemon.end()).toMatchObject({ code: 143 });
  expect(place.published()).toEqual({});
});

test("exits at once with the usual code for an error that only a person can fix", async () => {
  const place = new Place();
  place.age();
  expect((await place.start(place.config(["a"], oneshot)).exit).code).toBe(66);
});
