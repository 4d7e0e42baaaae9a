/** The builds of fetcher that `npm run bench -- peers` compares: each takes fetcher's own configuration. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { environmentOfExecutable } from "../test/program.ts";
import { program, project, unitEnvironment } from "./measure.ts";

/** One column of the table. */
export interface Program {
  readonly name: string;
  /** What its units set. */
  readonly env: Readonly<Record<string, string>>;
  /** The executable, and its arguments for this configuration. */
  readonly command: (configPath: string) => readonly [string, ...string[]];
}

/** The same sources compiled to one executable, where that was built. */
const compiled = join(project, "dist/fetcher");

export const programs: readonly Program[] = [
  {
    name: `fetcher, Node ${process.versions.node}`,
    env: unitEnvironment,
    command: (configPath) => [process.execPath, program, "--config", configPath],
  },
  ...(existsSync(compiled)
    ? [
        {
          name: "fetcher, one executable",
          env: { ...unitEnvironment, ...environmentOfExecutable },
          command: (configPath: string) => [compiled, "--config", configPath] as const,
        },
      ]
    : []),
];
