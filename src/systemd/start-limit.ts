/**
 * When a target was started, by us or others, and when one more start leaves one in reserve of those systemd allows.
 */
import type { Clock } from "../runtime/clock.ts";
import type { UnitState } from "./systemctl.ts";

/** Seconds added to the start limit's interval, for the time between our question and systemd's count. */
const MARGIN = 0.25;

export class StartLimit {
  readonly #clock: Clock;
  /** As many start times as its start limit counts, in µs of CLOCK_MONOTONIC. */
  #starts: readonly number[] = [];
  /** NRestarts= at the last look. */
  #restarts: number | undefined;
  /** Automatic restarts that the target needed after its last start but one. */
  #needed = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** In µs of CLOCK_MONOTONIC, the earliest first. */
  get times(): readonly number[] {
    return this.#starts;
  }

  /** NRestarts= at the last look. */
  get restarts(): number | undefined {
    return this.#restarts;
  }

  /** Adds starts to those seen. @param restarts NRestarts= at the last look of another process. */
  remember(starts: readonly number[], restarts?: number): void {
    this.#restarts = restarts ?? this.#restarts;
    const now = this.#clock.monotonic();
    const both = new Set([...starts.filter((time) => time <= now), ...this.#starts]);
    this.#starts = [...both].sort((a, b) => a - b);
  }

  /** One more start follows, after which NRestarts= counts from zero. */
  begins({ restarts }: UnitState): void {
    this.#needed = restarts;
  }

  note(state: UnitState): void {
    const time = Math.max(state.leftInactiveAt, state.mainStartedAt);
    if (time > 0) this.remember([time, ...this.#unseenStarts(state, time)]);
    this.#starts = this.#starts.slice(-Math.max(state.startLimitBurst, 1));
  }

  /**
   * Automatic restarts between two looks leave only a count, no time. They get the latest times possible, so that they
   * count the longest.
   */
  #unseenStarts({ restarts, startLimitBurst }: UnitState, latest: number): number[] {
    const before = this.#restarts;
    this.#restarts = restarts;
    // Without an earlier count, or where the count began again, a first start by hand or by us is one of them.
    const unseen = before === undefined || restarts < before ? restarts : restarts - before - 1;
    const length = Math.max(0, Math.min(unseen, startLimitBurst));
    return Array.from({ length }, (_, index) => latest - index - 1);
  }

  /**
   * Seconds until one more start leaves one in reserve, with as many automatic restarts as the last one needed: a
   * service that crashes twice before it runs takes three.
   */
  untilAllowed({ startLimitBurst, startLimitInterval, restarts }: UnitState): number {
    if (startLimitBurst <= 0 || startLimitInterval <= 0) return 0;
    const now = this.#clock.monotonic();
    const allowed = Math.max(1, startLimitBurst - 1 - Math.max(this.#needed, restarts));
    const horizon = (startLimitInterval + MARGIN) * 1e6;
    const recent = this.#starts.filter((time) => now - time < horizon);
    if (recent.length < allowed) return 0;
    const leaves = recent[recent.length - allowed] ?? now;
    return (leaves + horizon - now) / 1e6;
  }

  /** Whether systemd gave up a failed target at its start limit, so long ago that it would start it again. */
  isOver({ startLimitBurst, startLimitInterval, restarts, enteredInactiveAt: end }: UnitState): boolean {
    if (restarts === 0 || startLimitBurst <= 0) return false;
    const horizon = (startLimitInterval + MARGIN) * 1e6;
    const counted = this.#starts.filter((time) => time <= end && end - time < horizon);
    return counted.length >= startLimitBurst && this.#clock.monotonic() - end >= horizon;
  }
}
