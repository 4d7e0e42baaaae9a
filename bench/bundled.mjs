// What a benchmark has in TypeScript, bundled as the program is.
import { build } from "esbuild";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { bundleOptions } from "../scripts/bundle-options.mjs";

/** Helpers of tests find their neighbours by where they lie: not where the bundle does. */
const dirnames = {
  name: "dirnames",
  setup({ onLoad }) {
    onLoad({ filter: /\/test\/.*\.ts$/ }, ({ path }) => ({
      contents: readFileSync(path, "utf8").replaceAll("import.meta.dirname", JSON.stringify(dirname(path))),
      loader: "ts",
    }));
  },
};

/** @returns the module bench/NAME.ts */
export async function bundled(name) {
  const directory = mkdtempSync(join(tmpdir(), "fetcher-bench-"));
  process.on("exit", () => rmSync(directory, { recursive: true, force: true }));
  await build({
    ...bundleOptions,
    absWorkingDir: fileURLToPath(new URL("..", import.meta.url)),
    entryPoints: { [name]: `bench/${name}.ts` },
    outdir: directory,
    outExtension: { ".js": ".mjs" },
    plugins: [...bundleOptions.plugins, dirnames],
    // Helpers of tests are of vitest, which is no part of a bundle.
    external: [...bundleOptions.external, "vitest"],
  });
  return await import(pathToFileURL(join(directory, `${name}.mjs`)).href);
}
