/** The file of the running configuration, and whether it has changed since it was read. */
import { readText, readTextSeen } from "./config-file.ts";
import { errnoCode, ExitCode, FatalError } from "../contract/errors.ts";
import { statOf } from "../contract/file-calls.ts";
import type { Seen } from "../contract/plain-file.ts";

/** A configuration, as read. */
export interface ConfigText {
  /** Absolute. */
  readonly file: string;
  readonly text: string;
}

type Sight = readonly (number | bigint)[] | "missing";

export class RunningFile {
  #running: ConfigText;
  /** The result of stat(2) when the file was last compared; undefined: compare it. */
  #seen: Sight | undefined;
  #difference: string | undefined;

  private constructor(running: ConfigText, seen: Sight | undefined) {
    this.#running = running;
    this.#seen = seen;
  }

  /** @throws FatalError where it cannot be read. */
  static async read(file: string): Promise<RunningFile> {
    // What it was before the first byte was read: so a write meanwhile counts as a difference.
    const { text, stats } = await readTextSeen(file);
    return new RunningFile({ file, text }, sightOf(stats));
  }

  get running(): ConfigText {
    return this.#running;
  }

  /** @throws FatalError where it cannot be read: a sandbox that shows this file alone hides the one that replaced it. */
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

  /** Sets the configuration that runs now. It may be from an older read, so the next look compares the file with it. */
  async take(running: ConfigText): Promise<void> {
    this.#running = running;
    this.#difference = undefined;
    const sight = await look(running.file);
    // A file that the sandbox hides cannot be compared.
    this.#seen = typeof sight === "object" && isReplaced(sight) ? sight : undefined;
  }

  /**
   * Reads the file only where stat(2) shows that it may have changed.
   *
   * @returns how it differs, as the end of a sentence about it; undefined: it does not. Never rejects.
   */
  async difference(): Promise<string | undefined> {
    const { file, text } = this.#running;
    const sight = await look(file);
    if (isSame(sight, this.#seen)) return this.#difference;
    this.#seen = sight;
    if (sight === undefined) return (this.#difference = "cannot be read any more");
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

/** @returns undefined where stat(2) fails in another way than ENOENT. */
async function look(file: string): Promise<Sight | undefined> {
  try {
    return sightOf(await statOf(file));
  } catch (error) {
    return errnoCode(error) === "ENOENT" ? "missing" : undefined;
  }
}

function sightOf({ nlink, dev, ino, size, mtimeNs, ctimeNs }: Seen["stats"]): Sight {
  return [nlink, dev, ino, size, mtimeNs, ctimeNs];
}

/** A file that is mounted on its own stays visible, without a name, when another file takes its name. */
function isReplaced([nlink]: readonly (number | bigint)[]): boolean {
  return nlink === 0n;
}

function isSame(one: Sight | undefined, other: Sight | undefined): boolean {
  if (typeof one !== "object" || typeof other !== "object") return one !== undefined && one === other;
  return one.every((value, index) => value === other[index]);
}
