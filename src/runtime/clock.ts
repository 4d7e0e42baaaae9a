/** Time and randomness, as parameters where logic depends on them. */
import { LONGEST_TIMER } from "../contract/timers.ts";
import { minutesEast, monotonic } from "./platform.ts";

export interface Clock {
  /** Microseconds of CLOCK_MONOTONIC, the clock of systemd's *TimestampMonotonic properties. */
  monotonic(): number;
  /** Wall clock, for people. */
  now(): Date;
  /** Resolves after `seconds`, or when `signal` aborts. Never rejects. */
  sleep(seconds: number, signal: AbortSignal): Promise<void>;
}

export const systemClock: Clock = {
  monotonic,
  now: () => new Date(),
  sleep: (seconds, signal) =>
    new Promise((done) => {
      if (signal.aborted) {
        done();
        return;
      }
      const finish = () => {
        clearTimeout(timer);
        signal.removeEventListener("abort", finish);
        done();
      };
      const timer = setTimeout(finish, Math.min(Math.max(seconds, 0), LONGEST_TIMER) * 1000);
      signal.addEventListener("abort", finish);
    }),
};

/** `signal.aborted` as a call: it changes across an await, which the compiler's narrowing does not know. */
export function isAborted(signal: AbortSignal): boolean {
  return signal.aborted;
}

/** In [0, 1). */
export type Random = () => number;

/** First and longest delay before READY, in seconds. */
const BACKOFF_BASE = 0.25;
const BACKOFF_CAP = 30;

/**
 * Exponential backoff with full jitter: a random time up to 0.25 s doubled `attempt` times, at most 30 s; never less than
 * what the store asked for.
 *
 * @param attempt 0 for the first retry.
 * @returns seconds.
 */
export function backoff(attempt: number, random: Random, retryAfter = 0): number {
  const ceiling = Math.min(BACKOFF_CAP, BACKOFF_BASE * 2 ** Math.min(attempt, 20));
  return Math.max(retryAfter, 0.01) + random() * ceiling;
}

/** ±10 %, so that sidecars that were started together drift apart. */
export function jittered(seconds: number, random: Random): number {
  return seconds * (0.9 + 0.2 * random());
}

/** 12:03:11+01:00: local time, as the journal shows it, with its zone; Z is UTC. */
export function clockTime(date: Date): string {
  const two = (number: number) => String(number).padStart(2, "0");
  const east = minutesEast(date);
  const time = localTime(date, east).slice(11, 19);
  const zone = `${east < 0 ? "-" : "+"}${two(Math.floor(Math.abs(east) / 60))}:${two(Math.abs(east) % 60)}`;
  return time + (east === 0 ? "Z" : zone);
}

/** 2026-01-01T12:03:11+01:00 */
export function clockDate(date: Date): string {
  return `${localTime(date, minutesEast(date)).slice(0, 11)}${clockTime(date)}`;
}

/** In the form of ISO 8601; the Z at its end does not mean UTC. */
function localTime(date: Date, east: number): string {
  return new Date(date.getTime() + east * 60_000).toISOString();
}
