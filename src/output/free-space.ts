/** Whether a new set has room beside the old one: a publish that cannot succeed must not fill what others write to. */
import { statfsSync, type StatsFs } from "node:fs";
import { ExitCode, PublishError } from "../contract/errors.ts";

const MIB = 1024 * 1024;
/** The directory of the stage, and its state. */
const OVERHEAD = 2;

/** @param sizes bytes of each file. @throws PublishError (73 without free inodes, 74 without free space). */
export function refuseWithoutSpace(path: string, sizes: readonly number[]): void {
  const system = statOf(path);
  // Some file systems have no limit (a tmpfs of size=0), or do not say how many files they can have (btrfs).
  if (system === undefined) return;
  const inodes = sizes.length + OVERHEAD;
  if (system.files > 0 && system.ffree < inodes)
    throw new PublishError(
      ExitCode.cannotCreate,
      `output: no space left on ${path} (ENOSPC): the new secrets need ${inodes} inodes beside the old ones, and ${system.ffree} are free`,
    );
  let blocks = OVERHEAD;
  for (const size of sizes) blocks += Math.ceil(size / system.bsize);
  // Root may use the blocks that are reserved for it.
  const free = process.geteuid?.() === 0 ? system.bfree : system.bavail;
  if (system.blocks > 0 && free < blocks)
    throw new PublishError(
      ExitCode.ioError,
      `output: no space left on ${path} (ENOSPC): the new secrets need ${inWords(blocks * system.bsize)} beside the old ones, and ${inWords(free * system.bsize)} are free`,
    );
}

/** @returns undefined where the file system does not answer: the write then shows whether there is room. */
function statOf(path: string): StatsFs | undefined {
  try {
    return statfsSync(path);
  } catch {
    return undefined;
  }
}

function inWords(bytes: number): string {
  return bytes < MIB ? `${Math.ceil(bytes / 1024)} KiB` : `${(bytes / MIB).toFixed(1)} MiB`;
}
