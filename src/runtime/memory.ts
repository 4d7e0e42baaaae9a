/** Keeps the process from growing only because the machine has memory to spare: a sidecar allocates little, for weeks. */
import { collectBetweenAnswers } from "../contract/limits.ts";
import { forgetStart, garbageCollection, heapInUse, lateCollection, setEngineFlags } from "./platform.ts";

/** Bytes more in use after which the old ones are looked through at once; most are garbage then. */
const MUCH = 512 * 1024;
/** The same where they have not been looked through for a while. */
const SOME = 128 * 1024;
/** Milliseconds. */
const A_WHILE = 60_000;

/**
 * No code is compiled twice to make it faster: that grows for hours, by some MiB, and a program that mostly waits gains
 * nothing. To be called before anything else is done.
 */
export function growLittle(): void {
  // The second is the compiler between the two, in Node 22 and later; older ones take the flag and do nothing.
  setEngineFlags("--no-opt", "--no-maglev");
  const late = lateCollection();
  if (late !== undefined) collectBetweenAnswers(late);
}

/**
 * V8 looks for old garbage when the heap has doubled, and for buffers at 64 MiB of them: a secret's remains would lie
 * there for as long. The function that is returned collects them where enough has come together, in some ms.
 */
export function openCollector(): () => void {
  let collect: (() => void) | undefined;
  let least = inUse();
  let collected = performance.now();
  let started = false;
  return () => {
    // The space for new objects grows for hours, too, and so does what the simplest of the compilers makes. Not before
    // the start is over: a thousand secrets need both then.
    if (!started) {
      setEngineFlags("--semi-space-growth-factor=1", "--no-sparkplug");
      forgetStart();
    }
    started = true;
    const now = inUse();
    if (least.length === 0) least = now;
    least = least.map((before, index) => Math.min(before, now[index] ?? before));
    const enough = performance.now() - collected < A_WHILE ? MUCH : SOME;
    if (!now.some((bytes, index) => bytes - (least[index] ?? bytes) >= enough)) return;
    collect ??= garbageCollection();
    collect();
    collected = performance.now();
    least = inUse();
  };
}

/**
 * Objects and buffers; and all memory of the process: what belongs to a child process that has ended is in no heap. Nothing where it cannot be
 * measured: both runtimes open files of /proc, and there may be none, or no descriptor left.
 */
function inUse(): readonly number[] {
  try {
    return [heapInUse(), process.memoryUsage.rss()];
  } catch {
    return [];
  }
}
