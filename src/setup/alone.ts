/** One `fetcher add` or `fetcher remove` at a time: two that change the same file would lose a change. */
import { constants, openSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { errnoCode, ExitCode, FatalError } from "../contract/errors.ts";
import { helperEnvironment } from "../contract/helper-command.ts";

/** The exit status of flock(1) for a lock that another process holds. */
const TAKEN = 1;
/** Milliseconds. */
const LOOK_AGAIN = 100;

/**
 * Takes the lock until this process ends, in whatever way.
 *
 * @param directory to lock. It exists wherever systemd runs, so the lock leaves no file. No other user can open it:
 *   a user who can open it can hold the lock.
 * @param lockFile the runtime's own flock(2); undefined where flock(1) must be run.
 * @param patience seconds to wait for the other command to end.
 * @throws FatalError (69)
 */
export async function takeTurn(
  command: string,
  directory: string,
  lockFile: (file: number) => number | undefined,
  patience = 30,
): Promise<void> {
  const file = open(directory);
  if (file === undefined) return;
  for (let left = (patience * 1000) / LOOK_AGAIN; isTaken(file, lockFile); left -= 1) {
    if (left <= 0)
      throw new FatalError(
        ExitCode.unavailable,
        `${command}: another fetcher add or fetcher remove is running: try again when it has ended`,
      );
    await delay(LOOK_AGAIN);
  }
}

/** @returns undefined without systemd, which is reported later, or where the mode stops even root. */
function open(directory: string): number | undefined {
  try {
    return openSync(directory, constants.O_RDONLY | constants.O_DIRECTORY);
  } catch (error) {
    if (["ENOENT", "ENOTDIR", "EACCES"].includes(errnoCode(error) ?? "")) return undefined;
    throw error;
  }
}

function isTaken(file: number, lockFile: (file: number) => number | undefined): boolean {
  const answer = lockFile(file);
  if (answer !== undefined) return answer === TAKEN;
  const { spawnSync } = process.getBuiltinModule("node:child_process");
  return (
    spawnSync("flock", ["-n", "0"], { stdio: [file, "ignore", "ignore"], env: helperEnvironment() }).status === TAKEN
  );
}
