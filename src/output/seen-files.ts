/** What lstat(2) said of files when they were last seen to be right. */
import * as fs from "node:fs";
import { pathIn } from "./system-calls.ts";

const MISSING = "";

export class SeenFiles {
  readonly #directory: string;
  #prints = new Map<string, string>();

  constructor(directory: string) {
    this.#directory = directory;
  }

  /**
   * Notes that they are right at this moment. Looks again for a file that is said to be missing: otherwise our own file
   * would count as another's.
   */
  take(names: readonly string[]): void {
    this.#prints = new Map(
      names.flatMap((name) => {
        const first = this.#print(name);
        const print = first === MISSING ? this.#print(name) : first;
        return print === undefined ? [] : [[name, print] as const];
      }),
    );
  }

  /** Forgets them: they are being replaced. */
  forget(): void {
    this.#prints.clear();
  }

  /** Whether each is as `take` saw it; false where the system does not say. */
  areSame(names: readonly string[]): boolean {
    return names.every((name) => {
      const print = this.#prints.get(name);
      return print !== undefined && print === this.#print(name);
    });
  }

  /** false: it is not the file that `take` saw. */
  mayBe(name: string, { ino }: fs.Stats): boolean {
    const print = this.#prints.get(name);
    return print === undefined || print.startsWith(`${ino},`);
  }

  /** undefined: the system does not say. */
  #print(name: string): string | undefined {
    try {
      const stat = fs.lstatSync(pathIn(this.#directory, name), { bigint: true, throwIfNoEntry: false });
      return stat === undefined ? MISSING : [stat.ino, stat.size, stat.ctimeNs, stat.mode, stat.uid, stat.gid].join();
    } catch {
      return undefined;
    }
  }
}
