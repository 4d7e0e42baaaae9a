/**
 * What is still to be done, in one value: every event adds to it, the loop's timer and STATUS follow from it, and only
 * success takes from it. The target keeps what it must still hear (`systemd/one-target`): it has its own pace, and
 * a mark on disk.
 */
import { backoff, type Clock, type Random } from "../runtime/clock.ts";
import { AskTimes, type Request, type Round } from "./ask-times.ts";
import type { HeldValues } from "./held-values.ts";
import { problemOf } from "./problems.ts";

/** Seconds between two looks at what others may have done, and at what failed before. */
const LOOK = 60;

/**
 * What we look at now and then: links and leftovers, files that are not mended, the mark of an action, the
 * configuration's file.
 */
export type Look = "care" | "mend" | "mark" | "configuration";

/** What an obstacle blocks; STATUS has them in this order. */
const obstructed = ["publish", "mend", "care", "templates", "configuration"] as const;
type Obstructed = (typeof obstructed)[number];

export class Owed {
  readonly #asks: AskTimes;
  readonly #clock: Clock;
  readonly #random: Random;
  /** Ids whose newest values are not published. */
  #unpublished: readonly string[] = [];
  /** Values that the store had and no set could take. Another set may, and nothing else asks for them. */
  readonly #leftBehind = new Set<string>();
  /** A publish of other files with the same values is due. */
  #templates: { readonly act: boolean } | undefined;
  /** Somebody asked us to read the templates, and they cannot take the present values. */
  #templatesUnread = false;
  #bytes = false;
  #settings = false;
  /**
   * Secrets that a configuration added while the target runs, until their first value: the target does not know them
   * yet.
   */
  readonly #added = new Set<string>();
  /** The digest of the set that was refused: only another set is worth a try. */
  #refused: string | undefined;
  /** µs of CLOCK_MONOTONIC of the next try after a failed publish; Infinity: none has failed. */
  #publishAt = Infinity;
  #publishFailures = 0;
  readonly #looks = new Set<Look>();
  /** µs of CLOCK_MONOTONIC. */
  #lookAt = Infinity;
  /** When a set was published that the target hears of only at the next reload, in µs of CLOCK_MONOTONIC. */
  #untold: number | undefined;
  readonly #obstacles = new Map<Obstructed, string>();

  /** @param ids all secrets. */
  constructor(ids: readonly string[], held: HeldValues, clock: Clock, random: Random) {
    this.#asks = new AskTimes(ids, held, clock, random);
    this.#clock = clock;
    this.#random = random;
  }

  /** Seconds until something is due; Infinity: nothing is, unless an event adds to it. */
  get seconds(): number {
    const next = Math.min(this.#asks.next, this.#publishAt, this.#lookAt);
    return Math.max(0, next - this.#clock.monotonic()) / 1e6;
  }

  /** For STATUS=. */
  get obstacles(): readonly string[] {
    return obstructed.flatMap((what) => this.#obstacles.get(what) ?? []);
  }

  obstacleOf(what: Obstructed): string | undefined {
    return this.#obstacles.get(what);
  }

  /** Somebody asked for all bytes to be compared, which is owed until it is done. */
  compareBytes(isOwed: boolean): void {
    this.#bytes = isOwed;
  }

  get areBytesUncompared(): boolean {
    return this.#bytes;
  }

  /** @param why undefined: nothing is in the way any more. @returns whether that is news. */
  obstruct(what: Obstructed, why: string | undefined): boolean {
    const isNews = why !== this.#obstacles.get(what);
    if (why === undefined) this.#obstacles.delete(what);
    else this.#obstacles.set(what, why);
    if (what === "mend") this.look("mend", why !== undefined);
    return isNews && why !== undefined;
  }

  /**
   * Another configuration is in charge: drops what was owed to the earlier one.
   *
   * @param ids all secrets.
   * @param required those that the target cannot do without.
   * @param added those that are new.
   */
  secretsAre(ids: readonly string[], required: ReadonlySet<string>, added: readonly string[]): void {
    this.#asks.secretsAre(ids, required);
    this.#unpublished = this.#unpublished.filter((id) => ids.includes(id));
    for (const of of [this.#added, this.#leftBehind]) for (const id of of) if (!ids.includes(id)) of.delete(id);
    for (const id of added) this.#added.add(id);
    this.#refused = undefined;
    this.#templates = undefined;
    this.#templatesUnread = false;
    this.obstruct("templates", undefined);
  }

  /** Whether a running target does not know of this secret yet, so that its value is no news to it. */
  isAdded(id: string): boolean {
    return this.#added.has(id);
  }

  /** Polls the store for all secrets. @param interval seconds; Infinity: never */
  poll(interval: number): void {
    this.#asks.poll(interval);
  }

  /** µs of CLOCK_MONOTONIC of the next poll; Infinity: there is none. */
  get pollAt(): number {
    return this.#asks.pollAt;
  }

  /** Polls at another time. @param at µs of CLOCK_MONOTONIC */
  pollAtTime(at: number): void {
    this.#asks.pollAtTime(at);
  }

  /** What the start could not get. @param isSoon the store was silent, and may answer any moment. */
  missedByStart(ids: Iterable<string>, isSoon: boolean): void {
    this.#asks.missedByStart(ids, isSoon);
  }

  /** @returns the ids to ask the store for now, none where only a publish is due; undefined: no round is due. */
  due(request: Request | undefined): readonly string[] | undefined {
    return this.#asks.due(request) ?? (this.#clock.monotonic() >= this.#publishAt ? [] : undefined);
  }

  /** Whether only the start wanted it: its arrival does not touch the target. */
  isQuiet(id: string): boolean {
    return this.#asks.isQuiet(id);
  }

  /** The ids whose values wait to be published. */
  toPublish(ids: readonly string[]): void {
    this.#unpublished = ids;
  }

  /** The settings may make other files of the same values than the published ones. */
  settingsMayDiffer(): void {
    this.#settings = true;
  }

  /** Whether to read the templates again, with other values. */
  templatesUnread(isUnread: boolean): void {
    this.#templatesUnread = isUnread;
  }

  get areTemplatesUnread(): boolean {
    return this.#templatesUnread;
  }

  /** @param act the target must hear of it. */
  templatesAre(what: "changed" | "published", act: boolean): void {
    this.#templates = what === "changed" ? { act } : undefined;
  }

  /** The reason for a publish though no value has changed; undefined: none is due. */
  get files(): { readonly what: string; readonly act: boolean } | undefined {
    if (this.#templates !== undefined) return { what: "changed templates", act: this.#templates.act };
    return this.#settings ? { what: "changed settings", act: false } : undefined;
  }

  /** Do not try the set of this digest again before something changes. */
  refuse(digest: string): void {
    this.#refused = digest;
  }

  get refused(): string | undefined {
    return this.#refused;
  }

  isRefused(digest: string): boolean {
    return this.#refused === digest;
  }

  /** A publish is half done, though no value has changed. */
  publishSoon(): void {
    this.#publishFailures += 1;
    this.#publishAt = this.#clock.monotonic() + backoff(this.#publishFailures + 1, this.#random) * 1e6;
  }

  /** Removes what is done now, and plans the rest. */
  settle(round: Round): void {
    const { outcomes, result } = round;
    if (typeof result !== "string") for (const id of result) this.#added.delete(id);
    this.#publishFailures = result === "failed" ? this.#publishFailures + 1 : 0;
    const seconds = this.#asks.settle(round, this.#publishFailures);
    this.#publishAt = result === "failed" ? this.#clock.monotonic() + seconds * 1e6 : Infinity;
    this.#askForLeftBehind(round);
    // Where the store is back at what is published. Of what it was not asked for, or does not give, we know nothing.
    const isBack = (id: string) =>
      outcomes.has(id) && !round.changes.has(id) && problemOf(outcomes.get(id)) === undefined;
    this.#unpublished = this.#unpublished.filter((id) => !isBack(id));
    const isDone = result === "unchanged" || typeof result !== "string";
    if (isDone && this.#unpublished.length === 0) this.published();
  }

  #askForLeftBehind({ outcomes, changes, result }: Round): void {
    const isPublished = typeof result !== "string";
    for (const id of outcomes.keys()) this.#leftBehind.delete(id);
    if (isPublished && this.#leftBehind.size > 0) {
      this.#asks.askNow(this.#leftBehind);
      this.#leftBehind.clear();
    }
    for (const id of changes.keys())
      if (result === "refused" || (isPublished && !result.has(id))) this.#leftBehind.add(id);
  }

  /** All that the store has is in the files. */
  published(): void {
    this.#unpublished = [];
    this.filesPublished();
  }

  /** All that is held is in the files, but perhaps not the newest values of the store. */
  filesPublished(): void {
    this.#templates = undefined;
    this.#settings = false;
    if (this.#unpublished.length > 0) return;
    this.#refused = undefined;
    this.obstruct("publish", undefined);
  }

  /** @param isOwed whether to look at it now and then, until another call says no. */
  look(what: Look, isOwed: boolean): void {
    if (isOwed) this.#looks.add(what);
    else this.#looks.delete(what);
    if (this.#looks.size === 0) this.#lookAt = Infinity;
    else if (this.#lookAt === Infinity) this.#lookAgain();
  }

  /** @returns what to look at now. */
  looks(): ReadonlySet<Look> {
    if (this.#clock.monotonic() < this.#lookAt) return new Set();
    this.#lookAgain();
    return new Set(this.#looks);
  }

  #lookAgain(): void {
    this.#lookAt = this.#clock.monotonic() + LOOK * 1e6;
  }

  /** A set was published, and the target hears of it only at a reload. */
  leaveUntold(): void {
    this.#untold = this.#clock.monotonic();
  }

  /** The target is being told. @returns when the set was published that it had not heard of. */
  tell(): number | undefined {
    const untold = this.#untold;
    this.#untold = undefined;
    return untold;
  }
}
