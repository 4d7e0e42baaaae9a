/**
 * What the engine asks of its targets. Either this process acts itself (`all-targets`), or it may not talk to systemd and asks
 * another unit to (`asked-targets`): the unit file says which.
 */
import type { Config } from "../config/config.ts";
import type { Found } from "../publish/publisher.ts";

export interface BrokenTarget {
  readonly unit: string;
  /** A newer set is published than the one that broke it. */
  readonly hasNewer: boolean;
  /** Somebody starts it already. */
  readonly hasJob: boolean;
}

export interface Targets {
  /** Nobody is told of anything: there is no target, or it sees changes itself. */
  readonly none: boolean;
  /** For STATUS=. */
  readonly statuses: readonly string[];
  /** Of all targets, in this life of the sidecar. */
  readonly counts: { readonly done: number; readonly failed: number };
  /** Another configuration is in charge. A target that it has, too, keeps its pace, and what it is still to be told. */
  take(config: Config): void;
  /** Asks for the action. @param publishedAt µs of CLOCK_MONOTONIC at which the set was complete; undefined: now. */
  request(ids: readonly string[], publishedAt?: number): void;
  /** Starts that an earlier life has seen count. To be called before the first request, which writes them down again. */
  remember(found: Pick<Found, "starts">): void;
  /** An action that a crash kept from being done is done now, unless the target has started since. */
  resume(found: Pick<Found, "pending">): void;
  /** An action of an earlier life is not due any more. */
  forget(): void;
  /** Targets that an action broke, and that nobody has touched since. */
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
