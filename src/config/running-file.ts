/** The file that the running configuration was read from, and whether it is still as it was then. */
import { stat } from "node:fs/promises";
import { readText } from "./config-file.ts";
import { errnoCode, ExitCode, FatalError } from "../contract/errors.ts";

/** A configuration as somebody has read it. */
export interface ConfigText {
  /** Absolute. */
  readonly file: string;
  readonly text: string;
}

type Sight = readonly (number | bigint)[] | "missing";

export class RunningFile {
  #running: ConfigText;
  /** What stat(2) said when the file was last compared; undefined: it is to be compared. */
  #seen: Sight | undefined;
  #difference: string | undefined;

  private constructor(running: ConfigText, seen: Sight | undefined) {
    this.#running = running;
    this.#seen = seen;
  }

  /** @throws FatalError where it cannot be read. */
  static async read(file: string): Promise<RunningFile> {
    // Before: what is written between the two is seen as a difference.
    const seen = await look(file);
    return new RunningFile({ file, text: await readText(file) }, seen);
  }

  get running(): ConfigText {
    return this.#running;
  }

  /** @throws FatalError where it cannot be read: a unit's sandbox that shows this file alone hides the one that replaced it. */
  async readAgain(): Promise<ConfigText> {
    const { file } = this.#running;
    const sight = await look(file);
    if (sight === undefined || sight === "missing" || !isReplaced(sight)) return { file, text: await readText(file) };
    if (isSame(sight, this.#seen) && this.#difference === undefined) return this.#running;
    const remedy = `give the unit ExecReload=fetcher reload --config ${file}, or restart it`;
    throw new FatalError(
      ExitCode.config,
      `configuration: somebody replaced ${file}, and this unit's sandbox hides the new one: ${remedy}`,
    );
  }

  /** This is what runs now. Whoever has read it may have done so some time ago: the next look compares the file with it. */
  async take(running: ConfigText): Promise<void> {
    this.#running = running;
    this.#difference = undefined;
    const sight = await look(running.file);
    // One that the sandbox hides cannot be compared.
    this.#seen = typeof sight === "object" && isReplaced(sight) ? sight : undefined;
  }

  /**
   * Reads the file only where stat(2) says that something has happened to it.
   *
   * @returns in which way it differs, as the end of a sentence about it; undefined: it does not. Never rejects.
   */
  async difference(): Promise<string | undefined> {
    const { file, text } = this.#running;
    const sight = await look(file);
    if (sight === undefined || isSame(sight, this.#seen)) return this.#difference;
    this.#seen = sight;
    if (sight === "missing") return (this.#difference = "is gone");
    if (isReplaced(sight)) return (this.#difference = "was replaced or removed since it was read");
    try {
      this.#difference = (await readText(file)) === text ? undefined : "was changed since it was read";
    } catch {
      this.#difference = "cannot be read any more";
    }
    return this.#difference;
  }
}

/** @returns undefined where nobody can say. */
async function look(file: string): Promise<Sight | undefined> {
  try {
    const { nlink, dev, ino, size, mtimeNs, ctimeNs } = await stat(file, { bigint: true });
    return [nlink, dev, ino, size, mtimeNs, ctimeNs];
  } catch (error) {
    return errnoCode(error) === "ENOENT" ? "missing" : undefined;
  }
}

/** A file that is mounted by itself stays when another takes its name. */
function isReplaced([nlink]: readonly (number | bigint)[]): boolean {
  return nlink === 0n;
}

function isSame(one: Sight, other: Sight | undefined): boolean {
  if (typeof one === "string" || typeof other === "string" || other === undefined) return one === other;
  return one.every((value, index) => value === other[index]);
}
