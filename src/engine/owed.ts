/**
 * What is still to be done, in one value: every event adds to it, the loop's timer and STATUS follow from it, and only
 * success takes from it. What a target must still be told is with the target, which has a pace of its own
 * (`systemd/one-target`), and is marked on disk.
 */
import { backoff, type Clock, type Random } from "../runtime/clock.ts";
import { AskTimes, type Request, type Round } from "./ask-times.ts";
import type { HeldValues } from "./held-values.ts";
import { problemOf } from "./problems.ts";

/** Seconds between two looks at what others may have done, and at what could not be done before. */
const LOOK = 60;

/** What is looked at now and then: links and leftovers, files that are not mended, the mark of an action, the configuration's file. */
export type Look = "care" | "mend" | "mark" | "configuration";

/** What an obstacle stands in the way of; STATUS has them in this order. */
const obstructed = ["publish", "mend", "care", "templates", "configuration"] as const;
type Obstructed = (typeof obstructed)[number];

export class Owed {
  readonly #asks: AskTimes;
  readonly #clock: Clock;
  readonly #random: Random;
  /** Ids whose newest values are not published. */
  #unpublished: readonly string[] = [];
  /** What the store had and no set could take. Another set may, and nobody may ask for these otherwise. */
  readonly #leftBehind = new Set<string>();
  /** Other files are to be made of the same values. */
  #templates: { readonly act: boolean } | undefined;
  /** Somebody asked for the templates to be read, and they cannot take the values that there are. */
  #templatesUnread = false;
  #bytes = false;
  #settings = false;
  /** Secrets that a configuration added while the target runs, until their first value: it does not know of them yet. */
  readonly #added = new Set<string>();
  /** The digest of the set that was refused: only another one is worth a try. */
  #refused: string | undefined;
  /** µs of CLOCK_MONOTONIC at which a publish that failed is tried again; Infinity: none has. */
  #publishAt = Infinity;
  #publishFailures = 0;
  readonly #looks = new Set<Look>();
  /** µs of CLOCK_MONOTONIC. */
  #lookAt = Infinity;
  /** When a set was published that the target is to be told of by the next reload, in µs of CLOCK_MONOTONIC. */
  #untold: number | undefined;
  readonly #obstacles = new Map<Obstructed, string>();

  /** @param ids all secrets. */
  constructor(ids: readonly string[], held: HeldValues, clock: Clock, random: Random) {
    this.#asks = new AskTimes(ids, held, clock, random);
    this.#clock = clock;
    this.#random = random;
  }

  /** Seconds until something is to be done; Infinity: nothing is owed but what an event may add. */
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

  /** Somebody asked that all bytes are compared, which is owed until it is done. */
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
   * Another configuration is in charge: what was owed to an earlier one is so no more.
   *
   * @param ids all secrets. @param required those of them that the target cannot do without. @param added those of them that are new.
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

  /** Asks the store for all secrets again and again. @param interval seconds; Infinity: never */
  poll(interval: number): void {
    this.#asks.poll(interval);
  }

  /** What the start could not get. @param isSoon the store was silent, and may answer any moment. */
  missedByStart(ids: Iterable<string>, isSoon: boolean): void {
    this.#asks.missedByStart(ids, isSoon);
  }

  /** @returns what the store is to be asked for now, which is nothing where only a publish is due; undefined: no round is. */
  due(request: Request | undefined): readonly string[] | undefined {
    return this.#asks.due(request) ?? (this.#clock.monotonic() >= this.#publishAt ? [] : undefined);
  }

  /** Whether only the start wanted it: its arrival is no reason to touch the target. */
  isQuiet(id: string): boolean {
    return this.#asks.isQuiet(id);
  }

  /** Values that are to be published. */
  toPublish(ids: readonly string[]): void {
    this.#unpublished = ids;
  }

  /** Settings may make other files of the same values than are published. */
  settingsMayDiffer(): void {
    this.#settings = true;
  }

  /** Templates are to be read again, with other values. */
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

  /** Of what a publish is due, though no value has changed; undefined: of nothing. */
  get files(): { readonly what: string; readonly act: boolean } | undefined {
    if (this.#templates !== undefined) return { what: "changed templates", act: this.#templates.act };
    return this.#settings ? { what: "changed settings", act: false } : undefined;
  }

  /** The set of this digest is not to be tried again before something changes. */
  refuse(digest: string): void {
    this.#refused = digest;
  }

  get refused(): string | undefined {
    return this.#refused;
  }

  isRefused(digest: string): boolean {
    return this.#refused === digest;
  }

  /** Something of a publish is half done, though no value has changed. */
  publishSoon(): void {
    this.#publishFailures += 1;
    this.#publishAt = this.#clock.monotonic() + backoff(this.#publishFailures + 1, this.#random) * 1e6;
  }

  /** Takes what is done now, and plans what is not. */
  settle(round: Round): void {
    const { outcomes, result } = round;
    if (typeof result !== "string") for (const id of result) this.#added.delete(id);
    this.#publishFailures = result === "failed" ? this.#publishFailures + 1 : 0;
    const seconds = this.#asks.settle(round, this.#publishFailures);
    this.#publishAt = result === "failed" ? this.#clock.monotonic() + seconds * 1e6 : Infinity;
    this.#askForLeftBehind(round);
    // The store is back at what is published.
    if (result === "unchanged" && this.#unpublished.every((id) => problemOf(outcomes.get(id)) === undefined))
      this.published();
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

  /** All that is held is in the files. */
  published(): void {
    this.#unpublished = [];
    this.#templates = undefined;
    this.#settings = false;
    this.#refused = undefined;
    this.obstruct("publish", undefined);
  }

  /** @param isOwed whether it is to be looked at now and then, until it is said not to be. */
  look(what: Look, isOwed: boolean): void {
    if (isOwed) this.#looks.add(what);
    else this.#looks.delete(what);
    if (this.#looks.size === 0) this.#lookAt = Infinity;
    else if (this.#lookAt === Infinity) this.#lookAgain();
  }

  /** @returns what is to be looked at now. */
  looks(): ReadonlySet<Look> {
    if (this.#clock.monotonic() < this.#lookAt) return new Set();
    this.#lookAgain();
    return new Set(this.#looks);
  }

  #lookAgain(): void {
    this.#lookAt = this.#clock.monotonic() + LOOK * 1e6;
  }

  /** A set was published, and the target is not told of it unless somebody reloads. */
  leaveUntold(): void {
    this.#untold = this.#clock.monotonic();
  }

  /** The target is being told. @returns when the set was published that it had not been told of. */
  tell(): number | undefined {
    const untold = this.#untold;
    this.#untold = undefined;
    return untold;
  }
}
