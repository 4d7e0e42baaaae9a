/**
 * What lstat(2) said about a file decides whether it is ours: one disk error must not turn ours into a stranger's.
 */
import fs from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import { join } from "node:path";
import { beforeEach, expect, onTestFinished, test } from "vitest";
import { SeenFiles } from "../../../src/output/seen-files.ts";
import { temporary } from "../../contract/temporary.ts";

let directory: string;
beforeEach(async () => {
  const { path, dispose } = await temporary();
  onTestFinished(dispose);
  directory = path;
});

/** A fake disk: its next answers are that nothing is there. */
function hideFor(looks: number): void {
  const real = fs.lstatSync;
  let left = looks;
  const fake = (...args: Parameters<typeof real>) => (left-- > 0 ? undefined : real(...args));
  Object.assign(fs, { lstatSync: fake });
  syncBuiltinESMExports();
  onTestFinished(() => {
    Object.assign(fs, { lstatSync: real });
    syncBuiltinESMExports();
  });
}

test("a file reported missing once still counts as the same file", () => {
  const path = join(directory, "x");
  fs.writeFileSync(path, "ours");
  const prints = new SeenFiles(directory);
  hideFor(1);
  prints.take(["x"]);
  expect(prints.mayBe("x", fs.lstatSync(path))).toBe(true);
  expect(prints.areSame(["x"])).toBe(true);
});

test("a new file at a free name is a stranger's", () => {
  const prints = new SeenFiles(directory);
  prints.take(["x"]);
  const path = join(directory, "x");
  fs.writeFileSync(path, "theirs");
  expect(prints.mayBe("x", fs.lstatSync(path))).toBe(false);
});
