// Makes a fresh checkout ready: installs what package-lock.json names, and builds. Does nothing where everything is
// current, so that `npm start` and `npm test` can begin with it.
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
process.chdir(root);

if (!process.argv.includes("--no-install") && !installed()) {
  console.log("installing the dependencies ...");
  // sd-notify is optional: without libsystemd-dev its build fails, and systemd-notify(1) takes its place.
  const { status } = spawnSync("npm", ["ci", "--no-audit", "--no-fund", "--loglevel=error"], {
    stdio: ["ignore", "ignore", "inherit"],
  });
  if (status !== 0) {
    console.error("npm ci installed nothing (see above): the packages of package-lock.json are needed once");
    process.exit(1);
  }
}
const sources = [
  "src",
  "backends",
  "scripts/build.mjs",
  "scripts/bundle.mjs",
  "scripts/bundle-options.mjs",
  "scripts/merge-chunks.mjs",
  "scripts/native-libraries.mjs",
  "package.json",
  "package-lock.json",
  "tsconfig.json",
];
if (newest(sources) > modified("dist/fetcher.js")) {
  console.log("building dist/fetcher.js ...");
  execFileSync(process.execPath, ["scripts/build.mjs"], { stdio: "inherit" });
}

/** Works for any installer: npm lists in node_modules what it has installed, as its last step. */
function installed() {
  const wanted = packages("package-lock.json");
  const there = packages("node_modules/.package-lock.json");
  return Object.entries(wanted).every(([path, { version, integrity, optional }]) => {
    if (path === "") return true;
    const found = there[path];
    // It is for another processor or system, or could not be built here.
    if (found === undefined) return optional === true;
    return found.version === version && found.integrity === integrity && existsSync(join(path, "package.json"));
  });
}

function packages(file) {
  try {
    return JSON.parse(readFileSync(file, "utf8")).packages;
  } catch {
    return {};
  }
}

function modified(path) {
  return statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
}

function newest(paths) {
  return Math.max(
    // A folder counts too: its time changes when a file in it is removed.
    ...paths.flatMap((path) => [
      modified(path),
      statSync(path).isDirectory() ? newest(readdirSync(path).map((name) => join(path, name))) : 0,
    ]),
  );
}
