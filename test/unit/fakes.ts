/** Fakes of what the engine gets. Each says what it imitates. */
import { setImmediate as turn } from "node:timers/promises";
import { BackendError, type Missing, type Outcome } from "../../src/contract/backend.ts";
import type { Clock } from "../../src/runtime/clock.ts";
import type { Log, LogFields, LogLevel } from "../../src/runtime/log.ts";
import { logLevels } from "../../src/runtime/log.ts";
import type { Notifier } from "../../src/systemd/notify.ts";
import type { Store } from "../../src/engine/store.ts";
import type { JobResult, Systemd, UnitState } from "../../src/systemd/systemctl.ts";

/** Lets everything run that does not wait for time, including reads of real files. */
export async function settled(): Promise<void> {
  do for (let turns = 0; turns < 4; turns += 1) await turn();
  while (process.getActiveResourcesInfo().some((kind) => /^(?:FSReq|FileHandle)/i.test(kind)));
}

/** A clock that stands still until a test moves it, for CLOCK_MONOTONIC and for sleeps. */
export class FakeClock implements Clock {
  #now = 5_000_000_000;
  readonly #sleepers = new Set<{ readonly at: number; readonly wake: () => void }>();

  monotonic(): number {
    return this.#now;
  }

  now(): Date {
    return new Date(Date.UTC(2026, 0, 1) + this.#now / 1000);
  }

  sleep(seconds: number, signal: AbortSignal): Promise<void> {
    if (signal.aborted) return Promise.resolve();
    return new Promise((done) => {
      const wake = () => {
        this.#sleepers.delete(sleeper);
        signal.removeEventListener("abort", wake);
        done();
      };
      const sleeper = { at: this.#now + Math.max(0, seconds) * 1e6, wake };
      this.#sleepers.add(sleeper);
      signal.addEventListener("abort", wake);
    });
  }

  /** The number of sleepers. */
  get sleepers(): number {
    return this.#sleepers.size;
  }

  /** Moves time, and lets each sleeper run at its moment. */
  async advance(seconds: number): Promise<void> {
    const end = this.#now + seconds * 1e6;
    let wakesWithoutTime = 0;
    for (;;) {
      await settled();
      const [next] = [...this.#sleepers].sort((a, b) => a.at - b.at);
      if (next === undefined || next.at > end) break;
      wakesWithoutTime = next.at > this.#now ? 0 : wakesWithoutTime + 1;
      if (wakesWithoutTime > 200) throw new Error("a loop that does not wait");
      this.#now = Math.max(this.#now, next.at);
      next.wake();
    }
    this.#now = end;
    await settled();
  }

  /** Moves time step by step until `condition` holds. @returns the seconds that it took. */
  async until(condition: () => boolean, limit = 3600): Promise<number> {
    const begun = this.#now;
    await settled();
    while (!condition()) {
      if (this.#now - begun > limit * 1e6) throw new Error(`not within ${limit} s`);
      await this.advance(0.01);
    }
    return (this.#now - begun) / 1e6;
  }
}

type Held = string | Missing | BackendError;

/**
 * A store of text secrets, like one that src/engine/store.ts hands to the engine: it never rejects, and has an outcome
 * for each id.
 */
export class FakeStore implements Store {
  readonly name = "fake";
  pollingInterval: number | null = 30;
  /** The ids of every fetch. */
  readonly fetches: (readonly string[])[] = [];
  readonly limits: (number | undefined)[] = [];
  /** Every value that it gave, the very bytes: whoever does not hold one must overwrite it. */
  readonly given: Buffer[] = [];
  readonly applications: ReadonlyMap<string, string>[] = [];
  closed = false;
  /** The answer of every secret while it is set. */
  down: BackendError | undefined;
  /** Seconds after which a secret must be fetched again. */
  readonly leases = new Map<string, number>();
  /** Seconds since a secret was last written; undefined: whole. */
  age: (id: string) => number | undefined = () => undefined;
  version = 1;
  /** Runs before each answer, and may wait. */
  before: (signal: AbortSignal) => Promise<void> = () => Promise.resolve();
  readonly #secrets: Map<string, Held>;
  #hint: (() => void) | undefined;
  #break: ((error: unknown) => void) | undefined;
  watches = 0;

  constructor(secrets: Readonly<Record<string, Held>>) {
    this.#secrets = new Map(Object.entries(secrets));
  }

  put(id: string, value: Held): void {
    this.version += 1;
    this.#secrets.set(id, value);
  }

  describe(id: string): string {
    return `the place of ${id}`;
  }

  async fetch(ids: readonly string[], signal: AbortSignal, limit?: number): Promise<ReadonlyMap<string, Outcome>> {
    this.fetches.push(ids);
    this.limits.push(limit);
    await this.before(signal);
    const outcomes = new Map(ids.map((id) => [id, this.#outcome(id)]));
    for (const outcome of outcomes.values()) if ("value" in outcome) this.given.push(outcome.value);
    return outcomes;
  }

  #outcome(id: string): Outcome {
    const held = this.down ?? this.#secrets.get(id) ?? missing(id);
    if (typeof held !== "string") return held;
    const refreshAfter = this.leases.get(id);
    const writtenAgo = this.age(id);
    return {
      status: "value",
      // A new lease has new credentials.
      value: Buffer.from(refreshAfter === undefined ? held : `${held}-${this.fetches.length}`),
      version: `${this.version}`,
      ...(refreshAfter === undefined ? {} : { refreshAfter }),
      ...(writtenAgo === undefined ? {} : { writtenAgo }),
    };
  }

  watch: Store["watch"] = (hint, signal) => {
    this.watches += 1;
    this.#hint = hint;
    hint();
    return new Promise((done, fail) => {
      this.#break = fail;
      signal.addEventListener("abort", () => {
        done();
      });
    });
  };

  hint(): void {
    this.#hint?.();
  }

  breakWatch(): void {
    this.#break?.(new BackendError("unavailable", "inotify is used up"));
  }

  applied(versions: ReadonlyMap<string, string>): Promise<void> {
    this.applications.push(versions);
    return Promise.resolve();
  }

  close(): Promise<void> {
    this.closed = true;
    return Promise.resolve();
  }
}

export function missing(id: string, mayAppear = false): Missing {
  return { status: "missing", where: `no ${id} here`, mayAppear };
}

export const refused = new BackendError("unavailable", "connection refused");

/** One service unit under a systemd with its start limit (systemd.unit(5): at most `burst` starts an interval). */
export class FakeSystemd implements Systemd {
  readonly #clock: FakeClock;
  /** The jobs that were asked for, with the second of the fake clock. */
  readonly jobs: { readonly what: string; readonly at: number }[] = [];
  state: UnitState;
  /** Seconds that a job takes. */
  jobTime = 0;
  /** Results of the next jobs, which are then not done. */
  readonly refusals: JobResult[] = [];
  answers = true;
  /** The machine is shutting down. */
  goesDown = false;
  #window: { begun: number; count: number } | undefined;

  constructor(clock: FakeClock, state: Partial<UnitState> = {}) {
    this.#clock = clock;
    this.state = {
      loaded: true,
      activeState: "active",
      subState: "running",
      type: "simple",
      remainAfterExit: false,
      canReload: false,
      refusesRestart: false,
      unmet: undefined,
      isStopped: false,
      leftInactiveAt: clock.monotonic() - 60e6,
      leftActiveAt: 0,
      mainStartedAt: clock.monotonic() - 60e6,
      enteredInactiveAt: 0,
      hasJob: false,
      restarts: 0,
      startLimitInterval: 10,
      startLimitBurst: 5,
      ...state,
    };
  }

  get starts(): readonly number[] {
    return this.jobs.filter(({ what }) => what === "start").map(({ at }) => at);
  }

  show(): Promise<UnitState | undefined> {
    return Promise.resolve(this.answers ? this.state : undefined);
  }

  async restart(unit: string, stop: AbortSignal): Promise<JobResult> {
    return await this.#job(`restart ${unit}`, true, stop);
  }

  async reload(unit: string, stop: AbortSignal): Promise<JobResult> {
    return await this.#job(`reload ${unit}`, !this.state.canReload, stop);
  }

  async signal(unit: string, signal: string, stop: AbortSignal): Promise<JobResult> {
    return await this.#job(`${signal} ${unit}`, false, stop);
  }

  async revive(unit: string, stop: AbortSignal): Promise<JobResult> {
    this.#window = undefined;
    return await this.#job(`revive ${unit}`, true, stop);
  }

  reviveBoth(unit: string): Promise<JobResult> {
    this.jobs.push({ what: `revive ${unit} and the sidecar`, at: this.#clock.monotonic() / 1e6 });
    return Promise.resolve({ ok: true, detail: "" });
  }

  isStopping(): Promise<boolean> {
    return Promise.resolve(this.goesDown);
  }

  /** The service dies, and does not come back. */
  fail(): void {
    const enteredInactiveAt = this.#clock.monotonic();
    this.state = { ...this.state, activeState: "failed", subState: "failed", enteredInactiveAt };
  }

  /** Somebody starts the unit: a person, Restart=. */
  start(): boolean {
    const now = this.#clock.monotonic();
    const { startLimitInterval, startLimitBurst } = this.state;
    if (this.#window === undefined || now - this.#window.begun >= startLimitInterval * 1e6)
      this.#window = { begun: now, count: 0 };
    this.#window.count += 1;
    if (startLimitInterval > 0 && startLimitBurst > 0 && this.#window.count > startLimitBurst) {
      this.state = { ...this.state, activeState: "failed", subState: "failed" };
      return false;
    }
    this.jobs.push({ what: "start", at: now / 1e6 });
    this.state = { ...this.state, activeState: "active", subState: "running", leftInactiveAt: now, mainStartedAt: now };
    return true;
  }

  async #job(what: string, starts: boolean, stop: AbortSignal): Promise<JobResult> {
    this.jobs.push({ what, at: this.#clock.monotonic() / 1e6 });
    const refusal = this.refusals.shift();
    if (refusal !== undefined) return refusal;
    if (starts && !this.start()) return { ok: false, detail: "Job failed: start-limit-hit" };
    await this.#clock.sleep(this.jobTime, stop);
    return { ok: true, detail: "" };
  }
}

export interface Line {
  readonly level: LogLevel;
  readonly message: string;
  readonly fields: LogFields;
}

/** Keeps the lines of a log. */
export function recordingLog(): Log & { readonly lines: Line[]; at(...levels: LogLevel[]): string[] } {
  const lines: Line[] = [];
  const write =
    (level: LogLevel) =>
    (message: string, fields: LogFields = {}) => {
      lines.push({ level, message, fields });
    };
  const log = Object.fromEntries(logLevels.map((level) => [level, write(level)])) as Log;
  return {
    ...log,
    lines,
    at: (...levels) => lines.filter(({ level }) => levels.includes(level)).map(({ message }) => message),
  };
}

/** Keeps the messages to systemd (sd_notify(3)). */
export class RecordingNotifier implements Notifier {
  readonly how = "none";
  readonly statuses: string[] = [];
  readonly readies: string[] = [];
  ready(status: string): void {
    this.readies.push(status);
    this.statuses.push(status);
  }
  status(text: string): void {
    this.statuses.push(text);
  }
  watchdog(): void {
    this.statuses.push("WATCHDOG=1");
  }
  stopping(): void {
    this.statuses.push("STOPPING=1");
  }
  flush(): Promise<void> {
    return Promise.resolve();
  }
  get last(): string {
    return this.statuses.at(-1) ?? "";
  }
}
