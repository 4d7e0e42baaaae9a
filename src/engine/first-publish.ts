/** The first publish of a life: publishes what was loaded, or nothing if an earlier life's set must stay. */
import type { Log } from "../runtime/log.ts";
import type { Targets } from "../systemd/targets.ts";
import type { Config } from "../config/config.ts";
import { ConfigError } from "../contract/errors.ts";
import { isEmpty } from "./emptied.ts";
import { type HeldValues, PUBLISHED_BEFORE } from "./held-values.ts";
import type { Found, Publisher } from "../publish/publisher.ts";
import type { Owed } from "./owed.ts";
import type { RotationPublisher } from "./rotation.ts";
import type { Store } from "./store.ts";

export interface FirstPublishParts {
  readonly config: Config;
  readonly publisher: Publisher;
  readonly held: HeldValues;
  readonly owed: Owed;
  readonly rotation: RotationPublisher;
  readonly targets: Targets;
  readonly log: Log;
  readonly store: Pick<Store, "describe">;
}

/**
 * Publishes what is held, and asks for the action where a target runs with something else.
 *
 * @param found what an earlier life published.
 * @returns `kept` and `failed` where the earlier set stays, and is held again; after `failed` trying again may help.
 * @throws ConfigError for a lease that nothing would renew; PublishError and ValueError if nothing is published yet.
 */
export async function publishFirst(
  parts: FirstPublishParts,
  found: Found,
  stop: AbortSignal,
): Promise<"published" | "kept" | "failed"> {
  const { config, publisher, held, owed, rotation, targets } = parts;
  if (!config.resident) refuseLeases(parts);
  const changed = found.values === undefined ? undefined : changedSince(parts, found.values);
  // Leases count whatever reloadOnChange says: the value that a lease replaced will end.
  const due = (changed ?? []).filter((id) => config.reloadOnChange || held.get(id)?.refreshAt !== undefined);
  // A template may have changed even if no secret has.
  const anew = changed !== undefined && config.reloadOnChange && publisher.outdated(held.bytes).length > 0;
  const act = config.resident && (due.length > 0 || anew || (found.isTorn && config.reloadOnChange)) && !targets.none;
  const result = await rotation.publishFirst(act, changed, stop);
  if (result === "published") {
    warnEmpty(parts);
    if (act) targets.request(due);
    else if ((found.isTorn || (changed ?? []).length > 0) && !targets.none) owed.leaveUntold();
  } else if (found.values !== undefined) {
    held.restore(found.values, PUBLISHED_BEFORE);
    owed.settingsMayDiffer();
    if (anew) owed.templatesAre("changed", act);
  }
  return result;
}

function changedSince({ config, held }: FirstPublishParts, published: ReadonlyMap<string, Buffer>): readonly string[] {
  const changed = config.secrets.filter(({ id }) => {
    const now = held.get(id)?.value;
    const then = published.get(id);
    return now === undefined ? then !== undefined : then?.equals(now) !== true;
  });
  return changed.map(({ id }) => id);
}

/** An empty value is published if no better one exists. */
function warnEmpty({ config, held, log, store }: FirstPublishParts): void {
  for (const { id, empty } of config.secrets) {
    const value = held.get(id)?.value;
    if (empty || value === undefined || !isEmpty(value)) continue;
    log.warn(`${store.describe(id)} is empty; published as it is`, { secrets: [id] });
  }
}

function refuseLeases({ config, held }: FirstPublishParts): void {
  const lease = config.secrets.find(({ id }) => held.get(id)?.refreshAt !== undefined);
  if (lease === undefined) return;
  const said = config.onDemand ? '"on-change"' : "false";
  const why = `${said} leaves no process to renew the lease of secret ${JSON.stringify(lease.id)}: set it to true`;
  throw new ConfigError("resident", why);
}
