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

  /** They are right now. One that is said not to be there is looked for again: our own file would be nobody's. */
  take(names: readonly string[]): void {
    this.#prints = new Map(
      names.flatMap((name) => {
        const first = this.#print(name);
        const print = first === MISSING ? this.#print(name) : first;
        return print === undefined ? [] : [[name, print] as const];
      }),
    );
  }

  /** They are being replaced. */
  forget(): void {
    this.#prints.clear();
  }

  /** Whether each is as it was taken. Not where nobody can say. */
  areSame(names: readonly string[]): boolean {
    return names.every((name) => {
      const print = this.#prints.get(name);
      return print !== undefined && print === this.#print(name);
    });
  }

  /** false: it is another file than the one that was taken. */
  mayBe(name: string, { ino }: fs.Stats): boolean {
    const print = this.#prints.get(name);
    return print === undefined || print.startsWith(`${ino},`);
  }

  /** undefined: nobody can say. */
  #print(name: string): string | undefined {
    try {
      const stat = fs.lstatSync(pathIn(this.#directory, name), { bigint: true, throwIfNoEntry: false });
      return stat === undefined ? MISSING : [stat.ino, stat.size, stat.ctimeNs, stat.mode, stat.uid, stat.gid].join();
    } catch {
      return undefined;
    }
  }
}
