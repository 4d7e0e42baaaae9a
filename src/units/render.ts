/** The units of one configuration: the sidecar's, and the drop-in of each service that it is for. */
import { dirname, join, relative } from "node:path";
import type { Config } from "../config/config.ts";
import type { Scope } from "../config/scope.ts";
import { actOf, dropInOf, refreshOf, unitOf } from "../config/unit-names.ts";
import { actingUnits } from "./acting-units.ts";
import { executable, executableThatActs } from "./executable.ts";
import { needsOf } from "./needs.ts";
import { refreshers, refreshUnits } from "./refresh.ts";
import { sandbox, withoutRoot } from "./sandbox.ts";
import { argument, type Lines, type UnitFile, word } from "./unit-file.ts";

export interface RenderOptions {
  /** NAME of /etc/fetcher/NAME.json, or of a user's file. */
  readonly name: string;
  readonly scope: Scope;
  /** The sidecar's unit without `.service`. */
  readonly sidecar: string;
  /** argv that starts fetcher. */
  readonly program: readonly string[];
  /** It is the executable that needs no Node. */
  readonly isExecutable: boolean;
}

export function unitsOf(config: Config, options: RenderOptions): readonly UnitFile[] {
  const { configDirectory, systemctl } = options.scope;
  const comment = `Made by fetcher from ${configDirectory}/${options.name}.json: change that, and run ${systemctl.join(" ")} daemon-reload.`;
  const sidecar = sidecarUnit(config, options, comment);
  const dropIns = config.targets.map((unit) => dropIn(config, options, unit, comment));
  // A user's manager obeys that user, and the sidecar runs as that user: no other unit has to act for it.
  if (options.scope.isUser) return [sidecar, ...dropIns];
  const refreshing = config.onDemand ? refresh(config, options, sidecar) : [];
  return [sidecar, ...acting(config, options, comment), ...refreshing, ...dropIns];
}

function refresh(
  config: Config,
  { name, scope, sidecar, program }: RenderOptions,
  { service, ...unit }: UnitFile,
): readonly UnitFile[] {
  const runtimeDirectory = runtimeDirectoryIn(config, scope);
  const file = join(scope.configDirectory, `${name}.json`);
  return refreshUnits(config, needsOf(config.backend, config.settings), {
    ...{ sidecar, runtimeDirectory, comment: unit.comment, service },
    file: file.replaceAll("%", "%%"),
    command: commandLine([...program, "refresh", "--config", file, ...actionsFlag(runtimeDirectory)]),
  });
}

function acting(
  config: Config,
  { name, scope, sidecar, program, isExecutable }: RenderOptions,
  comment: string,
): readonly UnitFile[] {
  const file = join(scope.configDirectory, `${name}.json`);
  const runtimeDirectory = runtimeDirectoryIn(config, scope);
  const words = ["act", "--config", file, "--output", `/run/${runtimeDirectory}/pub`, ...actionsFlag(runtimeDirectory)];
  return actingUnits(config, needsOf(config.backend, config.settings), {
    ...{ comment, sidecar, runtimeDirectory, file },
    command: commandLine([...program, ...words]),
    program: [environment, ...(isExecutable ? executableThatActs : [])],
  });
}

function sidecarUnit(
  config: Config,
  { name, scope, sidecar, program, isExecutable }: RenderOptions,
  comment: string,
): UnitFile {
  const needs = needsOf(config.backend, config.settings);
  const { configDirectory, isUser } = scope;
  const file = join(configDirectory, `${name}.json`);
  const runtimeDirectory = runtimeDirectoryIn(config, scope);
  const directories = isUser ? [runtimeDirectory] : directoriesOf(runtimeDirectory, config);
  const targets = config.targets.join(" ");
  const keys = config.backend === "nixops" ? config.secrets.map(({ id, source }) => keyUnit(id, source)) : [];
  // A command may need no network; one that needs it is tried again.
  const store = [...(needs.network && !needs.everything ? ["network-online.target"] : []), ...keys];
  // A user's manager knows none of the system's units.
  const acts = isUser ? [] : [...store, `${actOf(sidecar)}.path`];
  const wants = [...acts, ...(config.onDemand ? refreshers(sidecar, needs, config) : [])];
  // Users may come from elsewhere than /etc/passwd.
  const after = [...acts, ...(hasOwner(config) && !isUser ? ["nss-user-lookup.target"] : [])];
  return {
    path: unitOf(sidecar),
    comment,
    unit: [
      ["Description", `Secrets of ${targets.replaceAll("%", "%%")}`],
      ["Documentation", "man:fetcher(8)"],
      ["SourcePath", file.replaceAll("%", "%%")],
      ["Before", targets],
      ...list("Wants", wants),
      ...list("After", after),
      // If the sidecar does not follow the store, a restart of the target makes it fetch again.
      ...(config.reloadOnChange ? [] : ([["PartOf", targets]] as const)),
      ...(isUser ? [] : needs.mounts).map((path) => ["RequiresMountsFor", word(path)] as const),
      // The target starts the sidecar. When the target stops, nothing needs the sidecar any more.
      ["StopWhenUnneeded", "yes"],
      // A sidecar that is killed again and again must come back each time.
      ["StartLimitIntervalSec", "0"],
      ...directories.flatMap((directory) => assertFree(join(scope.runtimeRoot, directory))),
    ],
    service: [
      ...(config.resident
        ? [...daemon, ["ExecReload", commandLine([...program, "reload", "--config", file])] as const]
        : once),
      // Where the sd-notify addon is missing, systemd-notify(1) speaks for the main process.
      ["NotifyAccess", "all"],
      ["ExecStart", commandLine([...program, "--config", file, ...(isUser ? [] : actionsFlag(runtimeDirectory))])],
      ...(isUser ? [] : ([["PrivateTmp", "yes"]] as const)),
      ["RuntimeDirectory", directories.map(word).join(" ")],
      // With `files` others may read them, and each file's mode decides; otherwise the directory does.
      ["RuntimeDirectoryMode", config.delivery === "files" ? "0755" : "0700"],
      ["RuntimeDirectoryPreserve", "restart"],
      // systemd makes it if it is missing, so that the sidecar sees files that come into it later.
      ...(/[\\:]/.test(name)
        ? []
        : ([
            ["ConfigurationDirectory", `fetcher/${name}`],
            ["ConfigurationDirectoryMode", "0700"],
          ] as const)),
      // Elsewhere the units that act for it refer to it, so systemd does not forget its directory.
      ...(isUser ? ([["ExecStopPost", emptyWhenStopped(scope)]] as const) : []),
      ["RestartMode", "direct"],
      ["RestartSec", "1"],
      ["RestartPreventExitStatus", "64 66 69 77 78 200 203 210 213 218 224 226 227 228 229 230 231 232 236 245"],
      // A boot must survive a late store; startTimeout ends the wait.
      ["TimeoutStartSec", "infinity"],
      environment,
      ...(isUser ? withoutRoot : all)(sandbox(config, needs, runtimeDirectory, [file, join(configDirectory, name)])),
      ...(isExecutable ? executable : []),
    ],
  };
}

const all = (lines: Lines) => lines;

function list(option: string, units: readonly string[]): Lines {
  return units.length === 0 ? [] : [[option, units.join(" ")]];
}

/** Whether a file is given to a user other than root. */
function hasOwner({ secrets, templates }: Config): boolean {
  const others = ({ owner, group }: Config["secrets"][number] | Config["templates"][number]) =>
    [owner, group].some((one) => one !== undefined && one !== "root" && one !== "0");
  return [...secrets, ...templates].some(others);
}

const daemon: Lines = [
  ["Type", "notify"],
  ["Restart", "always"],
];

const once: Lines = [
  ["Type", "oneshot"],
  ["RemainAfterExit", "yes"],
  // systemd refuses `always` for oneshot; a run that ended well is done.
  ["Restart", "on-failure"],
];

/** systemd 254+ can unload a unit that no loaded unit refers to before it removes the unit's directory. */
const emptyWhenStopped = ({ systemctl }: Scope) =>
  `-sh -c '${systemctl.join(" ")} list-jobs --full --no-legend | while read -r _ unit job _; do ` +
  'if [ "$$unit $$job" = "%n stop" ]; then find "$$RUNTIME_DIRECTORY" -mindepth 1 -delete; fi; done\'';

/** The directories of a sidecar that another unit acts for: `inbox` is for its requests. */
function directoriesOf(runtimeDirectory: string, { onDemand }: Config): readonly string[] {
  const [act, refresh] = [actOf(runtimeDirectory), refreshOf(runtimeDirectory)];
  // For notes, and for links to what systemd watches.
  const notes = onDemand ? [refresh, `${refresh}/inbox`, `${refresh}/ways`] : [];
  return [runtimeDirectory, act, `${act}/inbox`, ...notes];
}

/**
 * With a file or a link in the place of a directory (233), each start would fail like the one before. systemd 250+ finds
 * PathIsReadWrite true if the name before the last is a file (ENOTDIR), and false if it is a directory or nothing.
 */
function assertFree(directory: string): Lines {
  const place = directory.replaceAll("%", "%%");
  return [
    ["AssertPathIsSymbolicLink", `!${place}`],
    ["AssertPathIsReadWrite", `!${place}/.none`],
  ];
}

const environment = [
  "Environment",
  "NODE_DISABLE_COMPILE_CACHE=1 BUN_RUNTIME_TRANSPILER_CACHE_PATH=0 MALLOC_ARENA_MAX=1",
] as const;

function actionsFlag(runtimeDirectory: string): readonly string[] {
  return ["--actions", `/run/${actOf(runtimeDirectory)}`];
}

function dropIn(config: Config, { sidecar, scope }: RenderOptions, target: string, comment: string): UnitFile {
  const unit = unitOf(sidecar);
  const files = join(scope.runtimeRoot, runtimeDirectoryIn(config, scope), "pub");
  const isShared = config.delivery === "private-tmp";
  return {
    path: dropInOf(target, sidecar),
    comment,
    unit: [["Requires", unit], ["After", unit], ...(isShared ? ([["JoinsNamespaceOf", unit]] as const) : [])],
    service: [
      ...(isShared
        ? ([
            // Explicit also with DynamicUser=: on systemd 257+ a service cannot join the /tmp that this implies.
            ["PrivateTmp", "yes"],
            ["BindReadOnlyPaths", `${word(files)}:/tmp/.secrets`],
          ] as const)
        : []),
      ...(config.delivery === "credentials" ? credentials(config, files) : []),
      // systemd reads the file itself, before it sets up the sandbox: the service needs no wrapper.
      ...(config.environment ? ([["EnvironmentFile", `${files.replaceAll("%", "%%")}/secrets.env`]] as const) : []),
    ],
  };
}

function credentials(config: Config, files: string): Lines {
  const escaped = (text: string) => text.replaceAll("%", "%%");
  const load = (file: string) => ["LoadCredential", `${escaped(file)}:${escaped(join(files, file))}`] as const;
  return [
    ...config.secrets.map(({ file }) => load(file)),
    ...config.templates.map(({ file }) => load(file)),
    // The service finds this for a missing secret. systemd 252 and 257 refuse an empty value.
    ...config.secrets
      .filter(({ optional }) => optional)
      .map(({ file }) => ["SetCredential", `${escaped(file)}:\\n`] as const),
  ];
}

function commandLine(words: readonly string[]): string {
  return words.map(argument).join(" ");
}

function runtimeDirectoryIn(config: Config, { runtimeRoot }: Scope): string {
  return relative(runtimeRoot, dirname(config.output?.directory ?? ""));
}

function keyUnit(id: string, source: Readonly<Record<string, unknown>>): string {
  return `${typeof source["key"] === "string" ? source["key"] : id}-key.service`;
}
