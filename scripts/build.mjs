// Bundles src/main.ts to dist/fetcher.js. Backends and the watcher become chunks of their own, which are loaded only
// when used: time from exec to READY is mostly the time it takes to load JavaScript.
import { build } from "esbuild";
import { chmodSync, copyFileSync, readFileSync, rmSync } from "node:fs";

const root = new URL("..", import.meta.url).pathname;
const { version } = JSON.parse(readFileSync(`${root}package.json`, "utf8"));

rmSync(`${root}dist`, { recursive: true, force: true });
await build({
  absWorkingDir: root,
  entryPoints: { fetcher: "src/main.ts" },
  outdir: "dist",
  chunkNames: "chunks/[name]-[hash]",
  bundle: true,
  splitting: true,
  format: "esm",
  platform: "node",
  target: "node20.19",
  minifySyntax: true,
  minifyWhitespace: true,
  keepNames: true,
  legalComments: "linked",
  external: ["sd-notify"],
  // CommonJS libraries in the bundle call require(), which ES modules do not have.
  banner: {
    js: 'import { createRequire as createRequireForBundle } from "node:module"; const require = createRequireForBundle(import.meta.url);',
  },
  define: { FETCHER_VERSION: JSON.stringify(version) },
  logLevel: "warning",
});
copyFileSync(`${root}src/with-secrets.sh`, `${root}dist/with-secrets`);
chmodSync(`${root}dist/with-secrets`, 0o755);
chmodSync(`${root}dist/fetcher.js`, 0o755);
