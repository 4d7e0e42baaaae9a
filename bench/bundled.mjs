// What a benchmark has in TypeScript, bundled as the program is.
import { build } from "esbuild";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { bundleOptions } from "../scripts/bundle-options.mjs";

/** @returns the module bench/NAME.ts */
export async function bundled(name) {
  const directory = mkdtempSync(join(tmpdir(), "fetcher-bench-"));
  process.on("exit", () => rmSync(directory, { recursive: true, force: true }));
  await build({
    ...bundleOptions,
    absWorkingDir: new URL("..", import.meta.url).pathname,
    entryPoints: { [name]: `bench/${name}.ts` },
    outdir: directory,
    outExtension: { ".js": ".mjs" },
    // Helpers of tests are of vitest, which is no part of a bundle.
    external: [...bundleOptions.external, "vitest"],
  });
  return await import(pathToFileURL(join(directory, `${name}.mjs`)).href);
}
