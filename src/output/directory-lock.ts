/**
 * One owner for each output directory: a second daemon there would remove the live set when it ends.
 *
 * flock(2) locks a file in the directory, and the directory itself, which nobody can remove from under a newcomer's
 * eyes. The locks belong to the open files: where the runtime cannot take them, flock(1) gets each as its standard
 * input and takes it for this process. They end with this process, however that ends. Neither network nor process
 * namespaces matter to them.
 *
 * The file decides, because only we can open it: any reader of the directory can lock that one, and systemd-tmpfiles
 * does. The directory decides only where a set of ours lies without the note of its owner: somebody has removed the
 * file. An owner whose file is gone makes it again when it next looks.
 */
import * as fs from "node:fs";
import { RESERVED_PREFIX } from "../config/config-schema.ts";
import { errnoCode, errnoText, ExitCode, printable, PublishError } from "../contract/errors.ts";
import { helperEnvironment } from "../contract/helper-command.ts";
import { STATE } from "./state-file.ts";
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
  /** The path of the file. */
  readonly path: string;
  /**
   * Takes the directory again where its lock file was removed.
   *
   * @returns the process that has the directory now; undefined: still this one.
   */
  keep(): string | undefined;
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
  const lock = new Lock(directory, lockFile);
  const begun = performance.now();
  for (let other = lock.take(); other !== undefined; other = lock.take()) {
    if (performance.now() - begun >= PATIENCE) throw inUse(directory, other);
    await new Promise((resolve) => setTimeout(resolve, PAUSE));
  }
  return lock;
}

/** An open file or directory that we have locked. */
interface Held {
  readonly fd: number;
  readonly dev: number;
  readonly ino: number;
}

class Lock implements DirectoryLock {
  readonly #directory: string;
  readonly #path: string;
  readonly #lockFile: LockFile;
  #file: Held | undefined;
  #folder: Held | undefined;
  #unlocked: string | undefined;

  constructor(directory: string, lockFile: LockFile) {
    this.#directory = directory;
    this.#path = pathIn(directory, LOCK);
    this.#lockFile = lockFile;
  }

  get unlocked(): string | undefined {
    return this.#unlocked;
  }

  get path(): string {
    return this.#path;
  }

  /** @returns who has the directory; undefined: this process has it now. */
  take(): string | undefined {
    for (;;) {
      const file = heldOf(this.#path, open(this.#path));
      try {
        const answer = this.#lock(file.fd);
        const isFree = answer !== TAKEN && this.#takeFolder(file.fd);
        // A holder that ended just now has removed the file: others would lock another one.
        if (isFree && isAt(this.#path, file)) {
          this.#hold(file, answer);
          return undefined;
        }
        const other = isFree ? undefined : answer === TAKEN ? noteIn(file.fd) : lockerOf(this.#directory);
        if (other !== undefined) return other;
      } finally {
        if (this.#file !== file) fs.closeSync(file.fd);
      }
    }
  }

  keep(): string | undefined {
    // In another directory at that path, no lock file is ours.
    return isAt(this.#path, this.#file) || lookTwice(this.#directory) === undefined ? undefined : this.take();
  }

  remove(): void {
    if (isAt(this.#path, this.#file)) removeFile(this.#path);
  }

  /** @param answer of the lock: an exit status of flock(1), or why there is none. */
  #hold(file: Held, answer: number | string): void {
    if (this.#file !== undefined) fs.closeSync(this.#file.fd);
    this.#file = file;
    this.#unlocked = answer === 0 ? undefined : typeof answer === "string" ? answer : `flock ended with ${answer}`;
    write(this.#path, JSON.stringify({ pid: process.pid, unit: ownUnit() }));
  }

  /** @param file the open lock file. @returns false where the directory's own lock decides, and another has it. */
  #takeFolder(file: number): boolean {
    if (isAt(this.#directory, this.#folder)) return true;
    if (this.#folder !== undefined) fs.closeSync(this.#folder.fd);
    this.#folder = undefined;
    // systemd-tmpfiles spares what is locked: a service's whole /tmp must age.
    if (["/tmp", "/var/tmp"].includes(this.#directory)) return true;
    const { O_DIRECTORY, O_NOFOLLOW, O_RDONLY } = fs.constants;
    const fd = attempt("read", this.#directory, () =>
      fs.openSync(this.#directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW),
    );
    const folder = heldOf(this.#directory, fd);
    const answer = this.#lock(fd);
    if (answer === 0) this.#folder = folder;
    else fs.closeSync(fd);
    return answer !== TAKEN || hasNote(file) || lookTwice(pathIn(this.#directory, STATE)) === undefined;
  }

  /** @returns the exit status of flock(1), or why it is missing. */
  #lock(file: number): number | string {
    const answer = this.#lockFile(file);
    if (answer !== undefined) return answer;
    const { spawnSync } = process.getBuiltinModule("node:child_process");
    const { error, status, signal } = spawnSync("flock", ["-n", "0"], {
      env: helperEnvironment(),
      stdio: [file, "ignore", "ignore"],
    });
    if (error !== undefined) return `flock: ${errnoText(errnoCode(error))}`;
    return status ?? `flock was killed by ${signal ?? "a signal"}`;
  }
}

export function inUse(directory: string, other: string): PublishError {
  return new PublishError(ExitCode.cannotCreate, `output: ${directory} is in use by ${other}: stop that first`);
}

/** @throws PublishError that names `path`; then `fd` is closed. */
function heldOf(path: string, fd: number): Held {
  try {
    const { dev, ino } = attempt("read", path, () => fs.fstatSync(fd));
    return { fd, dev, ino };
  } catch (error) {
    fs.closeSync(fd);
    throw error;
  }
}

/** The process that has locked the directory itself, as far as this process can see it. */
function lockerOf(directory: string): string {
  const another = "another fetcher without .fetcher-lock";
  try {
    const { ino } = fs.statSync(directory);
    const locks = fs.readFileSync("/proc/locks", "latin1");
    const pid = new RegExp(`: FLOCK .* (\\d+) [0-9a-f]+:[0-9a-f]+:${ino} `).exec(locks)?.[1];
    return pid === undefined ? another : `process ${pid}`;
  } catch {
    return another;
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

function isAt(path: string, held: Held | undefined): boolean {
  const there = held === undefined ? undefined : lookTwice(path);
  return there !== undefined && there.ino === held?.ino && there.dev === held.dev;
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

function hasNote(file: number): boolean {
  try {
    return pidIn(file) !== undefined;
  } catch {
    return false;
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
