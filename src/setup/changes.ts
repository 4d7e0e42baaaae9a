/** Changes to files of the host, with undo: all of them are made, or none is. */
import {
  chmodSync,
  chownSync,
  closeSync,
  fsyncSync,
  lstatSync,
  mkdirSync,
  openSync,
  realpathSync,
  renameSync,
  rmdirSync,
  symlinkSync,
  unlinkSync,
  writeSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { errnoCode, errnoText, ExitCode, FatalError, PublishError } from "../contract/errors.ts";
import { asideOf, freshName } from "./leftovers.ts";
import { contentOf, isThere } from "./paths.ts";

export class Changes {
  readonly #command: string;
  readonly #removed: string[] = [];
  readonly #undo: { readonly path: string; readonly step: () => void }[] = [];

  /** @param command for messages: `add`. */
  constructor(command: string) {
    this.#command = command;
  }

  /**
   * Replaces a file in one step, or makes it, and makes the directories above it.
   *
   * @param before the content that it must have now; undefined: it must not be there.
   * @throws PublishError where it has another content, or cannot be written.
   */
  write(path: string, before: Buffer | undefined, after: Buffer, mode: number, directoryMode = 0o755): void {
    this.#guard(path, () => {
      this.makeDirectory(dirname(path), directoryMode);
      const now = contentOf(path);
      if (now === undefined ? before !== undefined : before === undefined || !now.equals(before))
        throw new PublishError(
          ExitCode.cannotCreate,
          `${this.#command}: somebody changed ${path} at the same time: try again`,
        );
      // A symbolic link, such as one into a checkout, stays one.
      const file = now === undefined ? path : realpathSync(path);
      const owner = now === undefined ? undefined : lstatSync(file);
      const put = (content: Buffer) => {
        replace(file, content, owner ?? { mode, uid: 0, gid: 0 });
      };
      put(after);
      this.#undo.push({
        path,
        step: () => {
          if (now === undefined) unlinkSync(file);
          else put(now);
        },
      });
    });
  }

  remove(path: string): void {
    this.#guard(path, () => {
      // Rename, so that a link comes back as a link.
      const aside = asideOf(path);
      // First, so that it is also undone if the next step fails.
      this.#undo.push({
        path,
        step: () => {
          if (isThere(aside)) renameSync(aside, path);
          removeEmpty(dirname(aside));
        },
      });
      makeAside(dirname(aside));
      renameSync(path, aside);
      this.#removed.push(aside);
    });
  }

  link(path: string, target: string): void {
    this.#guard(path, () => {
      this.makeDirectory(dirname(path), 0o755);
      symlinkSync(target, path);
      this.#undo.push({
        path,
        step: () => {
          unlinkSync(path);
        },
      });
    });
  }

  /** Makes it and the directories above it, which everybody may look into. */
  makeDirectory(path: string, mode: number): void {
    if (isThere(path)) return;
    this.makeDirectory(dirname(path), 0o755);
    // First, so that it is also undone if the next step fails half-way.
    this.mayAppear(path);
    this.#guard(path, () => {
      mkdirSync(path);
      // Regardless of the umask.
      chmodSync(path, mode);
    });
  }

  /** `undo` removes this directory if it is empty, whatever process made it. */
  mayAppear(path: string): void {
    this.#undo.push({
      path,
      step: () => {
        removeEmpty(path);
      },
    });
  }

  /** Ends the chance to undo. A file that cannot be removed now goes with the next command. */
  keep(): void {
    this.#undo.length = 0;
    for (const aside of this.#removed.splice(0)) {
      removeQuietly(aside);
      removeEmpty(dirname(aside));
    }
  }

  /** @returns paths that could not be restored. */
  undo(): readonly string[] {
    const failed: string[] = [];
    for (const { path, step } of this.#undo.splice(0).reverse()) {
      try {
        step();
      } catch {
        failed.push(path);
      }
    }
    return failed;
  }

  #guard(path: string, work: () => void): void {
    try {
      work();
    } catch (error) {
      if (error instanceof FatalError) throw error;
      throw new PublishError(
        ExitCode.cannotCreate,
        `${this.#command}: cannot write ${path}: ${errnoText(errnoCode(error))}`,
      );
    }
  }
}

function removeEmpty(path: string): void {
  try {
    rmdirSync(path);
  } catch {
    // It is gone, or another file is in it.
  }
}

function makeAside(path: string): void {
  try {
    mkdirSync(path, { mode: 0o700 });
  } catch (error) {
    if (errnoCode(error) !== "EEXIST") throw error;
  }
}

function removeQuietly(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // The caller reports its own error. The file goes with the next command.
  }
}

/** A reader sees all of the old or all of the new content, also after a power cut. */
function replace(path: string, content: Buffer, { mode, uid, gid }: { mode: number; uid: number; gid: number }): void {
  // Its name begins with a dot, so that no program takes it for a file of the directory.
  const fresh = join(dirname(path), freshName);
  const descriptor = openSync(fresh, "wx", 0o600);
  try {
    for (let at = 0; at < content.length;) at += writeSync(descriptor, content, at);
    if (process.geteuid?.() === 0) chownSync(fresh, uid, gid);
    chmodSync(fresh, mode & 0o7777);
    fsyncSync(descriptor);
    renameSync(fresh, path);
  } catch (error) {
    removeQuietly(fresh);
    throw error;
  } finally {
    closeSync(descriptor);
  }
}
