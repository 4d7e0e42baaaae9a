/** What the commands that set up a service ask systemd, and make it do. */
import { join } from "node:path";
import { withoutSuffix } from "../config/unit-names.ts";
import { ExitCode, FatalError } from "../contract/errors.ts";
import { type CommandResult, LONG_LIST, runCommand } from "../contract/helper-command.ts";
import type { Scope } from "../config/scope.ts";
import { didYouMean } from "../contract/nearest.ts";
import { contentOf, isProgram, namesIn, resolvedPath } from "./paths.ts";

/** The command that asks, for its messages, and whose units it is about. */
export interface Caller {
  readonly command: string;
  readonly scope: Scope;
}

/** A service as systemd has it now. */
export interface Service {
  readonly unit: string;
  readonly isActive: boolean;
  readonly canReload: boolean;
  /** The user that it runs as; undefined: root. */
  readonly user: string | undefined;
  /** Its files have changed since systemd read them. */
  readonly isOld: boolean;
  /** Of EnvironmentFile=, in their order: a `-` before one that may be missing. */
  readonly environmentFiles: readonly string[];
  readonly dropIns: readonly string[];
  /** Its real name, where the name that we asked for is an alias. */
  readonly realName: string | undefined;
  /** It has its own file system (RootDirectory=, RootImage=), without our /run. */
  readonly hasOwnRoot: boolean;
}

/** Seconds that systemd has to answer, and to read all units again. */
const PATIENCE = 90;

/** @throws FatalError without such a service, or without systemd. */
export async function serviceCalled(unit: string, caller: Caller): Promise<Service> {
  const properties =
    "Id,LoadState,ActiveState,CanReload,User,NeedDaemonReload,EnvironmentFiles,DropInPaths,RootDirectory,RootImage";
  const shown = await run(caller, ["show", `--property=${properties}`, "--", unit], PATIENCE);
  if (shown.end !== "exit" || shown.code !== 0)
    throw new FatalError(ExitCode.unavailable, `${caller.command}: systemd does not answer: ${reasonOf(shown)}`);
  const all = (key: string) =>
    [...shown.stdout.matchAll(new RegExp(`^${key}=(.*)$`, "gm"))].map(([, value = ""]) => value);
  const [[state = ""], [user = ""]] = [all("LoadState"), all("User")];
  if (state !== "loaded") throw await notLoaded(unit, state, caller);
  return {
    unit,
    isActive: ["active", "reloading", "activating", "refreshing"].includes(all("ActiveState")[0] ?? ""),
    canReload: all("CanReload")[0] === "yes",
    user: ["", "root", "0"].includes(user) ? undefined : user,
    isOld: all("NeedDaemonReload")[0] === "yes",
    environmentFiles: all("EnvironmentFiles").flatMap((value) => {
      const [, path = "", ignored = ""] = /^(.*) \(ignore_errors=(yes|no)\)$/.exec(value) ?? [];
      return path === "" ? [] : [`${ignored === "yes" ? "-" : ""}${path}`];
    }),
    dropIns: (all("DropInPaths")[0] ?? "").split(" ").filter(Boolean),
    realName: all("Id").find((id) => id !== "" && id !== unit),
    hasOwnRoot: [...all("RootDirectory"), ...all("RootImage")].some((path) => path !== "" && path !== "/"),
  };
}

async function notLoaded(unit: string, state: string, caller: Caller): Promise<FatalError> {
  const { command, scope } = caller;
  if (state !== "not-found")
    return new FatalError(
      ExitCode.config,
      `${command}: ${unit} is ${state}: see ${scope.systemctl.join(" ")} status ${unit}`,
    );
  const list = await run(caller, ["list-unit-files", "--type=service", "--no-legend", "--plain"]);
  const known =
    list.end === "exit" ? [...list.stdout.matchAll(/^(\S+)\.service\s/gm)].map(([, name = ""]) => name) : [];
  const name = withoutSuffix(unit);
  if (known.includes(`${name}@`))
    return new FatalError(
      ExitCode.missing,
      `${command}: ${name}@.service is a template: name an instance, ${name}@...`,
    );
  const hint = didYouMean(
    name,
    // A sidecar is not a service that gets secrets.
    known.filter((one) => !/-secrets(?:-act)?$/.test(one)),
  );
  return new FatalError(ExitCode.missing, `${command}: systemd has no unit ${unit}${hint}`);
}

/** Makes systemd read its units again. That starts or stops nothing. @throws FatalError */
export async function daemonReload(caller: Caller): Promise<void> {
  await systemctl(caller, "daemon-reload");
}

/** @throws FatalError with what systemctl says. */
export async function systemctl(caller: Caller, verb: string, ...units: readonly string[]): Promise<void> {
  const words = [verb, ...units];
  const result = await run(caller, ["--no-ask-password", ...guarded(words)]);
  if (result.end === "exit" && result.code === 0) return;
  throw new FatalError(ExitCode.unavailable, `${caller.command}: ${typed(caller, words)}: ${reasonOf(result)}`);
}

/** The command line as a person types it. */
export function typed({ scope }: Pick<Caller, "scope">, words: readonly string[]): string {
  return [...scope.systemctl, ...guarded(words)].join(" ");
}

/** A unit whose name begins with a `-` is not an option. */
function guarded([verb = "", ...units]: readonly string[]): readonly string[] {
  return units.some((unit) => unit.startsWith("-")) ? [verb, "--", ...units] : [verb, ...units];
}

function run({ scope }: Caller, words: readonly string[], timeout?: number): Promise<CommandResult> {
  const { systemctl: program, environment } = scope;
  const limits = { most: LONG_LIST, ...(timeout === undefined ? {} : { timeout }) };
  return runCommand([...program, ...words], { environment, ...limits });
}

/** @returns "" where systemd has no answer. */
export async function property(caller: Caller, unit: string, name: string): Promise<string> {
  const shown = await run(caller, ["show", `--property=${name}`, "--value", "--", unit], PATIENCE);
  return shown.end === "exit" ? shown.stdout.trim() : "";
}

/** Other units that have `file` as EnvironmentFile=. */
export async function readersOf(caller: Caller, file: string, unit: string): Promise<readonly string[]> {
  const shown = await run(caller, ["show", "--property=Id,EnvironmentFiles", "--", "*.service"]);
  const blocks = shown.end === "exit" ? shown.stdout.split("\n\n") : [];
  return blocks
    .filter((block) => block.includes(`EnvironmentFiles=${file} (`))
    .flatMap((block) => /^Id=(.*)$/m.exec(block)?.[1] ?? [])
    .filter((id) => id !== unit);
}

/** Why systemctl has no answer. */
export function reasonOf(result: CommandResult): string {
  if (result.end === "not-started") return "cannot run systemctl";
  if (result.end === "timeout") return "no answer in time";
  const [first = ""] = result.stderr.trim().split("\n");
  return first === "" ? "it failed" : first;
}

/**
 * Whether systemd runs fetcher as a generator, this one or another. A link to a missing program does not count. A file
 * hides the files of the same name in later directories.
 *
 * @returns `masked`: a link to /dev/null hides it.
 */
export function generatorState(program: string, { generatorDirectories }: Scope): "runs" | "missing" | "masked" {
  const seen = new Set<string>();
  let state: "missing" | "masked" = "missing";
  for (const directory of generatorDirectories)
    for (const name of namesIn(directory)) {
      const target = resolvedPath(join(directory, name));
      if (seen.has(name) || (!/^(?:\d+-)?(?:fetcher|secrets-sidecar)/.test(name) && target !== program)) continue;
      if (target === "/dev/null") state = "masked";
      else if (isProgram(target)) return "runs";
      else continue;
      seen.add(name);
    }
  return state;
}

/** The text of a unit's drop-ins by the administrator, in their order. The unit need not be there yet. */
export function dropInsOf(unit: string, { unitDirectories }: Scope): string {
  const found = new Map<string, string>();
  for (const units of unitDirectories.toReversed()) {
    const directory = join(units, `${unit}.d`);
    for (const name of namesIn(directory)) if (name.endsWith(".conf")) found.set(name, join(directory, name));
  }
  return [...found.keys()]
    .sort()
    .map((name) => `${textIn(found.get(name) ?? "")}\n`)
    .join("");
}

/** @returns "" where a link leads nowhere: systemd ignores such a link. */
function textIn(path: string): string {
  return contentOf(path)?.toString("utf8") ?? "";
}
