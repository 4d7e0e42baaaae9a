/** Waits that a stop ends, whatever they wait for: a file system that hangs, a third party's code. */
import { LONGEST_TIMER } from "../contract/timers.ts";

/**
 * What is waited for goes on by itself, and nobody hears of it any more.
 *
 * @param over what is thrown after `seconds`; null: never.
 * @returns undefined where `stop` aborts first.
 */
export async function unlessStopped<T>(
  work: Promise<T>,
  stop: AbortSignal,
  over: { readonly seconds: number | null; readonly error: () => Error } = noLimit,
): Promise<T | undefined> {
  if (stop.aborted) return undefined;
  let timer: NodeJS.Timeout | undefined;
  let onStop: (() => void) | undefined;
  const given = new Promise<undefined>((done, fail) => {
    onStop = () => {
      done(undefined);
    };
    stop.addEventListener("abort", onStop, { once: true });
    const { seconds } = over;
    if (seconds === null) return;
    timer = setTimeout(
      () => {
        fail(over.error());
      },
      Math.min(seconds * 1000, LONGEST_TIMER * 1000),
    );
  });
  try {
    return await Promise.race([work, given]);
  } finally {
    clearTimeout(timer);
    if (onStop !== undefined) stop.removeEventListener("abort", onStop);
  }
}

/** @returns a signal that aborts `seconds` after `stop` does. */
export function soonAfter(stop: AbortSignal, seconds: number): AbortSignal {
  const late = new AbortController();
  const wait = () => {
    setTimeout(() => {
      late.abort();
    }, seconds * 1000);
  };
  if (stop.aborted) wait();
  else stop.addEventListener("abort", wait, { once: true });
  return late.signal;
}

const noLimit = { seconds: null, error: () => new Error() };
