/** An output that lies where the secrets come from: a publish would replace the originals, and an end remove them. */
import * as fs from "node:fs";
import { dirname } from "node:path";
import type { OutputConfig } from "../config/config.ts";
import { ConfigError, printable } from "../contract/errors.ts";
import { refuseSharedTmp } from "../output/safe-directory.ts";

/**
 * Changes nothing. Directories are compared by what they are, so that no link and no bind mount hides one in another.
 *
 * @param sources absolute paths of what the store is made of.
 * @throws FatalError (78) where the output is a /tmp that every user shares.
 * @throws ConfigError where the output is one of them, lies in one, or holds one; or where the links are one or lie in one.
 *   (Links may be made above a source, in a /tmp say: a link never takes the place of a directory.)
 */
export function refuseOverlap({ directory, links }: OutputConfig, sources: readonly string[]): void {
  // A shared /tmp is the worse mistake, wherever the sources are: it is told first.
  refuseSharedTmp(realPath(directory) ?? directory);
  for (const source of sources) {
    refuse("output.directory", directory, source, true);
    if (links !== null) refuse("output.links", links, source, false);
  }
}

function refuse(option: string, place: string, source: string, mayHold: boolean): void {
  const where = printable(source);
  const [from, to] = [chain(source), chain(place)];
  if (from[0] === to[0])
    throw new ConfigError(option, `is where the secrets come from (${where}): name another directory`);
  if (from[0] !== undefined && to.includes(from[0]))
    throw new ConfigError(option, `lies in ${where}, where the secrets come from: name a directory elsewhere`);
  if (mayHold && to[0] !== undefined && from.includes(to[0]))
    throw new ConfigError(option, `holds ${where}, where the secrets come from: name a directory elsewhere`);
}

/** What the path and each directory above it is, the path first; what is not there yet goes by its name in its parent. */
function chain(path: string): readonly string[] {
  const missing: string[] = [];
  for (let above = path; ; above = dirname(above)) {
    const real = realPath(above);
    if (real !== undefined) {
      const there = identities(real);
      let below = there[0] ?? real;
      return [
        ...missing
          .reverse()
          .map((name) => (below += name))
          .reverse(),
        ...there,
      ];
    }
    if (above === "/") return [path];
    missing.push(above.slice(dirname(above) === "/" ? 0 : dirname(above).length));
  }
}

function identities(real: string): readonly string[] {
  const found: string[] = [];
  for (let above = real; ; above = dirname(above)) {
    const stat = fs.statSync(above, { bigint: true, throwIfNoEntry: false });
    found.push(stat === undefined ? above : `${stat.dev}:${stat.ino}`);
    if (above === "/") return found;
  }
}

function realPath(path: string): string | undefined {
  try {
    return fs.realpathSync(path);
  } catch {
    return undefined;
  }
}
