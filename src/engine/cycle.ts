/**
 * One round: ask the store, compare, verify, publish, and ask for the action. If any step fails, the published set
 * stays.
 */
import type { Fetched, Outcome } from "../contract/backend.ts";
import { type Clock, isAborted } from "../runtime/clock.ts";
import type { Config } from "../config/config.ts";
import { ExitCode, FatalError } from "../contract/errors.ts";
import type { PublishResult, Request, Round } from "./ask-times.ts";
import { type Answer, fetchOnce, fetchSettled } from "./fetch.ts";
import { type HeldValues, valuesIn, isFetched } from "./held-values.ts";
import type { Log } from "../runtime/log.ts";
import type { Owed } from "./owed.ts";
import { problemOf, type Problems } from "./problems.ts";
import type { Publisher } from "../publish/publisher.ts";
import type { RotationPublisher } from "./rotation.ts";
import { counted } from "./status.ts";
import type { Store } from "./store.ts";
import type { Targets } from "../systemd/targets.ts";
import { ValueError } from "../publish/value.ts";

export interface CycleParts {
  readonly config: Config;
  readonly store: Store;
  readonly publisher: Publisher;
  readonly held: HeldValues;
  readonly problems: Problems;
  readonly owed: Owed;
  readonly rotation: RotationPublisher;
  readonly targets: Targets;
  readonly log: Log;
  readonly clock: Clock;
  /** Called when the store has answered for all that it was asked for. */
  readonly checked: () => void;
  /** Called when another set is published. */
  readonly published: () => void;
}

/** A publish that is due, and what it publishes. */
interface Publish {
  readonly what: string;
  /** The target must hear of it. */
  readonly act: boolean;
}

export class Cycle {
  readonly #parts: CycleParts;

  constructor(parts: CycleParts) {
    this.#parts = parts;
  }

  /**
   * @param ids the secrets to ask for; none: only a publish is due, or a look at what is published.
   * @param isTaken the reload has taken another configuration over, and its templates are already read; the target
   *   hears only of values that the store has changed.
   * @returns undefined where it is stopped before anything is known.
   */
  async run(
    ids: readonly string[],
    request: Request | undefined,
    stop: AbortSignal,
    isTaken = false,
  ): Promise<Round | undefined> {
    const { held, owed } = this.#parts;
    const answer =
      request === "reload"
        ? await fetchOnce(this.#parts, ids, stop)
        : await fetchSettled(this.#parts, ids, request === "hint", stop);
    try {
      if (isAborted(stop)) return undefined;
      if (request === "reload") owed.compareBytes(true);
      this.#note(answer);
      if ((request === "reload" && !isTaken) || owed.areTemplatesUnread)
        await this.#reloadTemplates(answer.changes, request, stop);
      if (isAborted(stop)) return undefined;
      const publish = this.#due(answer.changes);
      const result = await this.#publish(publish, answer.changes, request, stop);
      const round = { ...answer, result };
      const isNews = !isTaken && [...answer.changes.keys()].some((id) => !owed.isAdded(id));
      owed.settle(round);
      if (typeof result === "object") this.#tell(publish, result, isNews);
      else if (request === "reload" && !isTaken) this.#sayUnchanged();
      if (isAborted(stop)) return round;
      // A publish that fails is tried again, and says the same obstacle.
      if (result === "failed") owed.obstruct("mend", undefined);
      else this.mend();
      return round;
    } finally {
      held.release(valuesIn(answer.outcomes));
    }
  }

  /** Restores removed or altered files. The target hears of it only if it may have read other bytes. */
  mend(): void {
    const { log, publisher, held, owed, targets } = this.#parts;
    // A publish of other files is due, and mends what is not right.
    if (owed.files !== undefined || isHalfDone(publisher)) return;
    try {
      const damaged = publisher.repair(held.bytes, owed.areBytesUncompared, !targets.none);
      owed.compareBytes(false);
      owed.obstruct("mend", undefined);
      if (damaged.size === 0) return;
      log.warn("restored published files that somebody removed or altered", {
        files: [...damaged.keys()],
      });
      if ([...damaged.values()].includes("altered")) this.#act([]);
    } catch (error) {
      if (!(error instanceof FatalError)) throw error;
      const why = `removed or altered files are not restored: ${error.message}`;
      if (owed.obstruct("mend", why)) log.error(why);
      if (isHalfDone(publisher)) owed.publishSoon();
    }
  }

  #note({ outcomes, changes }: Answer): void {
    const { held, problems, checked } = this.#parts;
    if (outcomes.size === 0) return;
    for (const [id, outcome] of outcomes) if (isFetched(outcome) && !changes.has(id)) held.confirm(id, outcome);
    problems.note(outcomes, "the published values stay in use");
    if ([...outcomes.values()].every(isAnswered)) checked();
  }

  async #reloadTemplates(
    changes: ReadonlyMap<string, Fetched>,
    request: Request | undefined,
    stop: AbortSignal,
  ): Promise<void> {
    const { log, publisher, held, owed, targets } = this.#parts;
    const values = new Map(held.bytes);
    for (const [id, { value }] of changes) values.set(id, value);
    try {
      await publisher.reloadTemplates(values, stop);
      owed.obstruct("templates", undefined);
      owed.templatesUnread(false);
    } catch (error) {
      if (!(error instanceof FatalError || error instanceof ValueError)) throw error;
      if (isAborted(stop)) return;
      const why = `${error.message}; the templates read before stay in use`;
      if (owed.obstruct("templates", why) || request === "reload") log.error(why);
      // A person must correct a wrong template. A value that it cannot take may change by itself, and a failing file
      // system may recover.
      owed.templatesUnread(error instanceof ValueError || error.exitCode === ExitCode.ioError);
    }
    owed.templatesAre(this.#makeOthers() ? "changed" : "published", !targets.none);
  }

  /** Whether the templates make other files of the same values. */
  #makeOthers(): boolean {
    const { log, publisher, held } = this.#parts;
    try {
      return publisher.outdated(held.bytes).length > 0;
    } catch (error) {
      if (!(error instanceof FatalError)) throw error;
      log.error(error.message);
      // What cannot be read is published again.
      return true;
    }
  }

  /** @returns undefined where nothing is to be published. */
  #due(changes: ReadonlyMap<string, Fetched>): Publish | undefined {
    const { config, publisher, owed } = this.#parts;
    const { halfDone } = publisher;
    if (changes.size === 0 && owed.files === undefined && !halfDone) return undefined;
    const what = owed.files?.what ?? "what was half done";
    const mustHear = ([id, { refreshAfter }]: readonly [string, Fetched]) =>
      !owed.isAdded(id) && (config.reloadOnChange || refreshAfter !== undefined || !owed.isQuiet(id));
    // The target may have read something of a publish that is half done.
    return { what, act: halfDone || owed.files?.act === true || [...changes].some(mustHear) };
  }

  async #publish(
    publish: Publish | undefined,
    changes: ReadonlyMap<string, Fetched>,
    request: Request | undefined,
    stop: AbortSignal,
  ): Promise<PublishResult> {
    if (publish === undefined) return "unchanged";
    const { rotation, targets } = this.#parts;
    return await rotation.publish(changes, publish.act && !targets.none, request === "reload", stop);
  }

  #tell(publish: Publish | undefined, published: ReadonlySet<string>, isNews: boolean): void {
    const { log, owed, targets, published: note } = this.#parts;
    note();
    const ids = [...published];
    const what = ids.length > 0 ? counted(ids.length, "changed secret") : publish?.what;
    log.notice(`published ${what ?? "nothing"}`, { secrets: ids });
    if (publish?.act === true) this.#act(ids);
    else if (isNews && !targets.none) owed.leaveUntold();
  }

  #act(ids: readonly string[]): void {
    const { owed, targets } = this.#parts;
    if (targets.none) return;
    owed.tell();
    targets.request(ids);
  }

  #sayUnchanged(): void {
    const { log, owed, problems, targets } = this.#parts;
    const untold = owed.tell();
    if (untold !== undefined) {
      targets.request([], untold);
      log.notice("fetched again: nothing has changed, but the service may still run with older secrets");
      return;
    }
    const others = (["mend", "care", "templates"] as const).flatMap((what) => owed.obstacleOf(what) ?? []);
    const problem = owed.obstacleOf("publish") ?? problems.summary ?? others[0];
    log.notice(
      `fetched again: ${problem === undefined ? "nothing has changed" : `nothing new is published: ${problem}`}`,
    );
  }
}

function isAnswered(outcome: Outcome): boolean {
  const problem = problemOf(outcome);
  return problem === undefined || problem.kind === "missing";
}

/** A call, because it changes within a publish, which the compiler's narrowing does not know. */
function isHalfDone(publisher: Publisher): boolean {
  return publisher.halfDone;
}
