/**
 * What the engine asks of its targets. Either this process acts itself (`all-targets`), or it may not talk to systemd
 * and asks another unit to act (`asked-targets`): the unit file says which.
 */
import type { Config } from "../config/config.ts";
import type { Found } from "../publish/publisher.ts";

export interface BrokenTarget {
  readonly unit: string;
  /** A set is published that is newer than the one that broke it. */
  readonly hasNewer: boolean;
  /** Somebody is already starting it. */
  readonly hasJob: boolean;
  /** Its crashes brought it to its start limit, which would allow a start again. */
  readonly isLimitOver?: boolean;
}

export interface Targets {
  /** No target to notify: none is configured, or the targets see changes themselves. */
  readonly none: boolean;
  /** For STATUS=. */
  readonly statuses: readonly string[];
  /** Actions on all targets, in this life of the sidecar. */
  readonly counts: { readonly done: number; readonly failed: number };
  /** Takes over another configuration. A target that is also in the new one keeps its pace and its pending action. */
  take(config: Config): void;
  /** Asks for the action. @param publishedAt µs of CLOCK_MONOTONIC at which the set was complete; undefined: now. */
  request(ids: readonly string[], publishedAt?: number): void;
  /** Counts starts that an earlier life has seen. Call it before the first request, which writes them to disk again. */
  remember(found: Pick<Found, "starts">): void;
  /** Does the action that a crash prevented, unless the target has started since. */
  resume(found: Pick<Found, "pending">): void;
  /** Drops the due action of an earlier life. */
  forget(): void;
  /** Targets that an action broke, untouched since. */
  broken(signal: AbortSignal): Promise<readonly BrokenTarget[]>;
  /** Writes the mark that could not be written. */
  markAgain(): void;
  /** Serves requests until `stop` aborts. */
  run(stop: AbortSignal): Promise<void>;
}

/** Units that get the action. */
export function unitsToTell({ onChange, targets }: Pick<Config, "onChange" | "targets">): readonly string[] {
  return onChange.action === "none" ? [] : targets;
}
