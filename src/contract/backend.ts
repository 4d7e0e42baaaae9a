/**
 * The contract between the engine and a backend. The engine owns retry, comparison, scheduling and logs; a backend
 * only fetches, and may give hints. A third party's ES module exports a `BackendModule` as its default export.
 */

import { ExitCode, LONGEST_MESSAGE, printable, shortened } from "./errors.ts";

/** Why a backend cannot deliver. `unavailable` may heal with time and is retried; the others need a person. */
export type BackendErrorKind = "unavailable" | "denied" | "invalid";

/**
 * A failure of one secret or of the whole store.
 *
 * `message` says what and where, and never holds a value, a token or a response body. Foreign errors are mapped at the
 * border and never attached as `cause`.
 */
export class BackendError extends Error {
  override readonly name = "BackendError";
  readonly kind: BackendErrorKind;
  /** Seconds after which the store asked to be tried again (Retry-After). */
  readonly retryAfter: number | undefined;
  /**
   * Seconds in which the store may change its answer by itself: a permission may not have reached all its servers yet.
   * A start asks again for that long before it ends. Says nothing of `unavailable`, which is always asked again.
   */
  readonly mayHealFor: number | undefined;
  constructor(kind: BackendErrorKind, message: string, retryAfter?: number, mayHealFor?: number) {
    super(shortened(printable(message), LONGEST_MESSAGE));
    this.kind = kind;
    this.retryAfter = retryAfter;
    this.mayHealFor = mayHealFor;
  }
}

/** The exit code of the program where a secret is not to be had. */
export const exitCodeOf: Readonly<Record<BackendErrorKind | "missing", ExitCode>> = {
  missing: ExitCode.missing,
  denied: ExitCode.denied,
  invalid: ExitCode.config,
  unavailable: ExitCode.unavailable,
};

/** A third party's module cannot import the class: an error of that name with a kind is one too. */
export function isBackendError(value: unknown): value is BackendError {
  if (value instanceof BackendError) return true;
  if (!(value instanceof Error) || value.name !== "BackendError" || !("kind" in value)) return false;
  return value.kind === "unavailable" || value.kind === "denied" || value.kind === "invalid";
}

/** A secret as the store holds it. */
export interface Fetched {
  readonly status: "value";
  /** The bytes. The receiver owns them, and overwrites them when they are replaced. */
  readonly value: Buffer;
  /**
   * Printable and opaque, 200 characters at most, from the same answer as the value: a version number, a time stamp.
   * Never derived from the value.
   */
  readonly version: string;
  /** Seconds until the secret must be fetched again whatever `reloadOnChange` says (a lease that ends). */
  readonly refreshAfter?: number;
  /**
   * Seconds since it was last written, for a file that may be written in steps: the engine asks again for one that is
   * younger than `settle`. Absent: it is whole.
   */
  readonly writtenAgo?: number;
}

/** The store answered, and has no such secret. */
export interface Missing {
  readonly status: "missing";
  /** Where it was looked for: `no file /etc/secrets/db_password`. */
  readonly where: string;
  /** The store says that the secret may still come: the engine waits for it instead of ending with 66. */
  readonly mayAppear?: boolean;
  /** Seconds for which a start asks again, as in BackendError. */
  readonly mayHealFor?: number;
}

/** What became of one secret. A failure is per secret, so that one refused secret holds up no other. */
export type Outcome = Fetched | Missing | BackendError;

/** One secret id with the source that the backend itself parsed. */
export interface SecretRequest<Source> {
  readonly id: string;
  readonly source: Source;
}

/** What the engine gives to a backend that it opens. */
export interface BackendContext {
  /** One line for the operator. Never a value, a token or a response body. */
  readonly log: (level: "debug" | "info" | "notice" | "warn", message: string) => void;
  /** For jitter; in [0, 1). */
  readonly random: () => number;
}

/** When and beside what a backend has its store looked at. */
export interface Plan {
  /** Seconds until the first look, and between two. */
  readonly first: number;
  readonly interval: number;
  /** Absolute paths of files that must stay as lstat(2) says they are now. */
  readonly files: readonly string[];
}

/** It is under way. */
export interface Lookout {
  /** Nothing is called after it. */
  end(): void;
}

/** An opened store. */
export interface Backend<Source> {
  /**
   * Fetches every secret, in one answer per place (one Vault path, one AWS secret).
   *
   * @returns an outcome for each id asked for.
   * @throws BackendError only where it can say nothing at all; anything else thrown is a bug of the backend. Ends soon
   *   after `signal` aborts: values that it has got by then count, any other result or error is dropped.
   */
  fetch(requests: readonly SecretRequest<Source>[], signal: AbortSignal): Promise<ReadonlyMap<string, Outcome>>;

  /**
   * Calls `hint` whenever something may have changed, and once when armed (to close the gap between a fetch and the
   * watch). Hints may be lost, doubled or spurious: a poll is behind them.
   *
   * @returns when `signal` aborts. @throws BackendError where watching is over; the engine then only polls.
   */
  watch?(requests: readonly SecretRequest<Source>[], hint: () => void, signal: AbortSignal): Promise<void>;

  /**
   * Begins what the first fetch of these needs and what asks for no secret, while the program prepares its output. That
   * fetch follows soon, and reports what goes wrong; or `close`.
   */
  prepare?(requests: readonly SecretRequest<Source>[]): void;

  /**
   * Has the store looked at by a thread of the runtime, in place of polls: from the answer of the last fetch on, until
   * something differs from it. Nothing may hang on it: the engine ends it before each fetch, and now and then fetches all.
   *
   * @param news is called once, where something may differ: a fetch then finds out what.
   * @returns undefined where it cannot be done (now).
   */
  lookOut?(requests: readonly SecretRequest<Source>[], plan: Plan, news: () => void): Lookout | undefined;

  /** The target now uses these versions: leases of older ones may end. */
  applied?(versions: ReadonlyMap<string, string>): Promise<void>;

  /** Releases what `open` took. Called once. */
  close?(): Promise<void>;
}

/** One kind of store. Errors in settings and sources are thrown as ConfigError with the path inside them. */
export interface BackendModule<Settings = unknown, Source = unknown> {
  /** The name in messages: `folder`. */
  readonly name: string;

  /** Seconds between polls where the configuration says nothing; null: the values cannot change, nothing is polled. */
  readonly defaultPollingInterval: number | null;

  /**
   * Checks the backend's settings (`config` without the rotation settings). No input or output: runs at build time.
   *
   * @throws ConfigError whose path is relative to `config`.
   */
  parseSettings(settings: Readonly<Record<string, unknown>>): Settings;

  /**
   * Checks the source of one secret (`secrets.ID.source`, `{}` where absent) and fills in what is derived from its id.
   *
   * @throws ConfigError whose path is relative to the source.
   */
  parseSource(id: string, source: Readonly<Record<string, unknown>>, settings: Settings): Source;

  /**
   * The source of all keys of a place, as one JSON object (`secrets.ID.all`). Absent: the engine calls parseSource(),
   * and the value itself must be such an object.
   */
  parseWhole?(id: string, source: Readonly<Record<string, unknown>>, settings: Settings): Source;

  /** Where the secret comes from, for people: `/etc/secrets/db_password`. */
  describe(source: Source, settings: Settings): string;

  /**
   * Absolute paths of the files and directories that the store is made of, or that open it (such as the file of a
   * token). The program refuses an output that lies in one of them, is one of them, or holds one. Absent: there are
   * none on this machine.
   */
  reads?(settings: Settings): readonly string[];

  /** Gets ready to fetch. Does not need the store to be there. @throws BackendError where it can never work. */
  open(settings: Settings, context: BackendContext): Promise<Backend<Source>>;
}
