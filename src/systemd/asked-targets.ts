/**
 * The actions of a sidecar that may not talk to systemd: it asks, and another unit with the same engine acts
 * (`acting`). So a process that talks to a store cannot restart a service that is not its target, nor start a program
 * as root.
 */
import { existsSync } from "node:fs";
import { basename, join } from "node:path";
import { Alarm } from "../runtime/alarm.ts";
import { type Clock, isAborted } from "../runtime/clock.ts";
import type { Config } from "../config/config.ts";
import { unitOf } from "../config/unit-names.ts";
import type { Log } from "../runtime/log.ts";
import type { Found, Publisher } from "../publish/publisher.ts";
import { ExitCode, FatalError } from "../contract/errors.ts";
import { ActionCounter, INBOX, type Report, type Requests } from "./action-desk.ts";
import { PendingMark } from "./pending-mark.ts";
import type { JobResult, Systemd } from "./systemctl.ts";
import { type BrokenTarget, type Targets, unitsToTell } from "./targets.ts";

/** Seconds until the next look at the other unit's report, in case a watch event is lost. */
const LOOK_AGAIN = 5;
/** Seconds within which the other unit should begin. */
const BEGUN = 10;
/** Seconds to wait for the answer to a question. */
const ANSWERED = 5;
/** Seconds after an action in which a target may turn out to be broken by it. */
const RIGHT_AFTER = 120;

export interface AskedTargetsParts {
  readonly config: Config;
  readonly publisher: Pick<Publisher, "setPending">;
  readonly counter: ActionCounter;
  readonly log: Log;
  readonly clock: Clock;
  /** Called when a status has changed. */
  readonly changed: () => void;
  /** Called when every target uses what is published. */
  readonly applied: () => void;
  /** Called with true when the mark on disk is wrong: call `markAgain` until this is called with false. */
  readonly unmarked: (isUnmarked: boolean) => void;
}

export class AskedTargets implements Targets, Pick<Systemd, "isStopping" | "reviveBoth"> {
  readonly #parts: AskedTargetsParts;
  readonly #mark: PendingMark;
  readonly #alarm: Alarm<"asked" | "report">;
  #config: Config;
  #report: Report;
  /** Actions of earlier lives. */
  readonly #before: { readonly done: number; readonly failed: number };
  /**
   * When the newest set was complete that the targets still need, in µs of CLOCK_MONOTONIC; undefined: nothing is due.
   */
  #due: number | undefined;
  /** When this process asked for it. */
  #askedAt = 0;
  #lastQuestion = 0;
  #statuses: readonly string[] = [];
  /** The newest line of the other unit's log that is in ours. */
  #heard: number;
  #isSlow = false;

  /** @param directory of the requests. @throws FatalError 78 where systemd has not made it: the unit is incomplete. */
  static in(directory: string): (parts: Omit<AskedTargetsParts, "counter">) => AskedTargets {
    const inbox = join(directory, INBOX);
    if (!existsSync(inbox))
      throw new FatalError(ExitCode.config, `--actions: there is no ${inbox}: RuntimeDirectory= of the unit makes it`);
    return (parts) => new AskedTargets({ ...parts, counter: new ActionCounter(directory) });
  }

  constructor(parts: AskedTargetsParts) {
    const { config, publisher, counter, clock } = parts;
    this.#parts = parts;
    this.#config = config;
    this.#alarm = new Alarm(clock);
    this.#report = counter.report;
    // A sidecar that is not resident has many lives: it counts the actions of all, and begins with the last statuses.
    this.#before = config.onDemand ? { done: 0, failed: 0 } : countsIn(this.#report);
    if (config.onDemand) this.#statuses = this.#report.statuses;
    this.#heard = this.#report.said.at(-1)?.number ?? 0;
    const write = (publishedAt: number | null) => {
      publisher.setPending(publishedAt);
      if (publishedAt !== null) counter.ask("set", publishedAt);
    };
    this.#mark = new PendingMark({ ...parts, write });
  }

  take(config: Config): void {
    this.#config = config;
    if (this.none) this.forget();
  }

  get none(): boolean {
    return unitsToTell(this.#config).length === 0;
  }

  get statuses(): readonly string[] {
    return this.#statuses;
  }

  get counts(): { readonly done: number; readonly failed: number } {
    const { done, failed } = countsIn(this.#report);
    return { done: Math.max(0, done - this.#before.done), failed: Math.max(0, failed - this.#before.failed) };
  }

  request(ids: readonly string[], publishedAt = this.#parts.clock.monotonic()): void {
    this.#parts.log.debug("asking for the action", { secrets: ids, of: this.#unit });
    this.#due = publishedAt;
    this.#askedAt = this.#parts.clock.monotonic();
    this.#mark.set(publishedAt);
    this.#alarm.ring("asked");
  }

  /** The acting unit remembers the starts itself. */
  remember(): void {
    return;
  }

  resume({ pending }: Pick<Found, "pending">): void {
    if (pending === undefined) return;
    const { publishedAt } = pending;
    // The other unit did it while no sidecar was there to hear of it.
    const isDone = publishedAt !== null && this.#parts.counter.report.done >= publishedAt;
    if (this.none || isDone) this.forget();
    else if (this.#due === undefined) this.request([], pending.publishedAt ?? undefined);
    // A look ends before it can see that the other unit does not begin: the next look sees it.
    if (this.#config.onDemand && this.#due !== undefined) this.#noteLate(this.#due);
  }

  #noteLate(due: number): void {
    const { counter, clock, log } = this.#parts;
    const late = lateIn(counter.directory, { set: due }, this.#report, clock.monotonic());
    if (late === undefined) return;
    log.warn(late);
    this.#statuses = [...this.#report.statuses, late];
  }

  forget(): void {
    this.#due = undefined;
    this.#mark.set(null);
  }

  markAgain(): void {
    this.#mark.again();
  }

  async run(stop: AbortSignal): Promise<void> {
    const { counter } = this.#parts;
    const end = counter.watch(() => {
      this.#alarm.ring("report");
    });
    try {
      while (!isAborted(stop)) {
        const wasDue = this.#due !== undefined;
        this.#look();
        // Looks once more after the action is done: the event for the last report may be lost, too.
        await this.#alarm.wait(wasDue || this.#due !== undefined ? LOOK_AGAIN : Infinity, stop);
      }
      this.#report = counter.report;
      this.#hear();
    } finally {
      end();
    }
  }

  async broken(signal: AbortSignal): Promise<readonly BrokenTarget[]> {
    const { counter, clock } = this.#parts;
    const times = Object.values(counter.report.memories).map(({ lastAction, hasActed }) =>
      hasActed ? lastAction : null,
    );
    // The usual stop: no target has just had an action.
    if (!times.some((time) => time !== null && clock.monotonic() - time < RIGHT_AFTER * 1e6)) return [];
    return (await this.#ask("look", signal)) ? this.#report.broken : [];
  }

  /** From the last answer: a unit that is asked while the machine goes down does not begin. */
  isStopping(): Promise<boolean> {
    return Promise.resolve(this.#report.isStopping);
  }

  /** The other unit finds out by itself which units to start again. */
  async reviveBoth(_unit: string, signal: AbortSignal): Promise<JobResult> {
    const ok = await this.#ask("revive", signal);
    return { ok, detail: ok ? "" : `${this.#unit} does not answer` };
  }

  /** @returns whether there was an answer in time. */
  async #ask(kind: "look" | "revive", signal: AbortSignal): Promise<boolean> {
    const { counter, clock, log } = this.#parts;
    const question = Math.max(clock.monotonic(), this.#lastQuestion + 1);
    this.#lastQuestion = question;
    try {
      counter.ask(kind, question);
    } catch (error) {
      log.warn(error instanceof Error ? error.message : "cannot ask");
      return false;
    }
    const end = clock.monotonic() + ANSWERED * 1e6;
    while (clock.monotonic() < end && !isAborted(signal)) {
      this.#report = counter.report;
      if (this.#report.answered >= question) return true;
      await clock.sleep(0.05, signal);
    }
    return false;
  }

  /** Reads the other unit's report. */
  #look(): void {
    const { counter, clock, log, applied, changed } = this.#parts;
    this.#report = counter.report;
    const due = this.#due;
    const isDone = due !== undefined && this.#report.done >= due;
    const isSlow = due !== undefined && this.#report.seen < due && clock.monotonic() - this.#askedAt > BEGUN * 1e6;
    if (isDone) {
      this.#due = undefined;
      this.#mark.set(null);
    }
    this.#hear();
    if (isSlow && !this.#isSlow) log.warn(this.#late());
    this.#isSlow = isSlow;
    const statuses = [...this.#report.statuses, ...(isSlow ? [this.#late()] : [])];
    if (isDone && this.#report.told) applied();
    if (isDone || JSON.stringify(statuses) !== JSON.stringify(this.#statuses)) {
      this.#statuses = statuses;
      changed();
    }
  }

  /** Copies the other unit's log into ours. */
  #hear(): void {
    for (const { number, level, message } of this.#report.said) {
      if (number <= this.#heard) continue;
      this.#parts.log[level](message);
      this.#heard = number;
    }
  }

  #late(): string {
    return lateText(this.#parts.counter.directory);
  }

  get #unit(): string {
    return `${basename(this.#parts.counter.directory)}.service`;
  }
}

/** @returns a warning where the action has not begun for too long: without the path unit it never begins. */
export function lateIn(
  directory: string,
  { set = 0 }: Pick<Requests, "set">,
  { seen }: Pick<Report, "seen">,
  now: number,
): string | undefined {
  return set > seen && now - set > BEGUN * 1e6 ? lateText(directory) : undefined;
}

/** @param directory of the acting unit, which has the same name. */
function lateText(directory: string): string {
  const name = basename(directory);
  const unit = unitOf(name);
  return `the action waits: ${unit} has not begun (see systemctl status ${name}.path ${unit})`;
}

/** Actions that are done, and how many of them the service did not survive. */
export function countsIn({ memories }: Report): { readonly done: number; readonly failed: number } {
  const sum = (what: "done" | "failed") => Object.values(memories).reduce((all, memory) => all + memory[what], 0);
  return { done: sum("done"), failed: sum("failed") };
}
