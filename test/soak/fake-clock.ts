import { existsSync } from "node:fs";

/** libfaketime, which gives a process a wall clock of its own; undefined: not installed. */
export function fakeClock(): string | undefined {
  return ["x86_64", "aarch64"]
    .map((machine) => `/usr/lib/${machine}-linux-gnu/faketime/libfaketimeMT.so.1`)
    .find((path) => existsSync(path));
}
