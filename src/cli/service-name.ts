/** A person names a service by its name, its unit, or its file in /etc/fetcher. */
import { CONFIG_DIRECTORY } from "../config/one-file.ts";
import { withoutSuffix } from "../config/unit-names.ts";
import { UsageError } from "../contract/errors.ts";

/** Units that start a service, and have no secrets themselves (systemd.unit(5)). */
const OTHER_UNITS = /\.(?:socket|timer|path|target|mount|automount|slice|scope|swap|device)$/;

/** @returns the name of the file without `.json`; the word itself if it is neither a file nor a unit. */
export function serviceNameOf(word: string): string {
  const prefix = `${CONFIG_DIRECTORY}/`;
  const file = word.startsWith(prefix) ? word.slice(prefix.length) : word;
  return file.endsWith(".json") ? file.slice(0, -".json".length) : withoutSuffix(file);
}

/** @param command for the message: `add`. @throws UsageError */
export function refuseOtherUnit(word: string, command: string): void {
  if (OTHER_UNITS.test(word))
    throw new UsageError(`${command}: ${JSON.stringify(word)} is not a service: name the service that it starts`);
}
