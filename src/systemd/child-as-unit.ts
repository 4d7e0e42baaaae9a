/** A command that `fetcher run` has started, in place of a unit: does to it what systemd would do to a unit. */
import type { ChildProcess } from "node:child_process";
import { existsSync } from "node:fs";
import { errnoCode, errnoText, printable } from "../contract/errors.ts";
import { waitFor } from "../contract/bounded-wait.ts";
import { monotonic } from "../runtime/platform.ts";
import type { JobResult, Systemd, UnitState } from "./systemctl.ts";

/** The exit statuses that a shell uses. */
export const NOT_EXECUTABLE = 126;
export const NOT_FOUND = 127;
/** What a shell adds to the number of the signal that ended a command. */
const BY_SIGNAL = 128;
/** Seconds between SIGTERM and SIGKILL, like systemd's TimeoutStopSec=. */
const STOP_LIMIT = 90;

export interface ChildOptions {
  readonly command: readonly [string, ...string[]];
  /** Read at each start. */
  readonly environment: () => NodeJS.ProcessEnv;
  /** The umask that it gets. */
  readonly umask: number;
  /** Called with one line where it cannot be started. */
  readonly report: (line: string) => void;
}

export class ChildAsUnit implements Systemd {
  /** The exit status, when it has ended by itself. */
  readonly ended: Promise<number>;
  readonly #options: ChildOptions;
  #tellEnd: (status: number) => void = () => undefined;
  #child: ChildProcess | undefined;
  #exit: Promise<void> = Promise.resolve();
  #startedAt = 0;
  #isRestarting = false;
  #isEnding = false;

  constructor(options: ChildOptions) {
    this.#options = options;
    this.ended = new Promise((tell) => (this.#tellEnd = tell));
  }

  start(): void {
    const { command, umask } = this.#options;
    const [program, ...words] = command;
    const environment = this.#options.environment();
    const own = process.umask(umask);
    try {
      const { spawn } = process.getBuiltinModule("node:child_process");
      const child = spawn(program, words, { env: environment, stdio: "inherit" });
      this.#startedAt = monotonic();
      this.#child = child;
      this.#exit = new Promise((done) => {
        child.once("error", (error) => {
          if (child.pid === undefined) this.#tellEnd(this.#cannotStart(error));
          done();
        });
        child.once("exit", (code, signal) => {
          if (!this.#isRestarting || this.#isEnding) this.#tellEnd(statusOf(code, signal));
          done();
        });
      });
    } catch (error) {
      // spawn() throws on some failures, such as an environment that is too large.
      this.#tellEnd(this.#cannotStart(error));
    } finally {
      process.umask(own);
    }
  }

  /** Passes a signal on. @param ends the signal asks for the end: nothing is started again. */
  kill(signal: NodeJS.Signals, ends = false): void {
    this.#isEnding ||= ends;
    this.#child?.kill(signal);
  }

  /** Somebody else has asked for its end: nothing is started again. */
  end(): void {
    this.#isEnding = true;
  }

  show(): Promise<UnitState | undefined> {
    return Promise.resolve({
      ...unit,
      activeState: this.#isAlive() ? "active" : "inactive",
      leftInactiveAt: this.#startedAt,
      mainStartedAt: this.#startedAt,
    });
  }

  async restart(): Promise<JobResult> {
    if (this.#mustEnd()) return displaced;
    this.#isRestarting = true;
    try {
      this.#child?.kill("SIGTERM");
      await waitFor(this.#exit, undefined, STOP_LIMIT);
      if (this.#isAlive()) this.#child?.kill("SIGKILL");
      await this.#exit;
    } finally {
      this.#isRestarting = false;
    }
    // Meanwhile a caller has asked for its end, and has its status.
    if (this.#mustEnd()) return displaced;
    this.start();
    return { ok: true, detail: "" };
  }

  reload(): Promise<JobResult> {
    return this.signal("", "SIGHUP");
  }

  signal(_unit: string, signal: string): Promise<JobResult> {
    const pid = this.#child?.pid;
    const ok = pid !== undefined && this.#isAlive() && isSent(pid, numberOf(signal));
    return Promise.resolve({ ok, detail: ok ? "" : "the command has ended" });
  }

  revive(): Promise<JobResult> {
    return Promise.resolve(displaced);
  }

  reviveBoth(): Promise<JobResult> {
    return Promise.resolve(displaced);
  }

  isStopping(): Promise<boolean> {
    return Promise.resolve(true);
  }

  /** A method, because the field changes across an await. */
  #mustEnd(): boolean {
    return this.#isEnding;
  }

  #isAlive(): boolean {
    const { pid, exitCode, signalCode } = this.#child ?? {};
    return pid !== undefined && exitCode === null && signalCode === null;
  }

  #cannotStart(error: unknown): number {
    const code = errnoCode(error);
    const [program] = this.#options.command;
    const tell = (why: string) => {
      this.#options.report(`run: ${printable(program)}: ${why}`);
    };
    if (code !== "ENOENT") tell(errnoText(code));
    else if (isThere(program)) tell("the interpreter in its first line is not there");
    else {
      tell("command not found");
      return NOT_FOUND;
    }
    return NOT_EXECUTABLE;
  }
}

/** Numbers of the C library. */
const REALTIME: Readonly<Record<string, number>> = { RTMIN: 34, RTMAX: 64 };

/** @param signal as systemd takes it: `SIGHUP`, `HUP`, `1`, `RTMIN+3`. */
function numberOf(signal: string): number {
  const name = signal.replace(/^SIG/, "");
  const [, base = "", offset = "0"] = /^(RTMIN|RTMAX)([+-]\d+)?$/.exec(name) ?? [];
  const realtime = REALTIME[base];
  if (realtime !== undefined) return realtime + Number(offset);
  const { signals } = process.getBuiltinModule("node:os").constants;
  return Number(name) || signals[`SIG${name}` as NodeJS.Signals];
}

/** Not ChildProcess.kill(), which throws for a realtime signal. */
function isSent(pid: number, signal: number): boolean {
  try {
    return process.kill(pid, signal);
  } catch {
    return false;
  }
}

/** The kernel says the same of a script as of its interpreter. */
function isThere(program: string): boolean {
  if (program.includes("/")) return existsSync(program);
  const directories = (process.env["PATH"] ?? "").split(":");
  return (
    program !== "" && directories.some((directory) => existsSync(`${directory === "" ? "." : directory}/${program}`))
  );
}

const displaced: JobResult = { ok: false, displaced: true, detail: "" };

function statusOf(code: number | null, signal: NodeJS.Signals | null): number {
  if (code !== null) return code;
  const { signals } = process.getBuiltinModule("node:os").constants;
  return BY_SIGNAL + (signal === null ? 0 : signals[signal]);
}

const unit: UnitState = {
  loaded: true,
  activeState: "active",
  subState: "running",
  type: "simple",
  remainAfterExit: false,
  canReload: true,
  refusesRestart: false,
  unmet: undefined,
  isStopped: false,
  leftInactiveAt: 0,
  leftActiveAt: 0,
  mainStartedAt: 0,
  enteredInactiveAt: 0,
  hasJob: false,
  restarts: 0,
  startLimitInterval: 0,
  startLimitBurst: 0,
};
