/** Standard error for a daemon, without the modules of Node's streams, which would be a part of each start. */
import { fstatSync, writeSync } from "node:fs";
import { errnoCode } from "../contract/errors.ts";

const STDERR = 2;

/** Where it is used, it waits for a slow reader instead of us, and keeps the order. */
let stream: NodeJS.WriteStream | undefined;
let begun = false;

/** A reader that went away (a journal that restarts) is no reason to end: the text is lost. */
export function writeToStandardError(text: string): void {
  // The journal's is a socket with room for a day's lines, but a pipe is full soon.
  if (!begun && kind()?.isFIFO() === true) openStream();
  begun = true;
  let rest = Buffer.from(text);
  try {
    while (stream === undefined && rest.length > 0) rest = rest.subarray(writeSync(STDERR, rest));
  } catch (error) {
    // Somebody has made it non-blocking, and it is full.
    if (errnoCode(error) !== "EAGAIN") return;
    openStream();
  }
  stream?.write(rest);
}

export function standardErrorIsTerminal(): boolean {
  return kind()?.isCharacterDevice() === true && process.getBuiltinModule("node:tty").isatty(STDERR);
}

/** undefined: it is closed. */
function kind() {
  try {
    return fstatSync(STDERR);
  } catch {
    return undefined;
  }
}

function openStream(): void {
  stream = process.stderr.on("error", () => undefined);
}
