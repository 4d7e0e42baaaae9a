/**
 * Makes one target use what was published: systemd restarts, reloads or signals it, and no pid file is used.
 *
 * Rotations alone never bring a target to its start limit: actions are `minInterval` apart, and the starts that we see
 * (ours and the target's own) stay one below the target's StartLimitBurst= in any StartLimitIntervalSec=. An action
 * counts as many starts as the last one needed.
 */
import { Alarm } from "../runtime/alarm.ts";
import { backoff, type Clock, isAborted, type Random } from "../runtime/clock.ts";
import type { OnChangeConfig } from "../config/config.ts";
import type { Log } from "../runtime/log.ts";
import { StartLimit } from "./start-limit.ts";
import type { JobResult, Systemd, UnitState } from "./systemctl.ts";
import type { BrokenTarget } from "./targets.ts";

/** Seconds between two looks at a target that is on its way up or down. */
const LOOK_AGAIN = 0.5;
/** Seconds after which it looks at a target whose action is paced: somebody may have restarted it. */
const LOOK_WHILE_PACED = 30;
/** The most seconds between two looks while another job of the target comes first. */
const GIVE_WAY_LIMIT = 5;
/** Seconds after which a target that is still activating gets the action anyway: it may need the new secrets. */
const ACTIVATING_LIMIT = 90;

/** Seconds for the last question of a process that is being stopped. */
const LAST_WORD = 2;
const LAST_LOOKS = 5;
/** Seconds after an action in which it counts as the cause of a failure. */
const RIGHT_AFTER = 60;
/** How often a sidecar that is being stopped looks again when it gets no answer. */
const STOP_LOOKS = 4;
/** The most starts in a row of a target that an action broke. */
const MOST_HELP = 3;

export interface OneTargetParts {
  readonly onChange: OnChangeConfig;
  readonly systemd: Systemd;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** Called when `status` has changed. */
  readonly changed: () => void;
}

/** What the next acting process needs to know of a target. Times are µs of CLOCK_MONOTONIC. */
export interface Memory {
  readonly starts: readonly number[];
  /** NRestarts= at the last look; null: there was none. */
  readonly restarts: number | null;
  readonly lastAction: number | null;
  /** Whether the last action was on a target that ran. */
  readonly hasActed: boolean;
  /** How often in a row it was started again after an action that it did not survive. */
  readonly helped: number;
  readonly done: number;
  readonly failed: number;
}

/** How a request ends. `told`: the target has the new set, or is not running with an older one. */
interface Done {
  readonly done: string;
  readonly level: "debug" | "notice" | "warn";
  readonly told: boolean;
}
type Step = { readonly wait: number } | Done | "act";

export class OneTarget {
  readonly unit: string;
  readonly #parts: OneTargetParts;
  #onChange: OnChangeConfig;
  readonly #alarm: Alarm<"requested">;
  /** Ends a wait early: another configuration may ask for a shorter one. */
  readonly #taken: Alarm<"configuration">;
  /** When the newest set was complete that the target has not been told of, in µs of CLOCK_MONOTONIC. */
  #publishedAt: number | undefined;
  /** The number of requests so far: an action for one does not serve a later one. */
  #requests = 0;
  #told = true;
  #status: string | undefined;
  readonly #starts: StartLimit;
  #lastAction: number | undefined;
  /** The request that the last action served; 0: none, or the target was neither active nor failed. */
  #actedFor = 0;
  /** How often in a row it was started again after an action that it did not survive. */
  #helped = 0;
  #waitingSince: number | undefined;
  /** When we saw the target between two runs, after the newest publish: its next start reads the new set. */
  #seenDownAt: number | undefined;
  #failures = 0;
  #counts = { done: 0, failed: 0 };
  /** How often in a row another job of the target came first. */
  #displaced = 0;
  #settled: () => void = () => undefined;

  constructor(unit: string, parts: OneTargetParts) {
    this.unit = unit;
    this.#parts = parts;
    this.#onChange = parts.onChange;
    this.#alarm = new Alarm(parts.clock);
    this.#taken = new Alarm(parts.clock);
    this.#starts = new StartLimit(parts.clock);
  }

  /** Takes over another configuration. The starts seen so far, and an action that is due, stay. */
  take(onChange: OnChangeConfig): void {
    this.#onChange = onChange;
    this.#taken.ring("configuration");
  }

  /** For STATUS=; undefined: nothing to say. */
  get status(): string | undefined {
    return this.#status;
  }

  /** Nothing is due. */
  get idle(): boolean {
    return this.#publishedAt === undefined;
  }

  /** Whether it has the newest set, or is not running with an older one. */
  get told(): boolean {
    return this.#told;
  }

  /** When we saw the target start, in µs of CLOCK_MONOTONIC. */
  get starts(): readonly number[] {
    return this.#starts.times;
  }

  /** Actions in this life of the sidecar; `done` includes the failed ones, which the target did not survive. */
  get counts(): { readonly done: number; readonly failed: number } {
    return this.#counts;
  }

  /** Counts starts that an earlier life of this sidecar has seen. */
  remember(starts: readonly number[]): void {
    this.#starts.remember(starts);
  }

  get memory(): Memory {
    return {
      starts: this.#starts.times,
      restarts: this.#starts.restarts ?? null,
      lastAction: this.#lastAction ?? null,
      hasActed: this.#actedFor > 0,
      helped: this.#helped,
      ...this.#counts,
    };
  }

  /** Takes over what an earlier process knew. Call it before the first request. */
  recall({ starts, restarts, lastAction, hasActed, helped, done, failed }: Memory): void {
    this.#starts.remember(starts, restarts ?? undefined);
    this.#lastAction = lastAction ?? undefined;
    // The request that it acted for is done: the next one is newer.
    this.#requests = 1;
    this.#actedFor = hasActed ? 1 : 0;
    this.#helped = helped;
    this.#counts = { done, failed };
  }

  /** Asks for the action. An action that is still waiting serves this set too. */
  request(publishedAt: number): void {
    this.#publishedAt = publishedAt;
    this.#requests += 1;
    this.#seenDownAt = undefined;
    this.#alarm.ring("requested");
  }

  /** Serves requests until `signal` aborts. @param settled called whenever nothing is due any more. */
  async run(signal: AbortSignal, settled: () => void): Promise<void> {
    this.#settled = settled;
    while (!isAborted(signal)) {
      await this.#alarm.wait(Infinity, signal);
      if (this.#publishedAt === undefined || isAborted(signal)) continue;
      await this.#splay(signal);
      await this.#serve(signal);
    }
  }

  /** Keeps many hosts or services of one store from acting at once. */
  async #splay(signal: AbortSignal): Promise<void> {
    const { random } = this.#parts;
    let taken: ReadonlySet<unknown>;
    do {
      const { splay } = this.#onChange;
      if (splay === 0) return;
      const wait = random() * splay;
      this.#say(`${this.#verb()} in ${wait.toFixed(0)} s (splay)`);
      taken = await this.#taken.wait(wait, signal);
    } while (taken.size > 0 && !isAborted(signal));
  }

  async #serve(signal: AbortSignal): Promise<void> {
    this.#waitingSince = this.#parts.clock.monotonic();
    this.#failures = 0;
    this.#displaced = 0;
    while (this.#publishedAt !== undefined && !isAborted(signal)) {
      const request = this.#requests;
      const state = await this.#parts.systemd.show(this.unit, signal);
      if (isAborted(signal)) return;
      if (state === undefined) {
        await this.#parts.clock.sleep(this.#retry("systemd does not answer"), signal);
        continue;
      }
      const step = this.#next(state);
      if (step === "act") await this.#act(state, signal);
      else if ("wait" in step) await this.#taken.wait(step.wait, signal);
      else this.#finish(request, step);
    }
  }

  /** What to do about a target in this state. */
  #next(state: UnitState): Step {
    const { action } = this.#onChange;
    this.#starts.note(state);
    // A unit whose file was removed may still be running.
    if (!state.loaded)
      return { done: "does not exist, so nothing can use the new secrets", level: "warn", told: false };
    if (this.#hasNewSet(state)) return { done: "started since, with the new secrets", level: "notice", told: true };
    switch (state.activeState) {
      case "failed": {
        if (this.#isBroken(state) && this.#helped < MOST_HELP) {
          const wait = this.#untilMinInterval();
          this.#say(`start of ${this.unit} in ${Math.ceil(wait)} s (paced)`);
          return wait <= 0 ? "act" : { wait };
        }
        return {
          done: "has failed and stays so; the new secrets are there for its next start",
          level: "warn",
          told: true,
        };
      }
      case "inactive": {
        const done = "is not running; the new secrets are there for its next start";
        // Its next start may be under way: this line tells a person who restarted it why we do not restart it again.
        return { done, level: state.hasJob ? "notice" : "debug", told: true };
      }
      case "active":
        this.#waitingSince = undefined;
        if (state.leftInactiveAt < this.#parts.clock.monotonic() - RIGHT_AFTER * 1e6) this.#helped = 0;
        break;
      default: {
        const step = this.#onItsWay(state);
        if (step !== "act") return step;
      }
    }
    if (state.type === "oneshot" && !state.remainAfterExit) return this.#oneshot();
    const starts = action === "restart" || (action === "reload" && !state.canReload);
    if (starts && state.refusesRestart) return this.#refused();
    const wait = Math.max(this.#untilMinInterval(), starts ? this.#starts.untilAllowed(state) : 0);
    if (wait <= 0) return "act";
    this.#say(
      wait === Infinity
        ? `${this.#verb()} waits: StartLimitIntervalSec=infinity leaves no start for it: restart it by hand`
        : `${this.#verb()} in ${Math.ceil(wait)} s (paced)`,
    );
    return { wait: Math.min(wait, LOOK_WHILE_PACED) };
  }

  /** Whether an action made it fail, and it is untouched since. */
  #isBroken(state: UnitState): boolean {
    if (state.activeState !== "failed" || state.isStopped) return false;
    if (this.#lastAction === undefined || this.#actedFor === 0) return false;
    const after = (state.enteredInactiveAt - this.#lastAction) / 1e6;
    return after >= 0 && after < RIGHT_AFTER;
  }

  /** Asked by a stopping sidecar: systemd stops it when its target fails, because no unit needs it then. */
  async brokenNow(signal: AbortSignal): Promise<Omit<BrokenTarget, "unit"> | undefined> {
    const now = this.#parts.clock.monotonic();
    if (this.#actedFor === 0 || this.#lastAction === undefined || now - this.#lastAction > 2 * RIGHT_AFTER * 1e6)
      return undefined;
    let state = await this.#parts.systemd.show(this.unit, signal);
    // The stop of this sidecar also ends its children, even one that has just begun.
    for (let again = 0; state === undefined && again < STOP_LOOKS; again += 1) {
      await this.#parts.clock.sleep(LOOK_AGAIN, signal);
      state = await this.#parts.systemd.show(this.unit, signal);
    }
    if (state === undefined || !this.#isBroken(state)) return undefined;
    this.#starts.note(state);
    const over = this.#starts.isOver(state) ? { isLimitOver: true } : {};
    return { hasNewer: this.#requests > this.#actedFor, hasJob: state.hasJob, ...over };
  }

  #hasNewSet(state: UnitState): boolean {
    if (this.#publishedAt === undefined) return true;
    if (state.leftInactiveAt > this.#publishedAt) return true;
    // An automatic restart need not pass through inactive (systemd 254+: RestartMode=direct). Such a start reads its
    // files after the previous run has ended.
    const downAt = state.leftActiveAt > this.#publishedAt ? state.leftActiveAt : this.#seenDownAt;
    return downAt !== undefined && state.mainStartedAt > downAt;
  }

  /** For activating, deactivating and reloading. */
  #onItsWay(state: UnitState): Step {
    const { clock } = this.#parts;
    if (state.type === "oneshot" && !state.remainAfterExit) return this.#oneshot();
    if (state.subState === "auto-restart" || state.activeState === "deactivating")
      this.#seenDownAt ??= clock.monotonic();
    this.#waitingSince ??= clock.monotonic();
    const waited = (clock.monotonic() - this.#waitingSince) / 1e6;
    if (waited > ACTIVATING_LIMIT && state.activeState !== "deactivating" && state.type !== "oneshot") return "act";
    this.#say(`${this.#verb()} waits: it is ${state.activeState}`);
    return { wait: LOOK_AGAIN };
  }

  /** A restart would kill it in the middle of its work, and make it begin again. */
  #oneshot(): Step {
    return {
      done: "is a oneshot service: not touched, its next run has the new secrets",
      level: "notice",
      told: false,
    };
  }

  /** Only a person can fix that: every retry would fail. */
  #refused(): Step {
    const why = "refuses to be restarted (RefuseManualStart= or RefuseManualStop=)";
    const remedy = "the new secrets are there for its next start; remove that setting, or choose another action";
    return { done: `${why}: ${remedy}`, level: "warn", told: false };
  }

  /** Logs before the action, not only after: if the target fails, systemd may stop this process with it. */
  #announce(revives: boolean): void {
    const { action } = this.#onChange;
    this.#parts.log[this.#failures + this.#displaced > 0 ? "debug" : "notice"](
      revives
        ? `${this.unit} failed after the ${action}: started again, newer secrets are there`
        : `${this.unit}: ${action} for the new secrets`,
    );
  }

  async #act(before: UnitState, signal: AbortSignal): Promise<void> {
    const { clock, log, systemd } = this.#parts;
    const request = this.#requests;
    const revives = before.activeState === "failed";
    const what = revives ? "start" : this.#onChange.action;
    const [lastAction, actedFor] = [this.#lastAction, this.#actedFor];
    this.#actedFor = revives || before.activeState === "active" ? request : 0;
    if (revives) this.#helped += 1;
    this.#starts.begins(before);
    // Set before the log says it: a reader of the log may ask at once how the action ended.
    this.#lastAction = clock.monotonic();
    this.#say(`${what} of ${this.unit} is in progress`);
    this.#announce(revives);
    this.#waitingSince = undefined;
    const result = await this.#job(before, signal);
    const after = await systemd.show(this.unit, signal);
    const hasStarted = after !== undefined && after.leftInactiveAt > before.leftInactiveAt;
    const isDisplaced = result.displaced === true && !hasStarted;
    // There was no action. What is due depends on what the other job does to the target.
    if (isDisplaced) [this.#lastAction, this.#actedFor] = [lastAction, actedFor];
    // A wait for a target that is being stopped too, or restarted after us, would never end. The mark stays.
    if (isAborted(signal)) {
      await this.#lastWord(what);
      return;
    }
    if (after !== undefined) this.#starts.note(after);
    const { done, failed } = this.#counts;
    if (isDisplaced) await clock.sleep(this.#giveWay(), signal);
    else if (after?.activeState === "failed") {
      this.#counts = { done: done + 1, failed: failed + 1 };
      this.#settle(request, true);
      this.#say(`${this.unit} failed after the ${what}`);
      log.error(`${this.unit} failed after the ${what} (see systemctl status ${this.unit})`);
    } else if (result.ok || hasStarted) {
      this.#counts = { done: done + 1, failed };
      this.#settle(request, true);
      const down =
        after?.activeState === "inactive" ? downSince(after, `${this.unit} is down since the ${what}`) : undefined;
      this.#say(down);
      if (down === undefined) log.info(`${this.unit}: ${what} done`);
      else log.warn(down);
    } else {
      await clock.sleep(this.#retry(result.detail), signal);
      // systemd's SIGTERM may end systemctl before it reaches this process.
      if (isAborted(signal)) await this.#lastWord(what);
    }
  }

  /** Logs why a target does not start again: systemd stops this process with it, and no other process would say why. */
  async #lastWord(what: string): Promise<void> {
    const end = AbortSignal.timeout(LAST_WORD * 1000);
    let state: UnitState | undefined;
    // systemd's SIGTERM goes to the whole unit, even to a systemctl that has just begun.
    for (let look = 0; state === undefined && look < LAST_LOOKS && !end.aborted; look += 1)
      state = await this.#parts.systemd.show(this.unit, end);
    if (state?.activeState !== "inactive" || state.unmet === undefined) return;
    this.#parts.log.warn(downSince(state, `${this.unit} is down since the ${what}`));
  }

  #job(before: UnitState, signal: AbortSignal): Promise<JobResult> {
    const { systemd } = this.#parts;
    const onChange = this.#onChange;
    if (before.activeState === "failed") return systemd.revive(this.unit, signal);
    switch (onChange.action) {
      case "restart":
        return systemd.restart(this.unit, signal);
      case "reload":
        return !before.canReload ? systemd.restart(this.unit, signal) : systemd.reload(this.unit, signal);
      case "signal":
        return systemd.signal(this.unit, onChange.signal ?? "SIGHUP", signal);
      case "none":
        return Promise.resolve({ ok: true, detail: "" });
    }
  }

  /** A set published since then needs its own action. */
  #settle(request: number, told: boolean): void {
    this.#failures = 0;
    if (this.#requests !== request) return;
    this.#publishedAt = undefined;
    this.#told = told;
    // Called before the log says that it is done: the mark on disk must not outlive that line.
    this.#settled();
  }

  /** @returns seconds to the next look. */
  #giveWay(): number {
    const { log, random } = this.#parts;
    const level = this.#displaced === 0 ? "info" : "debug";
    log[level](`${this.#verb()} waits: another job of the unit comes first, such as a stop`);
    this.#displaced += 1;
    this.#say(`${this.#verb()} waits: another job of it comes first`);
    return Math.min(LOOK_AGAIN + backoff(this.#displaced, random), GIVE_WAY_LIMIT);
  }

  /** @returns seconds to the next attempt. */
  #retry(why: string): number {
    const { log, random } = this.#parts;
    const wait = backoff(this.#failures + 2, random);
    log[this.#failures === 0 ? "warn" : "debug"](
      `${this.unit}: ${this.#onChange.action} did not work: ${why}; trying again`,
    );
    this.#failures += 1;
    this.#say(`${this.#verb()} did not work yet: ${why}`);
    return wait;
  }

  #finish(request: number, { done, level, told }: Done): void {
    this.#settle(request, told);
    this.#parts.log[level](`${this.unit} ${done}`);
    this.#say(level === "warn" ? `${this.unit} ${done}` : undefined);
  }

  #untilMinInterval(): number {
    if (this.#lastAction === undefined) return 0;
    return this.#onChange.minInterval - (this.#parts.clock.monotonic() - this.#lastAction) / 1e6;
  }

  #verb(): string {
    return `${this.#onChange.action} of ${this.unit}`;
  }

  #say(status: string | undefined): void {
    if (this.#status === status) return;
    this.#status = status;
    this.#parts.changed();
  }
}

/** Nothing has failed, but the service is gone. A person who stopped it knows why; a failed condition is easily missed. */
function downSince({ unmet }: UnitState, what: string): string {
  return `${what}: ${unmet === undefined ? "it has ended, or somebody stopped it" : `${unmet} is not met`}`;
}
