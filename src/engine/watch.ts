/** Keeps watching a store: it retries a broken watch now and then, and polling continues all the time. */
import { type Clock, isAborted } from "../runtime/clock.ts";
import type { Log } from "../runtime/log.ts";
import type { Store } from "./store.ts";

/** Seconds before a broken watch is tried again. */
const AGAIN = 60;

/** One watch at a time. */
export class Watching {
  #end: AbortController | undefined;
  readonly #watches = new Set<Promise<void>>();

  /** Watches this store instead of the one before. @param parts undefined: none. */
  begin(parts: Parameters<typeof keepWatching>[0] | undefined, hint: () => void, stop: AbortSignal): void {
    this.#end?.abort();
    this.#end = undefined;
    if (parts === undefined || isAborted(stop)) return;
    const end = new AbortController();
    const onStop = () => {
      end.abort();
    };
    stop.addEventListener("abort", onStop, { once: true });
    this.#end = end;
    const onHint = () => {
      if (!end.signal.aborted) hint();
    };
    const watch = keepWatching(parts, onHint, end.signal).finally(() => {
      stop.removeEventListener("abort", onStop);
      this.#watches.delete(watch);
    });
    this.#watches.add(watch);
  }

  /** @returns when all have ended. */
  async ended(): Promise<void> {
    await Promise.all(this.#watches);
  }
}

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
    log[broken ? "debug" : "warn"](`${store.name}: cannot watch: ${why}; polling continues`);
    broken = true;
    await clock.sleep(AGAIN, stop);
  }
}
