import { availableParallelism } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { defineConfig } from "vitest/config";
import { BaseSequencer, type TestSpecification } from "vitest/node";

// Tests say of files what modes they have, and the programs that they start make some: not by who runs them. Debian gives a user
// of a group of his own 0002, and some administrators 0077. Workers and their children inherit this.
process.umask(0o022);

/**
 * A guest each, and a guest takes about a third of a processor: six for two. With FETCHER_E2E=here all files share one systemd.
 */
const guests = process.env["FETCHER_E2E"] === "here" ? 1 : 6;

const leases = ["lease", "login", "daemon"].map((name) => `test/vault/${name}.test.ts`);

/** By what takes longest (40 s and more), so that none of these is left alone at the end of its group, with a processor idle. */
const longest = [
  "site/site",
  "process/crash",
  "fuzz/fuzz",
  "process/packages",
  "vault/early-end",
  "process/install",
  "vault/outage",
  "process/operations",
  "process/end-hangs",
  "process/run",
  "e2e/vault",
  "e2e/plain-systemd",
  "e2e/aws",
  "soak/soak",
  "e2e/matrix-ageing",
  "e2e/add",
  "e2e/one-file",
  "e2e/on-change",
  "e2e/memory",
  "e2e/split",
  "e2e/matrix-pacing",
  "e2e/tutorial",
  "e2e/import",
  "e2e/matrix-rotation",
  "e2e/nix-switch",
  "e2e/matrix-survival",
  "e2e/hostile",
  "e2e/matrix-pairs",
  "e2e/packages",
  "e2e/user-units",
  "e2e/nix-pair",
  "e2e/nix-services",
  "e2e/docs",
  "e2e/matrix-credentials",
  "e2e/matrix-oneshot",
].map((name) => `/test/${name}.test.ts`);

/** vitest goes by the times of an earlier run, or else by size. */
class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ moduleId }: TestSpecification) => {
      const index = longest.findIndex((name) => moduleId.endsWith(name));
      return index === -1 ? longest.length : index;
    };
    return (await super.sort(files)).toSorted((a, b) => rank(a) - rank(b));
  }
}

/** Only there: every import takes a little longer with it. */
const literalPaths = import.meta.dirname.includes("%")
  ? ["--import", pathToFileURL(join(import.meta.dirname, "test/literal-paths.mjs")).href]
  : [];

/** For a script to read. */
const file = process.env["FETCHER_TEST_REPORT"];
const report: [string, { file: string }][] = file === undefined ? [] : [["./test/report.ts", { file }]];

export default defineConfig({
  test: {
    // One less than there are processors by default. The programs under test wait as often as they work: a file takes half of one.
    maxWorkers: availableParallelism() + 2,
    sequence: { sequencer: LongestFirst },
    // First: vitest's own counts stay at the end.
    reporters: ["./test/skip-reporter.ts", "default", ...report],
    projects: [
      // A machine may be busy with other things: no test is about time.
      { test: { name: "unit", include: ["test/unit/**/*.test.ts"], testTimeout: 30_000 } },
      {
        test: { name: "contract", include: ["test/contract/**/*.test.ts"], testTimeout: 60_000 },
      },
      // Servers that are started.
      {
        test: {
          name: "vault",
          include: ["test/vault/**/*.test.ts"],
          exclude: [...leases],
          globalSetup: ["test/build.ts"],
          testTimeout: 60_000,
        },
      },
      // Tokens and leases of seconds: on a machine that is busy with other tests they would end too early. They wait.
      {
        test: {
          name: "vault-leases",
          include: [...leases],
          globalSetup: ["test/build.ts"],
          maxWorkers: leases.length,
          sequence: { groupOrder: 1 },
          testTimeout: 60_000,
        },
      },
      { test: { name: "properties", include: ["test/properties/**/*.test.ts"], testTimeout: 300_000 } },
      {
        test: {
          name: "process",
          include: ["test/process/**/*.test.ts"],
          globalSetup: ["test/build.ts"],
          // More than what the tests wait for themselves: they say for what (test/process/daemon.ts).
          testTimeout: 120_000,
        },
      },
      {
        test: {
          name: "nix",
          include: ["test/nix/**/*.test.ts"],
          globalSetup: ["test/build.ts"],
          testTimeout: 60_000,
        },
      },
      {
        test: {
          name: "e2e",
          include: ["test/e2e/**/*.test.ts"],
          globalSetup: ["test/build.ts"],
          maxWorkers: guests,
          // After the others: what they measure in time should not suffer from guests that boot.
          sequence: { groupOrder: 2 },
          // More than what a test waits for itself, which says for what, and what a guest's boot takes.
          testTimeout: 240_000,
          hookTimeout: 300_000,
        },
      },
      // Builds the site, and looks at each of its pages four times.
      { test: { name: "site", include: ["test/site/**/*.test.ts"], testTimeout: 900_000 } },
      // `npm run fuzz` makes it longer.
      { test: { name: "fuzz", include: ["test/fuzz/**/*.test.ts"] } },
      // `npm run faults` tries them all. A shim is preloaded, and what it counts is counted alone.
      {
        test: {
          name: "faults",
          include: ["test/faults/**/*.test.ts"],
          globalSetup: ["test/build.ts"],
          testTimeout: 60_000,
        },
      },
      // Two minutes of random events, in a guest beside the others: `npm run soak` makes it longer.
      {
        test: {
          name: "soak",
          include: ["test/soak/**/*.test.ts"],
          globalSetup: ["test/build.ts"],
          maxWorkers: guests,
          sequence: { groupOrder: 2 },
        },
      },
      // What is made before tests and removed after them takes its time on such a machine, too.
    ].map(({ test }) => ({ test: { hookTimeout: 120_000, ...test, execArgv: literalPaths } })),
  },
});
