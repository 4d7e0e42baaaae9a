/** In a terminal, which script(1) of util-linux makes: a person who waits for a store sees why. */
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished } from "vitest";
import { programCommand } from "../program.ts";
import { needs } from "../requirements.ts";

needs("script").test("--check shows in a terminal what it waits for, and removes that line afterwards", () => {
  const directory = mkdtempSync(join(tmpdir(), "fetcher-terminal-"));
  onTestFinished(() => {
    rmSync(directory, { recursive: true });
  });
  mkdirSync(join(directory, "store"));
  writeFileSync(join(directory, "store/id"), "canary-2b81");
  const program = programCommand()
    .map((word) => `"${word}"`)
    .join(" ");
  const command = `${program} --check --backend folder --set secretsDir="${directory}/store" id`;
  const { stdout } = spawnSync("script", ["-qec", command, "/dev/null"], { encoding: "utf8", input: "" });
  expect(stdout).toContain("asking folder for 1 secret ...\r\u001b[K");
  expect(stdout).toContain("there");
  expect(stdout).not.toContain("canary-2b81");
});
