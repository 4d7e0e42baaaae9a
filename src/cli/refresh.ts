/** `fetcher refresh`: the unit NAME-secrets-refresh.service runs it for a sidecar that is not resident. */
import { dirname, join } from "node:path";
import { type Config, loadConfig, type OutputConfig } from "../config/config.ts";
import { lookedFor } from "../config/unit-names.ts";
import { ExitCode, FatalError, UsageError } from "../contract/errors.ts";
import { waitFor } from "../contract/bounded-wait.ts";
import { isRemoved } from "../contract/unit-sandbox.ts";
import { factsFile, readFacts, type TellFacts, unitOfThisProcess } from "../engine/facts.ts";
import { memoryIn } from "../engine/look.ts";
import { withoutLeases } from "../engine/without-leases.ts";
import { Sidecar, type SidecarParts } from "../engine/sidecar.ts";
import { linksOnWays } from "../engine/ways.ts";
import type { Log } from "../runtime/log.ts";
import type { Publisher } from "../publish/publisher.ts";
import type { Store } from "../engine/store.ts";
import { Notes } from "../systemd/notes.ts";
import { needsOf } from "../units/needs.ts";
import { WAYS } from "../units/refresh.ts";
import type { CommandLine } from "./command-line.ts";

/** Seconds that a file system may take to say where links lead. */
const WALK_LIMIT = 5;

type Wiring = Pick<SidecarParts, "notifier" | "ask" | "log" | "clock" | "random" | "systemd">;
type Open = (
  config: Config,
  output: OutputConfig,
  stop: AbortSignal,
) => Promise<{ readonly store: Store; readonly publisher: Publisher } | undefined>;

/** @param version of this program. */
export async function refresh(
  commandLine: CommandLine,
  wiring: Wiring,
  open: Open,
  version: string,
  stop: AbortSignal,
): Promise<ExitCode> {
  const notes = Notes.of(process.env);
  if (commandLine.mode !== "daemon" || commandLine.configFile === undefined || wiring.ask === undefined)
    throw new UsageError("refresh: expected --config FILE and --actions DIR, as in the unit that looks at the store");
  if (notes === undefined)
    throw new FatalError(ExitCode.config, "refresh: $RUNTIME_DIRECTORY is not the directory of a sidecar");
  // Notes from now on are for the next run: by then systemd watches the store again.
  const known = notes.all;
  let isOver = true;
  try {
    const config = await loadConfig(commandLine);
    if (config.output === undefined || !config.onDemand)
      throw new FatalError(
        ExitCode.config,
        'configuration: resident: is not "on-change" (any more): run systemctl daemon-reload',
      );
    const opened = await open(config, config.output, stop);
    if (opened === undefined) return ExitCode.ok;
    // The service may stop at any time: files that we publish after that would stay forever.
    opened.publisher.staysBelow(dirname(config.output.directory));
    // In all other ways it works like a resident sidecar.
    const running = { ...config, resident: true };
    const facts = factsAfter(dirname(config.output.directory), version, opened.store);
    const store = withoutLeases(opened.store);
    const parts = { ...wiring, ...opened, store, config: running, facts, version, idle: () => undefined };
    const sidecar = new Sidecar(parts);
    const hinted = known.length === 0 ? undefined : () => notes.all.length;
    const memory = await sidecar.look(memoryIn(notes.memory), hinted, stop);
    if (memory !== undefined) {
      notes.remember(memory);
      await watchWays(notes, config, stop);
    }
    isOver = memory !== undefined;
    return ExitCode.ok;
  } finally {
    // A run that is stopped leaves its notes for the next, which systemd starts while there are notes.
    if (isOver) notes.take(known);
  }
}

/**
 * The service may stop during a look, and systemd then removes the directories of its sidecar. An error of the look
 * is then no fault, and must not leave a failed unit.
 */
export async function unlessStopped(log: Log, work: () => Promise<ExitCode>): Promise<ExitCode> {
  let exitCode: ExitCode = ExitCode.ok;
  try {
    exitCode = await work();
  } catch (error) {
    if (!isStopped()) throw error;
  }
  if (isStopped()) log.info("stopped together with the sidecar");
  return exitCode;
}

/** @returns a log for the look: once its service has stopped, what fails is no trouble for anybody. */
export function quietOnceStopped(log: Log): Log {
  const unless =
    (level: "warn" | "error"): Log["warn"] =>
    (message, fields) => {
      log[isStopped() ? "debug" : level](message, fields);
    };
  return { ...log, warn: unless("warn"), error: unless("error") };
}

/** systemd has removed the directories of the sidecar. The mounts of them in this unit are still there. */
function isStopped(): boolean {
  const [runtime = ""] = process.env["RUNTIME_DIRECTORY"]?.split(":") ?? [];
  return runtime !== "" && (isRemoved(runtime) || Notes.of(process.env) === undefined);
}

/** Runs when the first set is published: the first look covers later changes, and those not watched yet. */
export async function beginLooks(config: Config, stop: AbortSignal): Promise<void> {
  const notes = Notes.of(process.env);
  if (notes === undefined) return;
  await watchWays(notes, config, stop);
  notes.leave();
}

async function watchWays(notes: Notes, config: Config, stop: AbortSignal): Promise<void> {
  const { watched } = needsOf(config.backend, config.settings);
  const files = watched.flatMap((place) => config.secrets.map(({ id, source }) => join(place, fileOf(id, source))));
  const found = await waitFor(linksOnWays(files, watched), stop, WALK_LIMIT);
  if (typeof found === "object") notes.watch(found.slice(0, WAYS), WAYS);
}

function fileOf(id: string, { file, key }: Readonly<Record<string, unknown>>): string {
  const named = file ?? key;
  return typeof named === "string" ? named : id;
}

/** Counters continue from the previous process's. */
function factsAfter(directory: string, version: string, { pollingInterval }: Store): TellFacts {
  const before = readFacts(directory);
  const own = unitOfThisProcess();
  const unit = own === null ? null : lookedFor(own);
  const tell = factsFile(directory, version, unit, before?.startedAt);
  return (config, now) => {
    const next = pollingInterval === null ? null : new Date(Date.now() + pollingInterval * 1000).toISOString();
    tell(config, {
      ...now,
      checkedAt: now.checkedAt ?? before?.checkedAt ?? null,
      nextLookAt: next,
      rotations: (before?.rotations ?? 0) + now.rotations,
      publishedAt: now.publishedAt ?? before?.publishedAt ?? null,
    });
  };
}
