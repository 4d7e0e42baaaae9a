/** The text of STATUS=, for an operator. */
import { clockTime } from "../runtime/clock.ts";

/** A longer one would push the problems out of sight. */
const LONGEST_VERSION = 40;

/**
 * `3 secrets from vault, version 63, checked at 12:03:11+01:00; …`
 *
 * @param versions id → version of what is published.
 * @param more what is wrong or under way; undefined: nothing.
 */
export function statusText(
  store: string,
  versions: ReadonlyMap<string, string>,
  checkedAt: Date | undefined,
  more: readonly (string | undefined)[],
): string {
  const different = new Set(versions.values());
  const [version = ""] = different;
  const known = different.size === 1 && version.length <= LONGEST_VERSION ? `, version ${version}` : "";
  const checked = checkedAt === undefined ? "not checked yet" : `checked at ${clockTime(checkedAt)}`;
  return [`${counted(versions.size, "secret")} from ${store}${known}, ${checked}`, ...more]
    .filter((part) => part !== undefined)
    .join("; ");
}

/** `1 secret`, `2 secrets`. */
export function counted(number: number, name: string): string {
  return `${number} ${name}${number === 1 ? "" : "s"}`;
}
