/**
 * Calls of the system that may hang, as promises. `promisify()` of `node:util` and `node:fs/promises` would do the same,
 * but loading these two takes the executable more than a millisecond of its start (measured).
 */
import fs from "node:fs";

/** @throws the system's error, as all of these. */
export async function statOf(path: string): Promise<fs.BigIntStats> {
  return await promised((done) => {
    fs.stat(path, { bigint: true }, done);
  });
}

export async function lstatOf(path: string): Promise<fs.BigIntStats> {
  return await promised((done) => {
    fs.lstat(path, { bigint: true }, done);
  });
}

/** Not Node's own function, which looks at each component of the path separately: a swap may come between two of them. */
export async function realPathOf(path: string): Promise<string> {
  return await promised((done) => {
    fs.realpath.native(path, done);
  });
}

export async function linkOf(path: string): Promise<string> {
  return await promised((done) => {
    fs.readlink(path, done);
  });
}

/**
 * Starts the first of the threads that wait for the system. Call it where they are needed a little later: the start of one
 * takes as long as reading the configuration, and longer on a busy machine.
 */
export function beginThreads(): void {
  fs.stat("/", () => undefined);
}

/** @param call makes a call that ends with `done`. */
export async function promised<T>(call: (done: (error: Error | null, result: T) => void) => void): Promise<T> {
  return await new Promise((resolve, reject) => {
    call((error, result) => {
      if (error === null) resolve(result);
      else reject(error);
    });
  });
}
