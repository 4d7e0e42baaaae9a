/** Waits for conditions in tests. The test's own timeout decides when to give up. */
import { setTimeout as delay } from "node:timers/promises";

/**
 * @returns as soon as `condition` holds.
 * @param what names it in the message after 50 s, where a test waits for several.
 */
export async function until(condition: () => boolean | Promise<boolean>, what?: string): Promise<void> {
  const end = performance.now() + 50_000;
  while (!(await condition())) {
    if (what !== undefined && performance.now() >= end) throw new Error(`not within 50 s: ${what}`);
    await delay(5);
  }
}

/** @returns when `count` has not moved for a while: everything on its way has arrived. */
export async function quiet(count: () => number, milliseconds = 120): Promise<number> {
  for (;;) {
    const before = count();
    await delay(milliseconds);
    // Where this process had to wait for the processor, its timers come first, and then what has arrived meanwhile.
    for (let round = 0; round < 2; round += 1) await new Promise(setImmediate);
    if (count() === before) return before;
  }
}
