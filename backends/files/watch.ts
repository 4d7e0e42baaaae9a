/**
 * Hints that files may have changed, from inotify through chokidar.
 *
 * The file alone is not enough: we watch every directory on the way to it, from the root, for the one name that the way
 * takes there, through symbolic links too. So all of these give a hint: an in-place write, a rename-over, also with the
 * same mtime, delete and create, a link swapped anywhere on the way, a directory that is moved away, deleted, created
 * late or replaced.
 *
 * Only the poll finds what inotify cannot see: changes that another machine makes on a network file system; a mount
 * that appears over a directory on the way (inotify does see one that goes away; we walk the way again once a fetch has
 * met the new directory); changes in the lower layers of an overlay; writes through mmap; writes through another hard
 * link of the file, or to the source of a single file that is bind-mounted here; the end of a directory in a busy one
 * (below) while a process still has it open.
 *
 * inotify cannot filter by name, so a directory where others write a lot wakes us for each of their writes. We stop
 * watching such a one where its neighbours on the way show the same: the directory above sees it moved, and the one
 * below is told when it is itself moved or deleted.
 */
import { FSWatcher } from "chokidar";
import { closeSync, openSync } from "node:fs";
import { dirname, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { BackendError, type BackendContext } from "../../src/contract/backend.ts";
import { errnoCode, printable } from "../../src/contract/errors.ts";
import { survey, type Place } from "./survey.ts";

/** Milliseconds between two walks of the ways: a storm of events costs at most 20 walks a second. */
const SURVEY_PAUSE = 50;

/** So many events of other names within so many milliseconds make a directory a busy one. */
const BUSY = { events: 300, time: 30_000 };

interface Armed {
  readonly watcher: DirectoryWatcher;
  readonly identity: string;
  names: ReadonlySet<string>;
  /** The directory itself was moved, deleted or unmounted: the watch is dead or on the wrong directory. */
  stale: boolean;
  /** Events of other names since then, in milliseconds of performance.now(). */
  readonly others: { since: number; count: number };
}

export class FileWatch {
  readonly #paths: readonly string[];
  readonly #hint: () => void;
  readonly #log: BackendContext["log"];
  readonly #armed = new Map<string, Armed>();
  readonly #blind = new Set<string>();
  /** Busy directories that we do not watch. */
  readonly #busy = new Set<string>();
  #doubtful = false;
  #wake: (() => void) | undefined;
  #failure: BackendError | undefined;
  #hinting: NodeJS.Immediate | undefined;

  constructor(paths: Iterable<string>, hint: () => void, log: BackendContext["log"]) {
    this.#paths = [...paths];
    this.#hint = hint;
    this.#log = log;
  }

  /** The ways may lead elsewhere now: walk them again. */
  doubt(): void {
    this.#doubtful = true;
    this.#wake?.();
  }

  /** @returns when `signal` aborts. @throws BackendError where inotify has no room for us. */
  async run(signal: AbortSignal): Promise<void> {
    const wake = () => this.#wake?.();
    signal.addEventListener("abort", wake);
    try {
      for (let armed = false; !signal.aborted; armed = true) {
        const moved = await this.#arm(signal);
        if (moved || !armed) this.#hintSoon();
        await delay(SURVEY_PAUSE, undefined, { signal }).catch(() => undefined);
        await this.#doubted(signal);
      }
    } finally {
      signal.removeEventListener("abort", wake);
      clearImmediate(this.#hinting);
      await Promise.all(Array.from(this.#armed.keys(), (directory) => this.#disarm(directory)));
    }
  }

  async #doubted(signal: AbortSignal): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
      if (this.#doubtful || this.#failure !== undefined || signal.aborted) resolve();
    });
    this.#wake = undefined;
    if (this.#failure !== undefined) throw this.#failure;
  }

  /**
   * Watches the current paths. A path may change meanwhile, so it walks them until they stay the same.
   *
   * @returns whether anything new is watched.
   */
  async #arm(signal: AbortSignal): Promise<boolean> {
    for (let moved = false; ; moved = true) {
      this.#doubtful = false;
      const places = await survey(this.#paths);
      if (signal.aborted || !(await this.#follow(places))) return moved;
    }
  }

  async #follow(places: ReadonlyMap<string, Place>): Promise<boolean> {
    let moved = false;
    for (const [directory, armed] of this.#armed) {
      const place = places.get(directory);
      if (!armed.stale && !this.#busy.has(directory) && place?.identity === armed.identity) {
        for (const name of place.names) moved ||= !armed.names.has(name);
        armed.names = place.names;
      } else {
        await this.#disarm(directory);
      }
    }
    for (const directory of this.#busy)
      if (!this.#isSeenByOthers(directory, places.get(directory)?.names)) this.#busy.delete(directory);
    for (const [directory, place] of places) {
      if (this.#armed.has(directory) || this.#busy.has(directory) || !this.#watchable(directory)) continue;
      moved = (await this.#watch(directory, place)) || moved;
      if (this.#failure !== undefined) throw this.#failure;
    }
    return moved;
  }

  /** @returns false where the directory has gone since the walk, even if it is back; the next walk comes soon then. */
  async #watch(directory: string, place: Place): Promise<boolean> {
    // This variable would silently win over the options.
    delete process.env["CHOKIDAR_USEPOLLING"];
    const watcher = new DirectoryWatcher({
      ...{ depth: 0, followSymlinks: false, ignoreInitial: true, atomic: false },
      // Where a link has taken the directory's place, chokidar would watch the directory above.
      ignored: (_, stats) => stats?.isDirectory() === false,
    });
    const others = { since: 0, count: 0 };
    const armed: Armed = { watcher, identity: place.identity, names: place.names, stale: false, others };
    this.#armed.set(directory, armed);
    watcher.on("raw", (kind, name, details) => {
      this.#event(directory, armed, kind, name, details);
    });
    watcher.on("error", (error) => {
      this.#failed(directory, error);
    });
    await new Promise<void>((resolve) => {
      watcher.once("ready", resolve).add(directory);
    });
    if (watcher.watches(directory) || this.#blind.has(directory)) return true;
    // A new directory often has the inode number of the one before: the next walk would take it for watched.
    armed.stale = true;
    this.doubt();
    return false;
  }

  #event(directory: string, armed: Armed, kind: string, name: unknown, details: unknown): void {
    // Events of the directory itself come under its own last name. chokidar watches the parent where it found no directory.
    const watched = (details as { watchedPath?: unknown } | undefined)?.watchedPath;
    const itself = watched !== directory || typeof name !== "string" || name === baseName(directory);
    if (!itself && !armed.names.has(name)) {
      this.#noteOther(directory, armed);
      return;
    }
    this.#hintSoon();
    // "change": bytes, mode or owner. These do not make a way lead elsewhere.
    if (kind === "change") return;
    armed.stale ||= itself;
    this.doubt();
  }

  #noteOther(directory: string, { others, names }: Armed): void {
    const now = performance.now();
    if (now - others.since > BUSY.time) Object.assign(others, { since: now, count: 0 });
    others.count += 1;
    if (others.count < BUSY.events || this.#busy.has(directory) || !this.#isSeenByOthers(directory, names)) return;
    this.#busy.add(directory);
    this.doubt();
  }

  /** Whether the watches above and below this directory show all that one on it would. */
  #isSeenByOthers(directory: string, names: ReadonlySet<string> = new Set()): boolean {
    const isWatched = (path: string) => this.#armed.get(path)?.stale === false && !this.#busy.has(path);
    return (
      names.size > 0 &&
      (directory === "/" || isWatched(dirname(directory))) &&
      [...names].every((name) => isWatched(join(directory, name)))
    );
  }

  #failed(directory: string, error: unknown): void {
    const code = errnoCode(error) ?? "unknown error";
    if (code === "EACCES" || code === "EPERM") {
      this.#cannotWatch(directory, `permission denied (${code})`);
      return;
    }
    const why = code === "EMFILE" && !hasDescriptors() ? limits.descriptors : (limits[code] ?? code);
    this.#failure ??= new BackendError("unavailable", `cannot watch ${printable(directory)}: ${why}`);
    this.#wake?.();
  }

  #watchable(directory: string): boolean {
    if (!directory.includes("\\")) return true;
    this.#cannotWatch(directory, "the watcher takes a backslash for a slash");
    return false;
  }

  #cannotWatch(directory: string, why: string): void {
    if (this.#blind.has(directory)) return;
    this.#blind.add(directory);
    this.#log("warn", `cannot watch ${printable(directory)}: ${why}; polling finds changes there`);
  }

  async #disarm(directory: string): Promise<void> {
    const armed = this.#armed.get(directory);
    this.#armed.delete(directory);
    armed?.watcher.removeAllListeners("raw");
    await armed?.watcher.close();
  }

  /** One hint for all events that arrive together. */
  #hintSoon(): void {
    this.#hinting ??= setImmediate(() => {
      this.#hinting = undefined;
      this.#hint();
    });
  }
}

/**
 * A chokidar watcher for the raw events of one directory.
 *
 * chokidar 5.0 lists and stats the whole directory at start and after every event in it, before it asks `ignored`;
 * /nix/store may be on the way, with 100,000 entries. chokidar takes a false here for "a listing is in progress
 * already".
 */
class DirectoryWatcher extends FSWatcher {
  override _throttle(...[action, path, timeout]: Parameters<FSWatcher["_throttle"]>) {
    return action === "readdir" ? false : super._throttle(action, path, timeout);
  }

  /** chokidar is "ready" even where it found no directory. It may watch the one above then. */
  watches(directory: string): boolean {
    return this._closers.has(directory);
  }
}

/** What inotify(7) refuses for, by errno. */
const limits: Readonly<Record<string, string>> & { readonly descriptors: string } = {
  ENOSPC: "no inotify watches left: raise fs.inotify.max_user_watches",
  EMFILE: "no inotify instances left: raise fs.inotify.max_user_instances",
  ENFILE: "the system has no file descriptors left: raise fs.file-max",
  descriptors: "no file descriptors left: raise LimitNOFILE= of the unit",
};

/** A process without descriptors gets the same errno from inotify_init1(2) as a user without instances. */
function hasDescriptors(): boolean {
  try {
    closeSync(openSync("/", "r"));
    return true;
  } catch (error) {
    return errnoCode(error) !== "EMFILE";
  }
}

function baseName(directory: string): string {
  return directory.slice(directory.lastIndexOf("/") + 1);
}
