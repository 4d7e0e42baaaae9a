// node bench/vault-fleet.mjs: 200 sidecars in one process poll one real server every 10 s, before, in and after an outage
// of 20 s. It needs `bao` or `vault`. Figures, not a test: what is expected is printed beside what was counted.
import { build } from "esbuild";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { bundleOptions } from "../scripts/bundle-options.mjs";

const directory = mkdtempSync(join(tmpdir(), "fetcher-fleet-"));
process.on("exit", () => rmSync(directory, { recursive: true, force: true }));
await build({
  ...bundleOptions,
  absWorkingDir: new URL("..", import.meta.url).pathname,
  entryPoints: { fleet: "bench/vault-fleet.ts" },
  outdir: directory,
  outExtension: { ".js": ".mjs" },
  // Its tests' helpers are of vitest, which is no part of a bundle.
  external: [...bundleOptions.external, "vitest"],
});
const { fleet } = await import(pathToFileURL(join(directory, "fleet.mjs")).href);
await fleet();
process.exit(0);
