/** The memory of 1, 10 and 100 sidecars, with a resident process and without. What the secrets take in /run is the same. */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { bareNode, type Daemon, memoryOf, program, startDaemon, startProcess } from "./measure.ts";
import { folderScope } from "./stores.ts";

export const SERVICES = [1, 10, 100] as const;

export interface Memory {
  /** MiB, summed over the processes that stay, for each of SERVICES. */
  readonly pss: readonly number[];
  readonly uss: readonly number[];
}

export interface Memories {
  readonly onChange: Memory;
  readonly withoutWatch: Memory;
  readonly notResident: Memory;
  readonly node: Memory;
}

export async function measureMemory(place: string): Promise<Memories> {
  const scope = (kind: string, index: number, options: Parameters<typeof folderScope>[1]) =>
    folderScope(join(place, `${kind}-${index}`), options);
  return {
    onChange: await grow((index) =>
      startDaemon(scope("on-change", index, { config: { reloadOnChange: true, pollingInterval: 3600 } }).config),
    ),
    withoutWatch: await grow((index) => startDaemon(scope("without-watch", index, {}).config)),
    notResident: await grow((index) => {
      const { config } = scope("not-resident", index, { resident: false });
      const env = { PATH: process.env["PATH"], INVOCATION_ID: "bench" };
      const { status, stderr } = spawnSync(process.execPath, [program, "--config", config], { env });
      if (status !== 0) throw new Error(stderr.toString());
      return Promise.resolve(undefined);
    }),
    node: await grow(() => startProcess(bareNode, "ready")),
  };
}

/** @param start resolves with the process that stays, if one does. */
async function grow(start: (index: number) => Promise<Daemon | undefined>): Promise<Memory> {
  const running: Daemon[] = [];
  const [pss, uss]: [number[], number[]] = [[], []];
  let started = 0;
  for (const services of SERVICES) {
    for (; started < services; started++) {
      const daemon = await start(started);
      if (daemon !== undefined) running.push(daemon);
    }
    if (running.length > 0) await sleep(1500);
    const sum = memoryOf(running.map(({ child }) => child));
    pss.push(sum.pss);
    uss.push(sum.uss);
  }
  await Promise.all(running.map((daemon) => daemon.stop()));
  return { pss, uss };
}
