/** `fetcher add`: from one command to a service with its secrets. */
import { accessSync, constants, realpathSync, unlinkSync } from "node:fs";
import { dirname, join } from "node:path";
import type { Config } from "../config/config.ts";
import { CONFIG_DIRECTORY } from "../config/one-file.ts";
import { systemScope } from "../config/scope.ts";
import { errnoCode, errnoText, ExitCode, FatalError, UsageError } from "../contract/errors.ts";
import { runCommand } from "../contract/helper-command.ts";
import { isRecord } from "../contract/records.ts";
import { checkStore } from "../engine/store.ts";
import { Changes, contentOf } from "../setup/changes.ts";
import { colored, unifiedDiff, type Change } from "../setup/diff.ts";
import {
  daemonReload,
  dropInsOf,
  hasGenerator,
  property,
  readersOf,
  serviceCalled,
  type Service,
  systemctl,
} from "../setup/host.ts";
import { type Import, pathOfSwap, readImport, secretsToWrite, swapOf, swapText } from "../setup/import.ts";
import { jsonText } from "../setup/json-text.ts";
import { proposed } from "../setup/proposal.ts";
import { checkAsUnit } from "../units/check-in-unit.ts";
import { naming, type OneFile, readJson, unitsOfJson } from "../units/one-file-units.ts";
import { textOf } from "../units/unit-file.ts";
import { addHelp, type AddOptions, parseAdd } from "./add-options.ts";
import { ask } from "./ask.ts";
import { openTerminal } from "./terminal.ts";
import { generated, placeIn } from "./units.ts";

/** Where the link to this program goes by which systemd has it make units. */
const GENERATOR = "/etc/systemd/system-generators/fetcher";

interface Plan {
  readonly options: AddOptions;
  readonly file: string;
  readonly before: Buffer | undefined;
  readonly after: Buffer;
  readonly made: OneFile;
  /** How the units are now. */
  readonly unitsBefore: ReadonlyMap<string, string>;
  readonly service: Service;
  readonly imported: Import | undefined;
  /** Path → the value of a secret that is taken over. */
  readonly secrets: ReadonlyMap<string, Buffer>;
  /** The drop-in by which they take the file's place. */
  readonly swap: { readonly path: string; readonly before: string | undefined; readonly after: string } | undefined;
  /** The program that systemd is to run as a generator; undefined: it does. */
  readonly generator: string | undefined;
}

/** What main has for a command. */
export interface Process {
  /** From the call on, Ctrl-C ends nothing half-way. */
  readonly stop: () => AbortSignal;
  /** Of lines on standard error. */
  readonly format: string;
  readonly err: (text: string) => void;
}

export async function add(argv: readonly string[], host: Process): Promise<ExitCode> {
  const options = parseAdd(argv);
  const { out, color } = openTerminal();
  if (options === "help") {
    out(addHelp);
    return ExitCode.ok;
  }
  if (!options.isDryRun) onlyRoot("add");
  const plan = await planOf(options);
  try {
    const diff = diffOf(plan);
    out(color ? colored(diff) : diff);
    for (const note of notesOf(plan)) out(`${note}\n`);
    if (diff === "") out(`${plan.file} says so already: nothing is to be changed\n`);
    if (diff === "" || options.isDryRun) return ExitCode.ok;
    if (!options.yes && !(await ask("add", "Change it so?"))) {
      out("nothing was changed\n");
      return ExitCode.ok;
    }
    await carryOut(plan, host);
    return await finish(plan, out);
  } finally {
    for (const value of plan.imported?.values.values() ?? []) value.fill(0);
  }
}

export function onlyRoot(command: string): void {
  if (process.geteuid?.() !== 0)
    throw new FatalError(
      ExitCode.denied,
      `${command}: only root can change ${CONFIG_DIRECTORY} and units: use sudo, or look first with --dry-run`,
    );
}

async function planOf(options: AddOptions): Promise<Plan> {
  const { name } = options;
  const file = join(CONFIG_DIRECTORY, `${name}.json`);
  const place = placeIn(CONFIG_DIRECTORY, systemScope);
  const before = contentOf(file);
  const now: unknown = before === undefined ? {} : naming(file, () => readJson(file));
  if (!isRecord(now)) throw new FatalError(ExitCode.config, `add: ${file} is no object: mend it first`);
  if (before === undefined && options.ids.length === 0 && options.import === undefined)
    throw new UsageError("add: expected at least one ID, of a secret (see fetcher add --help)");
  const was = before === undefined ? undefined : unitsOfJson(name, now, place);
  if (before !== undefined && was === undefined)
    throw new FatalError(
      ExitCode.config,
      `add: ${file} has \`output\`, so its units are made by hand: change both by hand`,
    );
  const service = await serviceCalled(was?.config.targets[0] ?? `${name}.service`, "add");
  const imported = options.import === undefined ? undefined : await importOf(options, options.import, service);
  const sizes = [...(imported?.values ?? [])].map(([id, value]) => [id, { isEmpty: value.length === 0 }] as const);
  const json = proposed(now, { ...options, imported: new Map(sizes) });
  const made = unitsOfJson(name, json, place);
  if (made === undefined) throw new FatalError(ExitCode.bug, "add: no units");
  await checkSettings(made.config, file);
  const same = JSON.stringify(json) === JSON.stringify(now) && before !== undefined;
  return {
    options,
    file,
    before,
    after: same ? before : Buffer.from(jsonText(json)),
    made,
    unitsBefore: new Map((was?.units ?? []).map((unit) => [unit.path, textOf(unit)])),
    service,
    imported,
    secrets: imported === undefined ? new Map() : secretsToWrite(imported, folderOf(made.config)),
    swap: imported && swapFor(name, imported, made, service),
    generator: generatorOf(place.program),
  };
}

async function importOf({ removeOriginal }: AddOptions, file: string, service: Service): Promise<Import> {
  if (service.isOld)
    throw new FatalError(
      ExitCode.config,
      `add: the files of ${service.unit} have changed since systemd read them: run systemctl daemon-reload first`,
    );
  const imported = await readImport(file, service);
  const others = removeOriginal ? await readersOf(imported.file, service.unit) : [];
  if (others.length > 0)
    throw new FatalError(
      ExitCode.config,
      `add: ${others.join(", ")} reads ${imported.file}, too: leave --remove-original out`,
    );
  return imported;
}

/** What can be known of them before anything is written. */
async function checkSettings(config: Config, file: string): Promise<void> {
  // Somebody's own module is for the sandbox.
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

function swapFor(name: string, imported: Import, { sidecar }: OneFile, service: Service): Plan["swap"] {
  const there = swapOf(service);
  const path = there ?? pathOfSwap(service);
  const before = there === undefined ? undefined : contentOf(there)?.toString("utf8");
  const variables = join("/run", sidecar, "pub/secrets.env");
  return { path, before, after: swapText(name, imported.file, variables, service, before) };
}

/** @returns the program to link to, where systemd does not run it yet. */
function generatorOf(program: readonly string[]): string | undefined {
  const [file = ""] = program;
  if (hasGenerator(real(file))) return undefined;
  // The name by which it was called outlives an upgrade.
  const called = process.argv[1] ?? "";
  const target = called.startsWith("/") && isProgram(called) && real(called) === real(file) ? called : file;
  if (program.length === 1 && isProgram(target)) return target;
  throw new FatalError(
    ExitCode.config,
    `add: systemd does not run fetcher as a generator: link the installed fetcher to ${GENERATOR}`,
  );
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function real(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
}

function diffOf(plan: Plan): string {
  const { file, before, after, made, unitsBefore, swap } = plan;
  const secret = valuesIn(made.config);
  const hidden = (text: string) => secret.reduce((shown, value) => shown.replaceAll(value, '"…"'), text);
  const units = new Map(made.units.map((unit) => [unit.path, textOf(unit)]));
  const paths = [...new Set([...unitsBefore.keys(), ...units.keys()])];
  const changes: readonly Change[] = [
    { path: file, before: before && hidden(before.toString("utf8")), after: hidden(after.toString("utf8")) },
    ...paths.map((path) => ({
      path: join(generated(systemScope), path),
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

function notesOf({ options, made, service, imported, secrets, generator }: Plan): readonly string[] {
  const { action } = made.config.onChange;
  const asked = options.action === "reload";
  return [
    ...[...secrets.keys()].map((path) => `${path} is made, mode 0400, with its value in ${imported?.file ?? ""}`),
    ...(imported?.notes ?? []),
    ...(generator === undefined
      ? []
      : [`${GENERATOR} is made, a link to ${generator}: systemd has it make these units`]),
    ...(asked && action !== "reload"
      ? [`a new value restarts ${service.unit}: a reload would not show it credentials that are new`]
      : asked && !service.canReload
        ? [`a new value restarts ${service.unit}, which systemd cannot reload`]
        : []),
    ...(options.removeOriginal ? [`${imported?.file ?? ""} is removed`] : []),
  ];
}

/** Writes, asks the store, has systemd make the units; or leaves all as it was. */
async function carryOut(plan: Plan, host: Process): Promise<void> {
  const stop = host.stop();
  const changes = new Changes("add");
  let isReloaded = false;
  try {
    changes.mayAppear(join(CONFIG_DIRECTORY, plan.options.name));
    writeFiles(plan, changes);
    if (plan.options.check) await checkInside(plan, host, stop);
    if (stop.aborted) throw new FatalError(ExitCode.unavailable, "add: stopped");
    writeWiring(plan, changes);
    isReloaded = true;
    await daemonReload("add");
    await checkWired(plan);
    changes.keep();
  } catch (error) {
    const failed = changes.undo();
    if (isReloaded) await runCommand(["systemctl", "daemon-reload"]);
    host.err(outcomeOf(failed));
    throw error;
  }
}

/** @param failed what could not be put back. */
export function outcomeOf(failed: readonly string[]): string {
  return failed.length === 0
    ? "nothing was changed\n"
    : `these could not be put back, and need you: ${failed.join(", ")}\n`;
}

/** What the sidecar reads. */
function writeFiles({ options, file, before, after, secrets }: Plan, changes: Changes): void {
  const home = join(CONFIG_DIRECTORY, options.name);
  for (const [path, value] of secrets) {
    if (path.startsWith(`${home}/`)) changes.makeDirectory(home, 0o700);
    changes.makeDirectory(dirname(path), 0o700);
    changes.write(path, undefined, value, 0o400);
  }
  if (before?.equals(after) !== true) changes.write(file, before, after, 0o644);
}

/** What systemd reads. */
function writeWiring({ swap, generator }: Plan, changes: Changes): void {
  if (swap !== undefined && swap.before !== swap.after)
    changes.write(
      swap.path,
      swap.before === undefined ? undefined : Buffer.from(swap.before),
      Buffer.from(swap.after),
      0o644,
    );
  if (generator !== undefined) changes.link(GENERATOR, generator);
}

async function checkInside({ made }: Plan, host: Process, stop: AbortSignal): Promise<void> {
  const [sidecar] = made.units;
  if (sidecar === undefined) return;
  const unit = `${made.sidecar}.service`;
  const text = `${textOf(sidecar)}\n${dropInsOf(unit)}`;
  const raw = (said: string) => process.stderr.write(said);
  const code = await checkAsUnit({ unit, text }, host.format, { raw, err: host.err }, systemScope, stop);
  if (stop.aborted) throw new FatalError(ExitCode.unavailable, "add: stopped");
  if (code === 0) return;
  const known = Object.values(ExitCode).find((one) => one === code) ?? ExitCode.unavailable;
  throw new FatalError(known, `add: the check of the store failed (${code}), as above; --no-check goes on without it`);
}

/** @throws FatalError where systemd has not made the units. */
async function checkWired({ made, file }: Plan): Promise<void> {
  const unit = `${made.sidecar}.service`;
  const isMade = (await property(unit, "LoadState")) === "loaded";
  const wired = await Promise.all(made.config.targets.map(async (target) => await property(target, "Requires")));
  if (isMade && wired.every((requires) => requires.split(" ").includes(unit))) return;
  throw new FatalError(
    ExitCode.unavailable,
    `add: systemd has not made ${unit} from ${file}: see journalctl -b | grep fetcher, and ls ${dirname(GENERATOR)}`,
  );
}

async function finish(plan: Plan, out: (text: string) => void): Promise<ExitCode> {
  const { options, file, made, service, imported } = plan;
  const unit = `${made.sidecar}.service`;
  out(`${file} is in place, and systemd has ${unit}\n`);
  if (options.removeOriginal && imported !== undefined) removeOriginal(imported.file);
  const words = await nextStep(plan, unit);
  if (options.now) {
    await systemctl("add", ...words);
    out(`systemctl ${words.join(" ")}: done\n`);
  } else {
    const state = service.isActive ? `${service.unit} runs on as before. With its secrets` : "With its secrets";
    out(`${state} it runs after: systemctl ${words.join(" ")}\n`);
  }
  if (imported !== undefined && !options.removeOriginal)
    out(`${imported.file} is not read any more. When all is well: rm ${imported.file}\n`);
  return ExitCode.ok;
}

function removeOriginal(file: string): void {
  try {
    unlinkSync(file);
  } catch (error) {
    throw new FatalError(
      ExitCode.ioError,
      `add: ${file} cannot be removed: ${errnoText(errnoCode(error))}; all else is done`,
    );
  }
}

/** What makes the service run with what the file says. */
async function nextStep({ made, unitsBefore, service }: Plan, unit: string): Promise<readonly string[]> {
  if ((await property(unit, "ActiveState")) !== "active") return ["restart", ...made.config.targets];
  const [sidecar] = made.units;
  const isSame = sidecar !== undefined && unitsBefore.get(sidecar.path) === textOf(sidecar);
  const readsFiles = made.config.delivery === "files" || made.config.delivery === "private-tmp";
  // A reload of the sidecar touches no service; a restart takes the service along.
  if (isSame && readsFiles && !made.config.environment && service.isActive) return ["reload", unit];
  return ["restart", unit, ...made.config.targets];
}
