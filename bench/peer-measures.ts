/** Starts of peers, of one and of many. They take turns: what else the machine does falls on all alike. */
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { VaultServer } from "../test/vault/server.ts";
import { type Instance, startInstance } from "./instance.ts";
import { median, since } from "./measure.ts";
import { KEYS, type Peer } from "./peer.ts";
import { memoryOfGroups, processorTimeOf } from "./process-group.ts";

export const SERVICES = [1, 10, 100] as const;
/** Of so many services at most begin at once, so that the machine is busy and not overrun. */
const AT_ONCE = 8;

export interface Bench {
  readonly server: VaultServer;
  readonly tokenPath: string;
  /** For instances, in memory. */
  readonly place: string;
  readonly peers: readonly Peer[];
}

/** What Vault has at first. */
export const FIRST = "1";

/** Every key gets this value. */
export async function writeValue({ server }: Pick<Bench, "server">, value: string): Promise<void> {
  await server.write("secret/data/app", { data: Object.fromEntries(KEYS.map((key) => [key, value])) });
}

/** Where an instance of this name works. */
export function placeOf({ server, place, tokenPath }: Bench, name: string) {
  return { directory: join(place, name), url: server.url, tokenPath };
}

/** For each peer, in their order. */
export type Figures<T> = readonly T[];

export interface StartFigures {
  /** Milliseconds; the lowest too, because others' work only adds. */
  readonly ready: Spread;
  readonly processor: Spread;
}

export interface Spread {
  readonly median: number;
  readonly lowest: number;
}

export async function measurePeerStarts(bench: Bench, rounds: number): Promise<Figures<StartFigures>> {
  const samples = await inTurns(bench.peers, rounds, async (peer, index) => {
    const instance = await startInstance(peer, placeOf(bench, `start-${index}`), FIRST);
    await instance.stop();
    return instance;
  });
  return samples.map((starts) => ({
    ready: spread(starts.map(({ ready }) => ready)),
    processor: spread(starts.map(({ processor }) => processor)),
  }));
}

export function spread(values: readonly number[]): Spread {
  return { median: median(values), lowest: Math.min(...values) };
}

export interface ServicesFigures {
  /** Milliseconds until all services have their files, and on a processor until then. */
  readonly wall: number;
  readonly processor: number;
  /** MiB (PSS). */
  readonly memory: number;
}

/** @returns for each peer one for each of SERVICES. */
export async function measureServices(bench: Bench, rounds: number): Promise<Figures<readonly ServicesFigures[]>> {
  const columns = bench.peers.map((): ServicesFigures[] => []);
  for (const services of SERVICES) {
    const samples = await inTurns(bench.peers, rounds, (peer) => startServices(bench, peer, services));
    for (const [index, runs] of samples.entries())
      columns[index]?.push({
        wall: median(runs.map(({ wall }) => wall)),
        processor: median(runs.map(({ processor }) => processor)),
        memory: median(runs.map(({ memory }) => memory)),
      });
  }
  return columns;
}

async function startServices(bench: Bench, peer: Peer, services: number): Promise<ServicesFigures> {
  const running: Instance[] = [];
  const begun = process.hrtime.bigint();
  let next = 0;
  const starter = async () => {
    while (next < services) running.push(await startInstance(peer, placeOf(bench, `service-${next++}`), FIRST));
  };
  await Promise.all(Array.from({ length: AT_ONCE }, starter));
  const wall = since(begun);
  const pids = running.map(({ pid }) => pid);
  const processor = processorTimeOf(pids);
  await sleep(2000);
  const memory = memoryOfGroups(pids).pss;
  for (const instance of running) await instance.stop();
  return { wall, processor, memory };
}

/** One round after the other, and in each of them one peer after the other. @returns the samples of each peer. */
export async function inTurns<T>(
  peers: readonly Peer[],
  rounds: number,
  measure: (peer: Peer, index: number) => Promise<T>,
): Promise<Figures<readonly T[]>> {
  const samples = peers.map((): T[] => []);
  for (let round = 0; round < rounds; round++)
    for (const [index, peer] of peers.entries()) samples[index]?.push(await measure(peer, index));
  return samples;
}
