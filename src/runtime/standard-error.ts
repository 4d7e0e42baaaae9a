/** Standard error for a daemon, without the modules of Node's streams, which each start would have to load. */
import { fstatSync, writeSync } from "node:fs";
import { errnoCode } from "../contract/errors.ts";
import { encoded } from "../contract/text.ts";

const STDERR = 2;

/** Once it is open, it waits for a slow reader instead of us, and keeps the order. */
let stream: NodeJS.WriteStream | undefined;
/** Bytes so far. */
let written = 0;
/** Lines that are dropped and not yet reported. */
let lost = 0;

/** Bytes. A journal socket has room for ten times as many, even where journald hangs. */
const SOCKET_ROOM = 16 * 1024;
/** Bytes that are kept for a reader that hangs. */
const LONGEST_QUEUE = 1024 * 1024;

/**
 * A closed reader (a journal that restarts) is no reason to end: the text is lost.
 *
 * @param tellLost writes how many lines were lost.
 */
export function writeToStandardError(text: string, tellLost: (count: number) => void): void {
  // A pipe may be full from the beginning; a socket is full only when its reader has stopped reading.
  if (written === 0 && statOf(STDERR)?.isFIFO() === true) openStream();
  if (stream === undefined && written >= SOCKET_ROOM && statOf(STDERR)?.isSocket() === true) openStream();
  written += Buffer.byteLength(text);
  let rest = encoded(text);
  try {
    while (stream === undefined && rest.length > 0) rest = rest.subarray(writeSync(STDERR, rest));
  } catch (error) {
    // Somebody has made it non-blocking, and it is full.
    if (errnoCode(error) !== "EAGAIN") return;
    openStream();
  }
  if (stream !== undefined) queue(stream, rest, tellLost);
}

function queue(to: NodeJS.WriteStream, text: Buffer, tellLost: (count: number) => void): void {
  if (to.writableLength > LONGEST_QUEUE) {
    lost += 1;
    return;
  }
  const count = lost;
  lost = 0;
  if (count > 0) tellLost(count);
  to.write(text);
}

/** In JOURNAL_STREAM systemd names the file that it has connected with the journal (systemd.exec(5)). */
export function standardErrorGoesTo({ JOURNAL_STREAM }: NodeJS.ProcessEnv): "journal" | "terminal" | "elsewhere" {
  const file = statOf(STDERR);
  if (file === undefined) return "elsewhere";
  if (JOURNAL_STREAM === `${file.dev}:${file.ino}`) return "journal";
  return isTerminal(STDERR) ? "terminal" : "elsewhere";
}

/** /dev/null and its kind (major(3) of their number). */
const MEMORY_DEVICES = 1;

/** Node's module for terminals loads those for the network, so we load it only where there may be a terminal. */
export function isTerminal(descriptor: number): boolean {
  const file = statOf(descriptor);
  if (file?.isCharacterDevice() !== true || ((file.rdev >> 8) & 0xfff) === MEMORY_DEVICES) return false;
  return process.getBuiltinModule("node:tty").isatty(descriptor);
}

/** undefined: it is closed. */
function statOf(descriptor: number) {
  try {
    return fstatSync(descriptor);
  } catch {
    return undefined;
  }
}

function openStream(): void {
  stream = process.stderr.on("error", () => undefined);
}
