/** Lines that the executable's units have and Node's cannot. `npm run docs` writes them to nix/lib/executable.json. */
import type { Lines } from "./unit-file.ts";

/** No memory is both written and executed, and the process speaks for itself. examples/systemd/executable.conf says the same. */
export const executable: Lines = [
  // An engine that does not know one of these names would not start: the build tries them.
  ["Environment", "BUN_JSC_useJIT=0"],
  // Little garbage: one thread collects it, seldom, and the program waits for it.
  ["Environment", "BUN_JSC_numberOfGCMarkers=1"],
  ["Environment", "BUN_JSC_useConcurrentGC=0"],
  ["Environment", "BUN_JSC_percentCPUPerMBForEdenTimer=0.00025"],
  ["Environment", "BUN_GC_TIMER_DISABLE=1"],
  // Each wait of the program would wake the allocator's own thread.
  ["Environment", "MIMALLOC_SCAVENGER=0"],
  // Threads for files, as on Node. By default there is one per processor, and one on a hung file system blocks all.
  ["Environment", "UV_THREADPOOL_SIZE=4"],
  ["MemoryDenyWriteExecute", "yes"],
  ["SystemCallFilter", "~@pkey"],
  ["NotifyAccess", "main"],
];

/** The unit that acts for a sidecar says nothing to systemd. */
export const executableThatActs: Lines = executable.filter(([option]) => option !== "NotifyAccess");

/** As on NixOS: `environment` is its own set. */
export function executableTable(): Readonly<Record<string, unknown>> {
  const isVariable = ([option]: Lines[number]) => option === "Environment";
  const variables = executable.filter(isVariable).map(([, text]) => text.split("=", 2) as [string, string]);
  return {
    environment: Object.fromEntries(variables),
    ...Object.fromEntries(executable.filter((line) => !isVariable(line))),
  };
}
