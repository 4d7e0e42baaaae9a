/** Waiting for conditions in tests. The test's own timeout is the verdict on what never comes. */
import { setTimeout as delay } from "node:timers/promises";

/** @returns as soon as `condition` holds. @param what it is, where a test waits for several, for the message after 50 s. */
export async function until(condition: () => boolean | Promise<boolean>, what?: string): Promise<void> {
  const end = performance.now() + 50_000;
  while (!(await condition())) {
    if (what !== undefined && performance.now() >= end) throw new Error(`not within 50 s: ${what}`);
    await delay(5);
  }
}

/** @returns when `count` has not moved for a while: what is still on its way has come. */
export async function quiet(count: () => number, milliseconds = 120): Promise<number> {
  for (;;) {
    const before = count();
    await delay(milliseconds);
    if (count() === before) return before;
  }
}
