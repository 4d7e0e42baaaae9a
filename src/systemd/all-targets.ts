/** The actions of all targets together, with the mark on disk that says that they are due. */
import { OneTarget } from "./one-target.ts";
import type { Clock, Random } from "../runtime/clock.ts";
import type { Config } from "../config/config.ts";
import type { Log } from "../runtime/log.ts";
import type { Found, Publisher } from "../publish/publisher.ts";
import type { Systemd } from "./systemctl.ts";

export interface AllTargetsParts {
  readonly config: Config;
  readonly publisher: Publisher;
  readonly systemd: Systemd;
  readonly log: Log;
  readonly clock: Clock;
  readonly random: Random;
  /** Called when a status has changed. */
  readonly changed: () => void;
  /**
   * Called when every target uses what is published. Never where one is not told: when a service has looked by itself is
   * not known, and what it may still be using (an older lease) must not be ended, but run out.
   */
  readonly applied: () => void;
  /** Called when the mark on disk is not what it should be, and when it is again: `markAgain` is to be called, or no more. */
  readonly unmarked: (isUnmarked: boolean) => void;
}

export interface BrokenTarget {
  readonly unit: string;
  /** A newer set is published than the one that broke it. */
  readonly hasNewer: boolean;
  /** Somebody starts it already. */
  readonly hasJob: boolean;
}

export class AllTargets {
  readonly #parts: AllTargetsParts;
  #all: readonly OneTarget[];
  /** What ends the loop of each action. */
  readonly #ends = new Map<OneTarget, AbortController>();
  readonly #loops = new Set<Promise<void>>();
  #stop: AbortSignal | undefined;
  /** The mark that could not be written. */
  #unwritten: { readonly publishedAt: number | null } | undefined;

  constructor(parts: AllTargetsParts) {
    this.#parts = parts;
    this.#all = unitsToTell(parts.config).map((unit) => this.#open(unit, parts.config));
  }

  #open(unit: string, { onChange }: Config): OneTarget {
    return new OneTarget(unit, { ...this.#parts, onChange });
  }

  /** Another configuration is in charge. A target that it has, too, keeps its pace, and what it is still to be told. */
  take(config: Config): void {
    const before = new Map(this.#all.map((action) => [action.unit, action]));
    this.#all = unitsToTell(config).map((unit) => before.get(unit) ?? this.#open(unit, config));
    for (const action of this.#all) {
      if (before.delete(action.unit)) action.take(config.onChange);
      else this.#serve(action);
    }
    for (const action of before.values()) this.#ends.get(action)?.abort();
    if ([...before.values()].some(({ idle }) => !idle)) this.#settled();
  }

  /** Nobody is told of anything: there is no target, or it sees changes itself. */
  get none(): boolean {
    return this.#all.length === 0;
  }

  /** For STATUS=. */
  get statuses(): readonly string[] {
    return this.#all.flatMap(({ status }) => status ?? []);
  }

  /** Of all targets, in this life of the sidecar. */
  get counts(): { readonly done: number; readonly failed: number } {
    const sum = (what: "done" | "failed") => this.#all.reduce((all, { counts }) => all + counts[what], 0);
    return { done: sum("done"), failed: sum("failed") };
  }

  /** Asks for the action. @param publishedAt µs of CLOCK_MONOTONIC at which the set was complete; undefined: now. */
  request(ids: readonly string[], publishedAt = this.#parts.clock.monotonic()): void {
    this.#parts.log.debug("asking for the action", { secrets: ids });
    this.#mark(publishedAt);
    for (const target of this.#all) target.request(publishedAt);
  }

  /** Starts that an earlier life has seen count. To be called before the first request, which writes them down again. */
  remember({ starts }: Pick<Found, "starts">): void {
    for (const target of this.#all) target.remember(starts.get(target.unit) ?? []);
  }

  /** An action that a crash kept from being done is done now, unless the target has started since. */
  resume({ pending }: Pick<Found, "pending">): void {
    if (pending === undefined) return;
    if (this.none) this.forget();
    else if (this.#allIdle())
      for (const target of this.#all) target.request(pending.publishedAt ?? this.#parts.clock.monotonic());
  }

  /** An action of an earlier life is not due any more. */
  forget(): void {
    this.#mark(null);
  }

  /** Targets that an action broke, and that nobody has touched since. */
  async broken(signal: AbortSignal): Promise<readonly BrokenTarget[]> {
    const all = this.#all.map(async (target) => {
      const state = await target.brokenNow(signal);
      return state === undefined ? [] : [{ unit: target.unit, ...state }];
    });
    return (await Promise.all(all)).flat();
  }

  /** Serves requests until `stop` aborts. */
  async run(stop: AbortSignal): Promise<void> {
    this.#stop = stop;
    for (const action of this.#all) this.#serve(action);
    // Others may be added until then.
    if (!stop.aborted)
      await new Promise<void>((done) => {
        stop.addEventListener(
          "abort",
          () => {
            done();
          },
          { once: true },
        );
      });
    await Promise.all(this.#loops);
  }

  #serve(action: OneTarget): void {
    const stop = this.#stop;
    if (stop === undefined) return;
    const end = new AbortController();
    const onStop = () => {
      end.abort();
    };
    stop.addEventListener("abort", onStop, { once: true });
    if (stop.aborted) onStop();
    this.#ends.set(action, end);
    const loop = action
      .run(end.signal, () => {
        if (this.#all.includes(action)) this.#settled();
      })
      .finally(() => {
        stop.removeEventListener("abort", onStop);
        this.#ends.delete(action);
        this.#loops.delete(loop);
      });
    this.#loops.add(loop);
  }

  #settled(): void {
    if (!this.#allIdle()) return;
    this.#mark(null);
    if (this.#all.every(({ told }) => told)) this.#parts.applied();
  }

  /** Writes the mark that could not be written. */
  markAgain(): void {
    if (this.#unwritten !== undefined) this.#mark(this.#unwritten.publishedAt);
  }

  /**
   * Where it cannot be written, the one on disk has no time, or says that an action is due that is done: at worst it is
   * done twice after a crash. It is written when it can be.
   */
  #mark(publishedAt: number | null): void {
    const { publisher, log, unmarked } = this.#parts;
    const before = this.#unwritten;
    try {
      publisher.setPending(publishedAt, new Map(this.#all.map(({ unit, starts }) => [unit, starts])));
      this.#unwritten = undefined;
    } catch (error) {
      const why = error instanceof Error ? error.message : "cannot write the mark of the pending action";
      log[before === undefined ? "warn" : "debug"](why);
      this.#unwritten = { publishedAt };
    }
    if ((before === undefined) !== (this.#unwritten === undefined)) unmarked(this.#unwritten !== undefined);
  }

  #allIdle(): boolean {
    return this.#all.every(({ idle }) => idle);
  }
}

function unitsToTell({ onChange, targets }: Config): readonly string[] {
  return onChange.action === "none" ? [] : targets;
}
