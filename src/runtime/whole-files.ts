/** Small files in one go, by the executable's addon: each is opened, read, and looked at again, in one step of one thread. */
import type { Outcome } from "../contract/backend.ts";
import { hanging, unlessHanging } from "../contract/hanging.ts";
import type { ReadInOneStep } from "../contract/plain-file.ts";
import { encoded } from "../contract/text.ts";
import { type ReadInOneGo, valueOf } from "../contract/whole-files.ts";

/** The function of the addon (native.c). @param names with a NUL after each; with `inMemory`, the first is the directory's. */
export type NativeRead = (
  names: Buffer,
  count: number,
  inMemory: boolean,
  mayBeYoung: boolean,
) => Promise<readonly [Buffer[], BigInt64Array] | undefined> | undefined;

/** What fstat(2) said before the first byte was read, and the bytes. */
export interface WholeFile {
  readonly value: Buffer;
  readonly ino: bigint;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
  readonly dev: bigint;
  readonly nlink: bigint;
}

/** How many of them the addon gives. */
const NUMBERS = 5;

/**
 * Reads the files at these paths, and looks at each path again after the last of them. Blocks on nothing but a file system
 * that hangs.
 *
 * @param directory the paths are below it. It and all of them lie in one file system in memory, which cannot hang.
 *   undefined: the paths are absolute, anywhere.
 * @returns undefined unless every file is there, regular, not empty (outside of a directory), on a file system of this
 *   machine, small (4 MiB together), and, unless it may be young, as it has been for a tenth of a second. It says nothing of the reason.
 */
export type ReadWhole = (
  directory: string | undefined,
  paths: readonly string[],
  mayBeYoung?: boolean,
) => Promise<readonly WholeFile[] | undefined>;

/** @returns a way to read a single file, or those of a directory in memory. */
export function inOneGo(read: ReadWhole): ReadInOneGo {
  return (files, directory) => readInOneGo(read, files, directory);
}

/** @param native undefined: the addon cannot be loaded. */
export function wholeBy(native: () => NativeRead | undefined): ReadWhole {
  return async (directory, paths, mayBeYoung = false) => {
    const names = directory === undefined ? paths : [directory, ...paths];
    const answer = await native()?.(
      encoded(`${names.join("\0")}\0`),
      paths.length,
      directory !== undefined,
      mayBeYoung,
    );
    if (answer === undefined) return undefined;
    const [values, numbers] = answer;
    const number = (index: number) => numbers[index] ?? 0n;
    return values.map((value, index) => ({
      value,
      ino: number(NUMBERS * index),
      mtimeNs: number(NUMBERS * index + 1),
      ctimeNs: number(NUMBERS * index + 2),
      dev: number(NUMBERS * index + 3),
      nlink: number(NUMBERS * index + 4),
    }));
  };
}

/** @returns a way to read a plain file, which nobody needs to have left alone: the usual way does not look at that, either. */
export function inOneStep(read: ReadWhole): ReadInOneStep {
  return async (path) => {
    const [file] = path.startsWith("/") ? ((await read(undefined, [path], true)) ?? []) : [];
    if (file === undefined) return undefined;
    const { value: bytes, ...stats } = file;
    return { bytes, stats: { ...stats, size: BigInt(bytes.length) } };
  };
}

async function readInOneGo(
  read: ReadWhole,
  files: ReadonlyMap<string, string>,
  directory: string | undefined,
): Promise<Map<string, Outcome> | undefined> {
  const [[id, path] = ["", ""]] = files;
  if (files.size === 1) {
    const found = await unlessHanging(`read ${id} ${path}`, () => orNull(read(undefined, [path])));
    if (found === undefined) return new Map([[id, hanging(path)]]);
    return outcomesOfWhole(files.keys(), found);
  }
  const top = `${directory ?? ""}/`;
  const paths = [...files.values()];
  if (directory === undefined || !paths.every((one) => one.startsWith(top))) return undefined;
  const names = paths.map((one) => one.slice(top.length));
  return outcomesOfWhole(
    files.keys(),
    await unlessHanging(`read all of ${directory}`, () => orNull(read(directory, names))),
  );
}

/** `undefined` would look as if it hung. */
async function orNull(files: ReturnType<ReadWhole>): Promise<readonly WholeFile[] | null> {
  return (await files) ?? null;
}

function outcomesOfWhole(
  ids: Iterable<string>,
  found: readonly WholeFile[] | null | undefined,
): Map<string, Outcome> | undefined {
  if (found === null || found === undefined) return undefined;
  const outcomes = new Map<string, Outcome>();
  let at = 0;
  for (const id of ids) {
    const file = found[at++];
    if (file !== undefined) outcomes.set(id, valueOf(file.value, file));
  }
  return outcomes;
}
