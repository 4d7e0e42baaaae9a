/** A fake of a failing disk: below one directory, calls of node:fs that would change something throw ENOSPC. */
import fs from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import { onTestFinished } from "vitest";

/** The calls that take a path first, and change what is there. */
const CHANGES = ["chmodSync", "mkdirSync", "renameSync", "rmSync", "rmdirSync", "symlinkSync", "unlinkSync"] as const;

type Call = (...args: readonly unknown[]) => unknown;

export class FailingDisk {
  readonly #directory: string;
  /** Calls that still work. */
  #left = Infinity;

  constructor(directory: string) {
    this.#directory = directory;
    const calls = fs as unknown as Record<string, Call>;
    const real = { ...Object.fromEntries(CHANGES.map((name) => [name, calls[name]])), openSync: calls["openSync"] };
    for (const [name, call] of Object.entries(real))
      calls[name] = (...args) => {
        if (this.#isChange(name, args)) this.#count(name);
        return call?.(...args);
      };
    syncBuiltinESMExports();
    onTestFinished(() => {
      Object.assign(calls, real);
      syncBuiltinESMExports();
    });
  }

  /** Fails from now on, after the next `after` calls. 0 stops each publish as a whole; more leave it half done. */
  fail(after: number): void {
    this.#left = after;
  }

  heal(): void {
    this.#left = Infinity;
  }

  get fails(): boolean {
    return this.#left !== Infinity;
  }

  /** Does another program's work, whose disk works. */
  aside<T>(work: () => T): T {
    const left = this.#left;
    this.heal();
    try {
      return work();
    } finally {
      this.#left = left;
    }
  }

  #isChange(name: string, args: readonly unknown[]): boolean {
    const paths = name === "symlinkSync" ? [args[1]] : [args[0]];
    const writes = name !== "openSync" || (Number(args[1]) & (fs.constants.O_WRONLY | fs.constants.O_RDWR)) !== 0;
    return writes && paths.some((path) => typeof path === "string" && path.startsWith(this.#directory));
  }

  #count(syscall: string): void {
    if (this.#left > 0) this.#left -= 1;
    else throw Object.assign(new Error("no space left on device"), { code: "ENOSPC", syscall });
  }
}
