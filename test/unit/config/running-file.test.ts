/** Whether the configuration's file is still what runs: STATUS never shows a change that goes unnoticed here. */
import { renameSync, rmSync, symlinkSync, unlinkSync, utimesSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { RunningFile } from "../../../src/config/running-file.ts";
import { temporary } from "../../contract/temporary.ts";

async function running(text = "one") {
  const { path, dispose } = await temporary();
  onTestFinished(dispose);
  const file = join(path, "a.json");
  writeFileSync(file, text);
  return { file, it: await RunningFile.read(file) };
}

test("an unchanged file does not differ, whatever its times say", async () => {
  const { file, it } = await running();
  expect(await it.difference()).toBeUndefined();
  utimesSync(file, 1, 1);
  expect(await it.difference()).toBeUndefined();
});

test("reports whether a file was written, replaced, removed or written back", async () => {
  const { file, it } = await running();
  writeFileSync(file, "two");
  expect(await it.difference()).toBe("was changed since it was read");
  writeFileSync(`${file}.new`, "three");
  renameSync(`${file}.new`, file);
  expect(await it.difference()).toBe("was changed since it was read");
  rmSync(file);
  expect(await it.difference()).toBe("is gone");
  writeFileSync(file, "one");
  expect(await it.difference()).toBeUndefined();
});

test("reports a file that can no longer be reached, until it is as before", async () => {
  const { file, it } = await running();
  const directory = dirname(file);
  renameSync(directory, `${directory}.away`);
  // Another way than "no such file", which root sees, too.
  symlinkSync(directory, directory);
  expect(await it.difference()).toBe("cannot be read any more");
  expect(await it.difference()).toBe("cannot be read any more");
  unlinkSync(directory);
  renameSync(`${directory}.away`, directory);
  expect(await it.difference()).toBeUndefined();
});

test("does not lose a change between reading and taking over", async () => {
  const { file, it } = await running();
  writeFileSync(file, "two");
  const read = await it.readAgain();
  writeFileSync(file, "three");
  await it.take(read);
  expect(it.running.text).toBe("two");
  expect(await it.difference()).toBe("was changed since it was read");
});
