/** How a unit ended, in words: from the program's own exit status, or systemd's if the program did not run. */
import { lstatSync, statSync } from "node:fs";
import { join } from "node:path";
import { ExitCode, exitMeanings } from "../contract/errors.ts";

/** Properties of a unit, as systemd reports them. */
export type Unit = Readonly<Partial<Record<string, string>>>;

const RUNTIME_DIRECTORY = 233;
const SIGKILL = 9;

/** From systemd.exec(5): those that a drop-in, a full disk or a missing program causes. The journal has the details. */
const ofSystemd: Readonly<Record<number, string>> = {
  203: "systemd cannot run the program",
  216: "a group of the unit does not exist (yet)",
  217: "a user of the unit does not exist (yet)",
  226: "systemd cannot make the sandbox: a path in the unit does not exist",
  [RUNTIME_DIRECTORY]: "systemd cannot make a directory of the unit in /run",
  238: "systemd cannot make a directory of the unit in /var/lib",
  239: "systemd cannot make a directory of the unit in /var/cache",
  240: "systemd cannot make a directory of the unit in /var/log",
  241: "systemd cannot make a directory of the unit in /etc",
  243: "a credential of the unit does not exist, or cannot be decrypted",
};

/** @param runtimeRoot where systemd makes `RuntimeDirectory=`. */
export function exitText(unit: Unit, runtimeRoot: string): string {
  const status = Number(unit["ExecMainStatus"]);
  if (unit["Result"] !== "exit-code") return otherEnd(unit["Result"], status);
  const meaning = Object.entries(ExitCode).find(([, code]) => code === status)?.[0];
  const words =
    meaning === undefined
      ? wordsOfSystemd(status, unit, runtimeRoot)
      : exitMeanings[meaning as keyof typeof exitMeanings];
  return words === undefined ? `exit ${String(status)}` : `exit ${String(status)}, ${words}`;
}

/** With OOMPolicy=continue systemd calls a process that the kernel has killed for memory killed, and no more. */
function otherEnd(result = "something", status: number): string {
  if (result === "oom-kill") return "killed for want of memory (MemoryMax=)";
  if (result !== "signal") return `ended by ${result}`;
  return status === SIGKILL
    ? "killed (SIGKILL), perhaps for want of memory (MemoryMax=): its journal says so"
    : `killed by signal ${String(status)}`;
}

function wordsOfSystemd(status: number, unit: Unit, runtimeRoot: string): string | undefined {
  return (status === RUNTIME_DIRECTORY ? obstacleOf(unit, runtimeRoot) : undefined) ?? ofSystemd[status];
}

/**
 * systemd removes nothing that it has not made, and reports only the error number of what is in its way.
 *
 * @returns what is in the place of one of the unit's directories in /run; undefined: nothing, or not for us to see.
 */
export function obstacleOf(unit: Unit, runtimeRoot: string): string | undefined {
  const names = (unit["RuntimeDirectory"] ?? "").split(" ").filter(Boolean);
  return names.flatMap((name) => obstacleAt(join(runtimeRoot, name)) ?? [])[0];
}

function obstacleAt(path: string): string | undefined {
  try {
    const isLink = lstatSync(path).isSymbolicLink();
    const stats = statSync(path, { throwIfNoEntry: false });
    if (stats === undefined) return `${path} is a link that leads nowhere: remove it`;
    if (isLink) return `${path} is a link: remove it`;
    return stats.isDirectory() ? undefined : `${path} is no directory: remove it`;
  } catch {
    // Not there, or not for us to see.
    return undefined;
  }
}
