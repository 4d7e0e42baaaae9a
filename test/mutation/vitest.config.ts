import { defineConfig } from "vitest/config";

process.umask(0o022);

/**
 * What runs in one process and in seconds: a mutant is tried by those tests of its part that reach it. The engine's property takes
 * minutes, and the built program is not mutated.
 */
export default defineConfig({
  test: { include: [process.env["MUTATION_TESTS"] ?? "test/unit/**/*.test.ts"], testTimeout: 60_000 },
});
