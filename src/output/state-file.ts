/** What a publish notes for the next start, in `.fetcher-state` beside the files. */
import { RESERVED_PREFIX } from "../config/config-schema.ts";
import { isRecord } from "../contract/records.ts";
import type { PublishedFile } from "./safe-files.ts";
import { encoded } from "../contract/text.ts";

/** The name of its file. */
export const STATE = `${RESERVED_PREFIX}state`;

/** An action that is due, written before a publish and cleared after its action. */
export interface PendingAction {
  /** When the publish was complete, in microseconds of this boot's CLOCK_MONOTONIC; null: not known. */
  readonly publishedAt: number | null;
  readonly bootId: string;
}

/** When starts of the targets were seen, so that the start limit is kept across a restart of the sidecar. */
export interface SeenStarts {
  readonly bootId: string;
  /** Unit → microseconds of CLOCK_MONOTONIC, the earliest first. */
  readonly units: Readonly<Record<string, readonly number[]>>;
}

export interface PublishedState {
  /** Names of the published files, secrets.env last. */
  readonly files: readonly string[];
  readonly pending: PendingAction | null;
  readonly starts: SeenStarts | null;
}

/** The state as it is written: with the names that were published before and no longer are. */
export interface StateFile extends PublishedState {
  readonly obsolete: readonly string[];
  /** Those of `files` that were not ours before: whatever is at such a name while its file is still staged is not ours. */
  readonly fresh: readonly string[];
}

export function stateFile(state: StateFile): PublishedFile {
  return {
    name: STATE,
    content: encoded(`${JSON.stringify(state)}\n`),
    mode: 0o600,
    uid: undefined,
    gid: undefined,
  };
}

/** @returns undefined if we did not write this state: another version's, or damaged. */
export function parseState(json: string): StateFile | undefined {
  try {
    const { files, obsolete, fresh, pending, starts } = JSON.parse(json) as Partial<Record<keyof StateFile, unknown>>;
    if (!areNames(files) || !areNames(obsolete)) return undefined;
    return {
      files,
      obsolete,
      // Version 0.1.0 has none.
      fresh: areNames(fresh) ? fresh : [],
      pending: isPending(pending) ? pending : null,
      starts: areStarts(starts) ? starts : null,
    };
  } catch {
    return undefined;
  }
}

/** Names that a directory of Linux can have. */
function areNames(value: unknown): value is string[] {
  const isName = (name: unknown) =>
    typeof name === "string" && /^(?!\.{0,2}$)[^/\0]+$/.test(name) && Buffer.byteLength(name) <= 255;
  return Array.isArray(value) && value.every(isName);
}

function isPending(value: unknown): value is PendingAction {
  if (!isRecord(value)) return false;
  const { publishedAt, bootId } = value;
  return (publishedAt === null || typeof publishedAt === "number") && typeof bootId === "string";
}

function areStarts(value: unknown): value is SeenStarts {
  if (!isRecord(value)) return false;
  const { bootId, units } = value;
  const areTimes = (times: unknown) => Array.isArray(times) && times.every((time) => typeof time === "number");
  return typeof bootId === "string" && isRecord(units) && Object.values(units).every(areTimes);
}
