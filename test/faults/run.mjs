// npm run faults: a fault at each file system call, and a kill at each. The last lines have the counts.
import { spawnSync } from "node:child_process";

const { status } = spawnSync("npx", ["vitest", "run", "--project", "faults"], {
  stdio: "inherit",
  env: { ...process.env, FETCHER_FAULTS: "all" },
});
process.exit(status ?? 1);
