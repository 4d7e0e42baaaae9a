/** Which directories are safe to publish in. */
import * as fs from "node:fs";
import { dirname } from "node:path";
import { errnoCode, errnoText, ExitCode, FatalError, PublishError } from "./errors.ts";
import { isPrivateTmp } from "./private-tmp.ts";

/**
 * Makes `path` where it is missing, and makes sure that neither it nor a directory above it lets somebody else replace
 * it: a process of root would then write, or give away files, wherever they point it to.
 *
 * @throws PublishError (73), or FatalError (78) for a /tmp that everybody shares.
 */
export function checkDirectory(path: string): { readonly created: boolean } {
  const real = realParent(path);
  refuseSharedTmp(real);
  const created = make(real);
  const stat = fs.lstatSync(real);
  if (!stat.isDirectory())
    throw refuse(path, stat.isSymbolicLink() ? "is a symbolic link: name the directory itself" : "is no directory");
  for (let above = real; ; above = dirname(above)) {
    const who = whoElseCanChange(fs.statSync(above));
    if (who !== undefined) throw refuse(path, `${above === real ? "" : `lies in ${above}, which `}${who} can change`);
    if (above === "/") return { created };
  }
}

/** Links on the way are the operator's (/var/run); the last component itself must be no link. */
function realParent(path: string): string {
  const name = path.slice(dirname(path).length).replace(/^\//, "");
  try {
    fs.mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
    const parent = fs.realpathSync(dirname(path));
    return name === "" ? parent : `${parent === "/" ? "" : parent}/${name}`;
  } catch (error) {
    throw refuse(path, `cannot be made: ${errnoText(errnoCode(error))}`);
  }
}

function make(path: string): boolean {
  try {
    fs.mkdirSync(path, { mode: 0o755 });
    // Not left to the umask: the target must be able to enter.
    fs.chmodSync(path, 0o755);
    return true;
  } catch (error) {
    if (errnoCode(error) === "EEXIST") return false;
    throw refuse(path, `cannot be made: ${errnoText(errnoCode(error))}`);
  }
}

/** @throws FatalError (78) unless this /tmp is one that systemd made for two units. */
export function refuseSharedTmp(path: string): void {
  if ((path === "/tmp" || path === "/var/tmp") && !isPrivateTmp(path))
    throw new FatalError(
      ExitCode.config,
      `output: ${path} here is the one that every user shares, not one that PrivateTmp= made: not written to`,
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

/** A directory above `path` lets nobody but its owner through (systemd's RuntimeDirectoryMode=0700). */
export function onlyOwnersCanReach(path: string): boolean {
  for (let above = dirname(fs.realpathSync(path)); above !== "/"; above = dirname(above))
    if ((fs.statSync(above).mode & 0o011) === 0) return true;
  return false;
}

/** tmpfs and ramfs (statfs(2)) are gone after a crash of the machine: nothing to fsync. */
export function liesInMemory(path: string): boolean {
  const { type } = fs.statfsSync(path);
  return type === 0x0102_1994 || type === 0x8584_58f6;
}

function refuse(path: string, why: string): PublishError {
  return new PublishError(ExitCode.cannotCreate, `output: ${path} ${why}`);
}
