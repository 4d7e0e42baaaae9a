/** Keeps watching a store: a watch that breaks is tried again now and then, and polling goes on all the time. */
import { type Clock, isAborted } from "../runtime/clock.ts";
import type { Log } from "../runtime/log.ts";
import type { Store } from "./store.ts";

/** Seconds before a broken watch is tried again. */
const AGAIN = 60;

/** @returns when `stop` aborts, or at once where the store cannot be watched. */
export async function keepWatching(
  { store, clock, log }: { readonly store: Store; readonly clock: Clock; readonly log: Log },
  hint: () => void,
  stop: AbortSignal,
): Promise<void> {
  if (store.watch === undefined) return;
  let broken = false;
  const onHint = () => {
    if (broken) log.notice(`${store.name}: watches again`);
    broken = false;
    hint();
  };
  while (!isAborted(stop)) {
    let why = "it ended";
    try {
      await store.watch(onHint, stop);
    } catch (error) {
      why = error instanceof Error ? error.message : "failed";
    }
    if (isAborted(stop)) return;
    log[broken ? "debug" : "warn"](`${store.name}: cannot watch: ${why}; polling goes on`);
    broken = true;
    await clock.sleep(AGAIN, stop);
  }
}
