/** How long the machine has been up, asleep or not. */

let own: (() => number | undefined) | undefined;

/** @param uptime of a runtime that would have to load `node:os` for it; undefined: Node's. */
export function takeUptimeFrom(uptime: typeof own): void {
  own = uptime;
}

/** Seconds of CLOCK_BOOTTIME; of some runtimes in whole seconds. */
export function uptime(): number {
  return own?.() ?? process.getBuiltinModule("node:os").uptime();
}
