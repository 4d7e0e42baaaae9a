/**
 * The units of a sidecar of which no process stays. A path unit of systemd's loses what changes while its service runs (252 to
 * 257, measured), so the one that watches the store starts something that is over at once: a note in an inbox. As long as there is
 * one, another starts the look at the store.
 */
import { dirname, join } from "node:path";
import type { Config } from "../config/config.ts";
import { refreshOf, unitOf, watchOf } from "../config/unit-names.ts";
import type { Needs } from "./needs.ts";
import { LOADER_VARIABLES } from "./sandbox.ts";
import { type Lines, type UnitFile, word } from "./unit-file.ts";

/** So many links to directories are watched beside the store's own. Each costs one of the kernel's inotify instances. */
export const WAYS = 2;

export interface RefreshOptions {
  readonly comment: string;
  /** The sidecar's unit without `.service`. */
  readonly sidecar: string;
  /** Below /run. */
  readonly runtimeDirectory: string;
  /** The configuration, as a unit has it. */
  readonly file: string;
  readonly command: string;
  /** The sidecar's own lines. */
  readonly service: Lines;
}

/** Units that the sidecar pulls in. */
export function refreshers(sidecar: string, needs: Needs, config: Config): readonly string[] {
  const watching = watchedIn(needs, config).length > 0 ? [`${watchOf(sidecar)}.path`] : [];
  const polling = intervalOf(needs, config) === null ? [] : [`${refreshOf(sidecar)}.timer`];
  return [`${refreshOf(sidecar)}.path`, ...watching, ...polling];
}

export function refreshUnits(config: Config, needs: Needs, options: RefreshOptions): readonly UnitFile[] {
  const { comment, sidecar, runtimeDirectory, file } = options;
  const notes = `/run/${refreshOf(runtimeDirectory)}`;
  const about = (what: string): Lines => [
    ["Description", `${what} the secrets of ${config.targets.join(" ").replaceAll("%", "%%")}`],
    ["Documentation", "man:fetcher(8)"],
    ["SourcePath", file],
  ];
  // What the sidecar has published may have changed by the time that these are there: it leaves a note.
  const waits: Lines = [
    ["After", unitOf(sidecar)],
    ["StopWhenUnneeded", "yes"],
    ["StartLimitIntervalSec", "0"],
  ];
  const watched = watchedIn(needs, config);
  const interval = intervalOf(needs, config);
  const path = (name: string, what: string, triggers: Lines): UnitFile => ({
    ...{ path: name, comment, service: [] },
    unit: [...about(what), ...waits],
    // A limit would end the unit, and with it all rotation.
    triggers: [...triggers, ["TriggerLimitIntervalSec", "0"]],
  });
  return [
    path(`${refreshOf(sidecar)}.path`, "Notes of changes to", [["DirectoryNotEmpty", `${notes}/inbox`]]),
    ...(watched.length === 0
      ? []
      : [
          path(`${watchOf(sidecar)}.path`, "Watch over", waysOf(watched, notes)),
          watchService(unitOf(watchOf(sidecar)), about("Note of a change to"), notes, comment),
        ]),
    ...(interval === null ? [] : [timer(interval, [...about("Looks at"), ...waits], options)]),
    refreshService(config, about("Look at"), watched.length > 0, notes, options),
  ];
}

function waysOf(watched: readonly string[], notes: string): Lines {
  // Another link there is a change, too, by which what it leads to begins to be watched.
  const links = Array.from({ length: WAYS }, (_, at) => `${notes}/ways/${String(at)}`);
  return [...watched, `${notes}/ways`, ...links].map((path) => ["PathChanged", path.replaceAll("%", "%%")] as const);
}

function watchService(path: string, about: Lines, notes: string, comment: string): UnitFile {
  return {
    ...{ path, comment },
    unit: [...about, ["ConditionPathIsDirectory", word(`${notes}/inbox`)], ["StartLimitIntervalSec", "0"]],
    service: [
      ["Type", "oneshot"],
      // A name is never used twice, so that taking one away loses no other.
      ["ExecStart", `mktemp -q ${word(`${notes}/inbox/XXXXXXXXXX`)}`],
      // A change without its note would wait for the next poll.
      ["Restart", "on-failure"],
      ["RestartSec", "1"],
      ["LimitCORE", "0"],
      ["UMask", "0077"],
      ["UnsetEnvironment", LOADER_VARIABLES],
      // It reads nothing. Name spaces would take longer than all of it, at each change.
      ["CapabilityBoundingSet", ""],
      ["NoNewPrivileges", "yes"],
      ["LockPersonality", "yes"],
      ["RestrictNamespaces", "yes"],
      ["RestrictRealtime", "yes"],
      ["RestrictSUIDSGID", "yes"],
      ["IPAddressDeny", "any"],
      ["RestrictAddressFamilies", "none"],
      ["SystemCallArchitectures", "native"],
      ["SystemCallFilter", "@system-service"],
      ["SystemCallFilter", "~@privileged @resources"],
    ],
  };
}

/** Looks are about `interval` seconds apart, and not all at one time: 10 % more or less. */
function timer(interval: number, unit: Lines, { sidecar, comment }: RefreshOptions): UnitFile {
  const least = `${String(Math.round(interval * 900))}ms`;
  return {
    ...{ path: `${refreshOf(sidecar)}.timer`, comment, unit, service: [] },
    triggers: [
      ["OnActiveSec", least],
      ["OnUnitInactiveSec", least],
      ["RandomizedDelaySec", `${String(Math.round(interval * 200))}ms`],
      ["AccuracySec", "1s"],
    ],
  };
}

/** What the sidecar's own directories and its being started are about is not its business. */
const OF_SIDECAR =
  /^(?:Type|RemainAfterExit|Restart\w*|ExecStart|RuntimeDirectory\w*|ConfigurationDirectory\w*|TimeoutStartSec)$/;

function refreshService(
  config: Config,
  about: Lines,
  isWatched: boolean,
  notes: string,
  { comment, sidecar, runtimeDirectory, command, service }: RefreshOptions,
): UnitFile {
  const watching = isWatched ? [`${watchOf(sidecar)}.path`, unitOf(watchOf(sidecar))] : [];
  return {
    ...{ path: unitOf(refreshOf(sidecar)), comment },
    unit: [
      ...about,
      // Once its note is over, the store is watched again: a look after that misses nothing.
      ["After", [unitOf(sidecar), ...watching].join(" ")],
      // No PartOf= the sidecar: where its start is queued, systemd would not stop a sidecar that nobody needs (257, seen), nor try again.
      ["ConditionPathIsDirectory", word(`${notes}/inbox`)],
      ...(config.delivery === "private-tmp" ? ([["JoinsNamespaceOf", unitOf(sidecar)]] as const) : []),
      ["StartLimitIntervalSec", "0"],
    ],
    service: [
      // Not oneshot: as long as a start is in progress, systemd stops nothing of its own accord that would end it too.
      ["Type", "exec"],
      ["ExecStart", command],
      ["Restart", "on-failure"],
      // As long as its notes are there it would be started again at once. These it ends with when it has taken them.
      ["RestartSec", "5"],
      ["RestartPreventExitStatus", "66 69 77 78"],
      ["Environment", `RUNTIME_DIRECTORY=${word(join("/run", runtimeDirectory))}`],
      ...service.filter(([option]) => !OF_SIDECAR.test(option)),
    ],
  };
}

/** A file in a directory below is in that. */
function watchedIn({ watched }: Needs, { backend, secrets }: Config): readonly string[] {
  const files = secrets.flatMap(({ source }) => (typeof source["file"] === "string" ? [source["file"]] : []));
  const below = backend === "folder" ? files.map(dirname).filter((path) => path !== ".") : [];
  return [...new Set(watched.flatMap((place) => [place, ...below.map((path) => join(place, path))]))];
}

/** Seconds; null: never. */
function intervalOf({ interval }: Needs, { pollingInterval }: Config): number | null {
  return interval === null ? null : (pollingInterval ?? interval);
}
