/** Symbolic links to the published files, in the /tmp that the target shares. */
import * as fs from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { RESERVED_PREFIX } from "../config/config-schema.ts";
import { errnoCode, errnoText, ExitCode, PublishError } from "../contract/errors.ts";
import { holderOf } from "./directory-lock.ts";
import { alreadyThere } from "./owned-names.ts";
import { isPrivateTmp, tmpDirectoryOf } from "./private-tmp.ts";
import { randomName } from "./random-name.ts";
import { checkDirectory } from "./safe-directory.ts";
import { attempt, lookTwice, problemsOf, readLinkTwice, removeFile } from "./system-calls.ts";

/**
 * A link cannot carry the sticky bit that systemd-tmpfiles spares. But systemd-tmpfiles removes only what is old by all
 * of its times (measured with 252 and 257): with one time in the future a link is never old, and needs no
 * touch. In seconds, the year 2445, which ext4 can just store. A file system that cannot go so far takes its last time
 * (2038 or later). A tmpfs takes any time, but systemd-tmpfiles counts in nanoseconds of 64 bits: it does not accept a
 * time past 2554. This time also marks a link of ours that leads elsewhere, because another output was configured when
 * it was made.
 */
const NEVER_OLD = 15_000_000_000;
const FAR_MS = 365 * 24 * 3600 * 1000;

const TEMPORARY = `${RESERVED_PREFIX}link-`;

export class LinkDirectory {
  readonly path: string;
  /** Directories that this process made. */
  readonly made: readonly string[];
  readonly #target: string;
  /** The service may put whatever it wants at our names. */
  readonly #mayReplace: boolean;
  #hasLeftovers = true;

  /**
   * @param path where the links are made.
   * @param reader where the reader of the links sees the files.
   * @throws PublishError (73), or FatalError 78 for a /tmp that everybody shares.
   */
  constructor(path: string, reader: string) {
    const { real, made } = checkDirectory(path);
    this.path = real;
    this.made = made;
    const tmp = tmpDirectoryOf(this.path);
    this.#mayReplace = tmp !== undefined && isPrivateTmp(tmp);
    // The kernel follows `..` from where the link really is.
    this.#target = relative(this.path, reader);
    this.#removeLeftovers();
    // The mount point of the target's BindReadOnlyPaths=. If it were removed as an old empty directory, the kernel
    // would take the mount away from the running target; with a sticky file in it, it is neither empty nor old.
    if (tmpDirectoryOf(path) !== undefined && reader.startsWith(`${path}/`)) keepMountPoint(reader);
  }

  /** @throws PublishError (73) where something has one of the names and cannot be replaced. Changes nothing. */
  refuseTaken(names: readonly string[]): void {
    for (const name of names) this.#look(name);
  }

  /** Makes or repairs the link of every name. @returns why some are still wrong; all others are right. */
  ensure(names: readonly string[]): readonly string[] {
    const works = names.map((name) => () => {
      this.#ensure(name);
    });
    return problemsOf([
      () => {
        this.#removeLeftovers();
      },
      ...works,
    ]);
  }

  /**
   * Removes the links of names that are no longer published; strangers' files stay. @returns as `ensure` does.
   */
  remove(names: readonly string[]): readonly string[] {
    return problemsOf(
      names.map((name) => () => {
        const path = join(this.path, name);
        const kind = this.#kindOf(path, lookTwice(path));
        if (kind !== undefined && kind !== "another's") removeFile(path);
      }),
    );
  }

  #ensure(name: string): void {
    const path = join(this.path, name);
    const kind = this.#look(name);
    if (kind === undefined || kind === "ours elsewhere") this.#replace(name);
    else if (kind === "ours and young")
      attempt("make", path, () => {
        fs.lutimesSync(path, NEVER_OLD, NEVER_OLD);
      });
  }

  /** @returns the kind of our link; undefined: we have none there. @throws PublishError (73) */
  #look(name: string): Exclude<Kind, "another's"> | undefined {
    const path = join(this.path, name);
    const stat = attempt("read", path, () => fs.lstatSync(path, { throwIfNoEntry: false }));
    if (stat === undefined) return undefined;
    const kind = this.#kindOf(path, stat);
    if (kind === "another's")
      throw new PublishError(
        ExitCode.cannotCreate,
        `output: ${path} is a link of another fetcher that is running: name another directory in output.links`,
      );
    if (kind !== undefined) return kind;
    if (stat.isDirectory()) throw new PublishError(ExitCode.cannotCreate, `output: ${path} is a directory: remove it`);
    if (this.#mayReplace) return undefined;
    const why = `${alreadyThere(path)}: move it away, or name another directory in output.links`;
    throw new PublishError(ExitCode.cannotCreate, `output: ${why}`);
  }

  /** @returns undefined if it is not one of our links. */
  #kindOf(path: string, stat: fs.Stats | undefined): Kind | undefined {
    if (stat?.isSymbolicLink() !== true || stat.uid !== process.geteuid?.()) return undefined;
    const isOld = stat.mtimeMs < Date.now() + FAR_MS;
    const target = readLinkTwice(path);
    if (target === join(this.#target, path.slice(this.path.length + 1))) return isOld ? "ours and young" : "ours";
    if (isOld || target === undefined) return undefined;
    return holderOf(dirname(resolve(this.path, target))) === undefined ? "ours elsewhere" : "another's";
  }

  /** Removes what a crash or a failure left between making a link and renaming it. */
  #removeLeftovers(): void {
    if (!this.#hasLeftovers) return;
    for (const name of attempt("read", this.path, () => fs.readdirSync(this.path))) {
      if (!name.startsWith(TEMPORARY)) continue;
      const path = join(this.path, name);
      const stat = lookTwice(path);
      if (stat?.isSymbolicLink() === true && stat.uid === process.geteuid?.()) removeFile(path);
    }
    this.#hasLeftovers = false;
  }

  #replace(name: string): void {
    const path = join(this.path, name);
    const temporary = join(this.path, TEMPORARY + randomName());
    try {
      fs.symlinkSync(join(this.#target, name), temporary);
    } catch (error) {
      throw cannotLink(path, error);
    }
    try {
      fs.lutimesSync(temporary, NEVER_OLD, NEVER_OLD);
      fs.renameSync(temporary, path);
    } catch (error) {
      this.#giveUp(temporary);
      throw cannotLink(path, error);
    }
  }

  #giveUp(temporary: string): void {
    try {
      fs.unlinkSync(temporary);
    } catch {
      this.#hasLeftovers = true;
    }
  }
}

/** `another's`: a running sidecar's with another output. */
type Kind = "ours" | "ours and young" | "ours elsewhere" | "another's";

function keepMountPoint(path: string): void {
  try {
    fs.mkdirSync(path, { mode: 0o755 });
  } catch (error) {
    if (errnoCode(error) !== "EEXIST") throw cannotLink(path, error);
  }
  const stat = attempt("read", path, () => fs.lstatSync(path));
  // The target made it in an earlier life: systemd still mounts over it, and we keep out of it.
  if (!stat.isDirectory() || stat.uid !== process.geteuid?.() || (stat.mode & 0o022) !== 0) return;
  try {
    const fd = fs.openSync(join(path, `${RESERVED_PREFIX}mount-point`), "wx", 0o400);
    try {
      fs.fchmodSync(fd, 0o1400);
    } finally {
      fs.closeSync(fd);
    }
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
