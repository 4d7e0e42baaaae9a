/** The actions of all targets together, with the mark on disk that says that they are due. */
import { TargetAction } from "./action.ts";
import type { Clock, Random } from "./clock.ts";
import type { Config } from "./config.ts";
import type { Log } from "./log.ts";
import type { Found, Publisher } from "./publisher.ts";
import type { Systemd } from "./systemd.ts";

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
   * Called when every target uses what is published. Never where nobody is told: when a service has looked by itself is
   * not known, and what it may still be using (an older lease) must not be ended, but run out.
   */
  readonly applied: () => void;
}

export class TargetActions {
  readonly #parts: ActionsParts;
  readonly #actions: readonly TargetAction[];

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

  /** Asks for the action, for the set that has just been published. */
  request(ids: readonly string[]): void {
    const { clock, publisher, log } = this.#parts;
    const publishedAt = clock.monotonic();
    try {
      publisher.setPending(publishedAt, this.#starts());
    } catch (error) {
      // The mark that is on disk already has no time: at worst the action is done twice after a crash.
      log.warn(error instanceof Error ? error.message : "cannot write the mark of the pending action");
    }
    log.debug("asking for the action", { secrets: ids });
    for (const action of this.#actions) action.request(publishedAt);
  }

  /** An action that a crash kept from being done is done now, unless the target has started since. */
  resume({ pending, starts }: Found): void {
    const { publisher, clock } = this.#parts;
    for (const action of this.#actions) action.remember(starts.get(action.unit) ?? []);
    if (pending === undefined) return;
    if (this.none) publisher.setPending(null);
    else if (this.#allIdle())
      for (const action of this.#actions) action.request(pending.publishedAt ?? clock.monotonic());
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
    const { publisher, log, applied } = this.#parts;
    if (!this.#allIdle()) return;
    try {
      publisher.setPending(null, this.#starts());
    } catch (error) {
      log.warn(error instanceof Error ? error.message : "cannot clear the mark of the pending action");
    }
    applied();
  }

  #starts(): ReadonlyMap<string, readonly number[]> {
    return new Map(this.#actions.map(({ unit, starts }) => [unit, starts]));
  }

  #allIdle(): boolean {
    return this.#actions.every(({ idle }) => idle);
  }
}
