// npm run fuzz [SECONDS [SEED]]: ten minutes if nothing is said. What fails is shrunk, and told with the seed that made it.
import { spawnSync } from "node:child_process";

const [seconds = "600", seed] = process.argv.slice(2);
const { status } = spawnSync("npx", ["vitest", "run", "--project", "fuzz"], {
  stdio: "inherit",
  env: { ...process.env, FETCHER_FUZZ_SECONDS: seconds, ...(seed === undefined ? {} : { FETCHER_FUZZ_SEED: seed }) },
});
process.exit(status ?? 1);
