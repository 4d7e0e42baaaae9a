/**
 * One owner for each output directory: a second daemon there would remove the live set when it ends.
 *
 * flock(2) locks a file in the directory. The lock belongs to the open file: where the runtime cannot take it, flock(1)
 * gets the file as its standard input and takes it for this process. The lock ends with this process, however that
 * ends. Neither network nor process namespaces matter to it.
 */
import type { ChildProcess, SpawnOptions } from "node:child_process";
import * as fs from "node:fs";
import { RESERVED_PREFIX } from "../config/config-schema.ts";
import { errnoCode, errnoText, ExitCode, printable, PublishError } from "../contract/errors.ts";
import { helperEnvironment } from "../contract/helper-command.ts";
import { attempt, lookTwice, pathIn, removeFile } from "./system-calls.ts";

const LOCK = `${RESERVED_PREFIX}lock`;
/** The exit status of flock(1) when another process has the lock. */
const TAKEN = 1;
/** ms in which a holder that was killed just now has ended: a child that it was starting has its files until then. */
const [PATIENCE, PAUSE] = [1000, 20];
/** Bytes; our notes are far shorter. */
const LONGEST_NOTE = 1024;

export interface DirectoryLock {
  /** Why nothing keeps a second daemon away; undefined: the lock does. */
  readonly unlocked: string | undefined;
  /** Removes the file, for a directory that must not keep any of our files. */
  remove(): void;
}

/**
 * Takes the lock of an open file. @returns the exit status that flock(1) would have; undefined where flock(1) must run.
 */
export type LockFile = (file: number) => number | undefined;

/**
 * Takes the directory until the process ends.
 *
 * @param directory without links on the way.
 * @param lockFile the runtime's own way to lock a file.
 * @throws PublishError (73) that names the process which has it, or where no file can be made there.
 */
export async function lockDirectory(directory: string, lockFile: LockFile): Promise<DirectoryLock> {
  const path = pathIn(directory, LOCK);
  const begun = performance.now();
  for (;;) {
    const file = open(path);
    const answer = lockFile(file) ?? (await lock(file));
    if (answer === TAKEN && performance.now() - begun < PATIENCE) {
      fs.closeSync(file);
      await new Promise((resolve) => setTimeout(resolve, PAUSE));
      continue;
    }
    if (answer === TAKEN) {
      const other = noteIn(file);
      fs.closeSync(file);
      throw new PublishError(ExitCode.cannotCreate, `output: ${directory} is in use by ${other}: stop that first`);
    }
    // A holder that ended just now has removed the file: others would lock another one.
    if (!isAt(path, file)) {
      fs.closeSync(file);
      continue;
    }
    write(path, JSON.stringify({ pid: process.pid, unit: ownUnit() }));
    return {
      unlocked: answer === 0 ? undefined : typeof answer === "string" ? answer : `flock ended with ${answer}`,
      remove: () => {
        if (isAt(path, file)) removeFile(path);
      },
    };
  }
}

/** @returns the process that has the directory, from its note, if it still runs; undefined: no other process has it. */
export function holderOf(directory: string): number | undefined {
  const { O_NOFOLLOW, O_NONBLOCK, O_RDONLY } = fs.constants;
  try {
    const file = fs.openSync(pathIn(directory, LOCK), O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    try {
      const pid = pidIn(file);
      return pid !== undefined && pid !== process.pid && isRunning(pid) ? pid : undefined;
    } finally {
      fs.closeSync(file);
    }
  } catch {
    // Without the file, or a right to read it, no sidecar of ours is there.
    return undefined;
  }
}

function pidIn(file: number): number | undefined {
  const { pid } = readNote(file);
  return typeof pid === "number" && Number.isSafeInteger(pid) && pid > 0 ? pid : undefined;
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return errnoCode(error) === "EPERM";
  }
}

/** Replaces a trap at its name (a link, a fifo, a stranger's file), as for secrets. */
function open(path: string): number {
  // Opened only for reading: a file that is open for writing would keep its file system from being made read-only.
  const { O_CREAT, O_NOFOLLOW, O_NONBLOCK, O_RDONLY } = fs.constants;
  for (let tries = 0; ; tries += 1) {
    try {
      const file = fs.openSync(path, O_RDONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK, 0o600);
      const { uid, nlink, mode } = fs.fstatSync(file);
      const isRegular = (mode & fs.constants.S_IFMT) === fs.constants.S_IFREG;
      if (isRegular && uid === process.geteuid?.() && nlink <= 1) return file;
      fs.closeSync(file);
      if (tries < 3) fs.unlinkSync(path);
      else throw new PublishError(ExitCode.cannotCreate, `output: ${path} belongs to somebody else: remove it`);
    } catch (error) {
      const code = errnoCode(error);
      if (code === undefined) throw error;
      if (code === "ELOOP" && tries < 3) fs.rmSync(path, { force: true });
      else if (code !== "ENOENT" || tries >= 3)
        throw new PublishError(ExitCode.cannotCreate, `output: cannot make ${path}: ${errnoText(code)}`);
    }
  }
}

/** @returns the exit status of flock(1), or why it is missing. */
function lock(file: number): Promise<number | string> {
  return new Promise((done) => {
    const fail = (error: unknown) => {
      done(`flock: ${errnoText(errnoCode(error))}`);
    };
    const child = started(file, fail);
    if (child === undefined) return;
    child.once("error", fail);
    child.once("close", (code, signal) => {
      done(code ?? `flock was killed by ${signal ?? "a signal"}`);
    });
  });
}

function started(file: number, fail: (error: unknown) => void): ChildProcess | undefined {
  try {
    const options: SpawnOptions = { env: helperEnvironment(), stdio: [file, "ignore", "ignore"] };
    return process.getBuiltinModule("node:child_process").spawn("flock", ["-n", "0"], options);
  } catch (error) {
    // spawn() throws on some failures: a loop of links in PATH, no memory.
    fail(error);
    return undefined;
  }
}

function isAt(path: string, file: number): boolean {
  return attempt("read", path, () => {
    const there = lookTwice(path);
    const ours = fs.fstatSync(file);
    return there?.ino === ours.ino && there.dev === ours.dev;
  });
}

/** On a full disk the lock's owner is unreadable, but the lock still holds. */
function write(path: string, note: string): void {
  const { O_NOFOLLOW, O_NONBLOCK, O_TRUNC, O_WRONLY } = fs.constants;
  try {
    const file = fs.openSync(path, O_WRONLY | O_TRUNC | O_NOFOLLOW | O_NONBLOCK);
    try {
      fs.writeSync(file, `${note}\n`, 0);
    } finally {
      fs.closeSync(file);
    }
  } catch (error) {
    if (errnoCode(error) === undefined) throw error;
  }
}

/** Who has the directory, from its own note: `fetcher@app.service (process 17)`. */
function noteIn(file: number): string {
  try {
    const { pid, unit } = readNote(file);
    const process = `process ${Number(pid)}`;
    return typeof unit === "string" ? `${printable(unit)} (${process})` : process;
  } catch {
    // The other process is just writing the note.
    return "another fetcher";
  }
}

/** @throws where it holds no note. */
function readNote(file: number): { readonly pid: unknown; readonly unit: unknown } {
  const bytes = Buffer.alloc(LONGEST_NOTE);
  const length = fs.readSync(file, bytes, 0, bytes.length, 0);
  return JSON.parse(bytes.toString("utf8", 0, length)) as { pid: unknown; unit: unknown };
}

/** The systemd unit in which this process runs, from its control group: `…/system.slice/fetcher@app.service`. */
function ownUnit(): string | undefined {
  try {
    const groups = fs.readFileSync("/proc/self/cgroup", "utf8");
    return /^(?:0:|\d+:name=systemd):.*\/([^/\n]+\.service)(?:\/[^\n]*)?$/m.exec(groups)?.[1];
  } catch {
    return undefined;
  }
}
