/** System calls on the output. Each failure becomes one line for the operator, with its path and its code. */
import * as fs from "node:fs";
import { dirname } from "node:path";
import { errnoCode, errnoText, ExitCode, PublishError } from "../contract/errors.ts";

/** How often we try a file that is listed but said not to be there, before that counts as a failure. */
export const ROUNDS = 3;

/** Bytes of the longest line of /proc/sys that anybody here reads. */
const LINE = 128;

/** What the call was to do to the path. */
export type Doing = "read" | "write" | "remove" | "make";

/** Does `work`, which is about `path`. @throws PublishError where the system refuses it. */
export function attempt<T>(doing: Doing, path: string, work: () => T, exitCode: ExitCode = ExitCode.ioError): T {
  try {
    return work();
  } catch (error) {
    throw cannot(doing, path, error, exitCode);
  }
}

/** @returns undefined where nothing is there. @throws PublishError */
export function attemptUnlessMissing<T>(doing: Doing, path: string, work: () => T): T | undefined {
  try {
    return work();
  } catch (error) {
    if (["ENOENT", "ENOTDIR"].includes(errnoCode(error) ?? "")) return undefined;
    throw cannot(doing, path, error);
  }
}

/**
 * A line of /proc/sys. The kernel makes room for as much as it is asked for, and readFileSync() asks for 256 KiB: a tenth of a
 * millisecond (measured).
 */
export function readShort(path: string): string {
  const file = fs.openSync(path, "r");
  try {
    const bytes = Buffer.alloc(LINE);
    return bytes.toString("latin1", 0, fs.readSync(file, bytes));
  } finally {
    fs.closeSync(file);
  }
}

/**
 * Removes a file if it exists. Some file systems (NFS, FUSE) once report an existing file as missing: we
 * believe them only when a second look agrees.
 *
 * @throws PublishError
 */
export function removeFile(path: string): void {
  attempt("remove", path, () => {
    for (let round = 1; round < ROUNDS; round += 1) if (unlinked(path) || lookTwice(path) === undefined) return;
    fs.unlinkSync(path);
  });
}

/** @returns undefined where nothing is there, on a second look too. */
export function lookTwice(path: string): fs.Stats | undefined {
  const look = () => fs.lstatSync(path, { throwIfNoEntry: false });
  return attempt("read", path, () => look() ?? look());
}

/** @returns where a link leads; undefined where nothing is there, on a second look too. */
export function readLinkTwice(path: string): string | undefined {
  const read = () => attemptUnlessMissing("read", path, () => fs.readlinkSync(path));
  return read() ?? read();
}

/** @returns false if the system reports it as missing. */
function unlinked(path: string): boolean {
  try {
    fs.unlinkSync(path);
    return true;
  } catch (error) {
    if (["ENOENT", "ENOTDIR"].includes(errnoCode(error) ?? "")) return false;
    throw error;
  }
}

/** @returns a PublishError; `error` itself if it is not a failed system call. */
export function cannot(doing: Doing, path: string, error: unknown, exitCode: ExitCode = ExitCode.ioError): unknown {
  const code = errnoCode(error);
  if (code === undefined) return error;
  const why = doing === "write" ? whyNotWritten(error, code, dirname(path)) : errnoText(code);
  return new PublishError(exitCode, `output: cannot ${doing} ${path}: ${why}`);
}

/** Does each of `works`, even when others fail. @returns why some could not be done. */
export function problemsOf(works: readonly (() => void)[]): string[] {
  const problems: string[] = [];
  for (const work of works)
    try {
      work();
    } catch (error) {
      if (!(error instanceof PublishError)) throw error;
      problems.push(error.message);
    }
  return problems;
}

function whyNotWritten(error: unknown, code: string, device: string): string {
  const { syscall } = error as NodeJS.ErrnoException;
  // From rename(2) and the like, EPERM means something else: an immutable directory.
  if (code === "EPERM" && (syscall === "fchown" || syscall === "fchmod"))
    return `not allowed to set its mode or owner in ${device} (EPERM)`;
  const words: Readonly<Record<string, string>> = {
    ENOSPC: `no space left on ${device} (ENOSPC)`,
    EDQUOT: `the quota on ${device} is used up (EDQUOT)`,
    EROFS: `${device} is read-only (EROFS)`,
    EACCES: `no permission to write in ${device} (EACCES)`,
    EISDIR: "it is a directory: remove it",
  };
  return words[code] ?? errnoText(code);
}

/** For a plain name: path.join() would search each one for dots. */
export function pathIn(directory: string, name: string): string {
  return directory === "/" ? `/${name}` : `${directory}/${name}`;
}
