/** What lies at a path of this host. It may be nothing. */
import { accessSync, constants, lstatSync, readdirSync, realpathSync } from "node:fs";
import { errnoCode, unreadable } from "../contract/errors.ts";
import { readPlainSync } from "../contract/plain-file.ts";

/** @returns undefined if it does not exist. @throws FatalError if it cannot be read. */
export function contentOf(path: string): Buffer | undefined {
  try {
    return readPlainSync(path);
  } catch (error) {
    if (errnoCode(error) === "ENOENT") return undefined;
    throw unreadable(`cannot read ${path}`, error);
  }
}

export function isThere(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false }) !== undefined;
}

/** @returns the path itself where it leads nowhere. */
export function resolvedPath(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
}

export function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** @returns none if the directory does not exist, or we may not read it. */
export function namesIn(directory: string): readonly string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}
