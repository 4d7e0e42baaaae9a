import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { runsOnNode } from "./program.ts";

const built = Symbol.for("fetcher.built");

/**
 * Builds dist/, and the executable where that is tested: once in a run, however many projects ask for it.
 * FETCHER_TEST_BUILT says that both are there: several runs at once must not replace what the others use.
 */
export default function setup(): void {
  const run = globalThis as { [built]?: boolean };
  if (run[built] === true || process.env["FETCHER_TEST_BUILT"] !== undefined) return;
  run[built] = true;
  const scripts = runsOnNode ? ["build.mjs"] : ["build.mjs", "build-executable.mjs"];
  for (const script of scripts)
    execFileSync(process.execPath, [join(import.meta.dirname, "../scripts", script)], { stdio: "inherit" });
}
