/** What the backends on plain files share: reading, outages of the directory, and hints. */
import fs from "node:fs";
import { basename, dirname } from "node:path";
import * as v from "valibot";
import {
  BackendError,
  type Backend,
  type BackendContext,
  type Missing,
  type Outcome,
  type SecretRequest,
} from "../../src/contract/backend.ts";
import { errnoCode, printable } from "../../src/contract/errors.ts";
import { lstatOf, promised, statOf } from "../../src/contract/file-calls.ts";
import { didYouMean, MOST_HINTS, MOST_NAMES } from "../../src/contract/nearest.ts";
import { text } from "../../src/contract/settings.ts";
import { unlessAborted } from "../../src/contract/bounded-wait.ts";
import { hanging, unlessHanging } from "../../src/contract/hanging.ts";
import { failure, readFiles, wipe } from "./read.ts";
import type { FileWatch } from "./watch.ts";

/** How often to read a directory that keeps changing, before reporting that. */
const ATTEMPTS = 5;

/**
 * Seconds without a new name in a directory after which we no longer expect a missing file. Programs that decrypt
 * or copy make the directory first, and then file after file.
 */
export const WRITTEN_AFTER = 30;

/** How one kind of directory is read. */
export interface FileStore<Source> {
  /** An absolute path. It may be, or lead through, a symbolic link. */
  readonly directory: string;
  /** The path of a secret's file below `directory`. */
  fileOf(source: Source): string;
  /** Judges what was read: an upload in progress, say. */
  readonly judge?: (outcome: Outcome, path: string) => Outcome;
  /** The outcome of every secret where the directory does not exist; or throws. */
  withoutDirectory(path: string): Outcome;
}

/** A relative path that stays inside its directory. (A symbolic link may still lead out of it: that is the owner's will.) */
export const pathInside = v.pipe(
  text,
  v.check((path) => !path.startsWith("/"), "expected a path relative to the directory of the secrets"),
  v.check(
    (path) => path.startsWith("/") || path.split("/").every((part) => part !== "" && part !== "." && part !== ".."),
    "must not have an empty, . or .. component",
  ),
);

/** `directory/file`, where the directory may have been written with slashes at its end. */
export function joinFile(directory: string, file: string): string {
  return `${directory.replace(/\/+$/, "")}/${file}`;
}

export function openFiles<Source>(store: FileStore<Source>, context: BackendContext): Backend<Source> {
  const directory = new SecretDirectory(store);
  const watches = new Set<FileWatch>();
  const pathOf = (request: SecretRequest<Source>) => joinFile(store.directory, store.fileOf(request.source));
  return {
    async fetch(requests, signal) {
      const files = new Map(requests.map((request) => [request.id, pathOf(request)]));
      // A new mount gives no event: the watches stay on the directory below it.
      const outcomes = await directory.read(files, signal, () => {
        for (const watch of watches) watch.doubt();
      });
      const { judge } = store;
      if (judge === undefined) return outcomes;
      return new Map(Array.from(outcomes, ([id, outcome]) => [id, judge(outcome, files.get(id) ?? id)]));
    },

    async watch(requests, hint, signal) {
      // Loaded only when used: the watcher is not needed before READY.
      const { FileWatch } = await import("./watch.ts");
      const watch = new FileWatch(new Set(requests.map(pathOf)), hint, context.log);
      watches.add(watch);
      try {
        await watch.run(signal);
      } finally {
        watches.delete(watch);
      }
    },
  };
}

/** A directory that may be replaced by another, or be away for a moment. */
class SecretDirectory {
  readonly #store: Pick<FileStore<never>, "directory" | "withoutDirectory">;
  #lastIdentity: string | undefined;
  /** id → when it was first seen to be missing, in milliseconds of performance.now(). */
  readonly #missing = new Map<string, number>();

  constructor(store: Pick<FileStore<never>, "directory" | "withoutDirectory">) {
    this.#store = store;
  }

  /**
   * A directory that is away for a moment must not look like deleted secrets: where any is missing, the directory must
   * have been there all the time. (Moving it away and back changes its ctime.)
   *
   * @param replaced is called where the directory is another one than at the last look.
   */
  async read(files: ReadonlyMap<string, string>, signal: AbortSignal, replaced: () => void) {
    for (let attempt = 1; ; attempt++) {
      const before = await unlessAborted(signal, this.#look());
      if (before?.identity !== this.#lastIdentity) replaced();
      this.#lastIdentity = before?.identity;
      if (before === undefined) return mapOutcomes(files, (_, path) => this.#store.withoutDirectory(path));
      const outcomes = await readFiles(files, signal, this.#store.directory.replace(/\/+$/, ""));
      if (![...outcomes.values()].some(isMissing)) {
        for (const id of outcomes.keys()) this.#missing.delete(id);
        return outcomes;
      }
      const after = await unlessAborted(signal, this.#look());
      if (after?.identity === before.identity && after.changed === before.changed)
        return await this.#mayCome(files, outcomes);
      if (attempt < ATTEMPTS) wipe(outcomes);
      else return mapOutcomes(files, (id) => this.#notAtRest(outcomes.get(id)));
    }
  }

  /** Notes for each missing secret how long a start asks again for it. */
  async #mayCome(files: ReadonlyMap<string, string>, outcomes: Map<string, Outcome>) {
    const wanted = new Set(files.values());
    let hints = 0;
    for (const [id, path] of files) {
      const outcome = outcomes.get(id);
      if (outcome === undefined || !isMissing(outcome)) {
        this.#missing.delete(id);
        continue;
      }
      const now = performance.now();
      const since = this.#missing.get(id) ?? now;
      this.#missing.set(id, since);
      const left = WRITTEN_AFTER - (await this.#unchangedFor(path));
      // Whoever mistypes a name has often just written the files.
      const hint = hints++ < MOST_HINTS ? await nearestFile(path, wanted) : "";
      const where = `${outcome.where}${hint}`;
      outcomes.set(id, { ...outcome, where, ...(left > 0 ? { mayHealFor: (now - since) / 1000 + left } : {}) });
    }
    return outcomes;
  }

  /** @returns seconds since a name last came into, or went from, a directory between ours and `path`. */
  async #unchangedFor(path: string): Promise<number> {
    const top = this.#store.directory.replace(/\/+$/, "");
    let least = Infinity;
    for (let directory = dirname(path); directory.length >= top.length; directory = dirname(directory)) {
      const stats = await statOf(`${directory}/.`).catch(() => undefined);
      const age = stats === undefined ? Infinity : (Date.now() - Number(stats.mtimeMs)) / 1000;
      // A time in the future is from another clock.
      if (age >= -1) least = Math.min(least, age);
      if (directory === "/") break;
    }
    return least;
  }

  async #look() {
    const { directory } = this.#store;
    const looked = await unlessHanging(`directory ${directory}`, async () => ({ found: await this.#lookNow() }));
    if (looked === undefined) throw hanging(directory);
    return looked.found;
  }

  /** @returns undefined where it does not exist. */
  async #lookNow(): Promise<{ identity: string; changed: bigint } | undefined> {
    const { directory } = this.#store;
    try {
      // With the dot, a file in place of the directory gives ENOTDIR.
      const stats = await statOf(joinFile(directory, "."));
      return { identity: `${stats.dev}:${stats.ino}`, changed: stats.ctimeNs };
    } catch (error) {
      if (errnoCode(error) === "ENOENT") return undefined;
      throw failure(error, "read", directory);
    }
  }

  #notAtRest(outcome: Outcome | undefined): Outcome {
    if (outcome !== undefined && !isMissing(outcome)) return outcome;
    return new BackendError("unavailable", `${printable(this.#store.directory)} changes while fetcher reads it`);
  }
}

/** @param wanted paths that are other secrets'. @returns the end of a message; "" if there is no file of such a name. */
async function nearestFile(path: string, wanted: ReadonlySet<string>): Promise<string> {
  const there = await lstatOf(path).catch(() => undefined);
  if (there?.isSymbolicLink() === true) return "; a symbolic link is there, and what it leads to is not";
  const directory = dirname(path);
  const names = await promised<string[]>((done) => {
    fs.readdir(directory, done);
  }).catch(() => []);
  if (names.length > MOST_NAMES) return "";
  const others = names.filter((name) => !name.startsWith(".") && !wanted.has(joinFile(directory, name)));
  return didYouMean(basename(path), others.map(printable));
}

function mapOutcomes(
  files: ReadonlyMap<string, string>,
  judge: (id: string, path: string) => Outcome,
): Map<string, Outcome> {
  return new Map(Array.from(files, ([id, path]) => [id, judge(id, path)]));
}

function isMissing(outcome: Outcome): outcome is Missing {
  return "status" in outcome && outcome.status === "missing";
}
