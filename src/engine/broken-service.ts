/**
 * New secrets must never kill a service. If an action broke it, and nothing else needs its sidecar, systemd stops the
 * sidecar with it, and the right secrets, which may come a second later, would not be published. So a sidecar that is
 * stopped like this looks for newer secrets for a while, and if there are any, asks systemd to start both again. It
 * also does that, once, where systemd gave the service up only because of its start limit.
 */
import type { Clock } from "../runtime/clock.ts";
import type { Config } from "../config/config.ts";
import { fetchSettled } from "./fetch.ts";
import { type HeldValues, valuesIn } from "./held-values.ts";
import type { Log } from "../runtime/log.ts";
import type { Owed } from "./owed.ts";
import type { Store } from "./store.ts";
import type { Systemd } from "../systemd/systemctl.ts";
import type { BrokenTarget, Targets } from "../systemd/targets.ts";

/** Seconds in which newer secrets must come. Less than systemd gives a stop (TimeoutStopSec=, 90 s by default). */
export const LONGEST_HELP = 20;
/** Seconds between two looks. */
const LOOK_AGAIN = 1;

export interface BrokenServiceParts {
  readonly config: Config;
  readonly store: Store;
  readonly held: HeldValues;
  readonly owed: Owed;
  readonly targets: Targets;
  readonly systemd: Pick<Systemd, "isStopping" | "reviveBoth">;
  readonly log: Log;
  readonly clock: Clock;
  readonly status: (text: string) => void;
}

/** Call this at the request for a stop. It returns at once unless an action has just broken a target. */
export async function helpBrokenService(parts: BrokenServiceParts): Promise<void> {
  const { targets, systemd, log, clock, owed, status } = parts;
  const { signal } = new AbortController();
  let broken = await targets.broken(signal);
  // A set that the verify command refused does not help, and a machine that shuts down needs no help.
  if (broken.length === 0 || owed.obstacleOf("publish") !== undefined || (await systemd.isStopping(signal))) return;
  const says = `${names(broken)} failed after the last action; waiting up to ${LONGEST_HELP} s for newer secrets`;
  log.warn(says);
  status(says);
  const end = clock.monotonic() + LONGEST_HELP * 1e6;
  let why = "newer secrets are there";
  for (;;) {
    if (broken.length === 0 || broken.some(({ hasJob }) => hasJob)) return;
    if (broken.some(({ hasNewer }) => hasNewer) || (await hasNewer(parts, signal))) break;
    if (broken.some(({ isLimitOver }) => isLimitOver === true)) {
      why = "its start limit is over";
      break;
    }
    if (clock.monotonic() >= end) {
      log.warn(`${names(broken)} stays failed: no newer secrets came`);
      return;
    }
    await clock.sleep(LOOK_AGAIN, signal);
    broken = await targets.broken(signal);
  }
  log.notice(`${names(broken)} failed after the last action: started again, ${why}`);
  for (const { unit } of broken) {
    const { ok, detail } = await systemd.reviveBoth(unit, signal);
    if (!ok) log.error(`${unit} cannot be started again: ${detail}`);
  }
}

/** The start of the new life publishes them. */
async function hasNewer({ held, ...parts }: BrokenServiceParts, signal: AbortSignal): Promise<boolean> {
  // Asking for a leased secret would issue another.
  const ids = parts.config.secrets.flatMap(({ id }) => (held.get(id)?.refreshAt === undefined ? [id] : []));
  const { outcomes, changes } = await fetchSettled({ held, ...parts }, ids, false, signal);
  held.release(valuesIn(outcomes));
  return changes.size > 0;
}

function names(broken: readonly BrokenTarget[]): string {
  return broken.map(({ unit }) => unit).join(", ");
}
