// npm run docs:site: builds the pages of docs/ as a site, in dist.site/. Installs missing tools for that.
import { spawnSync } from "node:child_process";
import { existsSync, rmSync } from "node:fs";
import { join } from "node:path";

const site = import.meta.dirname;
const source = join(site, "dist.source");

if (!existsSync(join(site, "node_modules/vitepress"))) run("npm", "ci", "--no-audit", "--no-fund", "--loglevel=error");
rmSync(source, { recursive: true, force: true });
// Not before: it needs what was just installed.
const { writeSource } = await import("./source.mjs");
await writeSource(source);
run(process.execPath, "node_modules/vitepress/bin/vitepress.js", "build", ".");

function run(command, ...args) {
  const { status } = spawnSync(command, args, { cwd: site, stdio: "inherit" });
  if (status !== 0) process.exit(status ?? 1);
}
