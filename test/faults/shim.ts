/** A preloaded library that makes chosen file system calls of a fetcher fail (shim.c), and its control. */
import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { constants, tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, onTestFinished } from "vitest";

export const errors = ["EIO", "ENOSPC", "EACCES", "EMFILE", "ENOENT"] as const;
export type ErrorName = (typeof errors)[number];

/** What happens at the Nth call, and after it. */
export type Fault = {
  readonly nth: number;
  /**
   * Part of the name and the path of the calls that count, as in `rename /run/x$`, where $ is the end; undefined: every
   * call counts.
   */
  readonly of?: string;
} & ({ readonly how: "once" | "forever"; readonly error: ErrorName } | { readonly how: "kill" });

/** The layout of struct control. */
const SIZE = 512;
const MATCH = 384;
const modes = { off: 0, count: 1, once: 2, forever: 3, kill: 4 };

export class FaultControl {
  readonly env: Readonly<Record<string, string>>;
  readonly #fd: number;

  /** @param directories calls on these and below them count. */
  constructor(path: string, directories: readonly string[]) {
    this.#fd = fs.openSync(path, "w+");
    onTestFinished(() => {
      fs.closeSync(this.#fd);
    });
    fs.writeSync(this.#fd, Buffer.alloc(SIZE), 0, SIZE, 0);
    this.env = { LD_PRELOAD: library(), FAULT_CONTROL: path, FAULT_DIRS: directories.join(":"), UV_USE_IO_URING: "0" };
  }

  /** @param fault undefined: only counts. */
  arm(fault?: Fault): void {
    const control = Buffer.alloc(SIZE);
    control.writeUInt32LE(fault?.nth ?? 0, 4);
    if (fault !== undefined && "error" in fault) control.writeUInt32LE(constants.errno[fault.error], 8);
    control.write(fault?.of ?? "", MATCH, SIZE - MATCH - 1);
    fs.writeSync(this.#fd, control, 0, SIZE, 0);
    // The mode comes last: the process may look at any moment.
    fs.writeSync(this.#fd, Uint32Array.of(modes[fault?.how ?? "count"]), 0, 4, 0);
  }

  /** Ends the fault. @returns how many calls there were since it began, how many failed, and the first of these. */
  disarm(): { readonly calls: number; readonly injected: number; readonly what: string } {
    const seen = this.look();
    fs.writeSync(this.#fd, Uint32Array.of(modes.off), 0, 4, 0);
    return seen;
  }

  look() {
    const bytes = Buffer.alloc(SIZE);
    fs.readSync(this.#fd, bytes, 0, SIZE, 0);
    const what = bytes.subarray(24).toString();
    return { calls: bytes.readUInt32LE(12), injected: bytes.readUInt32LE(16), what: what.slice(0, what.indexOf("$")) };
  }
}

let built: string | undefined;

function library(): string {
  if (built === undefined) {
    built = fs.mkdtempSync(join(fs.realpathSync(tmpdir()), "fetcher-shim-"));
    const source = join(import.meta.dirname, "shim.c");
    execFileSync("gcc", ["-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", join(built, "shim.so"), source, "-ldl"]);
  }
  return join(built, "shim.so");
}

afterAll(() => {
  if (built !== undefined) fs.rmSync(built, { recursive: true, force: true });
});
