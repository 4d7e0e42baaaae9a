/** Waits for work that may never end: a file system that hangs, a server that is silent, a third party's code. */
import { LONGEST_TIMER } from "./timers.ts";

export const aborted = Symbol("aborted");
export const late = Symbol("late");

/**
 * Waits until `work` ends, `signal` aborts or `seconds` are over, whichever comes first. Work that is left behind goes
 * on, and its result is ignored.
 *
 * @param seconds undefined: no limit.
 * @returns what `work` gives; `aborted` or `late` where it is left behind. Rejects as `work` does.
 */
export async function waitFor<T>(
  work: Promise<T>,
  signal: AbortSignal | undefined,
  seconds?: number,
): Promise<T | typeof aborted | typeof late> {
  let onAbort: () => void = () => undefined;
  let timer: NodeJS.Timeout | undefined;
  const leave = new Promise<typeof aborted | typeof late>((done) => {
    onAbort = () => {
      done(aborted);
    };
    if (signal?.aborted === true) onAbort();
    else signal?.addEventListener("abort", onAbort, { once: true });
    if (seconds === undefined) return;
    timer = setTimeout(
      () => {
        done(late);
      },
      Math.min(seconds, LONGEST_TIMER) * 1000,
    );
  });
  try {
    return await Promise.race([work, leave]);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", onAbort);
  }
}

/** Leaves `work` behind when `signal` aborts. Rejects with the signal's reason then. */
export async function unlessAborted<T>(signal: AbortSignal, work: Promise<T>): Promise<T> {
  const result = await waitFor(work, signal);
  if (typeof result === "symbol") throw reasonOf(signal);
  return result;
}

/** Why the signal aborted. */
export function reasonOf({ reason }: AbortSignal): Error {
  return reason instanceof Error ? reason : new Error("aborted");
}

/** @returns a signal that aborts `seconds` after `stop` does. */
export function soonAfter(stop: AbortSignal, seconds: number): AbortSignal {
  const abort = new AbortController();
  const wait = () => {
    setTimeout(() => {
      abort.abort();
    }, seconds * 1000);
  };
  if (stop.aborted) wait();
  else stop.addEventListener("abort", wait, { once: true });
  return abort.signal;
}
