/** The life of a sidecar: load, publish, READY, then see rotation until it is stopped. */
import { TargetAction } from "./action.ts";
import { Alarm } from "./alarm.ts";
import type { Outcome } from "./backend.ts";
import { backoff, type Clock, clockTime, isAborted, jittered, type Random } from "./clock.ts";
import type { Config } from "./config.ts";
import { FatalError } from "./errors.ts";
import { firstLoad } from "./first-load.ts";
import { HeldValues } from "./held.ts";
import type { Log } from "./log.ts";
import type { Notifier } from "./notify.ts";
import { Problems } from "./problems.ts";
import type { Found, Publisher } from "./publisher.ts";
import { RotationPublisher } from "./rotation.ts";
import type { Store } from "./store.ts";
import type { Systemd } from "./systemd.ts";

export interface SidecarParts {
  readonly config: Config;
  readonly store: Store;
  readonly publisher: Publisher;
  readonly notifier: Notifier;
  readonly systemd: Systemd;
  readonly log: Log;
  readonly clock: Clock;
  readonly random: Random;
}

/** Seconds between two looks at the links in /tmp, and before a broken watch is tried again. */
const MAINTENANCE = 60;

type Reason = "hint" | "reload" | "status";

export class Sidecar {
  readonly #parts: SidecarParts;
  readonly #ids: readonly string[];
  readonly #held: HeldValues;
  readonly #problems: Problems;
  readonly #alarm: Alarm<Reason>;
  readonly #actions: readonly TargetAction[];
  readonly #rotation: RotationPublisher;
  #checkedAt: Date;
  #ready = false;
  /** µs of CLOCK_MONOTONIC; Infinity: never. */
  #nextPoll = Infinity;
  #nextRetry = Infinity;
  #nextMaintenance = Infinity;
  #failures = 0;

  constructor(parts: SidecarParts) {
    this.#parts = parts;
    const { config, clock, log, store, random, systemd, publisher } = parts;
    this.#ids = config.secrets.map(({ id }) => id);
    this.#held = new HeldValues(clock);
    this.#problems = new Problems(store.name, log, clock);
    this.#alarm = new Alarm(clock);
    this.#checkedAt = clock.now();
    const { onChange } = config;
    const changed = () => {
      this.#tellStatus();
    };
    this.#actions =
      onChange.action === "none"
        ? []
        : config.targets.map((unit) => new TargetAction(unit, { onChange, systemd, clock, random, log, changed }));
    this.#rotation = new RotationPublisher(config.onChange.verify, publisher, this.#held, log);
  }

  /** SIGHUP: fetch everything now. */
  reload(): void {
    this.#alarm.ring("reload");
  }

  /**
   * Runs until `stop` aborts.
   *
   * @throws FatalError where the first set cannot be published; never after READY.
   */
  async run(stop: AbortSignal): Promise<void> {
    const { publisher, store, notifier } = this.#parts;
    try {
      const found = publisher.recover();
      await this.#begin(found, stop);
      if (isAborted(stop)) return;
      this.#ready = true;
      notifier.ready(this.#status());
      this.#logReady();
      this.#resumePending(found);
      await Promise.all([
        this.#stay(stop),
        this.#watch(stop),
        ...this.#actions.map((action) => this.#act(action, stop)),
      ]);
    } finally {
      await store.close();
      this.#held.clear();
    }
  }

  async #begin(found: Found, stop: AbortSignal): Promise<void> {
    const { config, clock, notifier, publisher } = this.#parts;
    const adopted = await firstLoad(
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
    if (adopted.length > 0) this.#parts.log.notice("the set published before stays in use", { secrets: adopted });
    else this.#checkedAt = clock.now();
    const differs = found.values !== undefined && this.#differsFrom(found.values);
    const act = differs && config.reloadOnChange && this.#actions.length > 0;
    publisher.stage(this.#held.bytes, act).commit();
    if (act) this.#request(this.#ids);
  }

  #differsFrom(published: ReadonlyMap<string, Buffer>): boolean {
    return this.#ids.some((id) => {
      const now = this.#held.get(id)?.value;
      const then = published.get(id);
      return now === undefined ? then !== undefined : then?.equals(now) !== true;
    });
  }

  /** An action that a crash kept from being done is done now, unless the target has started since. */
  #resumePending({ pending }: Found): void {
    const { publisher, clock } = this.#parts;
    if (pending === undefined) return;
    if (this.#actions.length === 0) publisher.setPending(null);
    else if (this.#actions.every(({ idle }) => idle))
      for (const action of this.#actions) action.request(pending.publishedAt ?? clock.monotonic());
  }

  async #stay(stop: AbortSignal): Promise<void> {
    const { config, clock, random, publisher, store } = this.#parts;
    const interval = config.reloadOnChange ? store.pollingInterval : null;
    // A random phase: sidecars that a boot starts together do not ask together.
    if (interval !== null) this.#nextPoll = clock.monotonic() + random() * interval * 1e6;
    if (publisher.hasLinks) this.#nextMaintenance = clock.monotonic() + MAINTENANCE * 1e6;
    while (!isAborted(stop)) {
      const next = Math.min(this.#nextPoll, this.#nextRetry, this.#nextMaintenance);
      const seconds = Math.min((next - clock.monotonic()) / 1e6, this.#held.untilDue());
      const rung = await this.#alarm.wait(Math.max(seconds, 0), stop);
      if (isAborted(stop)) return;
      const now = clock.monotonic();
      if (now >= this.#nextMaintenance) this.#maintain();
      const poll = now >= this.#nextPoll;
      const retry = now >= this.#nextRetry;
      if (poll && interval !== null) this.#nextPoll = now + jittered(interval, random) * 1e6;
      if (rung.has("reload")) await this.#cycle(this.#ids, "reload", stop);
      else if (rung.has("hint")) {
        await clock.sleep(config.onChange.settle, stop);
        await this.#cycle(this.#held.unleased(this.#ids), "hint", stop);
      } else if (poll || retry) await this.#cycle(this.#held.unleased(this.#ids), "poll", stop);
      const due = this.#held.due();
      if (due.length > 0) await this.#cycle(due, "lease", stop);
    }
  }

  /** fetch → compare → verify → publish → act. Whatever fails, what is published stays. */
  async #cycle(ids: readonly string[], why: "reload" | "hint" | "poll" | "lease", stop: AbortSignal): Promise<void> {
    const { config, clock, log, publisher, store } = this.#parts;
    this.#nextRetry = Infinity;
    const outcomes = new Map(await store.fetch(ids, stop));
    if (isAborted(stop)) return;
    let changes = this.#held.changesIn(outcomes);
    if (changes.size > 0 && why === "poll" && config.onChange.settle > 0) {
      // Others may be changing now: what changes within `settle` goes out together.
      await clock.sleep(config.onChange.settle, stop);
      for (const [id, outcome] of await store.fetch(ids, stop))
        if (!changes.has(id) || ("status" in outcome && outcome.status === "value")) outcomes.set(id, outcome);
      if (isAborted(stop)) return;
      changes = this.#held.changesIn(outcomes);
    }
    this.#note(outcomes);
    const act = this.#actions.length > 0;
    const result =
      changes.size === 0 ? "unchanged" : await this.#rotation.publish(changes, act, why === "reload", stop);
    if (result === "failed") this.#retrySoon();
    if (result === "published") {
      log.notice(`published ${changes.size} changed secret${changes.size === 1 ? "" : "s"}`, {
        secrets: [...changes.keys()],
      });
      if (act) this.#request([...changes.keys()]);
    } else if (why === "reload") log.notice("fetched again: nothing has changed");
    if (why === "reload" && publisher.hasLinks) this.#maintain();
    this.#tellStatus();
  }

  #note(outcomes: ReadonlyMap<string, Outcome>): void {
    const { clock } = this.#parts;
    this.#problems.note(outcomes, "what is published stays");
    const failed = [...outcomes.values()].some((outcome) => !("status" in outcome));
    if (!failed) {
      this.#failures = 0;
      this.#checkedAt = clock.now();
    } else this.#retrySoon();
  }

  /** Sooner than the next poll, which may be an hour away, or never come. */
  #retrySoon(): void {
    const { clock, random } = this.#parts;
    this.#failures += 1;
    this.#nextRetry = clock.monotonic() + backoff(this.#failures + 1, random) * 1e6;
  }

  #request(ids: readonly string[]): void {
    const { clock, publisher, log } = this.#parts;
    const publishedAt = clock.monotonic();
    try {
      publisher.setPending(publishedAt);
    } catch (error) {
      // The mark that is on disk already has no time: at worst the action is done twice after a crash.
      log.warn(error instanceof Error ? error.message : "cannot write the mark of the pending action");
    }
    log.debug("asking for the action", { secrets: ids });
    for (const action of this.#actions) action.request(publishedAt);
  }

  async #act(action: TargetAction, stop: AbortSignal): Promise<void> {
    const { publisher, store, log } = this.#parts;
    await action.run(stop, () => {
      if (!this.#actions.every(({ idle }) => idle)) return;
      try {
        publisher.setPending(null);
      } catch (error) {
        log.warn(error instanceof Error ? error.message : "cannot clear the mark of the pending action");
      }
      void store.applied(this.#held.versions);
    });
  }

  /** A watch that breaks is tried again now and then; polling goes on all the time. */
  async #watch(stop: AbortSignal): Promise<void> {
    const { config, store, clock, log } = this.#parts;
    if (!config.reloadOnChange || store.watch === undefined) return;
    for (let failed = false; !isAborted(stop); failed = true) {
      try {
        await store.watch(() => {
          this.#alarm.ring("hint");
        }, stop);
      } catch (error) {
        const why = error instanceof Error ? error.message : "failed";
        log[failed ? "debug" : "warn"](`${store.name}: cannot watch: ${why}; polling goes on`);
      }
      if (!isAborted(stop)) await clock.sleep(MAINTENANCE, stop);
    }
  }

  #maintain(): void {
    const { clock, log, publisher } = this.#parts;
    this.#nextMaintenance = clock.monotonic() + MAINTENANCE * 1e6;
    try {
      publisher.maintain();
    } catch (error) {
      log.error(error instanceof FatalError ? error.message : "cannot mend the links");
    }
  }

  #tellStatus(): void {
    if (this.#ready) this.#parts.notifier.status(this.#status());
  }

  /** `3 secrets from vault, version 63, checked at 12:03:11`, and what is wrong or under way. */
  #status(): string {
    const { store } = this.#parts;
    const versions = new Set(this.#held.versions.values());
    const [version = ""] = versions;
    const count = `${this.#held.size} secret${this.#held.size === 1 ? "" : "s"} from ${store.name}`;
    const known = versions.size === 1 && version.length <= 40 ? `, version ${version}` : "";
    return [
      `${count}${known}, checked at ${clockTime(this.#checkedAt)}`,
      this.#problems.summary,
      this.#rotation.problem,
      ...this.#actions.map(({ status }) => status),
    ]
      .filter((part) => part !== undefined)
      .join("; ");
  }

  #logReady(): void {
    const { log, store, publisher, notifier } = this.#parts;
    const files = publisher.directory;
    log.info(`ready: ${this.#held.size} secrets from ${store.name}`, { directory: files, notify: notifier.how });
  }
}
