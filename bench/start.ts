/** From exec to READY, for each backend and number of secrets, beside bare Node and a shell loop. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { median, startDaemon, timed } from "./measure.ts";
import { COUNTS, idsOf, type Stores } from "./stores.ts";

/** Milliseconds: what takes longer is measured in every fourth round only. */
const SLOW = 2000;

export interface Starts {
  /** Medians, milliseconds; one for each of COUNTS, undefined where it was left out. */
  readonly rows: ReadonlyMap<string, readonly (number | undefined)[]>;
  readonly shell: readonly number[];
  readonly node: number;
}

/** Compared ones take turns, so that what else the machine does falls on all alike. */
export async function measureStarts(stores: Stores, place: string, rounds: number): Promise<Starts> {
  const times = new Map<string, number[][]>();
  for (const row of stores.scopes.keys())
    times.set(
      row,
      COUNTS.map(() => []),
    );
  const shell = COUNTS.map((): number[] => []);
  const node: number[] = [];
  for (let round = 0; round < rounds; round++) {
    for (const [index, count] of COUNTS.entries()) {
      node.push(timed(() => spawnSync(process.execPath, ["-e", "0"])));
      const isDue = (earlier: readonly number[] = []) => (earlier[0] ?? 0) < SLOW || round % 4 === 0;
      if (isDue(shell[index])) shell[index]?.push(copyByShell(stores.files, count, place));
      for (const [row, scopes] of stores.scopes) {
        const scope = scopes[index];
        if (scope === undefined || !isDue(times.get(row)?.[index])) continue;
        const daemon = await startDaemon(scope.config, scope.env);
        times.get(row)?.[index]?.push(daemon.ready);
        await daemon.stop();
        rmSync(scope.config.replace(/json$/, "output"), { recursive: true, force: true });
      }
    }
  }
  const rows = new Map<string, readonly (number | undefined)[]>();
  for (const [row, columns] of times)
    rows.set(
      row,
      columns.map((column) => (column.length === 0 ? undefined : median(column))),
    );
  return { rows, shell: shell.map(median), node: median(node) };
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
