import { existsSync } from "node:fs";

/** The path of libfaketime, which gives a process its own wall clock; undefined: not installed. */
export function fakeClock(): string | undefined {
  return ["x86_64", "aarch64"]
    .map((machine) => `/usr/lib/${machine}-linux-gnu/faketime/libfaketimeMT.so.1`)
    .find((path) => existsSync(path));
}
