/** Which names in the output directory are ours: those that the state lists, and no other. */
import { lstatSync } from "node:fs";
import { ExitCode, PublishError } from "../contract/errors.ts";
import type { StateFile } from "./state-file.ts";
import { attempt, pathIn } from "./system-calls.ts";

export class OwnedNames {
  readonly #directory: string;
  readonly #mayReplace: boolean;
  readonly #names = new Set<string>();
  readonly #removed = new Set<string>();

  /** @param mayReplace in a private /tmp, where the service may put whatever it wants at our names. */
  constructor(directory: string, mayReplace: boolean) {
    this.#directory = directory;
    this.#mayReplace = mayReplace;
  }

  get all(): readonly string[] {
    return [...this.#names];
  }

  has(name: string): boolean {
    return this.#names.has(name);
  }

  /** Adds the names that a state of ours lists. */
  note({ files, obsolete }: Pick<StateFile, "files" | "obsolete">): void {
    for (const name of files) this.add(name);
    for (const name of obsolete) if (!this.#removed.has(name)) this.#names.add(name);
  }

  /** Its file is published. */
  add(name: string): void {
    this.#names.add(name);
    this.#removed.delete(name);
  }

  /** Its file is removed: a later file at that name is a stranger's, even if an older state lists it. */
  forget(name: string): void {
    this.#names.delete(name);
    this.#removed.add(name);
  }

  /** Names that no earlier publish has made. */
  freshOf(names: readonly string[]): readonly string[] {
    return names.filter((name) => !this.#names.has(name));
  }

  /**
   * rename(2) replaces files, links and fifos, whoever made them, but no directory.
   *
   * @param anyway our state is damaged: it says that some names are ours, but not which.
   * @throws PublishError (73) if a stranger's file has one of these names.
   */
  refuseTaken(names: readonly string[], anyway = false): void {
    for (const name of names) {
      const path = pathIn(this.#directory, name);
      const stat = attempt("read", path, () => lstatSync(path, { throwIfNoEntry: false }));
      if (stat === undefined) continue;
      if (stat.isDirectory())
        throw new PublishError(ExitCode.cannotCreate, `output: ${path} is a directory: remove it`);
      if (this.#mayReplace || anyway || this.#names.has(name)) continue;
      throw new PublishError(
        ExitCode.cannotCreate,
        `output: ${alreadyThere(path)}: move it away, or name another output`,
      );
    }
  }
}

/** Why we do not replace it. */
export function alreadyThere(path: string): string {
  return `${path} already exists, and fetcher did not create it`;
}
