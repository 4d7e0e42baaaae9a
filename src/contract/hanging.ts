/** Calls on a file system that hangs: one of them at a time for each thing, and no more. */
import { late, waitFor } from "./bounded-wait.ts";
import { BackendError } from "./backend.ts";
import { printable } from "./errors.ts";

/** Work that has not come back from its system calls: key → its end. */
const underWay = new Map<string, Promise<unknown>>();

/** Seconds for which a call from an aborted fetch may still run before its file system counts as hanging. */
const LEFT_BEHIND = 1;

/**
 * Does `work`, unless the previous work for the same `key` hangs: each call on a file system that hangs takes another
 * of the four threads, until nothing else can be read.
 *
 * @returns undefined where it does not.
 */
export async function unlessHanging<T>(key: string, work: () => Promise<T>): Promise<T | undefined> {
  const before = underWay.get(key);
  if (before !== undefined && (await waitFor(before, undefined, LEFT_BEHIND)) === late) return undefined;
  const now = work();
  const end = now
    .catch(() => undefined)
    .finally(() => {
      if (underWay.get(key) === end) underWay.delete(key);
    });
  underWay.set(key, end);
  return await now;
}

export function hanging(path: string): BackendError {
  return new BackendError("unavailable", `cannot read ${printable(path)}: its file system does not answer`);
}
