// Bundles src/main.ts to dist/fetcher.js. Backends and the watcher become chunks of their own, which are loaded only
// when used: time from exec to READY is mostly the time it takes to load JavaScript.
import { build } from "esbuild";
import { chmodSync, copyFileSync, existsSync, readFileSync, renameSync, rmSync } from "node:fs";
import { bundleOptions } from "./bundle-options.mjs";

const root = new URL("..", import.meta.url).pathname;
const { version } = JSON.parse(readFileSync(`${root}package.json`, "utf8"));

// Built aside and swapped in: a daemon that is starting finds all chunks of one build.
const [fresh, old] = [`${root}dist.new-${process.pid}`, `${root}dist.old-${process.pid}`];
await build({
  ...bundleOptions,
  absWorkingDir: root,
  entryPoints: { fetcher: "src/main.ts" },
  outdir: fresh,
  define: { FETCHER_VERSION: JSON.stringify(version) },
});
copyFileSync(`${root}src/with-secrets.sh`, `${fresh}/with-secrets`);
chmodSync(`${fresh}/with-secrets`, 0o755);
chmodSync(`${fresh}/fetcher.js`, 0o755);
if (existsSync(`${root}dist`)) renameSync(`${root}dist`, old);
renameSync(fresh, `${root}dist`);
rmSync(old, { recursive: true, force: true });
