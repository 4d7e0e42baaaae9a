/**
 * What one look of a sidecar that is not resident leaves for the next. Its directory stays while the service runs.
 *
 * A note in its `inbox` says that the store may have changed: while there is one, systemd starts a look. `ways` has
 * links to directories that systemd watches beside the store's own. The memory for the next look is in the sidecar's
 * own directory.
 */
import * as fs from "node:fs";
import { join } from "node:path";
import { RESERVED_PREFIX } from "../config/config-schema.ts";
import { refreshOf } from "../config/unit-names.ts";
import { isRecord } from "../contract/records.ts";
import { isRemoved } from "../contract/unit-sandbox.ts";

const MEMORY = `${RESERVED_PREFIX}looks`;

export class Notes {
  readonly #directory: string;
  readonly #memory: string;

  private constructor(runtime: string) {
    this.#directory = refreshOf(runtime);
    this.#memory = join(runtime, MEMORY);
  }

  /** @returns the notes of the sidecar whose runtime directory this process has; undefined: none exist. */
  static of(environment: NodeJS.ProcessEnv): Notes | undefined {
    const [runtime = ""] = environment["RUNTIME_DIRECTORY"]?.split(":") ?? [];
    const notes = new Notes(runtime);
    return runtime !== "" && notes.#isThere ? notes : undefined;
  }

  /** systemd has mounted the inbox here, and removes it with the sidecar. */
  get #isThere(): boolean {
    try {
      return !isRemoved(this.#in("inbox"));
    } catch {
      return false;
    }
  }

  get all(): readonly string[] {
    try {
      return fs.readdirSync(this.#in("inbox"));
    } catch {
      return [];
    }
  }

  /** A note too many does no harm: another look finds nothing new. */
  leave(): void {
    attempt(() => {
      // mktemp(1) makes the other notes, and none with such a name.
      const name = `start-${String(process.hrtime.bigint())}`;
      fs.closeSync(fs.openSync(join(this.#in("inbox"), name), "wx", 0o600));
    });
  }

  take(names: readonly string[]): void {
    for (const name of names)
      attempt(() => {
        fs.rmSync(join(this.#in("inbox"), name), { recursive: true, force: true });
      });
  }

  /** @param directories one for each link. systemd sees when a link changes. */
  watch(directories: readonly string[], most: number): void {
    for (let at = 0; at < most; at += 1) {
      const [path, wanted] = [join(this.#in("ways"), String(at)), directories[at]];
      if (targetOf(path) === wanted) continue;
      attempt(() => {
        if (wanted === undefined) fs.rmSync(path, { force: true });
        else {
          fs.rmSync(`${path}.new`, { force: true });
          fs.symlinkSync(wanted, `${path}.new`);
          fs.renameSync(`${path}.new`, path);
        }
      });
    }
  }

  get memory(): Readonly<Record<string, unknown>> {
    try {
      const json: unknown = JSON.parse(fs.readFileSync(this.#memory, "utf8"));
      return isRecord(json) ? json : {};
    } catch {
      return {};
    }
  }

  /** After a failed write on a full disk, the journal may get a line that it already has. */
  remember(memory: object): void {
    const [path, fresh] = [this.#memory, `${this.#memory}.new`];
    attempt(() => {
      fs.rmSync(fresh, { force: true });
      fs.writeFileSync(fresh, `${JSON.stringify(memory)}\n`, { flag: "wx", mode: 0o600 });
      fs.renameSync(fresh, path);
    });
  }

  #in(name: string): string {
    return join(this.#directory, name);
  }
}

function targetOf(path: string): string | undefined {
  try {
    return fs.readlinkSync(path);
  } catch {
    return undefined;
  }
}

function attempt(work: () => void): void {
  try {
    work();
  } catch {
    // The directory is gone with the sidecar, or the disk is full: the timer starts the next look.
  }
}
