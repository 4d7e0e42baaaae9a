/** The command lines of the project's own scripts: a wrong one ends with one line and EX_USAGE, not with a stack. */
import { parseArgs } from "node:util";

/**
 * @param usage one line, for whoever gets it wrong.
 * @param config of parseArgs.
 * @returns what parseArgs returns.
 */
export function commandLine(usage, config) {
  try {
    return parseArgs(config);
  } catch (error) {
    return refuse(usage, error.message.split(". To ")[0]);
  }
}

/** @returns seconds, from 1, and a seed, which may be negative, as texts; each only where it is given. */
export function secondsAndSeed(usage) {
  const [seconds, seed, ...rest] = process.argv.slice(2);
  if (seconds !== undefined && !/^[1-9]\d*$/.test(seconds)) refuse(usage, `SECONDS: ${JSON.stringify(seconds)}`);
  if (seed !== undefined && !/^-?\d+$/.test(seed)) refuse(usage, `SEED: ${JSON.stringify(seed)}`);
  if (rest.length > 0) refuse(usage, `too many arguments: ${JSON.stringify(rest[0])}`);
  return [seconds, seed];
}

function refuse(usage, what) {
  console.error(`${what}\nusage: ${usage}`);
  process.exit(64);
}
