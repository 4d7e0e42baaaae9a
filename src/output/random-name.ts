import { attemptUnlessMissing, readShort } from "./system-calls.ts";

const SOURCE = "/proc/sys/kernel/random/uuid";

/**
 * Twelve unpredictable hexadecimal digits, from the kernel: node:crypto costs time at every start. It is the
 * fallback where the unit does not see that file (`ProcSubset=pid`).
 */
export function randomName(): string {
  const uuid = attemptUnlessMissing("read", SOURCE, () => readShort(SOURCE).trimEnd());
  return (uuid ?? process.getBuiltinModule("node:crypto").randomUUID()).replaceAll("-", "").slice(0, 12);
}
