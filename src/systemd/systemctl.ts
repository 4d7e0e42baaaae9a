/** The one place that talks to systemd about other units: asks the manager above this process, through systemctl(1). */
import { getsCopies } from "./credential-copies.ts";
import { ownScope } from "../config/scope.ts";
import { errnoText } from "../contract/errors.ts";
import { type CommandOptions, type CommandResult, runCommand } from "../contract/helper-command.ts";

/** What the actions need to know about a unit. Times are microseconds of CLOCK_MONOTONIC, 0: never. */
export interface UnitState {
  readonly loaded: boolean;
  readonly activeState: string;
  readonly subState: string;
  readonly type: string;
  readonly remainAfterExit: boolean;
  /** Whether a reload shows it new secrets. It does not where the unit has copies from its start. */
  readonly canReload: boolean;
  /** Nobody may restart it by hand: RefuseManualStart=, RefuseManualStop=. */
  readonly refusesRestart: boolean;
  /** What prevented its last start although nothing failed: `ExecCondition=`; undefined: nothing. */
  readonly unmet: string | undefined;
  /** When the unit last left the state inactive: it reads everything for its start after that. */
  readonly leftInactiveAt: number;
  /** When its last run ended. An automatic restart need not leave it inactive (RestartMode=direct). */
  readonly leftActiveAt: number;
  readonly mainStartedAt: number;
  /** When it last became inactive or failed. */
  readonly enteredInactiveAt: number;
  /** It has failed because a stop killed one of its commands: `ExecReload=`, `ExecStartPre=`. */
  readonly isStopped: boolean;
  /** A start, stop or reload of it is queued or under way. */
  readonly hasJob: boolean;
  /** Automatic restarts since the last manual start. */
  readonly restarts: number;
  /** Seconds; 0: no limit. */
  readonly startLimitInterval: number;
  readonly startLimitBurst: number;
}

/** Every call ends at once when `stop` aborts; a job that has begun continues in systemd. */
export interface Systemd {
  /** @returns undefined where systemd does not answer. */
  show(unit: string, stop: AbortSignal): Promise<UnitState | undefined>;
  /** Each waits for the job to end. @returns whether systemd says that it worked, and what it says if not. */
  restart(unit: string, stop: AbortSignal): Promise<JobResult>;
  reload(unit: string, stop: AbortSignal): Promise<JobResult>;
  signal(unit: string, signal: string, stop: AbortSignal): Promise<JobResult>;
  /** Starts one that has failed, whatever its start limit says. */
  revive(unit: string, stop: AbortSignal): Promise<JobResult>;
  /** The same for a sidecar that is itself being stopped: only queues the job, which also starts this sidecar. */
  reviveBoth(unit: string, stop: AbortSignal): Promise<JobResult>;
  /** Whether the machine is going down. */
  isStopping(stop: AbortSignal): Promise<boolean>;
}

export interface JobResult {
  readonly ok: boolean;
  /** Another job of the unit came first, or took the place of this one: a stop, most likely. Nothing has failed. */
  readonly displaced?: boolean;
  readonly detail: string;
}

/** The default, `replace`, would cancel a stop that is in progress, of the unit or of one that depends on it. */
const verb = ["--no-ask-password", "--job-mode=fail"] as const;

/** The words of systemd 252 to 257; systemd translates neither. */
const displacement = /\bis destructive \(|^Job for \S+ canceled\./m;

const properties = [
  "LoadState",
  "ActiveState",
  "SubState",
  "Type",
  "RemainAfterExit",
  "CanReload",
  "FragmentPath",
  "DropInPaths",
  "RefreshOnReload",
  "RefuseManualStart",
  "RefuseManualStop",
  "Result",
  "ConditionResult",
  "ConditionTimestampMonotonic",
  "InactiveExitTimestampMonotonic",
  "ActiveExitTimestampMonotonic",
  "ExecMainStartTimestampMonotonic",
  "InactiveEnterTimestampMonotonic",
  "Job",
  "NRestarts",
  "StartLimitIntervalUSec",
  "StartLimitBurst",
  "ExecStartPre",
  "ExecStartPost",
  "ExecReload",
] as const;

/** @param ours the runtime directory in which the sidecar publishes, for a process that is not the sidecar. */
export function systemctlFor(ours: string): Systemd {
  return { ...systemctl, show: async (unit, stop) => await show(unit, stop, ours) };
}

export const systemctl: Systemd = {
  show,
  async restart(unit, stop) {
    return job(await ask([...verb, "try-restart", "--", unit], { signal: stop }));
  },
  async reload(unit, stop) {
    return job(await ask([...verb, "try-reload-or-restart", "--", unit], { signal: stop }));
  },
  async signal(unit, signal, stop) {
    const words = ["--no-ask-password", "kill", "--kill-whom=main", `--signal=${signal}`, "--", unit];
    return job(await ask(words, { timeout: 30, signal: stop }));
  },
  async revive(unit, stop) {
    const forgotten = await resetFailed(unit, stop);
    return forgotten.ok ? job(await ask([...verb, "start", "--", unit], { signal: stop })) : forgotten;
  },
  async reviveBoth(unit, stop) {
    const forgotten = await resetFailed(unit, stop);
    if (!forgotten.ok) return forgotten;
    // Not --job-mode=fail: the stop of this sidecar is to be followed by its start.
    return job(await ask(["--no-ask-password", "--no-block", "start", "--", unit], { timeout: 15, signal: stop }));
  },
  async isStopping(stop) {
    const result = await ask(["is-system-running"], { timeout: 15, signal: stop });
    return result.end === "exit" && result.stdout.trim() === "stopping";
  },
};

async function show(unit: string, stop: AbortSignal, ours?: string): Promise<UnitState | undefined> {
  const result = await ask(["show", `--property=${properties.join(",")}`, "--", unit], { timeout: 15, signal: stop });
  return result.end === "exit" && result.code === 0 ? parseShow(result.stdout, unit, ours) : undefined;
}

async function resetFailed(unit: string, stop: AbortSignal): Promise<JobResult> {
  return job(await ask(["--no-ask-password", "reset-failed", "--", unit], { timeout: 15, signal: stop }));
}

function ask(words: readonly string[], options: CommandOptions): Promise<CommandResult> {
  const { systemctl: command, environment } = ownScope();
  return runCommand([...command, ...words], { ...options, environment });
}

/** Exported for its test. */
export function job(result: CommandResult): JobResult {
  switch (result.end) {
    case "exit":
      return {
        ok: result.code === 0,
        displaced: result.code !== 0 && displacement.test(result.stderr),
        detail: result.stderr.split("\n")[0] ?? "",
      };
    case "signal":
      return { ok: false, detail: `systemctl was killed by ${result.signal}` };
    case "timeout":
      return { ok: false, detail: "systemctl did not answer" };
    case "not-started":
      return { ok: false, detail: `cannot run systemctl: ${errnoText(result.reason)}` };
  }
}

/** Exported for its test. @returns undefined where the answer is not that of `systemctl show`. */
export function parseShow(output: string, unit = "", ours?: string): UnitState | undefined {
  const values = new Map(
    output.split("\n").flatMap((line) => {
      const equals = line.indexOf("=");
      return equals < 0 ? [] : [[line.slice(0, equals), line.slice(equals + 1)] as const];
    }),
  );
  const activeState = values.get("ActiveState");
  if (activeState === undefined) return undefined;
  const unitFiles = [values.get("FragmentPath"), ...(values.get("DropInPaths") ?? "").split(" ")];
  // systemd 260+ can make new copies on a reload.
  const refreshes = values.get("RefreshOnReload")?.includes("credentials") === true;
  return {
    loaded: values.get("LoadState") === "loaded",
    activeState,
    subState: values.get("SubState") ?? "",
    type: values.get("Type") ?? "",
    remainAfterExit: values.get("RemainAfterExit") === "yes",
    canReload: values.get("CanReload") === "yes" && (refreshes || !getsCopies(unit, unitFiles, ours)),
    refusesRestart: values.get("RefuseManualStart") === "yes" || values.get("RefuseManualStop") === "yes",
    unmet: unmetBy(values),
    leftInactiveAt: Number(values.get("InactiveExitTimestampMonotonic") ?? 0),
    leftActiveAt: Number(values.get("ActiveExitTimestampMonotonic") ?? 0),
    mainStartedAt: Number(values.get("ExecMainStartTimestampMonotonic") ?? 0),
    enteredInactiveAt: Number(values.get("InactiveEnterTimestampMonotonic") ?? 0),
    isStopped: values.get("Result") === "signal" && killedByStop.test(output),
    hasJob: Number(values.get("Job") ?? 0) > 0,
    restarts: Number(values.get("NRestarts") ?? 0),
    startLimitInterval: parseTimeSpan(values.get("StartLimitIntervalUSec") ?? "0"),
    startLimitBurst: Number(values.get("StartLimitBurst") ?? 0),
  };
}

/**
 * systemd counts SIGTERM as a good end of a main process, but not of these commands: then a stop makes the unit fail.
 * (As 252 to 257 show them. Where a command takes too long, `Result=timeout`.)
 */
const killedByStop = /^Exec(?:StartPre|StartPost|Reload)=.* ; code=killed ; status=15\/TERM \}$/m;

function unmetBy(values: ReadonlyMap<string, string>): string | undefined {
  // ConditionResult= is `no` then, too (252, 257).
  if (values.get("Result") === "exec-condition") return "its ExecCondition=";
  // It is also `no` before any condition was tested: in a unit that systemd has unloaded, because nothing refers to it
  // while it is down.
  const isTested = Number(values.get("ConditionTimestampMonotonic") ?? 0) > 0;
  return isTested && values.get("ConditionResult") === "no"
    ? "one of its conditions (ConditionPathExists= and others)"
    : undefined;
}

/** Units as `systemctl show` prints them (systemd.time(7)), in seconds. */
const spanUnits: Readonly<Record<string, number>> = {
  us: 1e-6,
  μs: 1e-6,
  ms: 1e-3,
  s: 1,
  min: 60,
  h: 3600,
  d: 86_400,
  day: 86_400,
  days: 86_400,
  w: 604_800,
  week: 604_800,
  weeks: 604_800,
  month: 2_629_800,
  months: 2_629_800,
  y: 31_557_600,
  year: 31_557_600,
  years: 31_557_600,
};

/** `1min 30s` → 90; `infinity` → Infinity. Exported for its test. */
export function parseTimeSpan(span: string): number {
  if (span === "infinity") return Infinity;
  let total = 0;
  for (const [, digits, unit] of span.matchAll(/([0-9.]+)\s*([a-zμ]*)/g))
    total += Number(digits) * (spanUnits[unit === undefined || unit === "" ? "us" : unit] ?? 0);
  return total;
}
