/**
 * Reads foreign files: a fifo, a device or an endless file at such a path neither blocks the
 * reader nor fills the memory.
 */
import fs from "node:fs";
import { promisify } from "node:util";
import { UnfitFile } from "./errors.ts";
import { MAX_VALUE } from "./limits.ts";

/** @throws UnfitFile where it is not a regular file, or larger than 16 MiB; errors of the system as they come. */
export function readPlainSync(path: string): Buffer {
  const file = fs.openSync(path, flagsFor(path));
  try {
    refuseUnfit(path, fs.fstatSync(file));
    const chunks = new Chunks();
    while (chunks.took(fs.readSync(file, chunks.next, 0, CHUNK, null)));
    return chunks.whole();
  } finally {
    fs.closeSync(file);
  }
}

/** The same; where the file system hangs, the process still hears signals. */
export async function readPlain(path: string): Promise<Buffer> {
  const file = await open(path, flagsFor(path));
  try {
    // Not fs.readFile() of a descriptor: it loses the code of a failed fstat(2) (Node 20).
    refuseUnfit(path, await fstat(file));
    const chunks = new Chunks();
    while (chunks.took((await read(file, chunks.next, 0, CHUNK, null)).bytesRead));
    return chunks.whole();
  } finally {
    await close(file);
  }
}

const open = promisify(fs.open);
const fstat = promisify(fs.fstat);
const read = promisify(fs.read);
const close = promisify(fs.close);

/** Bytes. */
const CHUNK = 64 * 1024;

class Chunks {
  readonly #chunks: Buffer[] = [];
  #length = 0;
  /** For the next bytes. */
  next = Buffer.alloc(CHUNK);

  /** @returns whether more may follow. @throws UnfitFile for too much, whatever stat(2) says. */
  took(bytes: number): boolean {
    if (bytes === 0) return false;
    this.#chunks.push(this.next.subarray(0, bytes));
    this.#length += bytes;
    if (this.#length > MAX_VALUE) {
      this.#clear();
      throw tooLarge();
    }
    this.next = Buffer.alloc(CHUNK);
    return true;
  }

  /** The caller owns the bytes. */
  whole(): Buffer {
    const whole = Buffer.alloc(this.#length);
    let at = 0;
    for (const chunk of this.#chunks) at += chunk.copy(whole, at);
    this.#clear();
    return whole;
  }

  /** They may be secrets. */
  #clear(): void {
    for (const chunk of this.#chunks) chunk.fill(0);
  }
}

/** A descriptor of this process, which may be a pipe: `--config /dev/stdin`, `--config <(jq …)`. */
const DESCRIPTOR = /^\/(?:dev\/(?:stdin$|fd\/)|proc\/self\/fd\/)/;

/** Opening a fifo would wait for a writer. */
function flagsFor(path: string): number {
  return fs.constants.O_RDONLY | (DESCRIPTOR.test(path) ? 0 : fs.constants.O_NONBLOCK);
}

function refuseUnfit(path: string, stats: fs.Stats): void {
  if (!stats.isFile() && (stats.isDirectory() || !DESCRIPTOR.test(path))) throw new UnfitFile("is not a regular file");
  if (stats.size > MAX_VALUE) throw tooLarge();
}

function tooLarge(): UnfitFile {
  return new UnfitFile(`is larger than ${MAX_VALUE / 1024 / 1024} MiB`);
}
