// Mutation tests: changes the source by one small fault at a time (Stryker), runs the unit tests and properties that reach it, and
// says which faults they do not see.
//
//   npm run mutation                       all files that are listed below: an hour and more
//   npm run mutation -- src/engine/retries.ts …   these files
//   npm run mutation -- --table            the table of CONTRIBUTING.md, of what has been run
//   npm run mutation -- --survivors [FILE…]   each fault that no test sees
//
// What has been tried is not tried again while neither the file nor the tests that reach it have changed.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

const root = join(import.meta.dirname, "../..");
process.chdir(root);

/** The parts whose faults cost an operator a service or a secret. */
const parts = {
  "the actions": [
    "src/systemd/target-action.ts",
    "src/systemd/target-actions.ts",
    "src/systemd/systemctl.ts",
    "src/systemd/credential-copies.ts",
  ],
  "secrets.env": ["src/publish/env-file.ts"],
  "the engine": [
    "src/engine/held-values.ts",
    "src/engine/problems.ts",
    "src/engine/retries.ts",
    "src/engine/rotation.ts",
    "src/engine/store.ts",
    "src/engine/verify.ts",
    "src/engine/status.ts",
    "src/engine/fetch.ts",
    "src/engine/watch.ts",
    "src/engine/first-load.ts",
    "src/engine/first-publish.ts",
    "src/engine/sidecar.ts",
  ],
  "the publisher": [
    "src/publish/publisher.ts",
    "src/publish/secret-set.ts",
    "src/publish/overlap.ts",
    "src/publish/permissions.ts",
  ],
};
const copied = [
  "package.json",
  "{src,backends,test/unit,test/properties}/**",
  "test/*.ts",
  "test/mutation/vitest.config.ts",
];
const scratch = "coverage/mutation";

const flags = process.argv.slice(2).filter((word) => word.startsWith("--"));
const named = process.argv.slice(2).filter((word) => !word.startsWith("--"));
const files = named.length > 0 ? named : Object.values(parts).flat();

if (flags.includes("--table")) table();
else if (flags.includes("--survivors")) for (const file of files) survivors(file);
else {
  install();
  for (const file of files) await mutate(file);
}

/** Its own packages, into this folder: nothing else needs them. */
function install() {
  if (existsSync(join(import.meta.dirname, "node_modules/@stryker-mutator/core"))) return;
  console.log("installing Stryker ...");
  const options = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"];
  const { status } = spawnSync("npm", ["ci", ...options], { cwd: import.meta.dirname, stdio: "inherit" });
  if (status !== 0) process.exit(1);
}

async function mutate(file) {
  const { Stryker } = await import("@stryker-mutator/core");
  mkdirSync(scratch, { recursive: true });
  await new Stryker({
    mutate: [file],
    testRunner: "vitest",
    plugins: [join(import.meta.dirname, "node_modules/@stryker-mutator/vitest-runner/dist/src/index.js")],
    vitest: { configFile: "test/mutation/vitest.config.ts" },
    coverageAnalysis: "perTest",
    concurrency: 1,
    // A loop without end shows by its count of steps; a busy machine is no fault.
    timeoutMS: 20_000,
    incremental: true,
    incrementalFile: resultsOf(file),
    tempDirName: `${scratch}/tmp`,
    ignorePatterns: ["**", ...copied.map((path) => `!${path}`)],
    reporters: ["progress-append-only"],
    logLevel: "warn",
    thresholds: { high: 100, low: 0, break: null },
  }).runMutationTest();
  console.log(row(file));
  survivors(file);
}

function resultsOf(file) {
  return `${scratch}/${file.replaceAll("/", "-")}.json`;
}

/** @returns undefined where it has not been run. */
function results(file) {
  if (!existsSync(resultsOf(file))) return undefined;
  const { source, mutants } = JSON.parse(readFileSync(resultsOf(file), "utf8")).files[file] ?? {};
  return mutants === undefined ? undefined : { mutants, stale: source !== readFileSync(file, "utf8"), source };
}

function survives({ status }) {
  return status === "Survived" || status === "NoCoverage";
}

function row(file) {
  const found = results(file);
  if (found === undefined) return `| \`${file}\` | not run | | |`;
  const count = found.mutants.length;
  const survived = found.mutants.filter(survives).length;
  const killed = `${Math.floor((100 * (count - survived)) / count)} %`;
  return `| \`${file}\` | ${count} | ${killed} | ${survived} |${found.stale ? " (changed since)" : ""}`;
}

function table() {
  console.log("| file | mutants | killed | survived |\n| --- | --- | --- | --- |");
  for (const file of files) console.log(row(file));
}

function survivors(file) {
  const found = results(file);
  if (found === undefined) return;
  const lines = found.source.split("\n");
  for (const { location, replacement, mutatorName, status } of found.mutants.filter(survives)) {
    const { start, end } = location;
    const text =
      start.line === end.line
        ? lines[start.line - 1].slice(start.column - 1, end.column - 1)
        : `${lines[start.line - 1].slice(start.column - 1)} …`;
    const never = status === "NoCoverage" ? " (no test reaches it)" : "";
    console.log(
      `${file}:${start.line}:${start.column} ${mutatorName}${never}: ${text} → ${replacement.replace(/\s+/g, " ")}`,
    );
  }
}
