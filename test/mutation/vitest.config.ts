import { defineConfig } from "vitest/config";

process.umask(0o022);

const tests = process.env["MUTATION_TESTS"] ?? "test/unit/**/*.test.ts";

/**
 * The tests that run in one process and in seconds: each mutant gets the tests of its part that reach it. The engine's
 * property takes minutes, and the built program is not mutated. Imports take most of the time, so the files of one
 * mutant share them.
 */
export default defineConfig({
  // Two files that put their own table of backends in the place of the real one cannot share it.
  test: { include: [tests], isolate: tests.includes("open-store"), testTimeout: 60_000 },
});
