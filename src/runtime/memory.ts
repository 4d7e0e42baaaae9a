/** Keeps the process from growing only because the machine has memory to spare: a sidecar allocates little, for weeks. */
import { collectBetweenAnswers } from "../contract/limits.ts";
import { forgetStart, garbageCollection, heapInUse, isCompiled, lateCollection, setEngineFlags } from "./platform.ts";

/**
 * Bytes of growth after which garbage is collected at once; most of the growth is garbage then. The executable's allocator
 * takes and gives back up to 256 KiB at a time.
 */
const MUCH = (isCompiled ? 1024 : 512) * 1024;
/** The same where the last collection was a while ago. */
const SOME = (isCompiled ? 512 : 128) * 1024;
/** Milliseconds. */
const A_WHILE = 60_000;

/**
 * Keeps the engine from compiling code again to make it faster: that grows for hours, by some MiB, and a program that
 * mostly waits gains nothing. Call it before anything else.
 */
export function growLittle(): void {
  // The second flag turns off the compiler between the two, in Node 22 and later; older versions ignore it.
  setEngineFlags("--no-opt", "--no-maglev");
  const late = lateCollection();
  if (late !== undefined) collectBetweenAnswers(late);
}

/**
 * V8 collects old garbage when the heap has doubled, and buffers when there are 64 MiB of them: a secret's remains
 * would stay there until then. The returned function collects them when there is enough, in some ms.
 */
export function openCollector(): () => void {
  let collect: (() => void) | undefined;
  let least = inUse();
  let collected = performance.now();
  let started = false;
  return () => {
    // The space for new objects grows for hours, too, and so does the code of the simplest compiler. They may grow
    // until the start is over, because a thousand secrets need both for it.
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
 * Bytes of objects and buffers where that is of use, and all memory of the process: what belongs to a child process that
 * has ended is in no heap. Empty where it cannot be measured: both runtimes open files of /proc, and there may be none, or
 * no descriptor left.
 */
function inUse(): readonly number[] {
  try {
    return [...heapInUse(), process.memoryUsage.rss()];
  } catch {
    return [];
  }
}
