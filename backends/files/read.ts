/** Reads many small files as one consistent picture, without ever blocking on what is not a regular file. */
import { forEachConcurrently } from "../../src/contract/concurrency.ts";
import fs from "node:fs";
import { dirname } from "node:path";
import { BackendError, type Outcome } from "../../src/contract/backend.ts";
import { errnoCode, errnoText, printable } from "../../src/contract/errors.ts";
import { realPathOf, statOf } from "../../src/contract/file-calls.ts";
import { MAX_VALUE, NO_ROOM, Room } from "../../src/contract/limits.ts";
import { hiddenHint } from "../../src/contract/unit-sandbox.ts";
import { unlessAborted } from "../../src/contract/bounded-wait.ts";
import { hanging, unlessHanging } from "../../src/contract/hanging.ts";
import { readInOneGo, valueOf } from "../../src/contract/whole-files.ts";

/** Four threads do the system calls; more than this many files at once gain nothing (measured with 1,000 files). */
const CONCURRENCY = 64;

/** How often to wait for a descriptor (LimitNOFILE=) that another file may give back, and how long, in milliseconds. */
const [DESCRIPTOR_WAITS, DESCRIPTOR_PAUSE] = [100, 10];

/** How long to let a writer finish before reading again, in milliseconds. */
const PAUSES = [2, 5, 10, 20, 40, 80];

/**
 * A fifo or a device must not block or take over the terminal; Node adds O_CLOEXEC itself.
 */
const OPEN_FLAGS = fs.constants.O_RDONLY | fs.constants.O_NONBLOCK | fs.constants.O_NOCTTY;

const TOO_LARGE = `larger than ${MAX_VALUE / 1024 / 1024} MiB`;

/** What was read, and what `stat` of its path must still say for it to be whole and of the same generation. */
interface Sight {
  readonly outcome: Outcome;
  /** undefined: there was no such file; null: a failure that a look at the path cannot confirm. */
  readonly identity: string | undefined | null;
}

/**
 * Reads `files` (id → path). Where the runtime can, it reads a single file, or those of a `directory` in memory, in one go.
 *
 * After the last file, it looks at every path again. Where a path leads to another file than the one that it read, or
 * to one that changed since, it reads all again. So it returns neither a torn in-place write nor a mixture of two
 * generations of a symlinked directory. A file whose bytes keep changing is `unavailable`: alone if a program writes to it
 * without end, but with all the others where whole directories are swapped, since these would be another generation's.
 *
 * @returns an outcome for each id: ENOENT is `missing`; no regular file or over 16 MiB is `invalid`; EACCES is
 *   `denied`; anything else is `unavailable`. Rejects with the signal's reason soon after `signal` aborts, even where a
 *   system call hangs.
 */
export async function readFiles(
  files: ReadonlyMap<string, string>,
  signal: AbortSignal,
  directory?: string,
): Promise<Map<string, Outcome>> {
  const reading = readByBestWay(files, signal, directory);
  try {
    return await unlessAborted(signal, reading);
  } catch (error) {
    // Values that still arrive have no owner.
    void reading.then(wipe, () => undefined);
    throw error;
  }
}

async function readByBestWay(files: ReadonlyMap<string, string>, signal: AbortSignal, directory: string | undefined) {
  const whole = signal.aborted ? undefined : await readInOneGo(files, directory);
  return whole ?? (await readConsistently(files, signal));
}

async function readConsistently(files: ReadonlyMap<string, string>, signal: AbortSignal) {
  for (let attempt = 0; ; attempt++) {
    const sights = new Map<string, Sight>();
    const room = new Room();
    const last = attempt >= PAUSES.length;
    const places = last ? await placesOf(files.values()) : undefined;
    await forEach(files, signal, async (id, path) => {
      const sight = await unlessHanging(`read ${id} ${path}`, () => readFile(path, room));
      sights.set(id, sight ?? { outcome: hanging(path), identity: null });
    });
    const changed = new Set<string>();
    const looks = [...files].map(async ([id, path]) => {
      const before = sights.get(id)?.identity;
      const looked = before === null ? null : await unlessHanging(`look ${id} ${path}`, () => identityOf(path));
      if (before !== null && !(last ? isSameContent : isSame)(before, looked)) changed.add(id);
    });
    await Promise.all(looks);
    if (changed.size > 0 && !last && !signal.aborted) {
      wipe(outcomesOf(sights));
      await new Promise((resolve) => setTimeout(resolve, PAUSES[attempt]));
      continue;
    }
    if (changed.size > 0 && places !== undefined && places !== (await placesOf(files.values())))
      for (const id of files.keys()) changed.add(id);
    const outcomes = outcomesOf(sights);
    wipe(new Map([...changed].map((id) => [id, outcomes.get(id)])));
    for (const id of changed) outcomes.set(id, neverAtRest(files.get(id) ?? id));
    return outcomes;
  }
}

/** Where the paths lead, and into which directories: both stay the same when a file is replaced by another of its name. */
async function placesOf(paths: Iterable<string>): Promise<string> {
  const places = Array.from(paths, async (path) => {
    try {
      const place = await realPathOf(path);
      const { dev, ino } = await statOf(dirname(place));
      return `${place}\0${dev}:${ino}`;
    } catch {
      // A file that comes and goes says nothing about the others.
      return "";
    }
  });
  return (await Promise.all(places)).join("\0");
}

function neverAtRest(path: string): BackendError {
  return new BackendError("unavailable", `${printable(path)} changes while fetcher reads it`);
}

function outcomesOf(sights: ReadonlyMap<string, Sight>): Map<string, Outcome> {
  return new Map([...sights].map(([id, { outcome }]) => [id, outcome]));
}

/** Overwrites unused values. */
export function wipe(outcomes: ReadonlyMap<string, Outcome | undefined>): void {
  for (const outcome of outcomes.values()) {
    if (outcome !== undefined && "value" in outcome) outcome.value.fill(0);
  }
}

async function forEach(
  files: ReadonlyMap<string, string>,
  signal: AbortSignal,
  each: (id: string, path: string) => Promise<void>,
): Promise<void> {
  await forEachConcurrently(files, CONCURRENCY, async ([id, path]) => {
    if (!signal.aborted) await each(id, path);
  });
}

/** With callbacks: promises for each of the four system calls made 1,000 files take twice as long (measured). */
async function readFile(path: string, room: Room): Promise<Sight> {
  return await new Promise((resolve) => {
    const open = (waits: number) => {
      fs.open(path, OPEN_FLAGS, (error, descriptor) => {
        if (error !== null && waits > 0 && isUsedUp(error)) setTimeout(open, DESCRIPTOR_PAUSE, waits - 1);
        else if (error !== null) resolve(notOpened(error, path));
        else
          readOpened(descriptor, path, room, (sight) => {
            fs.close(descriptor, () => {
              resolve(sight);
            });
          });
      });
    };
    open(DESCRIPTOR_WAITS);
  });
}

function isUsedUp(error: unknown): boolean {
  const code = errnoCode(error);
  return code === "EMFILE" || code === "ENFILE";
}

function notOpened(error: unknown, path: string): Sight {
  if (errnoCode(error) !== "ENOENT") return { outcome: failure(error, "read", path), identity: null };
  const where = `no file ${printable(path)}${hiddenHint(path)}`;
  return { outcome: { status: "missing", where }, identity: undefined };
}

/** For a file that we wait for. */
export function notYet(path: string): string {
  return `no file ${printable(path)} (yet)${hiddenHint(path)}`;
}

function readOpened(descriptor: number, path: string, room: Room, done: (sight: Sight) => void): void {
  fs.fstat(descriptor, { bigint: true }, (error, stats) => {
    if (error !== null) {
      done({ outcome: failure(error, "read", path), identity: null });
      return;
    }
    const identity = identify(stats);
    const refuse = (why: string) => {
      done({ outcome: invalid(`${printable(path)} is ${why}`), identity });
    };
    if (!stats.isFile()) refuse("not a regular file");
    else if (stats.size > MAX_VALUE) refuse(TOO_LARGE);
    else if (!room.take(Number(stats.size)))
      done({ outcome: invalid(`${printable(path)}: with it, ${NO_ROOM}`), identity });
    else {
      readAll(descriptor, Number(stats.size), (failed, value) => {
        if (failed !== null) done({ outcome: failure(failed, "read", path), identity: null });
        else if (value === undefined) refuse(TOO_LARGE);
        else done({ outcome: valueOf(value, stats), identity });
      });
    }
  });
}

/**
 * @param size what stat says: 0 for some FUSE files that have bytes.
 * @param done gets no value if there is more than MAX_VALUE.
 */
function readAll(descriptor: number, size: number, done: (error: Error | null, value?: Buffer) => void): void {
  let buffer = Buffer.allocUnsafeSlow(size === 0 ? 4096 : size);
  let length = 0;
  const more = () => {
    fs.read(descriptor, buffer, length, buffer.length - length, null, (error, bytesRead) => {
      length += bytesRead;
      // The look at the path afterwards sees a file that has grown beyond the size that stat gave.
      if (error !== null || bytesRead === 0 || length === size) {
        done(error, buffer.subarray(0, length));
        return;
      }
      if (length === buffer.length) {
        const full = buffer;
        if (length <= MAX_VALUE) buffer = Buffer.concat([full], length * 4);
        full.fill(0);
      }
      if (length > MAX_VALUE) done(null);
      else more();
    });
  };
  more();
}

/** ctime is in it because no program can set it: it shows a write with a restored mtime, and a rename-over. */
function identify(stats: fs.BigIntStats): string {
  return [stats.dev, stats.ino, stats.size, stats.mtimeNs, stats.ctimeNs].join(":");
}

type Identity = Sight["identity"];

function isSame(before: Identity, after: Identity): boolean {
  return before === after;
}

/**
 * Where only the ctime differs, another owner or mode is new, and the bytes are those that were read. agenix sets the
 * owners after it has swapped the directory: without these files, the others would be published beside an earlier
 * generation's.
 */
function isSameContent(before: Identity, after: Identity): boolean {
  return withoutChangeTime(before) === withoutChangeTime(after);
}

function withoutChangeTime(identity: Identity): Identity {
  return identity?.slice(0, identity.lastIndexOf(":"));
}

async function identityOf(path: string): Promise<string | undefined | null> {
  try {
    return identify(await statOf(path));
  } catch (error) {
    return errnoCode(error) === "ENOENT" ? undefined : null;
  }
}

function invalid(message: string): BackendError {
  return new BackendError("invalid", message);
}

/** Maps a failed system call on `path`; `doing` completes "cannot … PATH". */
export function failure(error: unknown, doing: string, path: string): BackendError {
  const code = errnoCode(error) ?? "unknown error";
  const where = printable(path);
  switch (code) {
    case "ENOTDIR":
      return invalid(`${where} leads through something that is not a directory`);
    case "ELOOP":
      return invalid(`${where} is a loop of symbolic links`);
    case "ENAMETOOLONG":
      return invalid(`${where} is too long a path`);
    case "EISDIR":
    case "ENXIO": // open(2) of a socket, or of a device without a driver
    case "ENODEV":
      return invalid(`${where} is not a regular file`);
    case "EACCES":
    case "EPERM":
      return new BackendError("denied", `cannot ${doing} ${where}: ${errnoText(code)}${hiddenHint(path)}`);
    default:
      return new BackendError("unavailable", `cannot ${doing} ${where}: ${errnoText(code)}`);
  }
}
