/**
 * A value that becomes empty is more likely a failed writer (`decrypt > secret` leaves 0 bytes) than a rotation. The
 * published value stays, as for a secret that vanished, unless the configuration lets this one be empty.
 */
import type { Outcome } from "../contract/backend.ts";
import type { Config } from "../config/config.ts";
import type { Store } from "./store.ts";

export interface EmptiedParts {
  readonly config: Config;
  readonly store: Pick<Store, "describe">;
}

/** Bytes of white space that a failed writer may leave; more is somebody's value, and takes long to look through. */
const MOST_BLANK = 4096;

/** Empty, or white space of ASCII only: `echo "$(decrypt)" > secret` leaves a line end where decrypt fails. */
export function isEmpty(value: Buffer): boolean {
  return value.length <= MOST_BLANK && value.every((byte) => byte === 0x20 || (byte >= 0x09 && byte <= 0x0d));
}

/**
 * @param published the bytes that stay published; undefined: none.
 * @returns `outcomes`, where a secret that became empty counts as missing but still to come.
 */
export function keepEmptied(
  { config, store }: EmptiedParts,
  outcomes: ReadonlyMap<string, Outcome>,
  published: (id: string) => Buffer | undefined,
): Map<string, Outcome> {
  const kept = new Map(outcomes);
  for (const { id, empty } of config.secrets) {
    const outcome = outcomes.get(id);
    if (empty || outcome === undefined || !("value" in outcome) || !isEmpty(outcome.value)) continue;
    const before = published(id);
    if (before === undefined || isEmpty(before)) continue;
    kept.set(id, { status: "missing", where: `${store.describe(id)} is empty`, mayAppear: true });
  }
  return kept;
}
