/** Before READY: gets every secret that the service needs, or reports a final reason why it cannot. */
import { exitCodeOf, type Outcome } from "../contract/backend.ts";
import { Alarm } from "../runtime/alarm.ts";
import { backoff, type Clock, isAborted, type Random } from "../runtime/clock.ts";
import type { Config } from "../config/config.ts";
import { fetchForStart } from "./settle.ts";
import { keepEmptied } from "./emptied.ts";
import { ExitCode, FatalError } from "../contract/errors.ts";
import { mayShowLater } from "../contract/unit-sandbox.ts";
import { type HeldValues, PUBLISHED_BEFORE } from "./held-values.ts";
import type { Log } from "../runtime/log.ts";
import { longestRetryAfter, type Problem, problemOf, type Problems } from "./problems.ts";
import { FETCH_LIMIT, type Store } from "./store.ts";

/** Seconds to wait for a store while an earlier life's published set is available. */
export const ADOPTION_LIMIT = 5;

/** Seconds that a start continues in a sandbox that hides the awaited path. */
const HIDDEN_LIMIT = 10;

export interface FirstLoadParts {
  readonly config: Config;
  readonly store: Store;
  readonly held: HeldValues;
  readonly problems: Problems;
  readonly log: Log;
  readonly clock: Clock;
  readonly random: Random;
  readonly status: (text: string) => void;
}

/**
 * Fills `held`. It does not retry final failures, and retries others with backoff. Where
 * `published` has the whole scope, it takes a failing secret from there.
 *
 * @param published id → bytes of a complete set that an earlier life published.
 * @returns the secrets that the store failed to give, to be asked for again; those in `published` were taken from
 *   there.
 * @throws FatalError 66, 77, 78 for what a person must mend; 69 after `startTimeout`; 75 where only a new sandbox
 *   helps.
 */
export async function firstLoad(
  parts: FirstLoadParts,
  published: ReadonlyMap<string, Buffer> | undefined,
  stop: AbortSignal,
): Promise<ReadonlyMap<string, Problem>> {
  const loading = new Loading(parts, published);
  try {
    return await loading.run(stop);
  } finally {
    loading.watching.abort();
  }
}

class Loading {
  readonly #parts: FirstLoadParts;
  readonly #published: ReadonlyMap<string, Buffer> | undefined;
  readonly watching = new AbortController();
  readonly #alarm: Alarm<"hint">;
  /** µs of CLOCK_MONOTONIC. */
  readonly #begun: number;
  readonly #patience = new Patience();
  /** What is still missing. */
  readonly #failed = new Map<string, Problem>();
  #wanted: readonly string[];
  #attempt = 0;
  /** Seconds after the beginning. */
  #retryAt = 0;
  /** This round is for failed secrets; false: only for a lease that ends meanwhile. */
  #isRetry = true;

  constructor(parts: FirstLoadParts, published: ReadonlyMap<string, Buffer> | undefined) {
    this.#parts = parts;
    this.#published = published;
    this.#alarm = new Alarm(parts.clock);
    this.#begun = parts.clock.monotonic();
    this.#wanted = parts.config.secrets.map(({ id }) => id);
  }

  async run(stop: AbortSignal): Promise<ReadonlyMap<string, Problem>> {
    const { problems } = this.#parts;
    for (;;) {
      const outcomes = await this.#ask(stop);
      if (isAborted(stop)) return new Map();
      this.#take(outcomes);
      if (this.#failed.size === 0) {
        problems.note(outcomes, "published without it");
        return this.#failed;
      }
      const patient = this.#patience.left(this.#failed, this.#elapsed);
      if (this.#givesUp(outcomes, patient)) return this.#failed;
      const rung = await this.#alarm.wait(this.#plan(patient), stop);
      if (isAborted(stop)) return new Map();
      this.#choose(rung.size > 0);
    }
  }

  /** Seconds. */
  get #elapsed(): number {
    return (this.#parts.clock.monotonic() - this.#begun) / 1e6;
  }

  /** Seconds after the beginning. A start with its own time limit ends by that limit alone. */
  get #hiddenLimit(): number {
    const isHidden = [...this.#failed.values()].some((problem) => mayHeal(problem) && mayShowLater(problem.message));
    if (!isHidden || this.#published !== undefined || this.#parts.config.startTimeout !== null) return Infinity;
    return HIDDEN_LIMIT;
  }

  async #ask(stop: AbortSignal): Promise<ReadonlyMap<string, Outcome>> {
    const published = this.#published;
    const { startTimeout } = this.#parts.config;
    const left = (published === undefined ? (startTimeout ?? Infinity) : ADOPTION_LIMIT) - this.#elapsed;
    const most = Math.max(left, 0.05);
    const inAll = published === undefined ? undefined : most;
    const answer = await fetchForStart(this.#parts, this.#wanted, Math.min(FETCH_LIMIT, most), inAll, stop);
    return keepEmptied(this.#parts, answer, (id) => published?.get(id));
  }

  #take(outcomes: ReadonlyMap<string, Outcome>): void {
    for (const [id, outcome] of outcomes) {
      if ("status" in outcome && outcome.status === "value") this.#parts.held.set(id, outcome);
      this.#failed.delete(id);
    }
    for (const [id, problem] of failures(this.#parts, outcomes, this.#published)) this.#failed.set(id, problem);
  }

  /**
   * @returns true: the set published before stays in use; false: ask the store again.
   * @throws FatalError for what a person must mend.
   */
  #givesUp(outcomes: ReadonlyMap<string, Outcome>, patient: ReadonlyMap<string, number>): boolean {
    const { held, problems, store } = this.#parts;
    const failed = this.#failed;
    const final = [...failed].find(([id, problem]) => !mayHeal(problem) && !patient.has(id));
    if (this.#published !== undefined && (final !== undefined || this.#elapsed + 0.1 >= ADOPTION_LIMIT)) {
      problems.note(outcomes, "what was published before stays in use");
      adopt(held, failed, this.#published);
      return true;
    }
    if (final !== undefined) throw fatal(store.name, final[0], final[1]);
    if (this.#elapsed + 0.1 >= this.#hiddenLimit) refuseSandbox(store.name, failed);
    problems.note(new Map([...outcomes].filter(([id]) => !failed.has(id))), "published without it");
    problems.note(new Map([...outcomes].filter(([id]) => failed.has(id))), "trying again");
    return false;
  }

  /** @returns seconds until we ask the store again. @throws FatalError (69) when `startTimeout` is over. */
  #plan(patient: ReadonlyMap<string, number>): number {
    const { config, store, held, clock, random, status } = this.#parts;
    const failed = this.#failed;
    const limit =
      this.#published === undefined
        ? untilGivingUp(config, this.#elapsed, failed, store.name)
        : ADOPTION_LIMIT - this.#elapsed;
    const hidden = Math.max(this.#hiddenLimit - this.#elapsed, 0.01);
    if (this.#isRetry) {
      const pause = backoff(this.#attempt, random, longestRetryAfter(failed.values()));
      const wait = Math.min(pause, limit, hidden, ...patient.values());
      this.#retryAt = this.#elapsed + wait;
      this.#attempt += 1;
      status(waitingFor(store.name, failed, this.#attempt, wait));
      if (this.#attempt === 1 && this.#published === undefined)
        void watch(this.#parts, this.#alarm, this.watching.signal);
    }
    // A lease that we have may end before the last of the others arrives: then we ask for it alone. We ask for one that
    // has ended already with the others.
    const untilEnd = (held.nextEnd(failed) - clock.monotonic()) / 1e6;
    return Math.min(Math.max(this.#retryAt - this.#elapsed, 0), limit, untilEnd > 0 ? untilEnd : Infinity);
  }

  /** What the next round asks for. */
  #choose(isHinted: boolean): void {
    const failed = this.#failed;
    const ending = this.#parts.held.ending(failed);
    this.#isRetry = isHinted || ending.length === 0 || this.#elapsed + 0.001 >= this.#retryAt;
    this.#wanted = this.#isRetry ? [...new Set([...failed.keys(), ...ending])] : ending;
  }
}

/**
 * The problems that keep the scope from being complete. A missing or refused optional secret does not, unless there is
 * a published value to keep.
 */
function failures(
  { config }: FirstLoadParts,
  outcomes: ReadonlyMap<string, Outcome>,
  published: ReadonlyMap<string, Buffer> | undefined,
): ReadonlyMap<string, Problem> {
  const optional = new Set(config.secrets.filter((secret) => secret.optional).map(({ id }) => id));
  const failed = new Map<string, Problem>();
  for (const [id, outcome] of outcomes) {
    const problem = problemOf(outcome);
    if (problem === undefined) continue;
    // A store that does not answer may or may not have the secret. If its value became empty, the store does have it.
    const keeps = (problem.kind !== "missing" || problem.mayAppear) && published?.has(id) === true;
    if (optional.has(id) && problem.kind !== "unavailable" && !keeps) continue;
    failed.set(id, problem);
  }
  return failed;
}

function mayHeal(problem: Problem): boolean {
  return problem.kind === "unavailable" || problem.mayAppear;
}

/** How long to wait after an answer that looks final, where the store may change it by itself. */
class Patience {
  readonly #since = new Map<string, number>();

  /** @param now seconds. @returns id → seconds that are left. */
  left(failed: ReadonlyMap<string, Problem>, now: number): ReadonlyMap<string, number> {
    const left = new Map<string, number>();
    for (const id of this.#since.keys()) if (!failed.has(id)) this.#since.delete(id);
    for (const [id, problem] of failed) {
      // An outage in between says nothing about an earlier refusal.
      if (mayHeal(problem) || problem.mayHealFor === 0) continue;
      const since = this.#since.get(id) ?? now;
      this.#since.set(id, since);
      const seconds = since + problem.mayHealFor - now;
      if (seconds > 0.05) left.set(id, seconds);
    }
    return left;
  }
}

function adopt(held: HeldValues, failed: ReadonlyMap<string, Problem>, published: ReadonlyMap<string, Buffer>): void {
  for (const id of failed.keys()) {
    const value = published.get(id);
    if (value !== undefined && !held.has(id)) held.set(id, { value: Buffer.from(value), version: PUBLISHED_BEFORE });
  }
}

/** The one line that `systemctl status` and the journal show. */
export function fatal(backend: string, id: string, { kind, message }: Problem): FatalError {
  return new FatalError(exitCodeOf[kind], `${backend}: secret ${JSON.stringify(id)}: ${message}`);
}

/** @throws FatalError (75) about the first secret that a new sandbox may show. */
function refuseSandbox(backend: string, failed: ReadonlyMap<string, Problem>): void {
  for (const [id, { message }] of failed)
    if (mayShowLater(message))
      throw new FatalError(
        ExitCode.again,
        `${backend}: secret ${JSON.stringify(id)}: ${message} (restarting, in case it is there by now)`,
      );
}

/** @throws FatalError (69) when `startTimeout` is over. */
function untilGivingUp(config: Config, elapsed: number, failed: ReadonlyMap<string, Problem>, backend: string): number {
  if (config.startTimeout === null) return Infinity;
  const left = config.startTimeout - elapsed;
  const [first] = failed;
  if (left <= 0 && first !== undefined)
    throw new FatalError(
      ExitCode.unavailable,
      `${backend}: secret ${JSON.stringify(first[0])}: ${first[1].message} (gave up after startTimeout, ${config.startTimeout} s)`,
    );
  return Math.max(left, 0.01);
}

function waitingFor(backend: string, failed: ReadonlyMap<string, Problem>, attempt: number, wait: number): string {
  const [first] = failed.values();
  const others = failed.size === 1 ? "" : ` (and ${failed.size - 1} more)`;
  return `waiting for ${backend}: ${first?.message ?? ""}${others} (attempt ${attempt}, next in ${wait.toFixed(wait < 1 ? 1 : 0)} s)`;
}

/** The secrets may come at any moment: a hint shortens the wait. Polling continues if watching fails. */
async function watch({ store, log }: FirstLoadParts, alarm: Alarm<"hint">, signal: AbortSignal): Promise<void> {
  try {
    await store.watch?.(() => {
      alarm.ring("hint");
    }, signal);
  } catch (error) {
    log.debug(error instanceof Error ? error.message : "watching failed");
  }
}
