import { defineConfig } from "vitest/config";

process.umask(0o022);

/**
 * What runs in one process and in seconds: a mutant is tried by the tests that reach it. The engine's property takes minutes, and the
 * built program is not mutated.
 */
export default defineConfig({
  test: {
    include: [
      "test/unit/{config,contract,engine,output,publish,runtime,systemd}/**/*.test.ts",
      "test/properties/env-file.test.ts",
    ],
    testTimeout: 60_000,
  },
});
