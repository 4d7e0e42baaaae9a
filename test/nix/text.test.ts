/** The Nix files as text. */
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { needs } from "../requirements.ts";
import { project } from "./evaluation.ts";

const files = ["nix", "examples", "test"]
  .flatMap((directory) =>
    readdirSync(`${project}/${directory}`, { recursive: true }).map((name) => `${directory}/${String(name)}`),
  )
  .concat("flake.nix")
  .filter((file) => file.endsWith(".nix") && existsSync(`${project}/${file}`))
  .sort();
/** As their authors have it. */
const foreign = (file: string) => file.startsWith("test/nix/rfc59/");

needs("nix").test("all of them parse", () => {
  expect(files.length).toBeGreaterThan(10);
  const { status, stderr } = spawnSync("nix-instantiate", ["--parse", ...files], { cwd: project, encoding: "utf8" });
  expect(stderr.replace(/^warning: the group 'nixbld'.*\n/m, "")).toBe("");
  expect(status).toBe(0);
});

test.each(files.filter((file) => !foreign(file)))(
  "%s: two spaces, no tab, no line over 120, no `with lib;`",
  (file) => {
    const text = readFileSync(`${project}/${file}`, "utf8");
    const lines = text.split("\n");
    expect(lines.filter((line) => /\t|\s$/.test(line))).toEqual([]);
    expect(lines.filter((line) => line.length > 120 && !line.includes('"'))).toEqual([]);
    expect(text).not.toMatch(/^\s*with lib;/m);
    expect(text.endsWith("\n") && !text.endsWith("\n\n")).toBe(true);
  },
);
