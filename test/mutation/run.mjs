// Mutation tests: changes the source by one small fault at a time (Stryker), runs the tests that ought to see it, and says which
// faults they do not see.
//
//   npm run mutation                              all files that test/mutation/pieces.mjs names: an hour and more
//   npm run mutation -- FILE…                     these files
//   npm run mutation -- --minutes 8 [FILE…]       begins nothing new after that: run it again for the rest
//   npm run mutation -- --survivors [FILE…]       each fault that no test sees, of what has been run
//   npm run mutation -- --table [FILE…]           the table of CONTRIBUTING.md, of what has been run
//
// What has been tried is not tried again while neither the file nor its tests have changed.
import { spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { commandLine } from "../../scripts/command-line.mjs";
import { mutantsOf, piecesOf, scratch, survives, tested } from "./pieces.mjs";

process.chdir(join(import.meta.dirname, "../.."));
const { values: flags, positionals } = commandLine(
  "npm run mutation -- [--minutes N | --survivors | --table] [FILE...]",
  {
    options: { minutes: { type: "string" }, survivors: { type: "boolean" }, table: { type: "boolean" } },
    allowPositionals: true,
  },
);
const files = positionals.length > 0 ? positionals : Object.keys(tested);
const until = Date.now() + Number(flags.minutes ?? Infinity) * 60_000;

if (flags.table) table();
else if (flags.survivors) for (const piece of files.flatMap(piecesOf)) survivors(piece);
else await run();

async function run() {
  install();
  // A mutant may keep a test from removing what it made.
  const place = mkdtempSync(join(tmpdir(), "fetcher-mutation-"));
  process.env["TMPDIR"] = place;
  process.once("exit", () => rmSync(place, { recursive: true, force: true }));
  mkdirSync(scratch, { recursive: true });
  const due = files.flatMap(piecesOf).filter((piece) => mutantsOf(piece) === undefined);
  for (const [index, piece] of due.entries()) {
    if (Date.now() > until) {
      console.log(`${due.length - index} pieces are left: run it again`);
      return;
    }
    console.log(`${piece.file}, lines ${piece.from} to ${piece.to}`);
    await mutate(piece);
    survivors(piece);
  }
  table();
}

/** Its own packages, into this folder: nothing else needs them. */
function install() {
  if (existsSync(join(import.meta.dirname, "node_modules/@stryker-mutator/core"))) return;
  console.log("installing Stryker ...");
  const options = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"];
  const { status } = spawnSync("npm", ["ci", ...options], { cwd: import.meta.dirname, stdio: "inherit" });
  if (status !== 0) process.exit(1);
}

async function mutate(piece) {
  const [all, ...others] = [tested[piece.file] ?? "test/unit/**/*.test.ts"].flat().toReversed();
  // What was found of an earlier form of it is a beginning.
  const found = `${piece.results}.part`;
  const known = existsSync(piece.results);
  if (known) copyFileSync(piece.results, found);
  for (const tests of known ? [all] : [...others, all]) await tryAll(piece, tests, found);
  renameSync(found, piece.results);
}

async function tryAll({ file, from, to }, tests, found) {
  const { Stryker } = await import("@stryker-mutator/core");
  // For test/mutation/vitest.config.ts.
  process.env["MUTATION_TESTS"] = tests;
  const copied = ["package.json", "src/**", "backends/**", "test/**", "examples/**"];
  await new Stryker({
    mutate: [`${file}:${from}-${to}`],
    testRunner: "vitest",
    plugins: [join(import.meta.dirname, "node_modules/@stryker-mutator/vitest-runner/dist/src/index.js")],
    vitest: { configFile: "test/mutation/vitest.config.ts", related: false },
    coverageAnalysis: "perTest",
    concurrency: 1,
    // A loop without end shows by its count of steps; a busy machine does not count as a fault.
    timeoutMS: 60_000,
    incremental: true,
    incrementalFile: found,
    tempDirName: `${scratch}/tmp`,
    ignorePatterns: [
      "**",
      ...copied.map((path) => `!${path}`),
      "test/nix/*/**",
      "test/vault/server",
      "test/mutation/node_modules",
    ],
    reporters: ["progress-append-only"],
    logLevel: "warn",
    thresholds: { high: 100, low: 0, break: null },
  }).runMutationTest();
  refuseSilence(found);
}

/** Stryker says nothing of a file of tests that it cannot load: all that its tests would see would be survivors. */
function refuseSilence(found) {
  const { testFiles = {} } = JSON.parse(readFileSync(found, "utf8"));
  const list = ["vitest", "list", "--filesOnly", "--config", "test/mutation/vitest.config.ts"];
  const named = spawnSync("npx", list, { encoding: "utf8" }).stdout.split("\n");
  const silent = named.filter((file) => file.endsWith(".test.ts") && testFiles[file] === undefined);
  if (silent.length === 0) return;
  console.error(
    `no test of these files ran, perhaps because a file that they read is not copied: ${silent.join(", ")}`,
  );
  process.exit(1);
}

function table() {
  console.log("| file | mutants | killed | survived |\n| --- | --- | --- | --- |");
  for (const file of files) {
    const found = piecesOf(file).map(mutantsOf);
    if (found.includes(undefined)) {
      console.log(`| \`${file}\` | not run as it is now | | |`);
      continue;
    }
    const mutants = found.flat();
    const survived = mutants.filter(survives).length;
    const killed = Math.floor((100 * (mutants.length - survived)) / Math.max(1, mutants.length));
    console.log(`| \`${file}\` | ${mutants.length} | ${killed} % | ${survived} |`);
  }
}

function survivors(piece) {
  const lines = readFileSync(piece.file, "utf8").split("\n");
  for (const { location, replacement, mutatorName, status } of (mutantsOf(piece) ?? []).filter(survives)) {
    const { start, end } = location;
    const first = lines[start.line - 1] ?? "";
    const text =
      start.line === end.line ? first.slice(start.column - 1, end.column - 1) : `${first.slice(start.column - 1)} …`;
    const never = status === "NoCoverage" ? ", which no test reaches" : "";
    const place = `${piece.file}:${start.line}:${start.column}`;
    console.log(`${place} ${mutatorName}${never}: ${text} → ${replacement.replace(/\s+/g, " ")}`);
  }
}
