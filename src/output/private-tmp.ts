/**
 * Which /tmp this is. Nobody else shares a unit's private one. Everybody writes to the host's, and an ExecStart=+
 * command sees the host's even where the unit has PrivateTmp=.
 */
import { lstatSync, readFileSync, readlinkSync } from "node:fs";
import { dirname, join } from "node:path";
import { attemptUnlessMissing } from "./system-calls.ts";

/** The directories that PrivateTmp= makes private. */
export type TmpDirectory = "/tmp" | "/var/tmp";
const TMP_DIRECTORIES: readonly TmpDirectory[] = ["/tmp", "/var/tmp"];

/**
 * @param path a directory without symlinks in its name.
 * @param mountinfo the text of /proc/self/mountinfo; proc_pid_mountinfo(5).
 * @returns whether `path` is its own mount whose root is the `tmp` of a `systemd-private-*` directory, which
 *   PrivateTmp=true makes. False without mountinfo, and for PrivateTmp=disconnected (257+), which no other
 *   unit can join.
 * @throws PublishError where mountinfo is there and cannot be read.
 */
export function isPrivateTmp(path = "/tmp", mountinfo = readMountinfo()): boolean {
  // A later mount on the same place hides the earlier one.
  const root = mountinfo
    .split("\n")
    .map((line) => line.split(" "))
    .findLast(([, , , , mountPoint]) => mountPoint !== undefined && unescapeOctal(mountPoint) === path)?.[3];
  return root !== undefined && /\/systemd-private-[^/]+\/tmp(?:\/\/deleted)?$/.test(unescapeOctal(root));
}

/**
 * @param path absolute; its last components need not exist.
 * @returns the temporary directory in which `path` really lies, or which it is, after all symlinks and `..`; undefined
 *   where it lies elsewhere.
 */
export function tmpDirectoryOf(path: string): TmpDirectory | undefined {
  const real = resolveLinks(path);
  return TMP_DIRECTORIES.find((directory) => isBelow(real, directory) || isBelow(real, resolveLinks(directory)));
}

/** Whether `path` is `directory` or below it, by their names alone. */
function isBelow(path: string, directory: string): boolean {
  return path === directory || path.startsWith(`${directory}/`);
}

function readMountinfo(): string {
  const path = "/proc/self/mountinfo";
  return attemptUnlessMissing("read", path, () => readFileSync(path, "utf8")) ?? "";
}

/** mountinfo writes space, tab, newline and backslash as \ooo. */
function unescapeOctal(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(parseInt(digits, 8)));
}

/** As realpath(3), but continues by names alone below a missing or hidden path. Dangling links count. */
function resolveLinks(path: string): string {
  const rest = path.split("/");
  let resolved = "/";
  // 40: where the kernel gives up too (ELOOP).
  for (let links = 0; rest.length > 0;) {
    const name = rest.shift() ?? "";
    if (name === "" || name === ".") continue;
    if (name === "..") {
      resolved = dirname(resolved);
      continue;
    }
    const next = join(resolved, name);
    const target = links < 40 ? linkTarget(next) : undefined;
    if (target === undefined) {
      resolved = next;
      continue;
    }
    links += 1;
    if (target.startsWith("/")) resolved = "/";
    rest.unshift(...target.split("/"));
  }
  return resolved;
}

function linkTarget(path: string): string | undefined {
  try {
    return lstatSync(path).isSymbolicLink() ? readlinkSync(path) : undefined;
  } catch {
    return undefined;
  }
}
