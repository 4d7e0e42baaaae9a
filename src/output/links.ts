/** Symbolic links to the published files, in the /tmp that the target shares. */
import * as fs from "node:fs";
import { join, relative } from "node:path";
import { RESERVED_PREFIX } from "../config/config-schema.ts";
import { errnoCode, errnoText, ExitCode, PublishError } from "../contract/errors.ts";
import { checkDirectory } from "./safe-directory.ts";
import { tmpDirectoryOf } from "./private-tmp.ts";
import { randomName } from "./random-name.ts";

/**
 * A link cannot carry the sticky bit that systemd-tmpfiles spares. But that removes only what is old by all of its times
 * (measured with 252 and 257): with one of them in the future a link is never old, and nobody need be there to touch it.
 * In seconds, the year 2445, which ext4 just has; a file system that cannot go so far takes the last that it can (2038 or
 * later). On a tmpfs, which takes any, systemd-tmpfiles counts in nanoseconds of 64 bits: what is past 2554 is no time to it.
 */
const NEVER_OLD = 15_000_000_000;
const FAR_MS = 365 * 24 * 3600 * 1000;

const TEMPORARY = `${RESERVED_PREFIX}link-`;

export class LinkDirectory {
  readonly path: string;
  readonly #target: string;

  /**
   * @param path where the links are made.
   * @param reader where the reader of the links sees the files.
   * @throws PublishError (73), or FatalError 78 for a /tmp that everybody shares.
   */
  constructor(path: string, reader: string) {
    this.path = checkDirectory(path).real;
    // The kernel follows `..` from where the link really is.
    this.#target = relative(this.path, reader);
    this.#removeLeftovers();
    // The mount point of the target's BindReadOnlyPaths=. Were it removed as an old empty directory, the kernel would
    // take the mount away from the running target; with a sticky file in it, it is neither empty nor old.
    if (tmpDirectoryOf(path) !== undefined && reader.startsWith(`${path}/`)) keepMountPoint(reader);
  }

  /** Makes or mends the link of every name. @throws PublishError where a name is taken by a directory. */
  ensure(names: readonly string[]): void {
    for (const name of names) {
      const path = join(this.path, name);
      const stat = fs.lstatSync(path, { throwIfNoEntry: false });
      if (stat !== undefined && this.#isOurs(path, stat)) {
        if (stat.mtimeMs < Date.now() + FAR_MS) fs.lutimesSync(path, NEVER_OLD, NEVER_OLD);
      } else if (stat?.isDirectory() === true) {
        throw new PublishError(ExitCode.cannotCreate, `output: ${path} is a directory, remove it`);
      } else this.#replace(name);
    }
  }

  /** Removes the links of names that are published no more; what others made there stays. */
  remove(names: readonly string[]): void {
    for (const name of names) {
      const path = join(this.path, name);
      const stat = fs.lstatSync(path, { throwIfNoEntry: false });
      if (stat !== undefined && this.#isOurs(path, stat)) fs.rmSync(path, { force: true });
    }
  }

  /** What a crash left between making a link and renaming it. */
  #removeLeftovers(): void {
    for (const name of fs.readdirSync(this.path)) {
      if (!name.startsWith(TEMPORARY)) continue;
      const path = join(this.path, name);
      const stat = fs.lstatSync(path, { throwIfNoEntry: false });
      if (stat?.isSymbolicLink() === true && stat.uid === process.geteuid?.()) fs.rmSync(path, { force: true });
    }
  }

  #isOurs(path: string, stat: fs.Stats): boolean {
    if (!stat.isSymbolicLink() || stat.uid !== process.geteuid?.()) return false;
    return fs.readlinkSync(path) === join(this.#target, path.slice(this.path.length + 1));
  }

  #replace(name: string): void {
    const path = join(this.path, name);
    for (;;) {
      const temporary = join(this.path, TEMPORARY + randomName());
      try {
        fs.symlinkSync(join(this.#target, name), temporary);
        fs.lutimesSync(temporary, NEVER_OLD, NEVER_OLD);
      } catch (error) {
        if (errnoCode(error) === "EEXIST") continue;
        throw cannotLink(path, error);
      }
      try {
        fs.renameSync(temporary, path);
        return;
      } catch (error) {
        fs.rmSync(temporary, { force: true });
        throw cannotLink(path, error);
      }
    }
  }
}

function keepMountPoint(path: string): void {
  try {
    fs.mkdirSync(path, { mode: 0o755 });
  } catch (error) {
    if (errnoCode(error) !== "EEXIST") throw cannotLink(path, error);
  }
  const stat = fs.lstatSync(path);
  // Made by the target in an earlier life: systemd mounts over it all the same, and we keep out of it.
  if (!stat.isDirectory() || stat.uid !== process.geteuid?.() || (stat.mode & 0o022) !== 0) return;
  try {
    const fd = fs.openSync(join(path, `${RESERVED_PREFIX}mount-point`), "wx", 0o400);
    fs.fchmodSync(fd, 0o1400);
    fs.closeSync(fd);
  } catch (error) {
    if (errnoCode(error) !== "EEXIST") throw cannotLink(path, error);
  }
}

function cannotLink(path: string, error: unknown): unknown {
  const code = errnoCode(error);
  return code === undefined
    ? error
    : new PublishError(ExitCode.cannotCreate, `output: cannot make the link ${path}: ${errnoText(code)}`);
}
