/** The Nix files as text; versions.test.ts checks that they parse. */
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { needs } from "../requirements.ts";
import { project } from "./evaluation.ts";
import { findNixfmt } from "./programs.ts";
import { files, foreign } from "./text.ts";

const ours = files.filter((file) => !foreign(file));

needs("nixfmt").test("nixfmt leaves all of them unchanged", () => {
  const { status, stdout, stderr } = spawnSync(findNixfmt() ?? "", ["--check", ...ours], {
    cwd: project,
    encoding: "utf8",
  });
  expect(stdout + stderr).toBe("");
  expect(status).toBe(0);
});

test.each(ours)("%s: two spaces, no tab, no line over 120, no `with lib;`", (file) => {
  const text = readFileSync(`${project}/${file}`, "utf8");
  const lines = text.split("\n");
  expect(lines.filter((line) => /\t|\s$/.test(line))).toEqual([]);
  expect(lines.filter((line) => line.length > 120 && !line.includes('"'))).toEqual([]);
  expect(text).not.toMatch(/^\s*with lib;/m);
  expect(text.endsWith("\n") && !text.endsWith("\n\n")).toBe(true);
});

test("the list has all files", () => {
  expect(ours.length).toBeGreaterThan(10);
});
