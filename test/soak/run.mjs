// npm run soak [SECONDS [SEED]]: random events against six services under a real systemd; half an hour if nothing is said.
// The report goes to the terminal, and to the file FETCHER_SOAK_REPORT.
import { spawnSync } from "node:child_process";
import { secondsAndSeed } from "../../scripts/command-line.mjs";

const [seconds = "1800", seed] = secondsAndSeed("npm run soak [-- SECONDS [SEED]]");
const { status } = spawnSync("npx", ["vitest", "run", "--project", "soak"], {
  stdio: "inherit",
  env: {
    ...process.env,
    FETCHER_SOAK_SECONDS: seconds,
    FETCHER_TEST_REQUIRE: "all",
    ...(seed === undefined ? {} : { FETCHER_SOAK_SEED: seed }),
  },
});
process.exit(status ?? 1);
