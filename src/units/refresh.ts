/**
 * The units of a sidecar that is not resident. A systemd path unit misses changes while its service runs (252 to 257,
 * measured). So the path unit that watches the store starts a service that ends at once: it leaves a note in an inbox.
 * While there is a note, another path unit starts the look at the store.
 */
import { dirname, join } from "node:path";
import type { Config } from "../config/config.ts";
import { refreshOf, unitOf, watchOf } from "../config/unit-names.ts";
import type { Needs } from "./needs.ts";
import { LOADER_VARIABLES } from "./sandbox.ts";
import { type Lines, type UnitFile, word } from "./unit-file.ts";

/** How many links to directories are watched besides the store's own. Each costs one inotify instance of the kernel. */
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
  // The store may change after the sidecar has published and before these units start: so the sidecar leaves a note.
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
  // A new link in `ways` is a change too: from then on systemd also watches what the link leads to.
  const links = Array.from({ length: WAYS }, (_, at) => `${notes}/ways/${String(at)}`);
  return [...watched, `${notes}/ways`, ...links].map((path) => ["PathChanged", path.replaceAll("%", "%%")] as const);
}

function watchService(path: string, about: Lines, notes: string, comment: string): UnitFile {
  return {
    ...{ path, comment },
    unit: [...about, ["ConditionPathIsDirectory", word(`${notes}/inbox`)], ["StartLimitIntervalSec", "0"]],
    service: [
      ["Type", "oneshot"],
      // Every note has a new name, so removing one never loses another.
      ["ExecStart", `mktemp -q ${word(`${notes}/inbox/XXXXXXXXXX`)}`],
      // A change without its note would wait for the next poll.
      ["Restart", "on-failure"],
      ["RestartSec", "1"],
      ["LimitCORE", "0"],
      ["UMask", "0077"],
      ["UnsetEnvironment", LOADER_VARIABLES],
      // It reads nothing. Namespaces would take longer than the rest of its run, at each change.
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

/** Looks are about `interval` seconds apart, 10 % more or less, so that sidecars do not all look at once. */
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

/** Lines about the sidecar's own directories and its start, which the refresh service does not take over. */
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
      // When the service that notes has ended, systemd watches the store again: a look after that misses nothing.
      ["After", [unitOf(sidecar), ...watching].join(" ")],
      // No PartOf= the sidecar: with a start of this service queued, systemd would not stop an unneeded sidecar (257,
      // seen), and would not try again.
      ["ConditionPathIsDirectory", word(`${notes}/inbox`)],
      ...(config.delivery === "private-tmp" ? ([["JoinsNamespaceOf", unitOf(sidecar)]] as const) : []),
      ["StartLimitIntervalSec", "0"],
    ],
    service: [
      // Not oneshot: while a start is in progress, systemd does not by itself stop a unit if that would end the start.
      ["Type", "exec"],
      ["ExecStart", command],
      ["Restart", "on-failure"],
      // While its notes are there, the path unit would start it again at once: Restart= does that after a pause. When
      // it ends with one of the statuses below, it has taken its notes.
      ["RestartSec", "5"],
      ["RestartPreventExitStatus", "66 69 77 78"],
      ["Environment", `RUNTIME_DIRECTORY=${word(join("/run", runtimeDirectory))}`],
      ...service.filter(([option]) => !OF_SIDECAR.test(option)),
    ],
  };
}

/** The store's directories, and those below them that hold a secret's file. */
function watchedIn({ watched }: Needs, { backend, secrets }: Config): readonly string[] {
  const files = secrets.flatMap(({ source }) => (typeof source["file"] === "string" ? [source["file"]] : []));
  const below = backend === "folder" ? files.map(dirname).filter((path) => path !== ".") : [];
  return [...new Set(watched.flatMap((place) => [place, ...below.map((path) => join(place, path))]))];
}

/** Seconds; null: never. */
function intervalOf({ interval }: Needs, { pollingInterval }: Config): number | null {
  return interval === null ? null : (pollingInterval ?? interval);
}
