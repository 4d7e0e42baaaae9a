/** The actions of all targets together, with the mark on disk that says that they are due. */
import { type Memory, OneTarget } from "./one-target.ts";
import type { Clock, Random } from "../runtime/clock.ts";
import type { Config } from "../config/config.ts";
import type { Log } from "../runtime/log.ts";
import { PendingMark } from "./pending-mark.ts";
import type { Found, Publisher } from "../publish/publisher.ts";
import type { Systemd } from "./systemctl.ts";
import { type BrokenTarget, type Targets, unitsToTell } from "./targets.ts";

export interface AllTargetsParts {
  readonly config: Config;
  readonly publisher: Pick<Publisher, "setPending">;
  readonly systemd: Systemd;
  readonly log: Log;
  readonly clock: Clock;
  readonly random: Random;
  /** Called when a status has changed. */
  readonly changed: () => void;
  /**
   * Called when every target uses the published set. Not called if a target gets no action: it is unknown when that
   * service reads the new files, and the older lease that it may still use must run out, not be ended.
   */
  readonly applied: () => void;
  /** Called with true when the mark on disk is wrong: call `markAgain` until this is called with false. */
  readonly unmarked: (isUnmarked: boolean) => void;
}

export class AllTargets implements Targets {
  readonly #parts: AllTargetsParts;
  #all: readonly OneTarget[];
  /** Ends the loop of each target. */
  readonly #ends = new Map<OneTarget, AbortController>();
  readonly #loops = new Set<Promise<void>>();
  #stop: AbortSignal | undefined;
  readonly #mark: PendingMark;

  constructor(parts: AllTargetsParts) {
    this.#parts = parts;
    const { publisher } = parts;
    const write = (publishedAt: number | null) => {
      publisher.setPending(publishedAt, new Map(this.#all.map(({ unit, starts }) => [unit, starts])));
    };
    this.#mark = new PendingMark({ ...parts, write });
    this.#all = unitsToTell(parts.config).map((unit) => this.#open(unit, parts.config));
  }

  #open(unit: string, { onChange }: Config): OneTarget {
    return new OneTarget(unit, { ...this.#parts, onChange });
  }

  /** Takes over another configuration. A target that is also in the new one keeps its pace and its pending action. */
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

  /** No target to notify: none is configured, or the targets see changes themselves. */
  get none(): boolean {
    return this.#all.length === 0;
  }

  /** For STATUS=. */
  get statuses(): readonly string[] {
    return this.#all.flatMap(({ status }) => status ?? []);
  }

  /** Actions on all targets, in this life of the sidecar. */
  get counts(): { readonly done: number; readonly failed: number } {
    const sum = (what: "done" | "failed") => this.#all.reduce((all, { counts }) => all + counts[what], 0);
    return { done: sum("done"), failed: sum("failed") };
  }

  /** Asks for the action. @param publishedAt µs of CLOCK_MONOTONIC at which the set was complete; undefined: now. */
  request(ids: readonly string[], publishedAt = this.#parts.clock.monotonic()): void {
    this.#parts.log.debug("asking for the action", { secrets: ids });
    this.#mark.set(publishedAt);
    for (const target of this.#all) target.request(publishedAt);
  }

  /** Counts starts that an earlier life has seen. Call it before the first request, which writes them to disk again. */
  remember({ starts }: Pick<Found, "starts">): void {
    for (const target of this.#all) target.remember(starts.get(target.unit) ?? []);
  }

  /** Does the action that a crash prevented, unless the target has started since. */
  resume({ pending }: Pick<Found, "pending">): void {
    if (pending === undefined) return;
    if (this.none) this.forget();
    else if (this.#allIdle())
      for (const target of this.#all) target.request(pending.publishedAt ?? this.#parts.clock.monotonic());
  }

  /** Drops the due action of an earlier life. */
  forget(): void {
    this.#mark.set(null);
  }

  /** Targets that an action broke, untouched since. */
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
    // `take` may add targets until then.
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
    this.#mark.set(null);
    if (this.told) this.#parts.applied();
  }

  /** Writes the mark that could not be written. */
  markAgain(): void {
    this.#mark.again();
  }

  /** What a later process that serves these targets needs to know. */
  get memories(): ReadonlyMap<string, Memory> {
    return new Map(this.#all.map((target) => [target.unit, target.memory]));
  }

  /** Call it before the first request. @param memories of an earlier process, by unit. */
  recall(memories: ReadonlyMap<string, Memory>): void {
    for (const target of this.#all) {
      const memory = memories.get(target.unit);
      if (memory !== undefined) target.recall(memory);
    }
  }

  /** No target has an action due. */
  get idle(): boolean {
    return this.#allIdle();
  }

  /** Whether every target has the newest set, or is not running with an older one. */
  get told(): boolean {
    return this.#all.every(({ told }) => told);
  }

  #allIdle(): boolean {
    return this.#all.every(({ idle }) => idle);
  }
}
