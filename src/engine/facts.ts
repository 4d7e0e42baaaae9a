/**
 * What `fetcher status` shows of a sidecar: a file in its runtime directory, without any value or source of one.
 * Everybody who may look into that directory can read it.
 */
import { chmodSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { RESERVED_PREFIX } from "../config/config-schema.ts";
import type { Config } from "../config/config.ts";
import { readPlainSync } from "../contract/plain-file.ts";
import { isRecord } from "../contract/records.ts";

export const FACTS = `${RESERVED_PREFIX}facts`;

/** Times are from Date.toISOString(); null: never, or not applicable. */
export interface Facts {
  readonly program: string;
  /** The sidecar's; null: systemd did not start it as a unit. */
  readonly unit: string | null;
  /** Units that get the action. */
  readonly services: readonly string[];
  readonly backend: string;
  /** `starting`: not READY yet. */
  readonly state: "starting" | "ready";
  /** How many are published, and how many there should be. */
  readonly secrets: number;
  readonly wanted: number;
  readonly startedAt: string;
  /** The last time that the store answered for all of them. */
  readonly checkedAt: string | null;
  readonly nextLookAt: string | null;
  /** When the first lease is asked about, renewed or replaced. */
  readonly leaseEndsAt: string | null;
  readonly failingSince: string | null;
  /** What is wrong or under way, in the words of STATUS. */
  readonly problem: string | null;
  /** Sets that were published after the first. */
  readonly rotations: number;
  readonly publishedAt: string | null;
  readonly actions: number;
  readonly actionsFailed: number;
}

export type TellFacts = (
  config: Config,
  facts: Omit<Facts, "program" | "unit" | "services" | "backend" | "wanted" | "startedAt">,
) => void;

/**
 * @param directory the sidecar's runtime directory.
 * @param startedAt from an earlier process, whose work this one continues; otherwise now.
 * @returns a function that writes them. A full disk costs only this overview.
 */
export function factsFile(
  directory: string,
  program: string,
  unit: string | null,
  startedAt = new Date().toISOString(),
): TellFacts {
  const [path, fresh] = [join(directory, FACTS), join(directory, `${FACTS}.new`)];
  return ({ backend, targets, secrets }, now) => {
    const facts: Facts = { ...now, program, unit, services: targets, backend, wanted: secrets.length, startedAt };
    try {
      rmSync(fresh, { force: true });
      writeFileSync(fresh, `${JSON.stringify(facts)}\n`, { flag: "wx", mode: 0o600 });
      // Whatever the umask is, and in one step: readers see all of it or nothing.
      chmodSync(fresh, 0o644);
      renameSync(fresh, path);
    } catch {
      // The next one may have room.
    }
  };
}

/** @returns undefined if none exist, if we may not read them, or if another program wrote them. */
export function readFacts(directory: string): Facts | undefined {
  try {
    const json: unknown = JSON.parse(readPlainSync(join(directory, FACTS)).toString("utf8"));
    return isRecord(json) && areFacts(json) ? (json as unknown as Facts) : undefined;
  } catch {
    return undefined;
  }
}

function areFacts(json: Readonly<Record<string, unknown>>): boolean {
  const times = ["checkedAt", "nextLookAt", "leaseEndsAt", "failingSince", "publishedAt", "problem", "unit"];
  const words = ["program", "backend", "startedAt"];
  const numbers = ["secrets", "wanted", "rotations", "actions", "actionsFailed"];
  const { services, state } = json;
  return (
    times.every((name) => json[name] === null || typeof json[name] === "string") &&
    words.every((name) => typeof json[name] === "string") &&
    numbers.every((name) => typeof json[name] === "number") &&
    Array.isArray(services) &&
    services.every((service) => typeof service === "string") &&
    (state === "starting" || state === "ready")
  );
}

/** The name of its control group. */
export function unitOfThisProcess(): string | null {
  try {
    return /\/([^/\n]+\.service)$/m.exec(readFileSync("/proc/self/cgroup", "utf8"))?.[1] ?? null;
  } catch {
    return null;
  }
}
