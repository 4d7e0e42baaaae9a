/**
 * Calls that Node lacks: libraries of a few instructions, which run when they are loaded
 * (scripts/native-libraries.mjs).
 */

import { existsSync } from "node:fs";
import { join } from "node:path";

/**
 * Runs a library once, in the main thread.
 *
 * @param argument 0 to 511: the umask carries it to the library, and the result back.
 * @returns what the library leaves; `argument` where it cannot be loaded: another processor, or a file system without
 *   execution.
 */
export function runLibrary(name: "end" | "hide" | "lock", argument: number): number {
  // The library is beside the bundle, or in the folder above that of a chunk.
  const { fileURLToPath } = process.getBuiltinModule("node:url");
  const beside = import.meta.url.startsWith("file:") ? fileURLToPath(import.meta.url) : import.meta.url;
  const file = ["..", "../.."].map((folder) => join(beside, folder, `${name}-${process.arch}.node`)).find(existsSync);
  if (file === undefined) return argument;
  const before = process.umask(argument);
  try {
    process.dlopen({ exports: {} }, file);
  } catch {
    // dlopen() throws even after the library has run, because it is not an addon.
  }
  return process.umask(before);
}
