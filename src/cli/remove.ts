/** `fetcher remove`: takes a service's secrets away, and leaves nothing of them but the store. */
import { existsSync, readdirSync, readFileSync, rmdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { Config } from "../config/config.ts";
import type { Scope } from "../config/scope.ts";
import { actOf, unitOf, withoutSuffix } from "../config/unit-names.ts";
import { deriveName } from "../config/env-names.ts";
import { ExitCode, FatalError } from "../contract/errors.ts";
import { didYouMean } from "../contract/nearest.ts";
import { Changes } from "../setup/changes.ts";
import { colored, unifiedDiff } from "../setup/diff.ts";
import { type Caller, daemonReload, property, serviceCalled, type Service, systemctl } from "../setup/host.ts";
import { KEPT } from "../setup/leftovers.ts";
import { replacedIn, swapOf } from "../setup/import.ts";
import { contentOf } from "../setup/paths.ts";
import { namesIn } from "../units/generator.ts";
import { type OneFile, type Place, readJson, unitsOfJson, unitsOfWrongFile } from "../units/one-file-units.ts";
import type { UnitFile } from "../units/unit-file.ts";
import { begin, outcomeOf, type Process } from "./add.ts";
import { parseRemove, removeHelp, type RemoveOptions } from "./add-options.ts";
import { ask } from "./ask.ts";
import { openTerminal } from "./terminal.ts";
import { generated, placeIn } from "./units.ts";

interface Plan {
  readonly options: RemoveOptions;
  readonly caller: Caller;
  readonly file: string;
  readonly text: string;
  /** The sidecar's unit. */
  readonly unit: string;
  readonly units: readonly UnitFile[];
  /** undefined: the file is wrong. */
  readonly config: Config | undefined;
  readonly services: readonly Service[];
  /** Drop-ins that replaced files of variables. */
  readonly swaps: readonly string[];
}

export async function remove(argv: readonly string[], host: Process): Promise<ExitCode> {
  const options = parseRemove(argv);
  const { out, color } = openTerminal();
  if (options === "help") {
    out(removeHelp);
    return ExitCode.ok;
  }
  if (!options.isDryRun) await begin("remove", options.scope, host);
  const plan = await planOf(options);
  const diff = diffOf(plan);
  out(color ? colored(diff) : diff);
  for (const line of [...madeUnits(plan), ...missing(plan)]) out(`${line}\n`);
  if (options.isDryRun) return ExitCode.ok;
  if (!options.yes && !(await ask("remove", "Remove it?"))) {
    out("nothing was changed\n");
    return ExitCode.ok;
  }
  host.stop();
  await carryOut(plan, host);
  cleanUp(plan, out);
  return ExitCode.ok;
}

async function planOf(options: RemoveOptions): Promise<Plan> {
  const { name, scope } = options;
  const { configDirectory } = scope;
  const caller: Caller = { command: "remove", scope };
  const file = join(configDirectory, `${name}.json`);
  const text = contentOf(file)?.toString("utf8");
  if (text === undefined) {
    const hint = didYouMean(
      name,
      namesIn(configDirectory, () => undefined),
    );
    throw new FatalError(ExitCode.missing, `remove: ${file} does not exist${hint}`);
  }
  const place = placeIn(configDirectory, scope);
  const made = madeOf(name, file, place);
  const units = made?.units ?? unitsOfWrongFile(name, place);
  const services: Service[] = [];
  for (const target of made?.config.targets ?? [unitOf(name)]) {
    try {
      services.push(await serviceCalled(target, caller));
    } catch (error) {
      // The service is uninstalled: remove what it had anyway.
      if (!(error instanceof FatalError) || error.exitCode === ExitCode.unavailable) throw error;
    }
  }
  const swaps = services.flatMap((service) => swapOf(service) ?? []);
  return { options, caller, file, text, unit: units[0]?.path ?? "", units, config: made?.config, services, swaps };
}

/** @returns undefined for a wrong file, whose units say so. @throws FatalError for hand-made units. */
function madeOf(name: string, file: string, place: Place): OneFile | undefined {
  let made: OneFile | undefined;
  try {
    made = unitsOfJson(name, readJson(file), place);
  } catch (error) {
    if (error instanceof FatalError) return undefined;
    throw error;
  }
  if (made === undefined)
    throw new FatalError(
      ExitCode.config,
      `remove: ${file} has \`output\`, so its units were made by hand: remove both by hand`,
    );
  return made;
}

/** What a person wrote, or may have changed. */
function diffOf({ file, text, swaps, config }: Plan): string {
  // The backend for tests has its values in the file.
  const shown = config?.backend === "static" ? "…\n" : text;
  return [
    { path: file, before: shown, after: undefined },
    ...swaps.map((path) => ({ path, before: readFileSync(path, "utf8"), after: undefined })),
  ]
    .map(unifiedDiff)
    .join("");
}

/** Nobody wrote the units that systemd makes from the file: their names are enough. */
function madeUnits({ options: { name, scope }, units, config }: Plan): readonly string[] {
  const hint = config === undefined ? "" : ` (${typedUnits(name, scope)} shows them)`;
  return [`the units that systemd makes from it go, too${hint}:`, ...units.map(({ path }) => `  ${path}`)];
}

function typedUnits(name: string, { isUser }: Scope): string {
  const words = [...(isUser ? ["--user"] : []), ...(name.startsWith("-") ? ["--"] : []), name];
  return `fetcher units ${words.join(" ")}`;
}

/** What the services lose, in words. */
function missing(plan: Plan): readonly string[] {
  const { config, services, swaps, options } = plan;
  const names = services.map(({ unit }) => unit).join(", ");
  const head = names === "" ? [] : [`${names}: what runs keeps running. It loses:`];
  return [
    ...head,
    ...(config === undefined ? ["  what the file says, which is wrong"] : lossesOf(config)),
    ...swaps.flatMap((path) => replacedIn(readFileSync(path, "utf8"))).map(backAgain),
    ...(options.deleteSecrets ? [`  and for ever: ${folderOf(options)}`] : []),
  ];
}

function lossesOf({ delivery, secrets, templates, environment, output }: Config): readonly string[] {
  const files = [...secrets, ...templates].map(({ file }) => file);
  const variables = secrets.flatMap(({ id, env, all, prefix }) =>
    env === null ? [] : [all ? `${prefix}… of ${id}` : (env ?? deriveName(id))],
  );
  const run = output?.directory ?? "";
  return [
    ...(delivery === "credentials" ? [`  credentials ${files.join(", ")}, from its next start on`] : []),
    ...(delivery === "files" ? [`  files in ${run}, at once: ${files.join(", ")}`] : []),
    ...(delivery === "private-tmp" ? [`  files in its /tmp, at once: ${files.join(", ")}`] : []),
    ...(environment ? [`  variables ${variables.join(", ")}, from its next start on`] : []),
    "  restarts for new values",
  ];
}

function backAgain(file: string): string {
  return existsSync(file)
    ? `EnvironmentFile=${file} is read again`
    : `EnvironmentFile=${file} applies again, but the file does not exist: without it the service does not start`;
}

function folderOf({ name, scope }: RemoveOptions): string {
  return join(scope.configDirectory, name, "secrets");
}

/**
 * When systemd stops a unit, it also stops the units that require it. So the service first drops its dependency on the
 * sidecar, and copies of the sidecar's units stay until they have stopped: their stop then cleans up as usual.
 */
async function carryOut({ caller, file, unit, units, swaps }: Plan, host: Process): Promise<void> {
  const { scope } = caller;
  const changes = new Changes("remove");
  // The sidecar, and the units that act for it.
  const own = units.map(({ path }) => path).filter((path) => !path.includes("/"));
  const isThere = !["inactive", "failed", ""].includes(await property(caller, unit, "ActiveState"));
  const copies = isThere ? own.filter((path) => existsSync(join(generated(scope), path))) : [];
  try {
    changes.remove(file);
    for (const path of swaps) changes.remove(path);
    for (const path of copies)
      changes.write(join(scope.runtimeUnits, path), undefined, keptUnit(join(generated(scope), path)), 0o644);
    await daemonReload(caller);
    if (isThere) await stopAlone(caller, unit, own);
    for (const path of copies) rmSync(join(scope.runtimeUnits, path), { force: true });
    changes.keep();
  } catch (error) {
    const failed = changes.undo();
    await daemonReload(caller);
    host.err(outcomeOf(failed));
    throw error;
  }
  await daemonReload(caller);
  // systemd remembers a failed unit even without its file.
  for (const path of own)
    if ((await property(caller, path, "ActiveState")) === "failed") await systemctl(caller, "reset-failed", path);
}

function keptUnit(path: string): Buffer {
  return Buffer.concat([Buffer.from(KEPT), readFileSync(path)]);
}

/** @param own the sidecar's units, which stop with it. @throws FatalError where something else would stop with it. */
async function stopAlone(caller: Caller, unit: string, own: readonly string[]): Promise<void> {
  const users: string[] = [];
  for (const name of ["RequiredBy", "RequisiteOf", "BoundBy", "ConsistsOf"])
    users.push(...(await property(caller, unit, name)).split(" ").filter((user) => user !== "" && !own.includes(user)));
  if (users.length > 0)
    throw new FatalError(
      ExitCode.config,
      `remove: ${users.join(", ")} would stop with ${unit}: take it out of that unit's files first`,
    );
  await systemctl(caller, "stop", ...own);
}

/** Removes what is empty, and what the options ask for. */
function cleanUp({ options, caller, unit, swaps, file }: Plan, out: (text: string) => void): void {
  const { configDirectory, runtimeRoot } = caller.scope;
  const runtime = join(runtimeRoot, withoutSuffix(unit));
  for (const path of [runtime, actOf(runtime)]) rmSync(path, { recursive: true, force: true });
  if (options.deleteSecrets) rmSync(folderOf(options), { recursive: true, force: true });
  const home = join(configDirectory, options.name);
  for (const path of [...swaps.map((swap) => join(swap, "..")), home]) removeEmpty(path);
  out(`${file} and ${unit} are gone\n`);
  if (existsSync(home)) out(`${home} stays: ${readdirSync(home).join(", ")}\n`);
  removeEmpty(configDirectory);
}

function removeEmpty(path: string): void {
  try {
    rmdirSync(path);
  } catch {
    // It does not exist, or is not empty.
  }
}
