/** The life of a sidecar: load, publish, READY, then watch for rotation until it is stopped. */
import { Alarm } from "../runtime/alarm.ts";
import type { Request, Round } from "./ask-times.ts";
import { untilQuiet } from "./settle.ts";
import { type Clock, isAborted, type Random } from "../runtime/clock.ts";
import type { Config } from "../config/config.ts";
import type { Configuration } from "./configuration.ts";
import { Cycle } from "./cycle.ts";
import type { TellFacts } from "./facts.ts";
import { firstLoad } from "./first-load.ts";
import { publishFirst } from "./first-publish.ts";
import { HeldValues } from "./held-values.ts";
import { helpBrokenService } from "./broken-service.ts";
import type { LookoutParts, Lookouts } from "./lookouts.ts";
import type { Log } from "../runtime/log.ts";
import { look, type LookParts, type Memory } from "./look.ts";
import type { ReloadRequest } from "../systemd/reload-desk.ts";
import type { Notifier } from "../systemd/notify.ts";
import { type AskAnother, type OpenedTargets, openTargets } from "./open-targets.ts";
import { type Look, Owed } from "./owed.ts";
import { Problems } from "./problems.ts";
import type { Found, Publisher } from "../publish/publisher.ts";
import { RotationPublisher } from "./rotation.ts";
import { Rounds } from "./rounds.ts";
import { counted, statusText } from "./status.ts";
import type { Store } from "./store.ts";
import type { Systemd } from "../systemd/systemctl.ts";
import { Takeover, type TakeoverParts } from "./takeover.ts";
import type { Targets } from "../systemd/targets.ts";
import { soonAfter, waitFor } from "../contract/bounded-wait.ts";
import { Watching } from "./watch.ts";

/** Seconds between two looks at the file of the configuration, however often the store is asked. */
const LOOK_PAUSE = 30;
/** Seconds in which STATUS does not say again that all is as it was, only checked later. Polls behind a lookout are rarer. */
const STATUS_PAUSE = 26;

export interface SidecarParts {
  readonly config: Config;
  readonly store: Store;
  readonly publisher: Publisher;
  readonly notifier: Notifier;
  readonly systemd: Systemd;
  /** Where another unit acts for this process; undefined: it acts itself. */
  readonly ask?: AskAnother | undefined;
  readonly log: Log;
  readonly clock: Clock;
  readonly random: Random;
  /** Called whenever there is nothing more to do for now. */
  readonly idle: () => void;
  /** For `fetcher status`. */
  readonly facts?: TellFacts | undefined;
  /** Where a reload gets another configuration; undefined: there is only this one. */
  readonly configuration?: Configuration | undefined;
  /** This program's version. */
  readonly version?: string | undefined;
}

/** Seconds to wait after a stop for what is in progress: a program that it waits for may hang. */
const STOP_LIMIT = 0.2;

/** `look`: something new needs a look after a while. */
type Reason = Request | "look";

export class Sidecar {
  /** One object that all share: a reload replaces the configuration and the store in it. */
  readonly #parts: SidecarParts & Pick<TakeoverParts, "config" | "store"> & LookoutParts;
  readonly #held: HeldValues;
  readonly #problems: Problems;
  readonly #alarm: Alarm<Reason>;
  readonly #owed: Owed;
  readonly #opened: OpenedTargets;
  readonly #rotation: RotationPublisher;
  readonly #cycle: Cycle;
  readonly #takeover: Takeover;
  readonly #watching = new Watching();
  /** Loaded where the store can be looked at so. */
  #lookouts: Lookouts | undefined;
  readonly #rounds: Rounds;
  #checkedAt: Date | undefined;
  #isLooking = false;
  /** µs of CLOCK_MONOTONIC. */
  #looksAgainAt = 0;
  #tellsAgainAt = 0;
  /** What STATUS said last, beside the time. */
  #told: string | undefined;
  #publishedAt: Date | undefined;
  #rotations = 0;
  #ready = false;

  constructor(given: SidecarParts) {
    const parts = { ...given };
    const { config, clock, log, store, publisher } = parts;
    this.#held = new HeldValues(clock);
    this.#problems = new Problems(store, log, clock);
    this.#alarm = new Alarm(clock);
    this.#rounds = new Rounds(parts);
    this.#owed = new Owed(idsOf(config), this.#held, clock, parts.random);
    const events = {
      changed: () => {
        this.#tellStatus();
      },
      applied: () => {
        void this.#parts.store.applied(this.#held.versions);
        this.#takeover.release();
      },
      unmarked: (isUnmarked: boolean) => {
        this.#owed.look("mark", isUnmarked);
        this.#alarm.ring("look");
      },
    };
    this.#opened = openTargets({ ...parts, ...events }, parts.ask);
    this.#rotation = new RotationPublisher(config.onChange.verify, publisher, this.#held, this.#owed, log);
    const all = Object.assign(parts, {
      held: this.#held,
      problems: this.#problems,
      owed: this.#owed,
      rotation: this.#rotation,
      targets: this.#targets,
      checked: () => {
        this.#checkedAt = clock.now();
      },
      published: () => {
        this.#rotations += 1;
        this.#publishedAt = clock.now();
      },
      isCalm: () => this.#troubles().every((trouble) => trouble === undefined),
      alarm: this.#alarm,
    });
    this.#parts = all;
    this.#cycle = new Cycle(all);
    this.#takeover = new Takeover(all);
  }

  get #targets(): Targets {
    return this.#opened.targets;
  }

  get isReady(): boolean {
    return this.#ready;
  }

  /** SIGHUP: reads the configuration again, and fetches everything now. @param request who waits for the result. */
  reload(request?: ReloadRequest): void {
    if (request !== undefined) this.#takeover.expect(request);
    this.#alarm.ring("reload");
  }

  /**
   * Runs until `stop` aborts, or with `resident: false` until the first set is published.
   *
   * @returns whether it was published.
   * @throws FatalError where the first set cannot be published; never after READY.
   */
  async run(stop: AbortSignal): Promise<boolean> {
    const { config, publisher, notifier } = this.#parts;
    const late = soonAfter(stop, STOP_LIMIT);
    try {
      const found = publisher.recover();
      this.#targets.remember(found);
      await waitFor(this.#begin(found, stop), late);
      if (isAborted(stop)) return false;
      // The target starts only after this process has ended, so it starts with what this process published.
      if (!config.resident) this.#targets.forget();
      this.#ready = true;
      notifier.ready(this.#status(this.#checkedAt));
      this.#tellFacts();
      this.#logReady();
      if (!config.resident) return true;
      this.#targets.resume(found);
      const ended = async () => {
        await Promise.all([this.#stay(stop), this.#targets.run(stop)]);
        await this.#watching.ended();
      };
      await waitFor(ended(), late);
      const status = notifier.status.bind(notifier);
      const systemd = this.#opened.help;
      await helpBrokenService({
        ...this.#parts,
        held: this.#held,
        owed: this.#owed,
        targets: this.#targets,
        systemd,
        status,
      });
      return true;
    } finally {
      await this.#parts.store.close();
      await this.#takeover.close();
      this.#held.clear();
    }
  }

  /**
   * Looks at the store once, beside an earlier process's set, which stays whatever the store does.
   *
   * @param notes how many changes were noted; undefined: none, only time has passed.
   * @returns what to tell the next look; undefined where it is stopped before.
   */
  async look(before: Memory, notes: (() => number) | undefined, stop: AbortSignal): Promise<Memory | undefined> {
    const { config, store } = this.#parts;
    const parts: LookParts = {
      ...{ ...this.#parts, config, held: this.#held, problems: this.#problems, owed: this.#owed },
      ...{ rotation: this.#rotation, targets: this.#targets, cycle: this.#cycle, notes },
      begin: async (found: Found) => {
        await this.#begin(found, stop);
      },
      ready: () => {
        this.#ready = true;
      },
    };
    try {
      const memory = await waitFor(look(parts, before, stop), soonAfter(stop, STOP_LIMIT));
      if (isAborted(stop) || typeof memory === "symbol") return undefined;
      this.#noteCare();
      this.#tellStatus();
      return memory;
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
          this.#tellFacts(text);
        },
      },
      found.values,
      stop,
    );
    if (isAborted(stop)) return;
    const adopted = [...failed.keys()].filter((id) => this.#held.has(id));
    if (adopted.length > 0) this.#parts.log.notice("the set published before stays in use", { secrets: adopted });
    if (failed.size === 0) this.#checkedAt = clock.now();
    this.#publishedAt = clock.now();
    const result = await publishFirst(
      { ...this.#parts, held: this.#held, owed: this.#owed, rotation: this.#rotation, targets: this.#targets },
      found,
      stop,
    );
    this.#held.release(found.values ?? []);
    const silent = [...failed.values()].some(({ kind }) => kind === "unavailable");
    this.#owed.missedByStart(
      result === "published" ? failed.keys() : idsOf(this.#parts.config),
      silent || result === "failed",
    );
  }

  async #stay(stop: AbortSignal): Promise<void> {
    const { configuration } = this.#parts;
    this.#follow(stop);
    this.#noteCare();
    this.#owed.look("configuration", configuration !== undefined);
    try {
      while (!isAborted(stop)) {
        const rung = await this.#alarm.wait(this.#owed.seconds, stop);
        if (isAborted(stop)) return;
        await this.#rounds.try(async () => {
          await this.#round(rung, stop);
        }, stop);
      }
    } finally {
      this.#lookouts?.end();
    }
  }

  async #round(rung: ReadonlySet<Reason>, stop: AbortSignal): Promise<void> {
    const request = await this.#requestOf(rung, stop);
    try {
      await this.#answer(request, stop);
    } catch (error) {
      // The next round answers what this one could not.
      if (request !== undefined) this.#alarm.ring(request);
      throw error;
    }
    this.#parts.idle();
  }

  async #answer(request: Request | undefined, stop: AbortSignal): Promise<void> {
    this.#look(this.#owed.looks());
    if (request === "reload") await this.#reload(stop);
    else {
      const ids = this.#owed.due(request);
      if (ids === undefined) return;
      this.#lookouts?.end();
      if (!isAborted(stop)) await this.#lookOut(await this.#cycle.run(ids, request, stop));
      this.#afterCycle(stop);
    }
  }

  async #lookOut(round: Round | undefined): Promise<void> {
    if (this.#lookouts === undefined && this.#parts.store.lookOut !== undefined)
      this.#lookouts = await import("./lookouts.ts").then(
        (loaded) => new loaded.Lookouts(this.#parts),
        // An upgrade may have removed the file: polls go on without it.
        () => undefined,
      );
    this.#lookouts?.begin(round);
  }

  async #reload(stop: AbortSignal): Promise<void> {
    const waiting = this.#takeover.begin();
    this.#lookouts?.end();
    try {
      const isTaken = await this.#takeover.read(waiting, stop);
      if (isTaken) this.#follow(stop);
      if (isAborted(stop)) return;
      const round = await this.#cycle.run(this.#owed.due("reload") ?? [], "reload", stop, isTaken);
      this.#parts.publisher.maintain();
      this.#afterCycle(stop);
      this.#takeover.end(waiting, round);
    } catch (error) {
      this.#takeover.beginAgain(waiting);
      throw error;
    }
  }

  #afterCycle(stop: AbortSignal): void {
    this.#noteCare();
    if (isAborted(stop)) return;
    this.#tellStatus();
    this.#lookAtConfiguration();
  }

  /** Nothing waits for it: its file system may hang. */
  #lookAtConfiguration(): void {
    const now = this.#parts.clock.monotonic();
    if (this.#parts.configuration === undefined || this.#isLooking || now < this.#looksAgainAt) return;
    this.#isLooking = true;
    this.#looksAgainAt = now + LOOK_PAUSE * 1e6;
    void this.#takeover.look().then((isNews) => {
      this.#isLooking = false;
      if (isNews) this.#tellStatus();
    });
  }

  /** Watches and polls as the configuration says. */
  #follow(stop: AbortSignal): void {
    const { config, store } = this.#parts;
    const { reloadOnChange } = config;
    this.#owed.poll(reloadOnChange ? (store.pollingInterval ?? Infinity) : Infinity);
    const hint = () => {
      this.#alarm.ring("hint");
    };
    this.#watching.begin(reloadOnChange ? { ...this.#parts } : undefined, hint, stop);
  }

  async #requestOf(rung: ReadonlySet<Reason>, stop: AbortSignal): Promise<Request | undefined> {
    if (rung.has("reload")) return "reload";
    if (!rung.has("hint")) return undefined;
    const { config, clock } = this.#parts;
    return (await untilQuiet(this.#alarm, clock, config.onChange.settle, stop)) ? "reload" : "hint";
  }

  /** Looks at what others may have done, and at what failed before. */
  #look(looks: ReadonlySet<Look>): void {
    if (looks.size === 0) return;
    if (looks.has("care")) this.#parts.publisher.maintain();
    if (looks.has("mark")) this.#targets.markAgain();
    if (looks.has("mend")) this.#cycle.mend();
    if (looks.has("configuration")) this.#lookAtConfiguration();
    this.#noteCare();
    this.#tellStatus();
  }

  /** We mend links and leftovers apart from the publish: what cannot be mended keeps no rotation from the service. */
  #noteCare(): void {
    const { publisher } = this.#parts;
    this.#owed.obstruct("care", publisher.problem);
    this.#owed.look("care", publisher.needsCare);
  }

  #tellStatus(): void {
    if (!this.#ready) return;
    this.#tellFacts();
    const now = this.#parts.clock.monotonic();
    const news = this.#status(undefined);
    if (news === this.#told && now < this.#tellsAgainAt) return;
    this.#told = news;
    this.#tellsAgainAt = now + STATUS_PAUSE * 1e6;
    this.#parts.notifier.status(this.#status(this.#checkedAt));
  }

  /** @param waitsFor the reason why a start is not READY yet. */
  #tellFacts(waitsFor?: string): void {
    const { clock, config, facts } = this.#parts;
    if (facts === undefined) return;
    const at = (seconds: number) =>
      Number.isFinite(seconds) ? new Date(clock.now().getTime() + seconds * 1000).toISOString() : null;
    const leaseEnd = (this.#held.nextEnd(new Set()) - clock.monotonic()) / 1e6;
    const { done, failed } = this.#targets.counts;
    // For an on-change sidecar, only the acting unit knows how an action ended.
    const actions = config.onDemand ? [] : this.#targets.statuses;
    const troubles = [waitsFor, ...this.#troubles(), ...actions].filter((one) => one !== undefined);
    facts(config, {
      state: this.#ready ? "ready" : "starting",
      secrets: this.#held.size,
      checkedAt: this.#checkedAt?.toISOString() ?? null,
      nextLookAt: this.#ready ? at(this.#owed.seconds) : null,
      leaseEndsAt: at(leaseEnd),
      failingSince: this.#problems.since?.toISOString() ?? null,
      problem: troubles.length === 0 ? null : troubles.join("; "),
      rotations: this.#rotations,
      publishedAt: this.#ready ? (this.#publishedAt?.toISOString() ?? null) : null,
      actions: done,
      actionsFailed: failed,
    });
  }

  #troubles(): readonly (string | undefined)[] {
    return [this.#rounds.problem, this.#problems.summary, ...this.#owed.obstacles];
  }

  #status(checkedAt: Date | undefined): string {
    const { store, version } = this.#parts;
    return statusText(store.name, this.#held.versions, checkedAt, [
      ...this.#troubles(),
      ...this.#targets.statuses,
      // After an upgrade of the package the old program still runs.
      version === undefined ? undefined : `fetcher ${version}`,
    ]);
  }

  #logReady(): void {
    const { log, store, publisher, notifier, version } = this.#parts;
    const files = publisher.directory;
    log.info(`ready: ${counted(this.#held.size, "secret")} from ${store.name}`, {
      directory: files,
      notify: notifier.how,
      ...(version === undefined ? {} : { version }),
    });
  }
}

function idsOf({ secrets }: Config): readonly string[] {
  return secrets.map(({ id }) => id);
}
