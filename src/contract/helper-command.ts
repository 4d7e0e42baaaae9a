/** Runs other programs: systemctl, a verify command, getent. No shell, and nothing of this process's environment. */
import type { ChildProcess } from "node:child_process";
import { statSync } from "node:fs";
import { errnoCode } from "./errors.ts";
import { late, waitFor } from "./bounded-wait.ts";

/**
 * Programs inherit no proxy, debug switch, path of credentials or socket of systemd. TMPDIR keeps the programs'
 * temporary files out of /tmp, which the target shares and can write to.
 */
export function helperEnvironment(): Record<string, string> {
  const { PATH } = process.env;
  const [own] = runtimeDirectories(process.env);
  return {
    PATH: PATH ?? "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    LC_ALL: "C.UTF-8",
    ...(own === undefined ? {} : { TMPDIR: own }),
  };
}

/**
 * Directories in memory for this process alone: its unit's, its user's. After `su`, the environment still names another
 * user's, and that user could replace what we make there with a link.
 */
export function runtimeDirectories({ RUNTIME_DIRECTORY, XDG_RUNTIME_DIR }: NodeJS.ProcessEnv): readonly string[] {
  // Empty counts as not set (XDG Base Directory Specification).
  return [RUNTIME_DIRECTORY?.split(":")[0], XDG_RUNTIME_DIR].filter(
    (path) => path !== undefined && path !== "" && !isOfOthers(path),
  ) as string[];
}

/** @returns false also if it does not exist. */
export function isOfOthers(path: string): boolean {
  try {
    return ![0, process.geteuid?.()].includes(statSync(path).uid);
  } catch {
    return false;
  }
}

interface Ended<Output> {
  readonly stdout: Output;
  readonly stderr: Output;
}

export type CommandResult<Output = string> =
  | ({ readonly end: "exit"; readonly code: number } & Ended<Output>)
  | ({ readonly end: "signal"; readonly signal: string } & Ended<Output>)
  | { readonly end: "timeout" }
  /** `reason`: the code of the error, `ENOENT`. */
  | { readonly end: "not-started"; readonly reason: string };

export interface CommandOptions {
  /** Seconds until the program and its children are killed; undefined: it may take as long as it likes. */
  readonly timeout?: number;
  readonly environment?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal;
  /** `drop`: its output is thrown away. */
  readonly output?: "keep" | "drop";
  /** Bytes of output that are kept; more is read and dropped. 64 KiB by default. */
  readonly most?: number;
}

const OUTPUT_LIMIT = 64 * 1024;
/** `most` for a list that is as long as the host has units. */
export const LONG_LIST = 16 * 1024 * 1024;

/** Never rejects: the result says how it ended. */
export async function runCommand(
  command: readonly [string, ...string[]],
  options: CommandOptions = {},
): Promise<CommandResult> {
  const result = await execute(command, options, undefined);
  if (result.end === "exit" || result.end === "signal")
    return { ...result, stdout: result.stdout.toString("utf8"), stderr: result.stderr.toString("utf8") };
  // Without a limit nothing overflows.
  return result.end === "overflow" ? { end: "timeout" } : result;
}

/**
 * For a program whose output is a secret. The caller owns the bytes.
 *
 * @param limit bytes of its output; more ends it with `overflow`.
 */
export function runForBytes(
  command: readonly [string, ...string[]],
  limit: number,
  options: CommandOptions,
): Promise<CommandResult<Buffer> | { readonly end: "overflow" }> {
  return execute(command, options, limit);
}

async function execute(
  command: readonly [string, ...string[]],
  options: CommandOptions,
  limit: number | undefined,
): Promise<CommandResult<Buffer> | { readonly end: "overflow" }> {
  const child = start(command, options);
  if (typeof child === "string") return { end: "not-started", reason: child };
  const ended = endOf(child);
  let cutShort: "timeout" | "overflow" | "stop" | undefined;
  const cut = (why: "timeout" | "overflow" | "stop") => {
    cutShort ??= why;
    killGroup(child);
    // A process that has left the group may hold the output open for ever, and `close` would wait for it.
    child.stdout?.destroy();
    child.stderr?.destroy();
  };
  const stdout = collect(child.stdout, limit ?? options.most ?? OUTPUT_LIMIT, () => {
    if (limit !== undefined) cut("overflow");
  });
  const stderr = collect(child.stderr, OUTPUT_LIMIT, () => undefined);
  const waited = await waitFor(ended, options.signal, options.timeout);
  if (typeof waited === "symbol") cut(waited === late ? "timeout" : "stop");
  try {
    const how = await ended;
    if ("reason" in how) return { end: "not-started", reason: how.reason };
    if (cutShort === "timeout" || cutShort === "overflow") return { end: cutShort };
    const output = { stdout: stdout.whole(), stderr: stderr.whole() };
    // The output of a program that was stopped may be incomplete, whatever its status.
    if (how.code !== null && cutShort === undefined) return { end: "exit", code: how.code, ...output };
    return { end: "signal", signal: how.signal ?? "SIGKILL", ...output };
  } finally {
    stdout.drop();
    stderr.drop();
  }
}

type End = { readonly reason: string } | { readonly code: number | null; readonly signal: string | null };

function endOf(child: ChildProcess): Promise<End> {
  return new Promise((done) => {
    child.once("error", (error) => {
      done({ reason: errnoCode(error) ?? "failed" });
    });
    child.once("close", (code, signal) => {
      done({ code, signal });
    });
  });
}

/** @returns the code of the error where spawn() throws it: a NUL in an argument, too long an environment (E2BIG). */
function start([program, ...args]: readonly [string, ...string[]], options: CommandOptions): ChildProcess | string {
  try {
    // Loaded when it is needed: most starts run no program.
    return process.getBuiltinModule("node:child_process").spawn(program, args, {
      env: { ...helperEnvironment(), ...options.environment },
      stdio: options.output === "drop" ? "ignore" : ["ignore", "pipe", "pipe"],
      // Its own process group, so that a timeout reaches the program's children too.
      detached: true,
    });
  } catch (error) {
    return errnoCode(error) ?? "failed";
  }
}

/** Kills a program and those of its children that have not left its process group. */
function killGroup({ pid, exitCode, signalCode }: ChildProcess): void {
  if (pid === undefined) return;
  const ended = exitCode !== null || signalCode !== null;
  // The kernel gives no process the number of a group that still has members: a process with that number is somebody
  // else's.
  if (ended && exists(pid)) return;
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // It has already ended.
  }
}

function exists(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return errnoCode(error) !== "ESRCH";
  }
}

/** Collects up to `limit` bytes of a stream; `whole` returns a copy, `drop` frees the memory. */
function collect(stream: NodeJS.ReadableStream | null, limit: number, overflow: () => void) {
  // Not from malloc, which would keep many MiB for later: when this shrinks, the memory goes back to the system at
  // once.
  const memory = new ArrayBuffer(0, { maxByteLength: limit });
  const bytes = new Uint8Array(memory);
  let size = 0;
  stream?.on("data", (chunk: Buffer) => {
    const kept = chunk.subarray(0, limit - Math.min(size, limit));
    const end = Math.min(size, limit) + kept.length;
    if (end > memory.byteLength) memory.resize(Math.min(limit, Math.max(end, 2 * memory.byteLength)));
    bytes.set(kept, end - kept.length);
    size += chunk.length;
    release(chunk);
    if (size > limit) overflow();
  });
  return {
    whole: () => Buffer.from(bytes.subarray(0, Math.min(size, limit))),
    drop: () => {
      bytes.fill(0);
      memory.resize(0);
    },
  };
}

/** A port that leads nowhere, made for the first helper. */
let nowhere: ReturnType<typeof openNowhere> | undefined;

function openNowhere() {
  const { port1 } = new MessageChannel();
  port1.close();
  return port1;
}

/** Overwrites a chunk of a stream and frees it: the garbage collector would let 64 MiB of them pile up. */
function release(chunk: Buffer): void {
  chunk.fill(0);
  // It has its own memory, which no other buffer shares.
  const memory = chunk.buffer;
  if (memory instanceof ArrayBuffer && memory.byteLength === chunk.length)
    (nowhere ??= openNowhere()).postMessage(undefined, [memory]);
}
