/** The actions of all targets together, with the mark on disk that says that they are due. */
import { TargetAction } from "./target-action.ts";
import type { Clock, Random } from "../runtime/clock.ts";
import type { Config } from "../config/config.ts";
import type { Log } from "../runtime/log.ts";
import type { Found, Publisher } from "../publish/publisher.ts";
import type { Systemd } from "./systemctl.ts";

export interface ActionsParts {
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

export class TargetActions {
  readonly #parts: ActionsParts;
  readonly #actions: readonly TargetAction[];
  /** The mark that could not be written. */
  #unwritten: { readonly publishedAt: number | null } | undefined;

  constructor(parts: ActionsParts) {
    this.#parts = parts;
    const { onChange, targets } = parts.config;
    this.#actions =
      onChange.action === "none" ? [] : targets.map((unit) => new TargetAction(unit, { ...parts, onChange }));
  }

  /** Nobody is told of anything: there is no target, or it sees changes itself. */
  get none(): boolean {
    return this.#actions.length === 0;
  }

  /** For STATUS=. */
  get statuses(): readonly string[] {
    return this.#actions.flatMap(({ status }) => status ?? []);
  }

  /** Asks for the action. @param publishedAt µs of CLOCK_MONOTONIC at which the set was complete; undefined: now. */
  request(ids: readonly string[], publishedAt = this.#parts.clock.monotonic()): void {
    this.#parts.log.debug("asking for the action", { secrets: ids });
    this.#mark(publishedAt);
    for (const action of this.#actions) action.request(publishedAt);
  }

  /** Starts that an earlier life has seen count. To be called before the first request, which writes them down again. */
  remember({ starts }: Pick<Found, "starts">): void {
    for (const action of this.#actions) action.remember(starts.get(action.unit) ?? []);
  }

  /** An action that a crash kept from being done is done now, unless the target has started since. */
  resume({ pending }: Pick<Found, "pending">): void {
    if (pending === undefined) return;
    if (this.none) this.forget();
    else if (this.#allIdle())
      for (const action of this.#actions) action.request(pending.publishedAt ?? this.#parts.clock.monotonic());
  }

  /** An action of an earlier life is not due any more. */
  forget(): void {
    this.#mark(null);
  }

  /** Targets that an action broke, and that nobody has touched since. */
  async broken(signal: AbortSignal): Promise<readonly BrokenTarget[]> {
    const all = this.#actions.map(async (action) => {
      const state = await action.brokenNow(signal);
      return state === undefined ? [] : [{ unit: action.unit, ...state }];
    });
    return (await Promise.all(all)).flat();
  }

  /** Serves requests until `stop` aborts. */
  async run(stop: AbortSignal): Promise<void> {
    await Promise.all(
      this.#actions.map((action) =>
        action.run(stop, () => {
          this.#settled();
        }),
      ),
    );
  }

  #settled(): void {
    if (!this.#allIdle()) return;
    this.#mark(null);
    if (this.#actions.every(({ told }) => told)) this.#parts.applied();
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
      publisher.setPending(publishedAt, new Map(this.#actions.map(({ unit, starts }) => [unit, starts])));
      this.#unwritten = undefined;
    } catch (error) {
      const why = error instanceof Error ? error.message : "cannot write the mark of the pending action";
      log[before === undefined ? "warn" : "debug"](why);
      this.#unwritten = { publishedAt };
    }
    if ((before === undefined) !== (this.#unwritten === undefined)) unmarked(this.#unwritten !== undefined);
  }

  #allIdle(): boolean {
    return this.#actions.every(({ idle }) => idle);
  }
}
