import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, expect } from "vitest";
import { needs } from "../requirements.ts";
import { fileOf, longValue, misread, parseEnvironment, secretValue, shortReport } from "./secret-values.ts";

const shells = [
  { program: "dash", options: [], locale: "C.UTF-8" },
  { program: "bash", options: [], locale: "C.UTF-8" },
  { program: "bash", options: [], locale: "C" },
  { program: "bash", options: ["--posix"], locale: "C.UTF-8" },
] as const;

/** Of some seven hundred values. `npm run mutation` does it all again for each mutant. */
const runs = process.env["MUTATION_TESTS"] === undefined ? 20 : 1;

let directory: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "env-file-"));
});
afterAll(() => {
  rmSync(directory, { recursive: true });
});

for (const { program, options, locale } of shells) {
  const reader = [program, ...options].join(" ");
  needs(program).test(`a service started by ${reader} (${locale}) gets the very bytes of 10,000 values`, () => {
    let compared = 0;
    const readBack = (values: readonly Buffer[]): void => {
      const { file, promised } = fileOf(values);
      const path = join(directory, "secrets.env");
      writeFileSync(path, file.content);
      const script = 'set -a; . "$1"; set +a; exec env -0';
      const shell = spawnSync(program, [...options, "-c", script, "sh", path], {
        env: { PATH: process.env["PATH"], LC_ALL: locale },
        // Not a socket: bash would take itself for the shell of an rshd, and read ~/.bashrc.
        stdio: ["ignore", "pipe", "pipe"],
        maxBuffer: 1 << 23,
      });
      expect(shell.stderr.toString()).toBe("");
      expect(misread(promised, parseEnvironment(shell.stdout), SHELLS_OWN)).toEqual([]);
      compared += promised.size;
    };
    const batch = fc.tuple(
      fc.array(secretValue, { minLength: 700, maxLength: 800 }),
      fc.array(longValue, { maxLength: 2 }),
    );
    fc.assert(
      fc.property(batch, ([values, long]) => {
        readBack([...values, ...long]);
      }),
      { numRuns: runs, endOnFailure: true, reporter: shortReport },
    );
    expect(compared).toBeGreaterThanOrEqual(runs * 500);
  });
}

const SHELLS_OWN = ["PATH", "LC_ALL", "PWD", "OLDPWD", "SHLVL", "_"];
