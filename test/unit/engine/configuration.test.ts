/**
 * A configuration that a reload reads is in charge only after it is taken over: until then the file differs from what
 * runs.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { RunningFile } from "../../../src/config/running-file.ts";
import { configurationOf } from "../../../src/engine/configuration.ts";
import type { Store } from "../../../src/engine/store.ts";
import { Publisher } from "../../../src/publish/publisher.ts";
import { configOf, noFlags } from "../command-line.ts";
import { FakeStore } from "../fakes.ts";
import { freshDirectory } from "./running-sidecar.ts";

async function runs() {
  const directory = freshDirectory();
  const file = join(directory, "app.json");
  const json = { backend: "static", secrets: { a: {} }, output: { directory: join(directory, "pub") } };
  writeFileSync(file, JSON.stringify(json));
  const config = configOf(json);
  if (config.output === undefined) throw new Error("no output");
  const store: Store = new FakeStore({ a: "a1" });
  const running = { config, store, publisher: await Publisher.open(config, config.output) };
  const configuration = configurationOf(await RunningFile.read(file), noFlags, () => Promise.resolve(store));
  writeFileSync(file, JSON.stringify({ ...json, secrets: { b: {} } }));
  return { file, configuration, running };
}

test("a configuration that came too late stays marked as different from the running one", async () => {
  const { file, configuration, running } = await runs();
  expect((await configuration.successor(undefined, running))?.config.secrets.map(({ id }) => id)).toEqual(["b"]);
  expect(await configuration.difference()).toBe(`${file} was changed since it was read`);
});

test("a configuration taken over is the running one, and the next reload finds nothing to take over", async () => {
  const { configuration, running } = await runs();
  const successor = await configuration.successor(undefined, running);
  await successor?.taken();
  expect(await configuration.difference()).toBeUndefined();
  const config = successor?.config ?? running.config;
  expect(await configuration.successor(undefined, { ...running, config })).toBeUndefined();
});
