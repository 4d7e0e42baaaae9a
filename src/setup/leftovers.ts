/** What a `fetcher add` or `fetcher remove` leaves after a kill or a power cut: the next command cleans it up. */
import { closeSync, lstatSync, openSync, readSync, realpathSync, renameSync, rmdirSync, unlinkSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { RESERVED_PREFIX } from "../config/config-schema.ts";
import { isRecord } from "../contract/records.ts";
import { readPlainSync } from "../contract/plain-file.ts";
import { namesIn } from "./paths.ts";

/** Name of a file while it is written. */
export const freshName = `${RESERVED_PREFIX}new-${process.pid}`;

const REMOVED = `${RESERVED_PREFIX}removed-`;
const FRESH = new RegExp(`^\\${RESERVED_PREFIX}new-\\d+$`);
const ASIDE = new RegExp(`^\\${REMOVED}\\d+$`);

/** Where a removed file waits that may come back: in a directory beside it, as its name may have no room for more. */
export function asideOf(path: string): string {
  return join(dirname(path), `${REMOVED}${process.pid}`, basename(path));
}

/** The first line of unit copies that stay while the sidecar stops. Their directory wins over that of generators. */
export const KEPT = "# Kept by fetcher remove until this has stopped.\n";

/** The directories that these commands change. */
export interface Places {
  readonly configDirectory: string;
  readonly lastingUnits: string;
  readonly runtimeUnits: string;
  readonly generators: string;
}

/**
 * Call it only while no other such command runs: everything that it finds is left over.
 *
 * @returns the files that are back, and whether systemd has to read its units again.
 */
export function clearLeftovers(places: Places): { readonly back: readonly string[]; readonly isReloadDue: boolean } {
  const back = directoriesIn(places).flatMap((directory) =>
    unlessRefused(() => (isOursAlone(directory) ? clear(directory) : []), []),
  );
  const kept = namesIn(places.runtimeUnits)
    .map((name) => join(places.runtimeUnits, name))
    .filter(isKept);
  const removed = kept.filter((path) =>
    unlessRefused(() => {
      unlinkSync(path);
      return true;
    }, false),
  );
  return { back, isReloadDue: removed.length > 0 || back.length > 0 };
}

/** A leftover that cannot be cleaned up stops no command: the next one tries again. */
function unlessRefused<T>(work: () => T, otherwise: T): T {
  try {
    return work();
  } catch {
    return otherwise;
  }
}

function directoriesIn({ configDirectory, lastingUnits, generators }: Places): readonly string[] {
  const names = namesIn(configDirectory);
  const homes = names.map((name) => join(configDirectory, name, "secrets"));
  const files = names.filter((name) => name.endsWith(".json")).map((name) => join(configDirectory, name));
  const dropIns = namesIn(lastingUnits).flatMap((name) => (name.endsWith(".d") ? [join(lastingUnits, name)] : []));
  return [...new Set([configDirectory, ...homes, ...files.flatMap(folderIn), generators, ...dropIns])];
}

/** The folder of secrets that a configuration names. */
function folderIn(file: string): readonly string[] {
  try {
    const json: unknown = JSON.parse(readPlainSync(file).toString("utf8"));
    const settings = isRecord(json) ? json["config"] : undefined;
    const folder = isRecord(settings) ? settings["secretsDir"] : undefined;
    return typeof folder === "string" && folder.startsWith("/") ? [folder] : [];
  } catch {
    return [];
  }
}

/**
 * A folder of secrets may be another user's. That user could make links there, and so make us move or remove any file.
 *
 * @returns whether only we and root can change what is in it and where its path leads.
 */
function isOursAlone(directory: string): boolean {
  const real = realpathSync(directory);
  for (let path = real; ; path = dirname(path)) {
    const { uid, mode } = lstatSync(path);
    const isOpen = (mode & 0o022) !== 0 && (path === real || (mode & 0o1000) === 0);
    if (isOpen || ![0, process.geteuid?.()].includes(uid)) return false;
    if (path === "/") return real === directory || isOursAlone(dirname(directory));
  }
}

/** @returns files that are back. */
function clear(directory: string): readonly string[] {
  return namesIn(directory).flatMap((name) => {
    const path = join(directory, name);
    if (FRESH.test(name)) unlinkSync(path);
    if (!ASIDE.test(name) || !lstatSync(path).isDirectory()) return [];
    const back = namesIn(path).flatMap((file) => putBack(join(path, file), join(directory, file)));
    rmdirSync(path);
    return back;
  });
}

/** @returns the place; undefined if another file has taken it. */
function putBack(aside: string, place: string): readonly string[] {
  if (lstatSync(place, { throwIfNoEntry: false }) !== undefined) {
    unlinkSync(aside);
    return [];
  }
  renameSync(aside, place);
  return [place];
}

function isKept(path: string): boolean {
  try {
    if (!lstatSync(path).isFile()) return false;
    const file = openSync(path, "r");
    try {
      const bytes = Buffer.alloc(KEPT.length);
      return readSync(file, bytes, 0, bytes.length, 0) === bytes.length && bytes.toString() === KEPT;
    } finally {
      closeSync(file);
    }
  } catch {
    return false;
  }
}
