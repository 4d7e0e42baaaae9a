/** What is wrong with which secret: the first failure and the recovery are news, repeats are not. */
import { type BackendErrorKind, isBackendError, type Outcome } from "../contract/backend.ts";
import { type Clock, clockTime } from "../runtime/clock.ts";
import { isRecord } from "../contract/records.ts";
import type { Log } from "../runtime/log.ts";

export interface Problem {
  readonly kind: BackendErrorKind | "missing";
  readonly message: string;
  /** The store says that a missing secret may still come. */
  readonly mayAppear: boolean;
  readonly retryAfter: number | undefined;
  /** Seconds in which the store may withdraw it by itself. */
  readonly mayHealFor: number;
}

/** @returns undefined for a value. */
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

/** A third party's value may be anything. */
function secondsOf(value: unknown): number {
  return typeof value === "number" && value > 0 ? value : 0;
}

/** Seconds that the store asked to be left alone. */
export function longestRetryAfter(problems: Iterable<Problem>): number {
  return Math.max(0, ...Array.from(problems, ({ retryAfter }) => retryAfter ?? 0));
}

/** A problem that several secrets share. */
export interface Cause {
  /** Of the first of them. */
  readonly message: string;
  readonly ids: readonly string[];
}

/**
 * Groups the secrets that share a problem. Messages that differ only in the place (a path, a quoted text, the id, the
 * place that `describe` names) are one.
 *
 * @param describe where a secret comes from, for people.
 */
export function causesOf(
  problems: Iterable<readonly [id: string, problem: Problem]>,
  describe: (id: string) => string,
): readonly Cause[] {
  const causes = new Map<string, { messages: Set<string>; ids: string[] }>();
  const shapes = new Map<string, string>();
  for (const [id, { kind, message }] of problems) {
    const shape = shapes.get(message) ?? `${kind} ${withoutPlace(message, [describe(id), id])}`;
    shapes.set(message, shape);
    const cause = causes.get(shape) ?? { messages: new Set(), ids: [] };
    cause.messages.add(message);
    cause.ids.push(id);
    causes.set(shape, cause);
  }
  return [...causes.values()].map(({ messages, ids }) => {
    const [first = ""] = messages;
    return { ids, message: messages.size === 1 ? first : `${first} (and ${messages.size - 1} more like it)` };
  });
}

function withoutPlace(message: string, names: readonly string[]): string {
  const places = names.flatMap((name) => [name, name.split(", ")[0] ?? ""]).filter((place) => place !== "");
  return places
    .reduce(
      (text, place) => text.replaceAll(place, (found, at: number) => (isWord(text, at, found) ? "*" : found)),
      message,
    )
    .replaceAll(/"[^"]*"/g, "*")
    .replaceAll(/[^\s:]*\/[^\s:,]*/g, "*");
}

/** An id may be a single letter, which other words contain. */
function isWord(text: string, at: number, word: string): boolean {
  return !/[\w-]/.test(text[at - 1] ?? " ") && !/[\w-]/.test(text[at + word.length] ?? " ");
}

export class Problems {
  #backend: string;
  #describe: (id: string) => string;
  readonly #log: Log;
  readonly #clock: Clock;
  readonly #known = new Map<string, Problem & { readonly since: Date }>();

  constructor(store: { readonly name: string; describe(id: string): string }, log: Log, clock: Clock) {
    this.#backend = store.name;
    this.#describe = (id) => store.describe(id);
    this.#log = log;
    this.#clock = clock;
  }

  /** Another store, or other secrets: forgets the problems of those that are gone. */
  take(store: { readonly name: string; describe(id: string): string }, ids: readonly string[]): void {
    this.#backend = store.name;
    this.#describe = (id) => store.describe(id);
    for (const id of this.#known.keys()) if (!ids.includes(id)) this.#known.delete(id);
  }

  /** Notes each secret's state, and logs changes. @param consequence ends the sentence: "kept as it was". */
  note(outcomes: ReadonlyMap<string, Outcome>, consequence: string): void {
    const fresh: [string, Problem][] = [];
    const over: string[] = [];
    for (const [id, outcome] of outcomes) {
      const problem = problemOf(outcome);
      const known = this.#known.get(id);
      if (problem === undefined) {
        if (this.#known.delete(id)) over.push(id);
        continue;
      }
      // A time-out after a refused connection is the same outage.
      if (known?.kind === problem.kind) this.#log.debug(this.#line(problem.message, consequence), { secrets: [id] });
      else fresh.push([id, problem]);
      this.#known.set(id, { ...problem, since: known?.since ?? this.#clock.now() });
    }
    for (const { message, ids } of causesOf(fresh, this.#describe))
      this.#log.warn(this.#line(message, consequence), { secrets: ids });
    if (over.length > 0) this.#log.notice(`${this.#backend}: answers again`, { secrets: over });
  }

  /** For another process. */
  get all(): readonly Known[] {
    return [...this.#known].map(([id, { kind, message, since }]) => ({
      id,
      kind,
      message,
      since: since.toISOString(),
    }));
  }

  /** Problems that an earlier process knew are not news. */
  recall(known: readonly Known[]): void {
    for (const { id, kind, message, since } of known)
      this.#known.set(id, {
        ...{ kind, message, mayAppear: false, retryAfter: undefined, mayHealFor: 0 },
        since: new Date(since),
      });
  }

  /** For STATUS=: the first problem in words, and how many there are. */
  get summary(): string | undefined {
    const [first] = this.#known;
    if (first === undefined) return undefined;
    const [id, { message, since }] = first;
    const others = this.#known.size === 1 ? "" : ` (and ${this.#known.size - 1} more)`;
    return `secret "${id}": ${message}${others}, since ${clockTime(since)}`;
  }

  /** When the oldest of them began. */
  get since(): Date | undefined {
    const times = [...this.#known.values()].map(({ since }) => since);
    return times.reduce<Date | undefined>(
      (first, one) => (first !== undefined && first <= one ? first : one),
      undefined,
    );
  }

  #line(message: string, consequence: string): string {
    return `${this.#backend}: ${message}; ${consequence}`;
  }
}

/** What is wrong with one secret, as another process reads it. */
export interface Known {
  readonly id: string;
  readonly kind: Problem["kind"];
  readonly message: string;
  /** Of Date.toISOString(). */
  readonly since: string;
}

const kinds: readonly unknown[] = ["unavailable", "denied", "invalid", "missing"] satisfies Problem["kind"][];

export function isKnown(value: unknown): value is Known {
  if (!isRecord(value)) return false;
  const { id, kind, message, since } = value;
  const isText = [id, message, since].every((one) => typeof one === "string");
  return isText && kinds.includes(kind) && !Number.isNaN(Date.parse(String(since)));
}
