/** Walks paths as the kernel does, and notes every step: watching all steps shows when a path leads elsewhere. */
import { linkOf, lstatOf } from "../../src/contract/file-calls.ts";

/** path_resolution(7): the kernel follows 40 links and gives up. */
const MAX_LINKS = 40;

/** A directory that a path leads through. */
export interface Place {
  /** Differs for another directory under the same path. */
  readonly identity: string;
  /** The names in it that the paths take. */
  readonly names: ReadonlySet<string>;
}

/** What is found under one real path. */
type Found = { kind: "directory"; identity: string } | { kind: "link"; target: string } | { kind: "end" };

/**
 * @param paths absolute.
 * @returns every existing directory on the paths, by its real path, with the names taken there: of directories, of
 *   links, of the files, and of the first thing that does not exist.
 */
export async function survey(paths: readonly string[]): Promise<Map<string, Place>> {
  const seen = new Map<string, Promise<Found>>();
  const look = (path: string): Promise<Found> => {
    let found = seen.get(path);
    if (found === undefined) seen.set(path, (found = lookAt(path)));
    return found;
  };
  const places = new Map<string, { identity: string; names: Set<string> }>();
  await Promise.all(
    paths.map(async (path) => {
      for await (const { directory, identity, name } of walk(path, look)) {
        const place = places.get(directory);
        if (place === undefined) places.set(directory, { identity, names: new Set([name]) });
        else place.names.add(name);
      }
    }),
  );
  return places;
}

async function* walk(path: string, look: (path: string) => Promise<Found>) {
  const root = await look("/");
  if (root.kind !== "directory") return;
  let directory = { path: "/", identity: root.identity };
  const parents: (typeof directory)[] = [];
  const rest = path.split("/").reverse();
  let links = 0;
  for (let name = rest.pop(); name !== undefined; name = rest.pop()) {
    if (name === "" || name === ".") continue;
    if (name === "..") {
      directory = parents.pop() ?? directory;
      continue;
    }
    yield { directory: directory.path, identity: directory.identity, name };
    const child = directory.path === "/" ? `/${name}` : `${directory.path}/${name}`;
    const found = await look(child);
    if (found.kind === "end") return;
    if (found.kind === "directory") {
      parents.push(directory);
      directory = { path: child, identity: found.identity };
      continue;
    }
    if (++links > MAX_LINKS) return;
    if (found.target.startsWith("/")) {
      directory = { path: "/", identity: root.identity };
      parents.length = 0;
    }
    rest.push(...found.target.split("/").reverse());
  }
}

async function lookAt(path: string): Promise<Found> {
  try {
    const stats = await lstatOf(path);
    if (stats.isDirectory()) return { kind: "directory", identity: `${stats.dev}:${stats.ino}` };
    if (stats.isSymbolicLink()) return { kind: "link", target: await linkOf(path) };
  } catch {
    // It does not exist, or we may not look: the way ends here, and a change of this name may open it.
  }
  return { kind: "end" };
}
