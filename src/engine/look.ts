/**
 * One look at the store, by a process that systemd starts for it and that ends with it: it goes through the same round
 * as a resident sidecar, next to what is published.
 */
import { isAborted, type Clock } from "../runtime/clock.ts";
import type { Config } from "../config/config.ts";
import type { Cycle } from "./cycle.ts";
import { type HeldValues, PUBLISHED_BEFORE } from "./held-values.ts";
import { longest } from "./settle.ts";
import { isKnown, type Known, type Problems } from "./problems.ts";
import type { Owed } from "./owed.ts";
import type { Found, Publisher } from "../publish/publisher.ts";
import { isRefusal, type Refusal, type RotationPublisher } from "./rotation.ts";
import type { Targets } from "../systemd/targets.ts";

/** Seconds in which to retry what fails; the next look does the rest. */
const PATIENCE = 5;

/** What one look tells the next, so that it neither logs the same problem twice nor tries the same set twice. */
export interface Memory {
  readonly problems: readonly Known[];
  /** Why the new secrets are not published. */
  readonly unpublished: string | null;
  readonly refusal: Refusal | null;
}

/** @param json may be another version's, or anything. */
export function memoryIn({ problems, unpublished, refusal }: Readonly<Record<string, unknown>>): Memory {
  return {
    problems: Array.isArray(problems) ? problems.filter(isKnown) : [],
    unpublished: typeof unpublished === "string" ? unpublished : null,
    refusal: isRefusal(refusal) ? refusal : null,
  };
}

export interface LookParts {
  readonly config: Config;
  readonly publisher: Publisher;
  readonly held: HeldValues;
  readonly problems: Problems;
  readonly owed: Owed;
  readonly rotation: RotationPublisher;
  readonly targets: Targets;
  readonly cycle: Cycle;
  readonly clock: Clock;
  /** Begins like a start, where nothing whole is published. */
  readonly begin: (found: Found) => Promise<void>;
  /** Called when we know what is published. */
  readonly ready: () => void;
  /** How many notes there are; undefined: only a timer starts it. */
  readonly notes: (() => number) | undefined;
}

export async function look(parts: LookParts, before: Memory, stop: AbortSignal): Promise<Memory> {
  const { publisher, held, problems, owed, rotation, targets } = parts;
  problems.recall(before.problems);
  rotation.recall(before.refusal, before.unpublished);
  const found = publisher.recover();
  targets.remember(found);
  if (found.values === undefined) {
    await parts.begin(found);
    parts.ready();
    if (!isAborted(stop)) targets.resume(found);
  } else {
    held.restore(found.values, PUBLISHED_BEFORE);
    // Which of them an earlier look could not publish is not known.
    if (before.unpublished !== null) owed.toPublish([...found.values.keys()]);
    targets.resume(found);
    // A look always reads the configuration and the templates, so they may differ from what is published.
    if (publisher.outdated(held.bytes).length > 0) owed.templatesAre("changed", !targets.none);
    else if (publisher.differs(held.bytes)) owed.settingsMayDiffer();
    parts.ready();
    await rounds(parts, await untilQuiet(parts, stop), stop);
  }
  return {
    problems: problems.all,
    unpublished: owed.obstacleOf("publish") ?? null,
    refusal: rotation.refusal ?? null,
  };
}

/** Somebody writes what belongs together in steps, and each step leaves a note. @returns whether there was any. */
async function untilQuiet({ config, clock, notes }: LookParts, stop: AbortSignal): Promise<boolean> {
  if (notes === undefined) return false;
  const { settle } = config.onChange;
  // The other half is for files still being written.
  const end = clock.monotonic() + (longest(settle) / 2) * 1e6;
  for (let seen = -1; seen !== notes() && clock.monotonic() < end && !isAborted(stop);) {
    seen = notes();
    await clock.sleep(settle, stop);
  }
  return true;
}

async function rounds({ config, cycle, owed, clock }: LookParts, isHinted: boolean, stop: AbortSignal): Promise<void> {
  const end = clock.monotonic() + PATIENCE * 1e6;
  let ids: readonly string[] = config.secrets.map(({ id }) => id);
  for (let request: "hint" | undefined = isHinted ? "hint" : undefined; ; request = undefined) {
    await cycle.run(ids, request, stop);
    const { seconds } = owed;
    if (isAborted(stop) || clock.monotonic() + seconds * 1e6 > end) return;
    await clock.sleep(seconds, stop);
    ids = owed.due(undefined) ?? [];
  }
}
