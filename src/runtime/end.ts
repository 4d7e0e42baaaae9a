/** Ends the process, whatever hangs. */

import { ExitCode } from "../contract/errors.ts";
import { runLibrary } from "./native-library.ts";
import { isCompiled } from "./platform.ts";

/** Milliseconds that requests in flight get to finish by themselves. */
const GRACE = 200;
const STEP = 10;

/**
 * Ends the process with `exitCode`, even while a thread is blocked in a name look-up or on a file system that hangs.
 * exit(3), and so process.exit, waits for libuv's threads (libuv's uv_library_shutdown joins them), and would not end
 * before they do.
 */
export function endProcess(exitCode: number, waited = 0): void {
  if (!threadsAreBusy()) process.exit(exitCode);
  if (waited < GRACE) {
    setTimeout(endProcess, STEP, exitCode, waited + STEP);
    return;
  }
  // exit_group(2), which returns only where the library cannot be loaded.
  if (!isCompiled) runLibrary("end", exitCode);
  byShell(exitCode);
  // SIGTERM stands for success, because systemd counts it as a clean end of a daemon, and for 143, because systemd
  // counts it as a failure of a Type=oneshot. Any other failure waits for the threads, because the units act on its
  // exit status.
  if (exitCode !== ExitCode.ok && exitCode !== ExitCode.stoppedEarly) process.exit(exitCode);
  process.removeAllListeners("SIGTERM");
  process.kill(process.pid, "SIGTERM");
}

/** execve(2) ends every thread and keeps the process id, so that a shell can give the status (Node 22.15+, the executable). */
function byShell(exitCode: number): void {
  const { execve } = process as { execve?: (file: string, args: readonly string[], env: object) => void };
  // Nobody who reads the log needs its warning that it is experimental.
  process.emitWarning = () => undefined;
  try {
    execve?.call(process, "/bin/sh", ["sh", "-c", `exit ${String(exitCode)}`], {});
  } catch {
    // No shell, or none that we may run.
  }
}

function threadsAreBusy(): boolean {
  return process.getActiveResourcesInfo().some((kind) => /^(FSReq|GetAddrInfoReq|GetNameInfoReq)/.test(kind));
}
