/** Plans what `fetcher add` changes, before it changes anything. */
import { dirname, join } from "node:path";
import type { Config } from "../config/config.ts";
import type { Scope } from "../config/scope.ts";
import { unitOf } from "../config/unit-names.ts";
import { ExitCode, FatalError, UsageError } from "../contract/errors.ts";
import { isRecord } from "../contract/records.ts";
import { checkStore } from "../engine/store.ts";
import { unifiedDiff, type Change } from "../setup/diff.ts";
import { type Caller, generatorState, readersOf, serviceCalled, type Service, typed } from "../setup/host.ts";
import { type Import, pathOfSwap, readImport, secretsToWrite, swapOf, swapText } from "../setup/import.ts";
import { jsonText } from "../setup/json-text.ts";
import { proposed } from "../setup/proposal.ts";
import { contentOf, isProgram, resolvedPath } from "../setup/paths.ts";
import { namesIn } from "../units/generator.ts";
import { naming, type OneFile, type Place, readJson, sidecarUnitOf, unitsOfJson } from "../units/one-file-units.ts";
import { textOf } from "../units/unit-file.ts";
import type { AddOptions } from "./add-options.ts";
import { generated, placeIn } from "./units.ts";

/** The path of the link that makes systemd run this program as a generator. */
export function generatorLink({ isUser }: Scope): string {
  return `/etc/systemd/${isUser ? "user" : "system"}-generators/fetcher`;
}

export interface Plan {
  readonly options: AddOptions;
  readonly caller: Caller;
  readonly file: string;
  readonly before: Buffer | undefined;
  readonly after: Buffer;
  readonly made: OneFile;
  /** Path → the unit as it is now. */
  readonly unitsBefore: ReadonlyMap<string, string>;
  readonly service: Service;
  readonly imported: Import | undefined;
  /** Path → the value of a secret that is taken over. */
  readonly secrets: ReadonlyMap<string, Buffer>;
  /** The drop-in that puts them in place of the imported file. */
  readonly swap: { readonly path: string; readonly before: string | undefined; readonly after: string } | undefined;
  /** The program that systemd has to run as a generator; undefined: it does already. */
  readonly generator: string | undefined;
}

/** Reads, and changes nothing. @throws FatalError where the change is impossible. */
export async function planOf(options: AddOptions): Promise<Plan> {
  const { name, scope } = options;
  const caller: Caller = { command: "add", scope };
  const file = join(scope.configDirectory, `${name}.json`);
  const place = placeIn(scope.configDirectory, scope);
  const before = contentOf(file);
  const now: unknown = before === undefined ? {} : naming(file, () => readJson(file));
  if (!isRecord(now)) throw new FatalError(ExitCode.config, `add: ${file} is not an object: correct it first`);
  if (before === undefined && options.ids.length === 0 && options.import === undefined)
    throw new UsageError("add: expected the ID of at least one secret (see fetcher add --help)");
  const was = before === undefined ? undefined : unitsOfJson(name, now, place);
  if (before !== undefined && was === undefined)
    throw new FatalError(
      ExitCode.config,
      `add: ${file} has \`output\`, so its units are made by hand: change both by hand`,
    );
  if (before === undefined) refuseSidecar(unitOf(name), place, caller);
  const service = await serviceCalled(was?.config.targets[0] ?? unitOf(name), caller);
  if (before === undefined && service.realName !== undefined)
    throw new UsageError(
      `add: ${service.unit} is another name of ${service.realName}: run fetcher add ${service.realName}`,
    );
  const imported = options.import === undefined ? undefined : await importOf(options, options.import, service, caller);
  const sizes = [...(imported?.values ?? [])].map(([id, value]) => [id, { isEmpty: value.length === 0 }] as const);
  const json = proposed(now, { ...options, imported: new Map(sizes) });
  const made = unitsOfJson(name, json, place);
  if (made === undefined) throw new FatalError(ExitCode.bug, "add: no units");
  await checkSettings(made.config, file);
  const same = JSON.stringify(json) === JSON.stringify(now) && before !== undefined;
  return {
    options,
    caller,
    file,
    before,
    after: same ? before : Buffer.from(jsonText(json)),
    made,
    unitsBefore: new Map((was?.units ?? []).map((unit) => [unit.path, textOf(unit)])),
    service,
    imported,
    secrets: imported === undefined ? new Map() : secretsToWrite(imported, folderOf(made.config)),
    swap: imported && swapFor(options, imported, made, service),
    generator: generatorOf(place.program, scope),
  };
}

/** @throws UsageError where the unit is the sidecar of another service. */
function refuseSidecar(unit: string, place: Place, { command }: Caller): void {
  const of = namesIn(place.directory, () => undefined).find((name) => sidecarUnitOf(name, place) === unit);
  if (of !== undefined)
    throw new UsageError(`${command}: ${unit} is the sidecar of ${of}: run fetcher ${command} ${of}`);
}

async function importOf(
  { removeOriginal }: AddOptions,
  file: string,
  service: Service,
  caller: Caller,
): Promise<Import> {
  if (service.isOld)
    throw new FatalError(
      ExitCode.config,
      `add: the files of ${service.unit} have changed since systemd read them: run ${typed(caller, ["daemon-reload"])} first`,
    );
  const imported = await readImport(file, service);
  const others = removeOriginal ? await readersOf(caller, imported.file, service.unit) : [];
  if (others.length > 0)
    throw new FatalError(
      ExitCode.config,
      `add: ${others.join(", ")} also reads ${imported.file}: leave --remove-original out`,
    );
  return imported;
}

/** Checks the settings as far as possible before anything is written. */
async function checkSettings(config: Config, file: string): Promise<void> {
  // Somebody else's module runs only in the sandbox.
  if (config.backend.includes("/")) return;
  try {
    await checkStore(config);
  } catch (error) {
    if (!(error instanceof FatalError)) throw error;
    naming(file, () => {
      throw error;
    });
  }
}

function folderOf({ backend, settings }: Config): string {
  const folder = settings["secretsDir"];
  if (backend !== "folder" || typeof folder !== "string")
    throw new FatalError(
      ExitCode.config,
      `add: --import puts values into a folder, and the secrets come from ${backend}: put them there yourself`,
    );
  return folder;
}

function swapFor({ name, scope }: AddOptions, imported: Import, { sidecar }: OneFile, service: Service): Plan["swap"] {
  const there = swapOf(service);
  const path = there ?? pathOfSwap(service, scope);
  const before = there === undefined ? undefined : contentOf(there)?.toString("utf8");
  const variables = join(scope.runtimeRoot, sidecar, "pub/secrets.env");
  return { path, before, after: swapText({ name, scope }, imported.file, variables, service, before) };
}

/** @returns the program to link to, where systemd does not run it yet. */
function generatorOf(program: readonly string[], scope: Scope): string | undefined {
  const [file = ""] = program;
  const state = generatorState(resolvedPath(file), scope);
  if (state === "runs") return undefined;
  if (state === "masked")
    throw new FatalError(ExitCode.config, "add: a link to /dev/null masks fetcher's generator: remove that link");
  // The path that the caller used survives an upgrade.
  const called = process.argv[1] ?? "";
  const isSame = called.startsWith("/") && isProgram(called) && resolvedPath(called) === resolvedPath(file);
  const target = isSame ? called : file;
  const isOne = program.length === 1 && isProgram(target);
  const isRoot = process.geteuid?.() === 0;
  if (isOne && (isRoot || !scope.isUser)) return target;
  const link = generatorLink(scope);
  const how = isOne
    ? `as root, once: mkdir -p ${dirname(link)} && ln -s ${target} ${link}`
    : `link the installed fetcher to ${link}`;
  const whose = scope.isUser ? "the users' generator" : "a generator";
  throw new FatalError(ExitCode.config, `add: systemd does not run fetcher as ${whose}: ${how}`);
}

export function isNothing(plan: Plan): boolean {
  return diffOf(plan) === "" && plan.secrets.size === 0 && plan.generator === undefined;
}

/** The difference, without any value. */
export function diffOf(plan: Plan): string {
  const { file, before, after, made, unitsBefore, swap, caller } = plan;
  const secret = valuesIn(made.config);
  const hidden = (text: string) => secret.reduce((shown, value) => shown.replaceAll(value, '"…"'), text);
  const units = new Map(made.units.map((unit) => [unit.path, textOf(unit)]));
  const paths = [...new Set([...unitsBefore.keys(), ...units.keys()])];
  const changes: readonly Change[] = [
    { path: file, before: before && hidden(before.toString("utf8")), after: hidden(after.toString("utf8")) },
    ...paths.map((path) => ({
      path: join(generated(caller.scope), path),
      before: unitsBefore.get(path),
      after: units.get(path),
    })),
    ...(swap === undefined ? [] : [swap]),
  ];
  return changes.map(unifiedDiff).join("");
}

/** The backend for tests has its values in the file. */
function valuesIn({ backend, settings }: Config): readonly string[] {
  const { values } = settings;
  if (backend !== "static" || !isRecord(values)) return [];
  return Object.values(values).map((value) => JSON.stringify(value));
}

/** Notes on what the difference does not show. */
export function notesOf({ options, caller, made, service, imported, secrets, generator }: Plan): readonly string[] {
  const { action } = made.config.onChange;
  const asked = options.action === "reload";
  return [
    ...[...secrets.keys()].map((path) => `${path} is made, mode 0400, with its value in ${imported?.file ?? ""}`),
    ...(imported?.notes ?? []),
    ...(generator === undefined
      ? []
      : [`${generatorLink(caller.scope)} is made, a link to ${generator}: systemd has it make these units`]),
    ...(asked && action !== "reload"
      ? [`a new value restarts ${service.unit}: a reload would not show it credentials that are new`]
      : asked && !service.canReload
        ? [`a new value restarts ${service.unit}, which systemd cannot reload`]
        : []),
    ...closedTo(made.config, service),
    ...outOfSight(made, service),
    ...(options.removeOriginal ? [`${imported?.file ?? ""} is removed`] : []),
  ];
}

/** Notes which secrets a service that does not run as root cannot read. */
function closedTo({ delivery, secrets }: Config, { unit, user }: Service): readonly string[] {
  if (delivery !== "files" || user === undefined) return [];
  const ids = secrets
    .filter(({ mode = 0o400, owner, group }) => (mode & 0o004) === 0 && owner === undefined && group === undefined)
    .map(({ id }) => id);
  if (ids.length === 0) return [];
  return [
    `${unit} runs as ${user}, which cannot read ${ids.join(", ")}, readable by root only: give a mode, or an owner in the file, or --env or --credentials`,
  ];
}

function outOfSight({ config, sidecar }: OneFile, { unit, hasOwnRoot }: Service): readonly string[] {
  if (config.delivery !== "files" || !hasOwnRoot) return [];
  return [`${unit} has a root of its own, which hides /run/${sidecar}/pub: give --env, --credentials or --private-tmp`];
}
