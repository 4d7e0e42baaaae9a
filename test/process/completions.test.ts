/** What TAB offers in bash, as bash itself asks for it. */
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { commandTexts, optionTexts } from "../../src/cli/command-line.ts";
import { project } from "../markdown.ts";
import { needs } from "../requirements.ts";

/** @param words of the command line; the last one is the word that is being typed. */
function offered(...words: readonly string[]): readonly string[] {
  const directory = mkdtempSync(join(tmpdir(), "fetcher-completions-"));
  onTestFinished(() => {
    rmSync(directory, { recursive: true });
  });
  mkdirSync(join(directory, "folder"));
  writeFileSync(join(directory, "file.json"), "");
  const script = `
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
# Only a completion may set options of one.
compopt() { :; }
_fetcher fetcher "\${COMP_WORDS[COMP_CWORD]}" "\${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\\n' "\${COMPREPLY[@]}"`;
  const file = join(project, "completions/fetcher.bash");
  const { status, stdout, stderr } = spawnSync("bash", ["-uc", script, "bash", file, "fetcher", ...words], {
    encoding: "utf8",
    cwd: directory,
  });
  expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
  return stdout.split("\n").filter((word) => word !== "");
}

needs("bash").test("offer a command or any option of --help as the first word", () => {
  const first = offered("");
  for (const [words] of commandTexts) {
    const name = words.split(" ")[1] ?? "";
    if (/^[a-z]+$/.test(name)) expect(first).toContain(name);
  }
  for (const [option] of optionTexts)
    for (const name of option.split(" ").filter((word) => word.startsWith("-")))
      expect(first).toContain(name.replace(",", ""));
});

needs("bash").test("then offer the command's options, and each option's values", () => {
  expect(offered("sta")).toEqual(["status"]);
  expect(offered("--check", "")).not.toContain("status");
  expect(offered("status", "--j")).toEqual(["--json"]);
  expect(offered("run", "--wa")).toEqual(["--watch"]);
  expect(offered("add", "web", "--im")).toEqual(["--import"]);
  expect(offered("--backend", "va")).toEqual(["vault"]);
  expect(offered("--log-level", "w")).toEqual(["warn"]);
  expect(offered("run", "--log-format", "")).toEqual(["text", "json"]);
  expect(offered("--config", "f")).toEqual(expect.arrayContaining(["folder", "file.json"]));
  expect(offered("--output", "f")).toEqual(["folder"]);
  expect(offered("--set", "")).toEqual([]);
  // Its own command.
  expect(offered("run", "--", "fi")).toEqual(expect.arrayContaining(["find", "file.json"]));
});

for (const [shell, file] of [
  ["zsh", "_fetcher"],
  ["fish", "fetcher.fish"],
] as const)
  needs(shell).test(`${shell} reads its completions without a complaint`, () => {
    const { status, stderr } = spawnSync(shell, ["-n", join(project, "completions", file)], { encoding: "utf8" });
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
  });

test("contain nothing that a shell would run while it reads them", async () => {
  const { completions } = await import("../../scripts/docs/completions.ts");
  // Texts of --help are in single quotes alone.
  for (const [name, text] of completions()) if (name !== "fetcher.bash") expect(text).not.toMatch(/"[^"\n]*`/);
});
