/** Standard error for a daemon, without the modules of Node's streams, which would be a part of each start. */
import { fstatSync, writeSync } from "node:fs";
import { errnoCode } from "./errors.ts";

const STDERR = 2;

/** Once somebody has made it non-blocking and it was full: Node's stream waits, and keeps the order. */
let stream: NodeJS.WriteStream | undefined;

/** A reader that went away (a journal that restarts) is no reason to end: the text is lost. */
export function writeToStandardError(text: string): void {
  let rest = Buffer.from(text);
  try {
    while (stream === undefined && rest.length > 0) rest = rest.subarray(writeSync(STDERR, rest));
  } catch (error) {
    if (errnoCode(error) !== "EAGAIN") return;
    stream = process.stderr.on("error", () => undefined);
  }
  stream?.write(rest);
}

export function standardErrorIsTerminal(): boolean {
  try {
    return fstatSync(STDERR).isCharacterDevice() && process.getBuiltinModule("node:tty").isatty(STDERR);
  } catch {
    // Closed.
    return false;
  }
}
