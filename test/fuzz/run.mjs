// npm run fuzz [SECONDS [SEED]]: ten minutes if nothing is said, and a fifth of it beside that for the program as a whole, which is
// dist/fetcher.js or what FETCHER_TEST_PROGRAM names. What fails is shrunk, and told with the seed that made it.
import { spawnSync } from "node:child_process";
import { secondsAndSeed } from "../../scripts/command-line.mjs";

const [seconds = "600", seed] = secondsAndSeed("npm run fuzz [-- SECONDS [SEED]]");
const { status } = spawnSync(
  "npx",
  ["vitest", "run", "--project", "fuzz", "--project", "process", "test/fuzz/", "test/process/fuzz.test.ts"],
  {
    stdio: "inherit",
    env: { ...process.env, FETCHER_FUZZ_SECONDS: seconds, ...(seed === undefined ? {} : { FETCHER_FUZZ_SEED: seed }) },
  },
);
process.exit(status ?? 1);
