/**
 * Finds the directories where a link on the path to the store can change, which leaves no trace in the directory
 * that it leads to.
 */
import { dirname, join, resolve } from "node:path";
import { linkOf } from "../contract/file-calls.ts";

/** Most changes in here have nothing to do with secrets, and each event would start a process. */
const BUSY: ReadonlySet<string> = new Set([
  "/",
  "/dev",
  "/etc",
  "/home",
  "/root",
  "/run",
  "/srv",
  "/tmp",
  "/var",
  "/var/lib",
]);
/** path_resolution(7): the kernel follows 40 links and gives up. */
const MAX_LINKS = 40;

/**
 * @param paths absolute.
 * @returns for each link on these ways its directory, and the one that holds its target (a new generation appears
 *   there); without busy ones and those of `except`.
 */
export async function linksOnWays(paths: Iterable<string>, except: Iterable<string>): Promise<readonly string[]> {
  const found = new Set<string>();
  for (const path of paths) for await (const place of placesOf(path)) if (!BUSY.has(place)) found.add(place);
  for (const place of except) found.delete(place);
  return [...found];
}

async function* placesOf(path: string): AsyncGenerator<string> {
  const rest = partsOf(path).reverse();
  let links = 0;
  let at = "/";
  for (let name = rest.pop(); name !== undefined && links <= MAX_LINKS; name = rest.pop()) {
    const next = join(at, name);
    const target = await linkOf(next).catch(() => undefined);
    if (target === undefined) {
      at = next;
      continue;
    }
    links += 1;
    yield at;
    yield dirname(resolve(at, target));
    if (target.startsWith("/")) at = "/";
    rest.push(...partsOf(target).reverse());
  }
}

function partsOf(path: string): string[] {
  return path.split("/").filter((part) => part !== "" && part !== ".");
}
