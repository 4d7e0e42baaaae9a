/** Which directories are safe to publish in. */
import * as fs from "node:fs";
import { basename, dirname } from "node:path";
import { errnoCode, errnoText, ExitCode, FatalError, PublishError } from "../contract/errors.ts";
import { isPrivateTmp } from "./private-tmp.ts";
import { attempt, cannot, lookTwice, pathIn, problemsOf } from "./system-calls.ts";

/**
 * Makes `path` where it is missing, and makes sure that nobody else can change it or a directory above it. Somebody who
 * can could make a process of root write files, or give them away, anywhere.
 *
 * @returns `real`: the same without links on the way, because somebody else may be able to replace those; `made`: the
 *   directories that were missing, the uppermost first.
 * @throws PublishError (73), or FatalError (78) for a /tmp that everybody shares.
 */
export function checkDirectory(path: string): { readonly real: string; readonly made: readonly string[] } {
  const { parent, missing } = nearestOf(path);
  let real = parent;
  for (const name of missing) real = pathIn(real, name);
  refuseSharedTmp(real);
  // Checked before anything is made: a user who can change a directory above could redirect that, too.
  for (let above = parent; ; above = dirname(above)) {
    refuseUnsafe(path, above, real);
    if (above === "/") break;
  }
  const made: string[] = [];
  let directory = parent;
  try {
    for (const name of missing) {
      directory = pathIn(directory, name);
      if (make(path, directory)) made.push(directory);
      refuseUnsafe(path, directory, real);
    }
  } catch (error) {
    // The first failure says what is wrong.
    removeMade(made);
    throw error;
  }
  return { real, made };
}

/** @param made by us, in any order; those that are in use or have files stay. @returns why others could not go. */
export function removeMade(made: readonly string[]): readonly string[] {
  const inmostFirst = made.toSorted((a, b) => b.length - a.length);
  return problemsOf(
    inmostFirst.map((directory) => () => {
      removeEmpty(directory);
    }),
  );
}

function removeEmpty(directory: string, isSecond = false): void {
  try {
    fs.rmdirSync(directory);
  } catch (error) {
    if (errnoCode(error) === "ENOENT" && !isSecond && lookTwice(directory) !== undefined) removeEmpty(directory, true);
    else if (!["ENOENT", "ENOTEMPTY", "EEXIST", "EBUSY"].includes(errnoCode(error) ?? ""))
      throw cannot("remove", directory, error);
  }
}

/**
 * The nearest directory above `path` that is there, and the names below it. Links on the way are the operator's
 * (/var/run); the last component itself must be no link.
 */
function nearestOf(path: string): { readonly parent: string; readonly missing: readonly string[] } {
  const missing = path === "/" ? [] : [basename(path)];
  for (let above = dirname(path); ; above = dirname(above)) {
    try {
      return { parent: fs.realpathSync(above), missing };
    } catch (error) {
      if (errnoCode(error) !== "ENOENT") throw cannotBeMade(path, error);
      missing.unshift(basename(above));
    }
  }
}

/** @returns false where something is there. */
function make(path: string, directory: string): boolean {
  try {
    fs.mkdirSync(directory, { mode: 0o755 });
  } catch (error) {
    if (errnoCode(error) === "EEXIST") return false;
    throw cannotBeMade(path, error);
  }
  try {
    // The umask does not decide: the target and the owners of files must be able to enter, also the directories above.
    setMode(directory, 0o755);
    return true;
  } catch (error) {
    try {
      fs.rmdirSync(directory);
    } catch {
      // The first failure says what is wrong.
    }
    throw cannotBeMade(path, error);
  }
}

/** Sets the mode of the directory itself: chmod(2) would follow a link. */
function setMode(directory: string, mode: number): void {
  const { O_DIRECTORY, O_NOFOLLOW, O_RDONLY } = fs.constants;
  const fd = fs.openSync(directory, O_DIRECTORY | O_NOFOLLOW | O_RDONLY);
  try {
    fs.fchmodSync(fd, mode);
  } finally {
    fs.closeSync(fd);
  }
}

/** @throws PublishError if this is not a directory, or another user can change it. */
function refuseUnsafe(path: string, directory: string, real: string): void {
  const where = directory === real ? "" : `lies in ${directory}, which `;
  const stat = look(directory, () => fs.lstatSync(directory));
  if (stat.isSymbolicLink()) throw refuse(path, `${where}is a symbolic link: name the directory itself`);
  if (!stat.isDirectory()) throw refuse(path, `${where}is not a directory`);
  const who = whoElseCanChange(stat);
  if (who !== undefined) throw refuse(path, `${where}${who} can change`);
}

/** @throws FatalError (78) unless this /tmp is one that systemd made for two units. */
export function refuseSharedTmp(path: string): void {
  if ((path === "/tmp" || path === "/var/tmp") && !isPrivateTmp(path))
    throw new FatalError(
      ExitCode.config,
      `output: refusing to write to the shared ${path}; set PrivateTmp=true in the unit`,
    );
}

function whoElseCanChange(stat: fs.Stats): string | undefined {
  const self = process.geteuid?.() ?? 0;
  if (stat.uid !== 0 && stat.uid !== self) return `uid ${stat.uid}`;
  const sticky = (stat.mode & 0o1000) !== 0;
  if ((stat.mode & 0o002) !== 0 && !sticky) return "everybody";
  if ((stat.mode & 0o020) !== 0 && !sticky && stat.gid !== 0) return `group ${stat.gid}`;
  return undefined;
}

/** Whether a directory above `path` lets only its owner through (systemd's RuntimeDirectoryMode=0700). */
export function onlyOwnersCanReach(path: string): boolean {
  const real = look(path, () => fs.realpathSync(path));
  for (let above = dirname(real); above !== "/"; above = dirname(above))
    if ((look(above, () => fs.statSync(above)).mode & 0o011) === 0) return true;
  return false;
}

/** Whether it is on a tmpfs or ramfs (statfs(2)), which a crash of the machine empties: nothing to fsync. */
export function liesInMemory(path: string): boolean {
  const { type } = look(path, () => fs.statfsSync(path));
  return type === 0x0102_1994 || type === 0x8584_58f6;
}

function look<T>(path: string, work: () => T): T {
  return attempt("read", path, work, ExitCode.cannotCreate);
}

function cannotBeMade(path: string, error: unknown): PublishError {
  return refuse(path, `cannot be made: ${errnoText(errnoCode(error))}`);
}

function refuse(path: string, why: string): PublishError {
  return new PublishError(ExitCode.cannotCreate, `output: ${path} ${why}`);
}
