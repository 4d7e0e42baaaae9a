/** What a file's bytes become, and how a runtime reads many small files in a way of its own, where it has one. */
import type { BigIntStats } from "node:fs";
import type { Outcome } from "./backend.ts";

/**
 * @param files id → path.
 * @param directory the paths are below it; undefined: anywhere.
 * @returns undefined where it cannot, or something is not as it should be: the usual way finds out what.
 */
export type ReadInOneGo = (
  files: ReadonlyMap<string, string>,
  directory: string | undefined,
) => Promise<Map<string, Outcome> | undefined>;

let way: ReadInOneGo | undefined;

export function readInOneGoBy(ownWay: ReadInOneGo | undefined): void {
  way = ownWay;
}

/** @returns undefined also where the runtime has no such way. */
export async function readInOneGo(...[files, directory]: Parameters<ReadInOneGo>): ReturnType<ReadInOneGo> {
  return await way?.(files, directory);
}

type Stats = Pick<BigIntStats, "ino" | "mtimeNs" | "ctimeNs">;

/** What was read, as the outcome of its secret. */
export function valueOf(value: Buffer, stats: Stats): Outcome {
  return { status: "value", value, version: versionOf(stats), writtenAgo: ageOf(stats) };
}

/** Seconds since its bytes were last written; a rename over it, or another mode, does not count. */
function ageOf(stats: Stats): number {
  return (Date.now() - Number(stats.mtimeNs / 1000n) / 1000) / 1000;
}

/** When it was written, for people; inode and ctime distinguish files written in one second or with a copied mtime. */
function versionOf(stats: Stats): string {
  const seconds = Number(stats.mtimeNs / 1_000_000_000n);
  const written = new Date(seconds * 1000);
  const time = Number.isNaN(written.valueOf()) ? String(seconds) : written.toISOString().replace(".000Z", "Z");
  return `${time}-${stats.ino.toString(36)}-${stats.ctimeNs.toString(36)}`;
}
