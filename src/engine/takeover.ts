/**
 * A reload: reads the configuration again, and takes another one over while everything runs. It refuses a wrong one as
 * a whole, and the running one continues: after READY nothing ends the sidecar.
 */
import { exitCodeOf, isBackendError } from "../contract/backend.ts";
import type { Config } from "../config/config.ts";
import { ExitCode, FatalError } from "../contract/errors.ts";
import { isAborted } from "../runtime/clock.ts";
import { aborted, late, waitFor } from "../contract/bounded-wait.ts";
import type { ReloadRequest, ReloadResult } from "../systemd/reload-desk.ts";
import type { Round } from "./ask-times.ts";
import type { Configuration, Successor } from "./configuration.ts";
import type { CycleParts } from "./cycle.ts";
import { type Problem, problemOf } from "./problems.ts";
import { isSameBackend, type Store } from "./store.ts";

/** Seconds in which the configuration and what it names must be read. */
const LIMIT = 60;

export interface TakeoverParts extends Pick<
  CycleParts,
  "publisher" | "held" | "problems" | "owed" | "rotation" | "targets" | "log"
> {
  /** Another configuration replaces these two. */
  config: Config;
  store: Store;
  readonly configuration?: Configuration | undefined;
}

export class Takeover {
  readonly #parts: TakeoverParts;
  /** Who waits for the next reload. */
  #waiting: ReloadRequest[] = [];
  /** Stores of earlier configurations whose leases a target may be using still. */
  #retired: Store[] = [];
  readonly #closing = new Set<Promise<void>>();
  /** Why the file's configuration does not run. */
  #refused: FatalError | undefined;
  /** Which options of it wait for a restart. */
  #kept: string | undefined;

  constructor(parts: TakeoverParts) {
    this.#parts = parts;
  }

  /** The next reload also answers this request. */
  expect(request: ReloadRequest): void {
    this.#waiting.push(request);
  }

  /** @returns the requests that wait for the reload that begins now. */
  begin(): readonly ReloadRequest[] {
    const waiting = this.#waiting;
    this.#waiting = [];
    return waiting;
  }

  /** The next reload answers these too: the one that began with them could not. */
  beginAgain(waiting: readonly ReloadRequest[]): void {
    this.#waiting.unshift(...waiting);
  }

  /**
   * Reads the configuration again. It reports whatever is wrong with it, and changes nothing then.
   *
   * @returns whether another one is in charge now.
   */
  async read(waiting: readonly ReloadRequest[], stop: AbortSignal): Promise<boolean> {
    const { configuration, log } = this.#parts;
    if (configuration === undefined) return false;
    try {
      const given = waiting.at(-1)?.configuration;
      if (given instanceof FatalError) throw given;
      const successor = await this.#inTime(configuration.successor(given, this.#parts), stop);
      if (isAborted(stop)) return false;
      this.#refused = undefined;
      if (successor !== undefined) {
        this.#apply(successor);
        await successor.taken();
      }
      await this.look();
      return successor !== undefined;
    } catch (error) {
      const { exitCode, message } = asFatal(error);
      this.#refused = new FatalError(exitCode, `${message}; not taken over: the old configuration stays in force`);
      log.error(this.#refused.message);
      this.#tell();
      return false;
    }
  }

  /** Closes again a store that opens too late. */
  async #inTime(work: Promise<Successor | undefined>, stop: AbortSignal): Promise<Successor | undefined> {
    let isLate = false;
    void work.then(
      (successor) => {
        if (isLate && successor !== undefined && !isSameBackend(successor.store, this.#parts.store))
          this.#close(successor.store);
      },
      () => undefined,
    );
    try {
      const successor = await waitFor(work, stop, LIMIT);
      if (successor === late)
        throw new FatalError(ExitCode.unavailable, `configuration: cannot read it within ${LIMIT} s`);
      return successor === aborted ? undefined : successor;
    } finally {
      isLate = true;
    }
  }

  /** Nothing in here waits or can fail, so no other event sees half of it. */
  #apply({ config, store, layout, kept, file }: Successor): void {
    const { held, problems, owed, rotation, targets, publisher, log } = this.#parts;
    const before = this.#parts.config;
    const ids = config.secrets.map(({ id }) => id);
    const known = new Set(before.secrets.map(({ id }) => id));
    const added = ids.filter((id) => !known.has(id));
    const removed = [...known].filter((id) => !ids.includes(id));
    // A target that uses a lease of the store before must first hear of another.
    if (!isSameBackend(store, this.#parts.store)) this.#retired.push(this.#parts.store);
    const mayClose = !held.hasLease;
    this.#parts.config = config;
    this.#parts.store = store;
    for (const id of removed) held.drop(id);
    problems.take(store, ids);
    owed.secretsAre(ids, new Set(config.secrets.filter(({ optional }) => !optional).map(({ id }) => id)), added);
    rotation.take(config.onChange.verify);
    publisher.take(config, layout);
    targets.take(config);
    if (publisher.differs(held.bytes)) owed.settingsMayDiffer();
    if (mayClose) this.release();
    log.notice(`took over the changed configuration ${file}`, {
      changed: (Object.keys(config) as (keyof Config)[]).filter(
        (key) => JSON.stringify(config[key]) !== JSON.stringify(before[key]),
      ),
      added,
      removed,
    });
    const options = kept.join(", ");
    this.#kept =
      kept.length === 0
        ? undefined
        : `configuration: ${options}: cannot change while the sidecar runs: restart its unit`;
    if (this.#kept !== undefined) log.warn(this.#kept);
  }

  /** Looks whether the file is what runs. @returns whether STATUS changes. */
  async look(): Promise<boolean> {
    const before = this.#parts.owed.obstacleOf("configuration");
    const refused = this.#refused;
    const difference = await this.#parts.configuration?.difference();
    // The refusal has been reported; a file that is as before is no longer refused. A reload may have refused it
    // meanwhile: that is newer than what was seen here.
    if (difference === undefined && this.#refused === refused) this.#refused = undefined;
    this.#tell(difference);
    return this.#parts.owed.obstacleOf("configuration") !== before;
  }

  #tell(difference?: string): void {
    const { owed, log } = this.#parts;
    const differs = difference === undefined ? undefined : `${difference}: systemctl reload takes it over`;
    const what = this.#refused?.message ?? differs ?? this.#kept;
    if (owed.obstruct("configuration", what) && what === differs && what !== undefined) log.notice(what);
  }

  /** Answers the requests that wait. @param round the result of the reload; undefined: it was stopped. */
  end(waiting: readonly ReloadRequest[], round: Round | undefined): void {
    if (waiting.length === 0 || round === undefined) return;
    const result = this.#refused ?? this.#resultOf(round);
    for (const request of waiting) request.answer({ exitCode: result.exitCode, message: result.message });
  }

  #resultOf({ outcomes, result }: Round): ReloadResult {
    const { config, owed } = this.#parts;
    const obstacle = owed.obstacleOf("publish") ?? owed.obstacleOf("templates") ?? "";
    if (result === "failed") return { exitCode: ExitCode.ioError, message: obstacle };
    if (result === "refused" || obstacle !== "") return { exitCode: ExitCode.config, message: obstacle };
    const optional = new Set(config.secrets.flatMap((secret) => (secret.optional ? [secret.id] : [])));
    const isWanted = (id: string, problem: Problem) => !optional.has(id) || problem.kind === "unavailable";
    for (const [id, outcome] of outcomes) {
      const problem = problemOf(outcome);
      if (problem !== undefined && isWanted(id, problem))
        return { exitCode: exitCodeOf[problem.kind], message: problem.message };
    }
    return { exitCode: ExitCode.ok, message: "" };
  }

  /** Closes earlier stores, whose secrets are no longer in use. */
  release(): void {
    for (const store of this.#retired) this.#close(store);
    this.#retired = [];
  }

  #close(store: Store): void {
    const close = store.close().finally(() => this.#closing.delete(close));
    this.#closing.add(close);
  }

  /** At the end of the process. */
  async close(): Promise<void> {
    this.release();
    await Promise.all(this.#closing);
  }
}

function asFatal(error: unknown): { readonly exitCode: ExitCode; readonly message: string } {
  if (error instanceof FatalError) return error;
  if (isBackendError(error)) return { exitCode: exitCodeOf[error.kind], message: error.message };
  const kind = error instanceof Error ? error.constructor.name : typeof error;
  return { exitCode: ExitCode.bug, message: `configuration: a bug in fetcher (${kind})` };
}
