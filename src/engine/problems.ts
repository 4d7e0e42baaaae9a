/** What is wrong with which secret: the first failure and the recovery are news, repeats are not. */
import { type BackendErrorKind, isBackendError, type Outcome } from "../contract/backend.ts";
import { type Clock, clockTime } from "../runtime/clock.ts";
import type { Log } from "../runtime/log.ts";

export interface Problem {
  readonly kind: BackendErrorKind | "missing";
  readonly message: string;
  /** The store says that a missing secret may still come. */
  readonly mayAppear: boolean;
  readonly retryAfter: number | undefined;
  /** Seconds in which the store may take it back by itself. */
  readonly mayHealFor: number;
}

/** @returns undefined where there is a value. */
export function problemOf(outcome: Outcome | undefined): Problem | undefined {
  const rest = { mayAppear: false, retryAfter: undefined, mayHealFor: 0 };
  if (outcome === undefined) return { ...rest, kind: "invalid", message: "no answer" };
  if (isBackendError(outcome)) {
    const { kind, message, retryAfter, mayHealFor } = outcome;
    return { ...rest, kind, message, retryAfter, mayHealFor: secondsOf(mayHealFor) };
  }
  if (outcome.status === "value") return undefined;
  const { where, mayAppear, mayHealFor } = outcome;
  return { ...rest, kind: "missing", message: where, mayAppear: mayAppear === true, mayHealFor: secondsOf(mayHealFor) };
}

/** A third party's may be anything. */
function secondsOf(value: unknown): number {
  return typeof value === "number" && value > 0 ? value : 0;
}

/** Seconds that the store asked to be left alone. */
export function longestRetryAfter(problems: Iterable<Problem>): number {
  return Math.max(0, ...Array.from(problems, ({ retryAfter }) => retryAfter ?? 0));
}

export class Problems {
  readonly #backend: string;
  readonly #log: Log;
  readonly #clock: Clock;
  readonly #known = new Map<string, Problem & { readonly since: Date }>();

  constructor(backend: string, log: Log, clock: Clock) {
    this.#backend = backend;
    this.#log = log;
    this.#clock = clock;
  }

  /** Notes how each secret fares, and logs what is news. @param consequence ends the sentence: "kept as it was". */
  note(outcomes: ReadonlyMap<string, Outcome>, consequence: string): void {
    const fresh = new Map<string, string[]>();
    const over: string[] = [];
    for (const [id, outcome] of outcomes) {
      const problem = problemOf(outcome);
      const known = this.#known.get(id);
      if (problem === undefined) {
        if (this.#known.delete(id)) over.push(id);
        continue;
      }
      const line = this.#line(problem.message, consequence);
      // A time-out after a refused connection is the same outage.
      if (known?.kind === problem.kind) this.#log.debug(line, { secrets: [id] });
      else fresh.set(line, [...(fresh.get(line) ?? []), id]);
      this.#known.set(id, { ...problem, since: known?.since ?? this.#clock.now() });
    }
    for (const [line, ids] of fresh) this.#log.warn(line, { secrets: ids });
    if (over.length > 0) this.#log.notice(`${this.#backend}: answers again`, { secrets: over });
  }

  /** For STATUS=: the first problem in words, and how many there are. */
  get summary(): string | undefined {
    const [first] = this.#known;
    if (first === undefined) return undefined;
    const [id, { message, since }] = first;
    const others = this.#known.size === 1 ? "" : ` (and ${this.#known.size - 1} more)`;
    return `secret "${id}": ${message}${others}, since ${clockTime(since)}`;
  }

  #line(message: string, consequence: string): string {
    return `${this.#backend}: ${message}; ${consequence}`;
  }
}
