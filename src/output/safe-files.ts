/** Writes, reads and removes single files in the output directory, so that no trap at their names matters. */
import * as fs from "node:fs";
import { errnoCode } from "../contract/errors.ts";
import { attempt, type Doing, pathIn, removeFile } from "./system-calls.ts";

/** One file of a published set. */
export interface PublishedFile {
  readonly name: string;
  readonly content: Buffer;
  /** Permission bits. */
  readonly mode: number;
  /** undefined: stays with this process. */
  readonly uid: number | undefined;
  readonly gid: number | undefined;
}

const STICKY = 0o1000;
const SET_GROUP_ID = 0o2000;

export class SafeFiles {
  readonly #path: string;
  readonly #sticky: boolean;
  readonly #durable: boolean;

  /**
   * @param sticky systemd-tmpfiles deletes old files inside a private /tmp too, except those with the sticky bit.
   * @param durable the directory outlives a reboot.
   */
  constructor(path: string, sticky: boolean, durable: boolean) {
    this.#path = path;
    this.#sticky = sticky;
    this.#durable = durable;
  }

  /** Mode before owner: the other order needs CAP_FOWNER. Both are final before any reader can see the file. */
  write(path: string, file: PublishedFile): void {
    this.io(file.name, () => {
      this.#writeFile(path, file);
    });
  }

  #writeFile(path: string, file: PublishedFile): void {
    const { O_CREAT, O_EXCL, O_NOFOLLOW, O_WRONLY } = fs.constants;
    const fd = fs.openSync(path, O_CREAT | O_EXCL | O_NOFOLLOW | O_WRONLY, 0o600);
    try {
      for (let at = 0; at < file.content.length;) at += fs.writeSync(fd, file.content, at);
      fs.fchmodSync(fd, this.finalMode(file.mode));
      if (isGivenAway(file)) fs.fchownSync(fd, file.uid ?? process.geteuid?.() ?? 0, this.finalGroup(file));
      if (this.#durable) fs.fsyncSync(fd);
    } finally {
      fs.closeSync(fd);
    }
  }

  /** The bits that a file really gets. */
  finalMode(mode: number): number {
    return this.#sticky ? mode | STICKY : mode;
  }

  /** The group that a file really gets: without a configured one, the directory may give its own (set-group-ID). */
  finalGroup(file: PublishedFile): number {
    if (!isGivenAway(file)) {
      const { mode, gid } = attempt("read", this.#path, () => fs.statSync(this.#path));
      if ((mode & SET_GROUP_ID) !== 0) return gid;
    }
    return file.gid ?? process.getegid?.() ?? 0;
  }

  /** Makes renames last where the directory outlives a reboot. @throws PublishError */
  sync(): void {
    if (!this.#durable) return;
    attempt("write", this.#path, () => {
      const fd = fs.openSync(this.#path, fs.constants.O_DIRECTORY | fs.constants.O_RDONLY);
      try {
        fs.fsyncSync(fd);
      } finally {
        fs.closeSync(fd);
      }
    });
  }

  /**
   * @returns the bytes of a regular file that is ours (or `uid`'s); undefined without such a file.
   * @throws PublishError where the system does not say whether there is one.
   */
  readOwn(name: string, uid: number | undefined, directory = this.#path): Buffer | undefined {
    const path = pathIn(directory, name);
    return attempt("read", path, () => {
      const fd = this.#open(path, uid);
      if (fd === undefined) return undefined;
      try {
        const stat = fs.fstatSync(fd);
        return this.isOurs(stat, "file", uid) ? fs.readFileSync(fd) : undefined;
      } finally {
        fs.closeSync(fd);
      }
    });
  }

  #open(path: string, uid = process.geteuid?.()): number | undefined {
    const { O_NOFOLLOW, O_NONBLOCK, O_RDONLY } = fs.constants;
    try {
      return fs.openSync(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    } catch (error) {
      const code = errnoCode(error) ?? "";
      // Nothing is there, or a link, a socket, a device: whatever it is, it is not ours.
      if (["ENOENT", "ENOTDIR", "ELOOP", "ENXIO", "ENODEV"].includes(code)) return undefined;
      // A file that another user keeps private is not ours either.
      if (code === "EACCES" && fs.lstatSync(path, { throwIfNoEntry: false })?.uid !== uid) return undefined;
      throw error;
    }
  }

  /** What is at that name; undefined: nothing. @throws PublishError */
  look(name: string): fs.Stats | undefined {
    const path = pathIn(this.#path, name);
    return attempt("read", path, () => fs.lstatSync(path, { throwIfNoEntry: false }));
  }

  /** Whether it belongs to `uid`, and, if it is a file, has no other name. */
  isOurs(stat: fs.Stats, kind: "file" | "directory", uid = process.geteuid?.()): boolean {
    if (kind === "directory") return stat.isDirectory() && stat.uid === uid;
    return stat.isFile() && stat.uid === uid && stat.nlink === 1;
  }

  /** @throws PublishError */
  unlink(name: string): void {
    const path = pathIn(this.#path, name);
    try {
      removeFile(path);
    } catch (error) {
      // A directory at this name is a stranger's.
      if (this.look(name)?.isDirectory() !== true) throw error;
    }
  }

  /** Does `work` on the file of that name; "" is the directory. @throws PublishError where the system refuses it. */
  io<T>(name: string, work: () => T, doing: Doing = "write"): T {
    return attempt(doing, name === "" ? this.#path : pathIn(this.#path, name), work);
  }
}

function isGivenAway({ uid, gid }: PublishedFile): boolean {
  return uid !== undefined || gid !== undefined;
}
