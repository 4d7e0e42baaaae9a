/** The project's own scripts, called wrongly. */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { expect, test } from "vitest";

const root = join(import.meta.dirname, "../..");

test.each([
  ["test/mutation/run.mjs --frobnicate", "Unknown option '--frobnicate'", "npm run mutation"],
  ["test/soak/run.mjs soon", 'SECONDS: "soon"', "npm run soak"],
  ["test/fuzz/run.mjs 10 -3x", 'SEED: "-3x"', "npm run fuzz"],
  ["test/fuzz/run.mjs 10 -3 4", 'too many arguments: "4"', "npm run fuzz"],
  ["scripts/release.mjs --frobnicate", "Unknown option '--frobnicate'", "node scripts/release.mjs"],
  ["scripts/package.mjs nothing", "Unexpected argument 'nothing'", "npm run package"],
])("%s: says what is wrong and how it is called", (command, wrong, usage) => {
  const { status, stderr } = spawnSync(process.execPath, command.split(" "), { cwd: root, encoding: "utf8" });
  const [first, second, ...rest] = stderr.trimEnd().split("\n");
  expect([status, first, rest]).toEqual([64, expect.stringContaining(wrong), []]);
  expect(second).toContain(`usage: ${usage}`);
});
