/** From exec to READY, for each backend and number of secrets, beside bare Node and a shell loop. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { bareStart, type Daemon, median, startDaemon, timed } from "./measure.ts";
import { COUNTS, idsOf, type Stores } from "./stores.ts";

/** Milliseconds: what takes longer is measured in every fourth round only. */
const SLOW = 2000;

/** Medians, milliseconds from exec to READY: as they pass, and on a processor. */
export type Start = Pick<Daemon, "ready" | "processor">;

export interface Starts {
  /** One for each of COUNTS, undefined where it was left out. */
  readonly rows: ReadonlyMap<string, readonly (Start | undefined)[]>;
  readonly shell: readonly number[];
  readonly node: Start;
}

/** Compared ones take turns, so that what else the machine does falls on all alike. */
export async function measureStarts(stores: Stores, place: string, rounds: number): Promise<Starts> {
  const times = new Map<string, Start[][]>();
  for (const row of stores.scopes.keys())
    times.set(
      row,
      COUNTS.map(() => []),
    );
  const shell = COUNTS.map((): number[] => []);
  const node: Start[] = [];
  for (let round = 0; round < rounds; round++) {
    for (const [index, count] of COUNTS.entries()) {
      node.push(await bareStart());
      const isDue = (earlier: readonly number[] = []) => (earlier[0] ?? 0) < SLOW || round % 4 === 0;
      if (isDue(shell[index])) shell[index]?.push(copyByShell(stores.files, count, place));
      for (const [row, scopes] of stores.scopes) {
        const scope = scopes[index];
        if (scope === undefined || !isDue(times.get(row)?.[index]?.map(({ ready }) => ready))) continue;
        const daemon = await startDaemon(scope.config, scope.env);
        times.get(row)?.[index]?.push(daemon);
        await daemon.stop();
        rmSync(scope.config.replace(/json$/, "output"), { recursive: true, force: true });
      }
    }
  }
  const rows = new Map<string, readonly (Start | undefined)[]>();
  for (const [row, columns] of times)
    rows.set(
      row,
      columns.map((column) => (column.length === 0 ? undefined : medianOf(column))),
    );
  return { rows, shell: shell.map(median), node: medianOf(node) };
}

function medianOf(starts: readonly Start[]): Start {
  return {
    ready: median(starts.map(({ ready }) => ready)),
    processor: median(starts.map(({ processor }) => processor)),
  };
}

/** As RFC 59's proof of concept did it: a copy and a line of secrets.env for each secret. */
function copyByShell(store: string, count: number, place: string): number {
  const output = mkdtempSync(join(place, "shell-"));
  const script =
    'for id in "$@"; do cp "$STORE/$id" "$OUT/$id"; chmod 0444 "$OUT/$id"; ' +
    'echo "$id=\\"$(cat "$STORE/$id")\\"" >> "$OUT/secrets.env"; done';
  const env = { PATH: process.env["PATH"], STORE: store, OUT: output };
  const time = timed(() => {
    const result = spawnSync("/bin/sh", ["-ec", script, "sh", ...idsOf(count)], { env });
    if (result.status !== 0) throw new Error(String(result.stderr));
  });
  rmSync(output, { recursive: true });
  return time;
}
