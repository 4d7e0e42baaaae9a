import { readFileSync } from "node:fs";

/** Twelve hexadecimal digits that nobody can guess, from the kernel: node:crypto costs time at every start. */
export function randomName(): string {
  return readFileSync("/proc/sys/kernel/random/uuid", "latin1").replaceAll("-", "").slice(0, 12);
}
