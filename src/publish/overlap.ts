/**
 * Refuses an output where the secrets come from: a publish would replace the originals, and the end of the sidecar
 * would remove them.
 */
import fs from "node:fs";
import { basename, dirname, join } from "node:path";
import type { Config, OutputConfig } from "../config/config.ts";
import { ConfigError, errnoCode, ExitCode, printable } from "../contract/errors.ts";
import { realPathOf, statOf } from "../contract/file-calls.ts";
import { refuseSharedTmp } from "../output/safe-directory.ts";
import { cannot } from "../output/system-calls.ts";

/**
 * Changes nothing, and does not block: a source may be on a file system that hangs. Compares directories by identity,
 * so that no link and no bind mount hides one in another.
 *
 * @param reads absolute paths of what the backend reads: directories, and files such as that of a token. Templates
 *   count, too.
 * @throws FatalError (78) where the output is a /tmp that every user shares.
 * @throws ConfigError where the output is one of them, lies in one, or holds one; where the links are one or lie in
 *   one; or where a link would take the place of one. (Links may be made above a directory, in a /tmp say: a link never
 *   takes the place of a directory.)
 */
export async function refuseOverlap(config: Config, output: OutputConfig, reads: readonly string[]): Promise<void> {
  const { directory, links } = output;
  // A shared /tmp is the worse mistake, wherever the sources are, so it is reported first.
  const ways = new Ways();
  ways.begin(directory, [...reads, ...reads.map((source) => dirname(source))]);
  refuseSharedTmp((await ways.realPath(directory)) ?? directory);
  const names = new Set([
    ...config.secrets.map(({ file }) => file),
    ...config.templates.map(({ file }) => file),
    ...(output.envFile === null ? [] : [output.envFile]),
  ]);
  for (const source of reads) await refuseAll(ways, directory, links, names, source, "where the secrets come from");
  for (const { path } of config.templates) await refuseAll(ways, directory, links, names, path, "a template");
}

async function refuseAll(
  ways: Ways,
  directory: string,
  links: string | null,
  names: ReadonlySet<string>,
  source: string,
  what: string,
): Promise<void> {
  await refuse(ways, "output.directory", directory, source, what, true);
  if (links === null) return;
  await refuse(ways, "output.links", links, source, what, false);
  const takes =
    names.has(basename(source)) &&
    (await ways.chain(dirname(source)))[0] === (await ways.chain(links))[0] &&
    !(await isDirectory(source));
  if (takes)
    throw new ConfigError("output.links", `would put a link in place of ${printable(source)}, ${what}: ${MOVE}`);
}

const MOVE = "name a directory elsewhere";

async function refuse(
  ways: Ways,
  option: string,
  place: string,
  source: string,
  what: string,
  mayHold: boolean,
): Promise<void> {
  const where = printable(source);
  const [from, to] = await Promise.all([ways.chain(source), ways.chain(place)]);
  if (from[0] === to[0]) throw new ConfigError(option, `is ${what} (${where}): name another directory`);
  if (from[0] !== undefined && to.includes(from[0]))
    throw new ConfigError(option, `lies in ${where}, ${what}: ${MOVE}`);
  if (mayHold && to[0] !== undefined && (await holds(ways, to[0], source, from)))
    throw new ConfigError(option, `holds ${where}, ${what}: ${MOVE}`);
}

/** If the source is a link, both the link and its target count. */
async function holds(ways: Ways, directory: string, source: string, from: readonly string[]): Promise<boolean> {
  return from.includes(directory) || (await ways.chain(dirname(source))).includes(directory);
}

async function isDirectory(path: string): Promise<boolean> {
  return (await look(path))?.isDirectory() === true;
}

/** Looks at each place once for all questions, and at several at a time: a thread of its own makes each call. */
class Ways {
  readonly #paths = new Map<string, Promise<string | undefined>>();
  readonly #identities = new Map<string, Promise<string>>();
  readonly realPath = once(realPath, this.#paths);
  readonly #identity = once(identity, this.#identities);

  /**
   * Only saves time. A wait for a thread takes a part of a millisecond, so the sources are asked for together; and this
   * thread looks at the output itself, as it does for all that is done there.
   */
  begin(output: string, sources: readonly string[]): void {
    // Whoever needs it gets the error.
    for (const path of sources) this.realPath(path).catch(() => undefined);
    try {
      const real = fs.realpathSync.native(output);
      const found = upwards(real).map((above) => [above, fs.statSync(above, { bigint: true })] as const);
      this.#paths.set(output, Promise.resolve(real));
      for (const [above, stats] of found) this.#identities.set(above, Promise.resolve(identityIn(stats)));
    } catch {
      // It does not exist yet, or a thread will say what is wrong.
    }
  }

  /**
   * The identities of the path and of each directory above it, the path first. What does not exist yet has its name in
   * its parent.
   */
  async chain(path: string): Promise<readonly string[]> {
    const missing: string[] = [];
    for (let above = path; ; above = dirname(above)) {
      const real = await this.realPath(above);
      if (real !== undefined) {
        const there = await Promise.all(upwards(real).map(this.#identity));
        let own = there[0] ?? real;
        return [
          ...missing
            .reverse()
            .map((name) => (own += name))
            .reverse(),
          ...there,
        ];
      }
      if (above === "/") return [path];
      missing.push(join("/", basename(above)));
    }
  }
}

function once<T>(ask: (path: string) => Promise<T>, asked: Map<string, Promise<T>>): (path: string) => Promise<T> {
  return (path) => {
    const answer = asked.get(path) ?? ask(path);
    asked.set(path, answer);
    return answer;
  };
}

/** The path and each directory above it. */
function upwards(path: string): readonly string[] {
  return path === "/" ? [path] : [path, ...upwards(dirname(path))];
}

async function identity(path: string): Promise<string> {
  const what = await look(path);
  return what === undefined ? path : identityIn(what);
}

function identityIn({ dev, ino }: fs.BigIntStats): string {
  return `${dev}:${ino}`;
}

/** undefined: it does not exist, or we may not look. */
async function realPath(path: string): Promise<string | undefined> {
  try {
    return await realPathOf(path);
  } catch (error) {
    if (["ENOENT", "ENOTDIR", "EACCES", "ELOOP", "ENAMETOOLONG"].includes(errnoCode(error) ?? "")) return undefined;
    throw cannot("read", path, error, ExitCode.cannotCreate);
  }
}

/** undefined: it does not exist. */
async function look(path: string) {
  try {
    return await statOf(path);
  } catch (error) {
    if (["ENOENT", "ENOTDIR"].includes(errnoCode(error) ?? "")) return undefined;
    throw cannot("read", path, error, ExitCode.cannotCreate);
  }
}
