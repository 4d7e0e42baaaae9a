import { spawn } from "node:child_process";

export interface RunOptions {
  /** Seconds after which the command is killed and the call fails. */
  readonly timeout?: number;
  readonly input?: string | Uint8Array;
  /** false: an exit code other than 0 is a result, not an error. */
  readonly check?: boolean;
  /** Variables on top of a bare environment: the guest gets nothing of the test process's own. */
  readonly env?: Readonly<Record<string, string>>;
}

export interface Finished<Output = string> {
  readonly stdout: Output;
  readonly stderr: Output;
  /** null where a signal ended the command. */
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** A command as argv, or as one line of `sh`. */
export type Command = readonly [string, ...string[]] | string;

export function argv(command: Command): readonly string[] {
  return typeof command === "string" ? ["sh", "-c", command] : command;
}

/** @throws where the command cannot start, takes too long, or (with `check`) fails; the message quotes its output. */
export async function execute(command: readonly string[], options: RunOptions = {}): Promise<Finished<Buffer>> {
  const { timeout = 60, check = true } = options;
  const [program = "", ...args] = command;
  const child = spawn(program, args, {
    env: { ...bareEnvironment, ...options.env },
    // Its own group, so that the kill reaches the processes that nsenter forks into the guest.
    detached: true,
    stdio: "pipe",
  });
  const out: Buffer[] = [];
  const err: Buffer[] = [];
  child.stdout.on("data", (chunk: Buffer) => out.push(chunk));
  child.stderr.on("data", (chunk: Buffer) => err.push(chunk));
  // A command may leave its input unread.
  child.stdin.on("error", () => undefined);
  child.stdin.end(options.input);
  const deadline = AbortSignal.timeout(timeout * 1000);
  const kill = () => {
    try {
      if (child.pid !== undefined) process.kill(-child.pid, "SIGKILL");
    } catch {
      // It has just ended by itself.
    }
  };
  deadline.addEventListener("abort", kill);
  const end = await new Promise<Pick<Finished, "code" | "signal">>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code, signal) => {
      resolve({ code, signal });
    });
  }).finally(() => {
    deadline.removeEventListener("abort", kill);
  });
  const finished = { stdout: Buffer.concat(out), stderr: Buffer.concat(err), ...end };
  if (deadline.aborted || (check && end.code !== 0)) {
    const how = deadline.aborted ? `killed after ${timeout} s` : (end.signal ?? `exit code ${end.code ?? "?"}`);
    const said = `${finished.stdout.toString()}${finished.stderr.toString()}`.trimEnd();
    throw new Error(said === "" ? how : `${how}:\n${said}`);
  }
  return finished;
}

const bareEnvironment = {
  PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
  HOME: "/root",
  LANG: "C.UTF-8",
  SYSTEMD_PAGER: "cat",
  SYSTEMD_COLORS: "0",
};
