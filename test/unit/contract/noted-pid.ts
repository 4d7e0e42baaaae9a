/** Processes that a program under test leaves behind, and whose ids it writes to a file. */
import { readFileSync } from "node:fs";

/** @returns undefined until the file has it. */
export function notedPid(path: string): number | undefined {
  try {
    const [, pid] = /^(\d+)\n$/.exec(readFileSync(path, "utf8")) ?? [];
    return pid === undefined ? undefined : Number(pid);
  } catch {
    return undefined;
  }
}

export function isAlive(pid: number | undefined): boolean {
  try {
    return pid !== undefined && !readFileSync(`/proc/${pid}/stat`, "utf8").includes(") Z ");
  } catch {
    return false;
  }
}

export function endNoted(path: string): void {
  const pid = notedPid(path);
  if (isAlive(pid) && pid !== undefined) process.kill(pid, "SIGKILL");
}
