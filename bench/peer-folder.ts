/** Starts with the files of a folder, of those peers that know such a store; in turns, as all starts. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { startCommand } from "./instance.ts";
import type { Peer } from "./peer.ts";
import { type Bench, type Figures, inTurns, spread, type StartFigures } from "./peer-measures.ts";

export const FOLDERS = [2, 1000] as const;

export type FolderFigures = StartFigures;

/** @returns for each peer one for each of FOLDERS, undefined where it has no such store. */
export async function measureFolders(
  bench: Bench,
  rounds: number,
): Promise<Figures<readonly (FolderFigures | undefined)[]>> {
  const value = "value of a file\n";
  const store = join(bench.place, "folder");
  mkdirSync(store);
  const all = Array.from({ length: Math.max(...FOLDERS) }, (_, index) => `secret${index}`);
  for (const id of all) writeFileSync(join(store, id), value);
  const columns = bench.peers.map((): (FolderFigures | undefined)[] => []);
  for (const count of FOLDERS) {
    const ids = all.slice(0, count);
    const samples = await inTurns(bench.peers, rounds, (peer, index) =>
      start(peer, join(bench.place, `folder-${index}`), { store, ids, value }),
    );
    for (const [index, starts] of samples.entries()) {
      const found = starts.filter((one) => one !== undefined);
      columns[index]?.push(
        found.length === 0
          ? undefined
          : {
              ready: spread(found.map(({ ready }) => ready)),
              processor: spread(found.map(({ processor }) => processor)),
            },
      );
    }
  }
  return columns;
}

async function start(
  peer: Peer,
  directory: string,
  { store, ids, value }: { readonly store: string; readonly ids: readonly string[]; readonly value: string },
) {
  const { fromFolder } = peer;
  if (fromFolder === undefined) return undefined;
  // All appear in the order of their names or at once.
  const watched = [ids[0] ?? "", ids.at(-1) ?? ""];
  const instance = await startCommand(peer, { directory }, value, () => fromFolder({ directory }, store, ids), watched);
  await instance.stop();
  return instance;
}
