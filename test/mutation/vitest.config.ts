import { defineConfig } from "vitest/config";

process.umask(0o022);

/**
 * What runs in one process and in seconds: a mutant is tried by those tests of its part that reach it. The engine's property takes
 * minutes, and the built program is not mutated. Most of the time is that of imports: the files of one mutant share them.
 */
export default defineConfig({
  test: { include: [process.env["MUTATION_TESTS"] ?? "test/unit/**/*.test.ts"], isolate: false, testTimeout: 60_000 },
});
