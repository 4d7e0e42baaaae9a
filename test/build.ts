import { execFileSync } from "node:child_process";
import { join } from "node:path";

const built = Symbol.for("fetcher.built");

/** Builds dist/ once in a run, however many projects ask for it. */
export default function setup(): void {
  const run = globalThis as { [built]?: boolean };
  if (run[built] === true) return;
  run[built] = true;
  execFileSync(process.execPath, [join(import.meta.dirname, "../scripts/build.mjs")], { stdio: "inherit" });
}
