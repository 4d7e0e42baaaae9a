/** The program under test: dist/fetcher.js on this Node, or what FETCHER_TEST_PROGRAM names (dist/fetcher, without Node). */
import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { project } from "./markdown.ts";

export const programFile = resolve(project, process.env["FETCHER_TEST_PROGRAM"] ?? "dist/fetcher.js");

/** Whether it runs on Node, and not as its own executable. */
export const runsOnNode = programFile.endsWith(".js");

/** @param file the program, or a copy of it. */
export function programCommand(file = programFile): readonly [string, ...string[]] {
  return runsOnNode ? [process.execPath, file] : [file];
}

/** The variables that its units set. */
export const environmentOfExecutable: Readonly<Record<string, string>> = Object.fromEntries(
  Array.from(
    readFileSync(join(project, "examples/systemd/executable.conf"), "utf8").matchAll(/^Environment=(\w+)=(.*)$/gm),
    ([, name = "", value = ""]) => [name, value],
  ),
);
