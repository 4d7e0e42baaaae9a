// Bundles src/start.ts to fetcher.js. Backends and the watcher become chunks of their own, which are loaded only when used:
// time from exec to READY is mostly the time it takes to load JavaScript. Both runtimes get the same bundle.
import { build, transform } from "esbuild";
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { bundleOptions } from "./bundle-options.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));
const { version } = JSON.parse(readFileSync(`${root}package.json`, "utf8"));

/**
 * @param outdir absolute.
 * @param native the addon of the executable, compiled and in base64; none for Node.
 * @returns esbuild's metafile.
 */
export async function bundle(outdir, native = "") {
  const { metafile } = await build({
    ...bundleOptions,
    banner: {},
    metafile: true,
    absWorkingDir: root,
    entryPoints: { fetcher: "src/start.ts" },
    outdir,
    define: { FETCHER_VERSION: JSON.stringify(version), FETCHER_NATIVE: JSON.stringify(native) },
  });
  for (const [path, output] of Object.entries(metafile.outputs)) await makeCommonJs(path, output);
  return metafile;
}

/**
 * Node starts CommonJS sooner than ES modules, but esbuild splits only the latter. A third party's backend stays an ES
 * module, which is imported.
 */
async function makeCommonJs(path, { inputs, imports }) {
  const importsOthers = "backends/foreign.ts" in inputs;
  if (importsOthers && imports.some(({ kind }) => kind === "dynamic-import"))
    throw new Error(`${path}: a chunk that imports others' modules cannot have chunks of its own`);
  const { platform, target, minifySyntax, minifyWhitespace } = bundleOptions;
  const { code } = await transform(readFileSync(`${root}${path}`, "utf8"), {
    format: "cjs",
    platform,
    target,
    minifySyntax,
    minifyWhitespace,
    define: { "import.meta.url": "__filename" },
    supported: importsOthers ? {} : { "dynamic-import": false },
  });
  writeFileSync(`${root}${path}`, code);
}
