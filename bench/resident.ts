/** A sidecar that runs: how soon it publishes a change, and what it takes while nothing happens. */
import { readFileSync, renameSync, watch, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { bareNode, median, processorTime, since, startDaemon, startProcess } from "./measure.ts";
import { folderScope } from "./stores.ts";

/** Seconds. */
const SETTLE = 0.1;

export interface Latency {
  /** Milliseconds beyond the settle time. */
  readonly published: number;
  readonly noticed: number;
}

/** From the rename in the store to the new bytes in the output; the baseline is a bare fs.watch on the same rename. */
export async function measureLatency(place: string, rounds: number): Promise<Latency> {
  const { config, store, output } = folderScope(join(place, "latency"), {
    config: { reloadOnChange: true, pollingInterval: 3600 },
    onChange: { settle: SETTLE },
  });
  const daemon = await startDaemon(config);
  await sleep(1000);
  const published: number[] = [];
  const noticed: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const value = `round ${round}\n`;
    const begun = process.hrtime.bigint();
    const seenByWatch = new Promise<number>((done) => {
      const watcher = watch(store, () => {
        watcher.close();
        done(since(begun));
      });
      writeFileSync(join(place, "next"), value);
      renameSync(join(place, "next"), join(store, "first"));
    });
    while (readFileSync(join(output, "first"), "utf8") !== value) await sleep(1);
    published.push(since(begun) - SETTLE * 1000);
    noticed.push(await seenByWatch);
    await sleep(50);
  }
  await daemon.stop();
  return { published: median(published), noticed: median(noticed) };
}

export interface Idle {
  /** Seconds that were watched. */
  readonly seconds: number;
  /** Milliseconds on a processor within them. */
  readonly sidecar: number;
  readonly node: number;
}

export async function measureIdle(place: string, seconds: number): Promise<Idle> {
  const { config } = folderScope(join(place, "idle"), { config: { reloadOnChange: true, pollingInterval: 60 } });
  const both = [await startDaemon(config), await startProcess(bareNode, "ready")] as const;
  await sleep(3000);
  const before = both.map(({ child }) => processorTime(child));
  await sleep(seconds * 1000);
  const [sidecar = NaN, node = NaN] = both.map(({ child }, index) => processorTime(child) - (before[index] ?? NaN));
  for (const daemon of both) await daemon.stop();
  return { seconds, sidecar, node };
}
