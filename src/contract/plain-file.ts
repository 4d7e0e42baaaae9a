/**
 * Reads foreign files: a fifo, a device or an endless file at such a path neither blocks the
 * reader nor fills the memory.
 */
import fs from "node:fs";
import { UnfitFile } from "./errors.ts";
import { MAX_VALUE } from "./limits.ts";
import { promised } from "./file-calls.ts";

/** The bytes of a file, and what fstat(2) says before the first one is read. */
export interface Seen {
  readonly bytes: Buffer;
  readonly stats: Pick<fs.BigIntStats, "nlink" | "dev" | "ino" | "size" | "mtimeNs" | "ctimeNs">;
}

/** @returns undefined where it cannot, or something is not as it should be: the usual way finds out what. */
export type ReadInOneStep = (path: string) => Promise<Seen | undefined>;

let inOneStep: ReadInOneStep | undefined;

/** Where the runtime has a way of its own: one step of a thread, and not one for each call of the system. */
export function readPlainBy(way: ReadInOneStep | undefined): void {
  inOneStep = way;
}

/** @throws UnfitFile where it is not a regular file, or larger than 16 MiB; errors of the system as they come. */
export function readPlainSync(path: string): Buffer {
  const file = fs.openSync(path, flagsFor(path));
  try {
    const stats = fs.fstatSync(file);
    refuseUnfit(path, stats);
    const chunks = new Chunks(stats.size);
    while (chunks.took(fs.readSync(file, chunks.next)));
    return chunks.whole();
  } finally {
    fs.closeSync(file);
  }
}

/** The same; where the file system hangs, the process still hears signals. */
export async function readPlain(path: string): Promise<Buffer> {
  return (await readPlainSeen(path)).bytes;
}

/** The same, with what fstat(2) says. */
export async function readPlainSeen(path: string): Promise<Seen> {
  // Such a descriptor is read by its own number alone.
  const seen = DESCRIPTOR.test(path) ? undefined : await inOneStep?.(path);
  return seen ?? (await readInSteps(path));
}

async function readInSteps(path: string): Promise<Seen> {
  const file = await promised<number>((done) => {
    fs.open(path, flagsFor(path), done);
  });
  try {
    // Not fs.readFile() of a descriptor: it loses the code of a failed fstat(2) (Node 20).
    const stats = await promised<fs.BigIntStats>((done) => {
      fs.fstat(file, { bigint: true }, done);
    });
    refuseUnfit(path, stats);
    const chunks = new Chunks(stats.size);
    const read = () =>
      promised<number>((done) => {
        fs.read(file, chunks.next, 0, chunks.next.length, null, done);
      });
    while (chunks.took(await read()));
    return { bytes: chunks.whole(), stats };
  } finally {
    await promised((done) => {
      fs.close(file, (error) => {
        done(error, undefined);
      });
    });
  }
}

/** Bytes. */
const CHUNK = 64 * 1024;

class Chunks {
  readonly #chunks: Buffer[] = [];
  readonly #size: number;
  #length = 0;
  /** For the next bytes. */
  next: Buffer;

  /** @param size pipes and files of /proc say 0. */
  constructor(size: number | bigint) {
    this.#size = Number(size);
    // One more, so that a whole file is a short read, and needs no second one to see its end.
    this.next = Buffer.alloc(this.#size === 0 ? CHUNK : Math.min(this.#size + 1, CHUNK));
  }

  /** @returns whether more may follow. @throws UnfitFile for too much, whatever stat(2) says. */
  took(bytes: number): boolean {
    if (bytes === 0) return false;
    const isShort = bytes < this.next.length;
    this.#chunks.push(this.next.subarray(0, bytes));
    this.#length += bytes;
    if (this.#length > MAX_VALUE) {
      this.#clear();
      throw tooLarge();
    }
    if (isShort && this.#length === this.#size) return false;
    this.next = Buffer.alloc(CHUNK);
    return true;
  }

  /** The caller owns the bytes. */
  whole(): Buffer {
    const [first] = this.#chunks;
    if (first?.length === this.#size) return first;
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

function refuseUnfit(path: string, stats: fs.Stats | fs.BigIntStats): void {
  if (!stats.isFile() && (stats.isDirectory() || !DESCRIPTOR.test(path))) throw new UnfitFile("is not a regular file");
  if (stats.size > MAX_VALUE) throw tooLarge();
}

function tooLarge(): UnfitFile {
  return new UnfitFile(`is larger than ${MAX_VALUE / 1024 / 1024} MiB`);
}
