/** The life of a sidecar: load, publish, READY, then see rotation until it is stopped. */
import { TargetActions } from "../systemd/target-actions.ts";
import { Alarm } from "../runtime/alarm.ts";
import type { Fetched, Outcome } from "../contract/backend.ts";
import { backoff, type Clock, isAborted, jittered, type Random } from "../runtime/clock.ts";
import type { Config } from "../config/config.ts";
import { FatalError } from "../contract/errors.ts";
import { firstLoad } from "./first-load.ts";
import { publishFirst } from "./first-publish.ts";
import { untilQuiet } from "./at-rest.ts";
import { fetchOnce, fetchSettled } from "./fetch.ts";
import { hasLease, HeldValues } from "./held-values.ts";
import { lastHelp } from "./last-help.ts";
import type { Log } from "../runtime/log.ts";
import type { Notifier } from "../systemd/notify.ts";
import { longestRetryAfter, problemOf, Problems } from "./problems.ts";
import type { Found, Publisher } from "../publish/publisher.ts";
import { Retries } from "./retries.ts";
import { RotationPublisher } from "./rotation.ts";
import { counted, statusText } from "./status.ts";
import type { Store } from "./store.ts";
import type { Systemd } from "../systemd/systemctl.ts";
import { ValueError } from "../publish/value.ts";
import { keepWatching } from "./watch.ts";

export interface SidecarParts {
  readonly config: Config;
  readonly store: Store;
  readonly publisher: Publisher;
  readonly notifier: Notifier;
  readonly systemd: Systemd;
  readonly log: Log;
  readonly clock: Clock;
  readonly random: Random;
  /** Called whenever there is nothing more to do for now. */
  readonly idle: () => void;
}

/** Seconds between two looks at the links in /tmp. */
const MAINTENANCE = 60;

type Reason = "hint" | "reload";

/** Why the store is asked. */
type Why = "reload" | "hint" | "poll" | "lease" | "retry";

export class Sidecar {
  readonly #parts: SidecarParts;
  readonly #ids: readonly string[];
  readonly #held: HeldValues;
  readonly #problems: Problems;
  readonly #alarm: Alarm<Reason>;
  readonly #actions: TargetActions;
  readonly #rotation: RotationPublisher;
  readonly #retries: Retries;
  #checkedAt: Date | undefined;
  #ready = false;
  /** µs of CLOCK_MONOTONIC; Infinity: never. */
  #nextPoll = Infinity;
  /** Seconds that the store asked to be left alone. */
  #retryAfter = 0;
  #nextMaintenance = Infinity;
  #leaseFailures = 0;
  /** Why what somebody did to the published set is not mended yet. */
  #damage: string | undefined;
  /** Why templates of before are in use. */
  #templateProblem: string | undefined;

  constructor(parts: SidecarParts) {
    this.#parts = parts;
    const { config, clock, log, store, publisher } = parts;
    this.#ids = config.secrets.map(({ id }) => id);
    this.#held = new HeldValues(clock);
    this.#problems = new Problems(store.name, log, clock);
    this.#alarm = new Alarm(clock);
    this.#actions = new TargetActions({
      ...parts,
      changed: () => {
        this.#tellStatus();
      },
      applied: () => void store.applied(this.#held.versions),
    });
    this.#rotation = new RotationPublisher(config.onChange.verify, publisher, this.#held, log);
    this.#retries = new Retries(clock, parts.random, this.#held);
  }

  /** SIGHUP: fetch everything now. */
  reload(): void {
    this.#alarm.ring("reload");
  }

  /**
   * Runs until `stop` aborts, or with `resident: false` until the first set is published.
   *
   * @returns whether it was published.
   * @throws FatalError where the first set cannot be published; never after READY.
   */
  async run(stop: AbortSignal): Promise<boolean> {
    const { config, publisher, store, notifier } = this.#parts;
    try {
      const found = publisher.recover();
      this.#actions.remember(found);
      await this.#begin(found, stop);
      if (isAborted(stop)) return false;
      // The target starts after this process has ended, and so with what it published.
      if (!config.resident) this.#actions.forget();
      this.#ready = true;
      notifier.ready(this.#status());
      this.#logReady();
      if (!config.resident) return true;
      this.#actions.resume(found);
      const hint = () => {
        this.#alarm.ring("hint");
      };
      const watching = config.reloadOnChange ? keepWatching(this.#parts, hint, stop) : undefined;
      await Promise.all([this.#stay(stop), watching, this.#actions.run(stop)]);
      const status = notifier.status.bind(notifier);
      await lastHelp({ ...this.#parts, held: this.#held, rotation: this.#rotation, actions: this.#actions, status });
      return true;
    } finally {
      await store.close();
      this.#held.clear();
    }
  }

  async #begin(found: Found, stop: AbortSignal): Promise<void> {
    const { clock, notifier } = this.#parts;
    const failed = await firstLoad(
      {
        ...this.#parts,
        held: this.#held,
        problems: this.#problems,
        status: (text) => {
          notifier.status(text);
        },
      },
      found.values,
      stop,
    );
    if (isAborted(stop)) return;
    const adopted = [...failed.keys()].filter((id) => this.#held.has(id));
    if (adopted.length > 0) this.#parts.log.notice("the set published before stays in use", { secrets: adopted });
    if (failed.size === 0) this.#checkedAt = clock.now();
    const result = await publishFirst(
      { ...this.#parts, held: this.#held, rotation: this.#rotation, actions: this.#actions },
      found,
      stop,
    );
    const silent = [...failed.values()].some(({ kind }) => kind === "unavailable");
    this.#retries.await(result === "published" ? failed.keys() : this.#ids, silent || result === "failed");
  }

  async #stay(stop: AbortSignal): Promise<void> {
    const { config, clock, random, store, idle } = this.#parts;
    const interval = config.reloadOnChange ? store.pollingInterval : null;
    // A random phase: sidecars that a boot starts together do not ask together.
    if (interval !== null) this.#nextPoll = clock.monotonic() + random() * interval * 1e6;
    this.#planMaintenance();
    while (!isAborted(stop)) {
      const next = Math.min(this.#nextPoll, this.#retries.at, this.#nextMaintenance);
      const seconds = Math.min((next - clock.monotonic()) / 1e6, this.#held.untilDue());
      const rung = await this.#alarm.wait(Math.max(seconds, 0), stop);
      if (isAborted(stop)) return;
      const now = clock.monotonic();
      if (now >= this.#nextMaintenance) {
        this.#maintain();
        if (this.#damage !== undefined) this.#repair(false);
        this.#tellStatus();
      }
      const poll = now >= this.#nextPoll;
      const retry = now >= this.#retries.at;
      if (poll && interval !== null) this.#nextPoll = now + jittered(interval, random) * 1e6;
      if (rung.has("reload")) await this.#cycle(this.#ids, "reload", stop);
      else if (rung.has("hint")) {
        const asked = await untilQuiet(this.#alarm, clock, config.onChange.settle, stop);
        await this.#cycle(asked ? this.#ids : this.#held.unleased(this.#ids), asked ? "reload" : "hint", stop);
      } else if (poll) await this.#cycle(this.#held.unleased(this.#ids), "poll", stop);
      else if (retry) await this.#cycle(this.#retries.ids, "retry", stop);
      const due = this.#held.due();
      if (due.length > 0 && !isAborted(stop)) await this.#refresh(due, stop);
      idle();
    }
  }

  /** What could not be replaced is not asked for again at once: each answer of the store issues another lease. */
  async #refresh(due: readonly string[], stop: AbortSignal): Promise<void> {
    const { random } = this.#parts;
    await this.#cycle(due, "lease", stop);
    const now = new Set(this.#held.due());
    const still = due.filter((id) => now.has(id));
    this.#leaseFailures = still.length === 0 ? 0 : this.#leaseFailures + 1;
    const unpublished = this.#rotation.problem !== undefined;
    this.#held.postpone(still, unpublished ? MAINTENANCE : backoff(this.#leaseFailures + 1, random, this.#retryAfter));
  }

  /** Whatever fails, what is published stays. A publish that fails now is tried again, and says the same obstacle. */
  async #cycle(ids: readonly string[], why: Why, stop: AbortSignal): Promise<void> {
    const result = await this.#rotate(ids, why, stop);
    if (isAborted(stop)) return;
    if (result === "failed") this.#damage = undefined;
    else this.#repair(why === "reload");
    this.#planMaintenance();
    this.#tellStatus();
  }

  /** fetch → compare → verify → publish → act. */
  async #rotate(ids: readonly string[], why: Why, stop: AbortSignal): Promise<string | readonly string[]> {
    const { log, publisher } = this.#parts;
    if (why !== "lease") this.#retries.cancel();
    const { halfDone } = publisher;
    if (ids.length === 0 && this.#rotation.due === undefined && !halfDone) return "unchanged";
    const parts = { ...this.#parts, held: this.#held };
    const outcomes =
      why === "reload" || why === "lease"
        ? await fetchOnce(parts, ids, stop)
        : await fetchSettled(parts, ids, why === "hint", stop);
    if (isAborted(stop)) return "unchanged";
    const changes = this.#held.changesIn(outcomes);
    if (ids.length > 0) this.#note(outcomes);
    if (why === "reload") await this.#reloadTemplates(changes);
    const { due } = this.#rotation;
    const act = !this.#actions.none && (halfDone || due?.act === true || this.#mustAct(why, changes));
    const needed = changes.size > 0 || due !== undefined || halfDone;
    const result = needed ? await this.#rotation.publish(changes, act, why === "reload", stop) : "unchanged";
    if (result === "unchanged") this.#rotation.unchanged(outcomes);
    const published = typeof result === "string" ? [] : result;
    const kept = new Set(published);
    this.#retries.published(result === "refused" ? [...changes.keys()] : published);
    for (const [id, { value }] of changes) if (!kept.has(id)) value.fill(0);
    if (why !== "lease")
      this.#retries.plan({
        outcomes,
        unpublished: result === "failed" ? [...changes.keys()] : undefined,
        isLeaseRefused: result === "refused" && hasLease(changes),
        unpublishedLeases:
          result === "failed" ? [...changes].flatMap(([id, it]) => (it.refreshAfter === undefined ? [] : [id])) : [],
        isAsked: why === "reload",
        retryAfter: this.#retryAfter,
      });
    if (typeof result !== "string") {
      const what =
        published.length > 0 ? counted(published.length, "changed secret") : (due?.what ?? "what was half done");
      log.notice(`published ${what}`, { secrets: published });
      if (act) this.#actions.request(published);
      else if (published.length > 0) this.#actions.leaveUntold();
    } else if (why === "reload") {
      const late = this.#actions.tellLate();
      const problem = this.#rotation.problem ?? this.#problems.summary ?? this.#templateProblem;
      if (late) log.notice("fetched again: nothing has changed, but the service may not have had it yet");
      else if (problem === undefined) log.notice("fetched again: nothing has changed");
      else log.notice(`fetched again: nothing new is published: ${problem}`);
    }
    if (why === "reload") publisher.maintain();
    return result;
  }

  async #reloadTemplates(changes: ReadonlyMap<string, Fetched>): Promise<void> {
    const { log, publisher } = this.#parts;
    const values = new Map(this.#held.bytes);
    for (const [id, { value }] of changes) values.set(id, value);
    try {
      await publisher.reloadTemplates(values);
      this.#templateProblem = undefined;
    } catch (error) {
      if (!(error instanceof FatalError || error instanceof ValueError)) throw error;
      this.#templateProblem = `${error.message}; the templates read before stay in use`;
      log.error(this.#templateProblem);
    }
    let makeOthers: boolean;
    try {
      makeOthers = publisher.outdated(this.#held.bytes).length > 0;
    } catch (error) {
      if (!(error instanceof FatalError)) throw error;
      log.error(error.message);
      // What cannot be read is published again.
      makeOthers = true;
    }
    this.#rotation.templatesAre(makeOthers ? "changed" : "published", !this.#actions.none);
  }

  #note(outcomes: ReadonlyMap<string, Outcome>): void {
    this.#problems.note(outcomes, "what is published stays");
    const problems = [...outcomes.values()].flatMap((outcome) => problemOf(outcome) ?? []);
    this.#retryAfter = longestRetryAfter(problems);
    if (problems.every(({ kind }) => kind === "missing")) this.#checkedAt = this.#parts.clock.now();
  }

  /** Without reloadOnChange, what the store has of what the start could not get is no reason to touch the target. */
  #mustAct(why: Why, changes: ReadonlyMap<string, Fetched>): boolean {
    if (why !== "retry" || this.#parts.config.reloadOnChange) return changes.size > 0;
    return hasLease(changes) || [...changes.keys()].some((id) => !this.#retries.isQuiet(id));
  }

  /** Mends what somebody removed or altered. The target hears of it only where it may have read other bytes. */
  #repair(whole: boolean): void {
    const { clock, log, publisher } = this.#parts;
    // Other files are due of the same values: the publish mends what is not right.
    if (this.#rotation.due !== undefined || publisher.halfDone) return;
    try {
      const damaged = publisher.repair(this.#held.bytes, whole, !this.#actions.none);
      this.#damage = undefined;
      if (damaged.size === 0) return;
      log.warn("somebody removed or altered published files: they are as they were again", {
        files: [...damaged.keys()],
      });
      if (!this.#actions.none && [...damaged.values()].includes("altered")) this.#actions.request([]);
    } catch (error) {
      if (!(error instanceof FatalError)) throw error;
      const damage = `what somebody removed or altered is not mended: ${error.message}`;
      if (damage !== this.#damage) log.error(damage);
      this.#damage = damage;
      this.#nextMaintenance = Math.min(this.#nextMaintenance, clock.monotonic() + MAINTENANCE * 1e6);
    }
  }

  #maintain(): void {
    this.#parts.publisher.maintain();
    this.#nextMaintenance = Infinity;
    this.#planMaintenance();
  }

  #planMaintenance(): void {
    const { clock, publisher } = this.#parts;
    if (publisher.needsCare)
      this.#nextMaintenance = Math.min(this.#nextMaintenance, clock.monotonic() + MAINTENANCE * 1e6);
  }

  #tellStatus(): void {
    if (this.#ready) this.#parts.notifier.status(this.#status());
  }

  #status(): string {
    const { store, publisher } = this.#parts;
    return statusText(store.name, this.#held.versions, this.#checkedAt, [
      this.#problems.summary,
      this.#rotation.problem,
      this.#damage,
      publisher.problem,
      this.#templateProblem,
      ...this.#actions.statuses,
    ]);
  }

  #logReady(): void {
    const { log, store, publisher, notifier } = this.#parts;
    const files = publisher.directory;
    log.info(`ready: ${counted(this.#held.size, "secret")} from ${store.name}`, {
      directory: files,
      notify: notifier.how,
    });
  }
}
