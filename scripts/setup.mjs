// Makes a fresh checkout ready: installs what package-lock.json names, and builds. Does nothing where all is current,
// so that `npm start` and `npm test` can begin with it.
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const root = new URL("..", import.meta.url).pathname;
process.chdir(root);

const stamp = "node_modules/.installed-lock";
const lock = readFileSync("package-lock.json", "utf8");
if (!process.argv.includes("--no-install") && read(stamp) !== lock) {
  console.log("installing the dependencies ...");
  // sd-notify is optional: without libsystemd-dev its build fails, and systemd-notify(1) takes its place.
  execFileSync("npm", ["ci", "--no-audit", "--no-fund", "--loglevel=error"], {
    stdio: ["ignore", "ignore", "inherit"],
  });
  writeFileSync(stamp, lock);
}
if (newest(["src", "backends", "scripts/build.mjs", "package.json"]) > modified("dist/fetcher.js")) {
  console.log("building dist/fetcher.js ...");
  execFileSync(process.execPath, ["scripts/build.mjs"], { stdio: "inherit" });
}

function read(path) {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}

function modified(path) {
  return statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
}

function newest(paths) {
  return Math.max(
    ...paths.map((path) =>
      statSync(path).isDirectory() ? newest(readdirSync(path).map((name) => join(path, name))) : modified(path),
    ),
  );
}
