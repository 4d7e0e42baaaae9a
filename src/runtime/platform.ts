/**
 * What differs between the two runtimes: Node, and the executable that Bun compiles. Nothing else in the program asks
 * where it runs. The build sets `FETCHER_NATIVE`, so that each of the two bundles carries only its own half.
 */
import {
  closeSync,
  constants,
  mkdtempSync,
  openSync,
  readFileSync,
  rmdirSync,
  type PathLike,
  unlinkSync,
  writeSync,
} from "node:fs";
import { createRequire } from "node:module";
import { ConfigError } from "../contract/errors.ts";
import { openConnectionsBy } from "../contract/connection.ts";
import { takeUptimeFrom } from "../contract/uptime.ts";
import { readPlainBy } from "../contract/plain-file.ts";
import { readInOneGoBy } from "../contract/whole-files.ts";
import { runLibrary } from "./native-library.ts";
import { encoded } from "../contract/text.ts";
import { lookOutBy } from "../contract/lookout.ts";
import type { NativeSockets } from "./native-connection.ts";
import type { NativeLookouts } from "./native-lookout.ts";
import { inOneGo, inOneStep, type NativeRead, wholeBy } from "./whole-files.ts";

/** native.c, compiled, in base64: the executable carries it. Empty for Node; not defined where tests import the source. */
declare const FETCHER_NATIVE: string;

/** Whether this is the executable that needs no Node. */
export const isCompiled = typeof FETCHER_NATIVE === "string" && FETCHER_NATIVE !== "";

/**
 * The path at the start: once an upgrade has replaced the file, Bun gives what the kernel says of it, `… (deleted)`.
 */
const ownPath = process.execPath;

/** Hands one message of sd_notify(3) to systemd. What cannot be sent is lost. */
export type SendState = (state: string) => void;

interface Native extends NativeSockets, NativeLookouts {
  monotonic(): number;
  uptime(): number;
  east(seconds: number): number | undefined;
  hide(): void;
  lock(file: number): number | undefined;
  read: NativeRead;
  send(address: Buffer, message: Buffer): boolean;
}

/** What Bun has beside Node's names. */
interface Bun {
  gc(force: boolean): void;
  shrink(): void;
}

/** What the library for the lock adds to the error number to say that it has run. */
const HAS_RUN = 0o400;
/** Linux, on every processor that there is a library for. */
const EWOULDBLOCK = 11;

let native: Native | undefined;
let isLoaded = false;

/**
 * Microseconds of CLOCK_MONOTONIC. Node's hrtime is that clock. Bun's begins with the process, so it cannot be compared
 * with systemd's timestamps, or with those of an earlier life of this process.
 */
export function monotonic(): number {
  const sinceStart = () => Number(process.hrtime.bigint() / 1000n);
  if (!isCompiled) return sinceStart();
  const now = loadNative()?.monotonic();
  if (now !== undefined) return now;
  offset ??= uptime() - sinceStart();
  return sinceStart() + offset;
}

/**
 * Minutes by which local time is ahead of UTC at that time. For the first local time, Bun loads the time zones of the
 * whole world: a sixth of the executable's work until it is ready, and of its memory (measured).
 */
export function minutesEast(date: Date): number {
  const east = isCompiled ? loadNative()?.east(Math.floor(date.getTime() / 1000)) : undefined;
  return east ?? -date.getTimezoneOffset();
}

let offset: number | undefined;

/**
 * CLOCK_BOOTTIME, where CLOCK_MONOTONIC is not available. They differ by the time that the machine was suspended. The
 * file has hundredths of seconds. This gives the end of the current one, because what is published must not seem older
 * than it is.
 */
function uptime(): number {
  return (Number(/^\d+\.\d\d/.exec(readFileSync("/proc/uptime", "latin1"))?.[0] ?? 0) + 0.01) * 1e6;
}

/** @returns undefined where systemd-notify(1) must run for each message. */
export function openSendState(socket: string): { how: "sd-notify" | "built-in"; send: SendState } | undefined {
  if (!isCompiled) {
    try {
      // An addon that is built against libsystemd and one Node's headers. It reads the socket from the environment.
      const addon = createRequire(import.meta.url)("sd-notify") as { sendState: SendState };
      return { how: "sd-notify", send: addon.sendState };
    } catch {
      return undefined;
    }
  }
  // "@": the abstract namespace (sd_notify(3)). systemd-notify serves a virtual machine's sockets.
  const address = /^[/@]/.test(socket) ? encoded(socket.replace(/^@/, "\0")) : undefined;
  const addon = address && loadNative();
  if (address === undefined || addon === undefined) return undefined;
  const send = (state: string) => {
    addon.send(address, encoded(state));
  };
  return { how: "built-in", send };
}

/**
 * Keeps other processes of root out of this one's memory and its files, through /proc/PID or a debugger, except those
 * with CAP_SYS_PTRACE (prctl(2), PR_SET_DUMPABLE): before systemd 257 two sidecars have the same user and the same
 * capabilities. Does nothing for another user: that user's processes may look, and this one needs its /proc/self.
 */
export function hideFromOthers(): void {
  if (process.geteuid?.() !== 0) return;
  if (isCompiled) loadNative()?.hide();
  else runLibrary("hide", 0o077);
}

/**
 * Takes flock(2)'s lock of an open file.
 *
 * @returns the exit status that flock(1) would have; undefined where flock(1) must run.
 */
export function lockFile(file: number): number | undefined {
  if (isCompiled) return loadNative()?.lock(file);
  // In a greater number, the library's mark that it has run would look like a part of the number.
  if (file >= HAS_RUN) return undefined;
  const answer = runLibrary("lock", file);
  if ((answer & HAS_RUN) === 0) return undefined;
  const errno = answer & ~HAS_RUN;
  if (errno === 0) return 0;
  return errno === EWOULDBLOCK ? 1 : undefined;
}

/** Call it before anything reads files. */
export function prepareFiles(): void {
  if (typeof FETCHER_NATIVE !== "string" || FETCHER_NATIVE === "") return;
  const read = wholeBy(() => loadNative()?.read);
  readInOneGoBy(inOneGo(read));
  readPlainBy(inOneStep(read));
}

/** Bun's own way would leave the file in the temporary directory, under a name that others can foresee. */
function loadNative(): Native | undefined {
  // Never called then. The build leaves out what comes after it.
  if (typeof FETCHER_NATIVE !== "string" || FETCHER_NATIVE === "") return undefined;
  if (isLoaded) return native;
  isLoaded = true;
  const bytes = encoded(FETCHER_NATIVE, "base64");
  const { TMPDIR, RUNTIME_DIRECTORY } = process.env;
  // A directory may be mounted noexec, or closed to our writes. A disk takes longer than memory.
  for (const directory of [TMPDIR, RUNTIME_DIRECTORY?.split(":")[0], "/dev/shm", "/tmp", "/var/tmp"]) {
    if (directory === undefined || directory === "") continue;
    try {
      return (native = loadFrom(directory, bytes));
    } catch {
      // Tries the next one.
    }
  }
  return undefined;
}

function loadFrom(directory: PathLike, bytes: Buffer): Native {
  const file = openNameless(directory);
  try {
    for (let at = 0; at < bytes.length;) at += writeSync(file, bytes, at);
    const module = { exports: {} };
    process.dlopen(module, `/proc/self/fd/${file}`);
    return module.exports as Native;
  } finally {
    closeSync(file);
  }
}

/** A file without a name: no other process can open it, and it leaves nothing behind. */
function openNameless(directory: PathLike): number {
  const { O_RDWR, O_CREAT, O_EXCL } = constants;
  try {
    return openSync(directory, O_RDWR | O_TMPFILE, 0o600);
  } catch {
    // Some file systems have no such files.
    const own = mkdtempSync(`${String(directory)}/fetcher-`);
    const path = `${own}/native`;
    try {
      const file = openSync(path, O_RDWR | O_CREAT | O_EXCL, 0o600);
      unlinkSync(path);
      return file;
    } finally {
      rmdirSync(own);
    }
  }
}

/** open(2) of Linux on the processors that we are built for: __O_TMPFILE and O_DIRECTORY. Node has no name for it. */
const O_TMPFILE = 0o20000000 | constants.O_DIRECTORY;

/** Call it before anything connects to a server. */
export function prepareConnections(): void {
  // With this variable each runtime would accept any server's certificate, for each connection that does not ask for
  // more, a library's too.
  delete process.env["NODE_TLS_REJECT_UNAUTHORIZED"];
  if (typeof FETCHER_NATIVE === "string" && FETCHER_NATIVE !== "") {
    openConnectionsBy(async () => (await import("./bun-connection.ts")).byBun(loadNative()));
    lookOutBy(async () => (await import("./native-lookout.ts")).lookOutNatively(loadNative));
    takeUptimeFrom(() => loadNative()?.uptime());
  }
}

/**
 * Call it before a third party's module is loaded. Bun keeps what it makes of a large module below $HOME, and runs what
 * it finds there: a user who can write there could leave code for root. A variable turns that off, but Bun reads it
 * only once, so where the unit has not set it, the program begins again with it.
 */
export function prepareForeignCode(isRunning: boolean): void {
  const name = "BUN_RUNTIME_TRANSPILER_CACHE_PATH";
  if (!isCompiled || process.env[name] === "0") return;
  // From here the program begins again, and a daemon that has published must not.
  if (isRunning)
    throw new ConfigError("backend", `a reload can load a module only with ${name}=0 in the unit: restart it`);
  const { execve } = process as unknown as {
    execve: (file: string, args: readonly string[], environment: NodeJS.ProcessEnv) => void;
  };
  execve(process.execPath, [process.execPath, ...process.argv.slice(2)], { ...process.env, [name]: "0" });
}

/**
 * Goes on as the program that now lies at this one's path, in the same process: neither systemd nor the service notices
 * the upgrade. To the new program it looks as if this one had been killed.
 *
 * @returns only where it cannot be done.
 */
export function becomeNewProgram(): void {
  const { execve } = process as { execve?: (file: string, args: readonly string[], env: NodeJS.ProcessEnv) => void };
  const own = isCompiled ? process.argv.slice(2) : [...process.execArgv, ...process.argv.slice(1)];
  // Nobody who reads the log needs its warning that it is experimental.
  process.emitWarning = () => undefined;
  try {
    execve?.call(process, ownPath, [ownPath, ...own], process.env);
  } catch {
    // An older Node, or the program is missing for now.
  }
}

/** Sets flags of V8; Bun's engine has others. */
export function setEngineFlags(...flags: readonly string[]): void {
  if (isCompiled) return;
  const { setFlagsFromString } = process.getBuiltinModule("node:v8");
  for (const flag of flags) setFlagsFromString(flag);
}

/**
 * Bytes of objects and buffers. None for Bun: it counts them only when it collects, which it does by itself, some times in a
 * minute. So its number grows where there is no garbage: when code comes back that `forgetStart` threw away.
 */
export function heapInUse(): readonly number[] {
  if (isCompiled) return [];
  const { used_heap_size: heap, external_memory: buffers } = process.getBuiltinModule("node:v8").getHeapStatistics();
  return [heap + buffers];
}

/**
 * Gives back what only the start needed, its code too: half a MiB of the executable's seven or eight (measured). V8
 * does so by itself.
 */
export function forgetStart(): void {
  if (isCompiled) (globalThis as unknown as { Bun: Bun }).Bun.shrink();
}

/**
 * @returns a function that collects garbage, where the engine itself would keep several times the largest answers; else
 *   undefined.
 */
export function lateCollection(): (() => void) | undefined {
  return isCompiled ? garbageCollection() : undefined;
}

/**
 * V8's function needs its own context, which takes as much memory as some garbage: open it only when it is needed.
 */
export function garbageCollection(): () => void {
  if (isCompiled) {
    const { Bun } = globalThis as unknown as { Bun: Bun };
    return () => {
      Bun.gc(true);
    };
  }
  process.getBuiltinModule("node:v8").setFlagsFromString("--expose-gc");
  return process.getBuiltinModule("node:vm").runInNewContext("gc") as () => void;
}
