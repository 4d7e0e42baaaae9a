/**
 * Long work in slices. A store chooses how much there is to look through, and the executable has no compiler for
 * JavaScript: in one piece, 31 MiB would keep the process deaf to a stop for many seconds.
 */

/** Work that yields every few milliseconds at most. */
export type Sliced<T> = Generator<undefined, T>;

/** Lets in what has come meanwhile: signals, answers, ends of timers and threads. */
export async function turn(): Promise<void> {
  await new Promise((resume) => setImmediate(resume));
}

/** ms of work between two looks at what else there is to do. */
const SLICE = 20;

/**
 * Does the work, and lets signals, timers and connections in between.
 *
 * @param signal ends the work. Rejects with its reason, or as the work does.
 */
export async function inSlices<T>(work: Sliced<T>, signal?: AbortSignal): Promise<T> {
  let step = work.next();
  for (let begun = performance.now(); step.done !== true; step = work.next()) {
    if (performance.now() - begun < SLICE) continue;
    await turn();
    signal?.throwIfAborted();
    begun = performance.now();
  }
  return step.value;
}

/** Does work that is small, or cannot wait, in one piece. */
export function atOnce<T>(work: Sliced<T>): T {
  for (;;) {
    const { done, value } = work.next();
    if (done === true) return value;
  }
}

/** For an error that such work makes. V8 would keep all that the work has looked through for as long as the error's stack. */
export function withoutStack<Failure extends Error>(error: Failure): Failure {
  error.stack = "";
  return error;
}
