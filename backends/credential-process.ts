/**
 * Runs the `credential_process` of an AWS profile. The SDK does so without a time limit, and leaves a process that hangs
 * behind: scripts/bundle-options.mjs gives it this in place of Node's own exec().
 */
import { type ChildProcess, exec as execute } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";

const running = new Set<ChildProcess>();

/** Advice for those who update the SDK, which would appear in the journal at every start. Before a client is made. */
export function quietSdk(): void {
  process.env["AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED"] = "true";
}

/** What the SDK calls through promisify(). The process stays in our group, because it may ask at the terminal. */
export function exec(command: string, done: (error: Error | null, output: { readonly stdout: string }) => void): void {
  const child = execute(command, (error, stdout) => {
    running.delete(child);
    done(error, { stdout });
  });
  running.add(child);
}

/** Ends those for which nobody waits any more, with their children: they may ignore every signal but SIGKILL. */
export function endCredentialProcesses(): void {
  for (const child of running) {
    // Another process may hold the output open, and the SDK would wait for its end.
    child.stdout?.destroy();
    child.stderr?.destroy();
    if (child.pid !== undefined && child.exitCode === null && child.signalCode === null) endTree(child.pid);
  }
}

process.once("exit", endCredentialProcesses);

function endTree(pid: number): void {
  // Stopped, it starts no other while we look.
  if (!send(pid, "SIGSTOP")) return;
  const children = childrenOf(pid);
  send(pid, "SIGKILL");
  for (const child of children) endTree(child);
}

/** @returns false if it is gone, or another user's. */
function send(pid: number, signal: NodeJS.Signals): boolean {
  try {
    return process.kill(pid, signal);
  } catch {
    return false;
  }
}

function childrenOf(parent: number): number[] {
  const pids = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  return pids.filter((pid) => parentOf(pid) === parent).map(Number);
}

function parentOf(pid: string): number | undefined {
  try {
    // The name of the program may contain anything.
    return Number(/^.*\) \S (\d+) /s.exec(readFileSync(`/proc/${pid}/stat`, "latin1"))?.[1]);
  } catch {
    return undefined;
  }
}
