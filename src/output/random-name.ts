import { readFileSync } from "node:fs";
import { attempt } from "./system-calls.ts";

const SOURCE = "/proc/sys/kernel/random/uuid";

/** Twelve hexadecimal digits that nobody can guess, from the kernel: node:crypto costs time at every start. */
export function randomName(): string {
  return attempt("read", SOURCE, () => readFileSync(SOURCE, "latin1"))
    .replaceAll("-", "")
    .slice(0, 12);
}
