/** `fetcher add`: from one command to a service with its secrets. */
import { unlinkSync } from "node:fs";
import { dirname, join } from "node:path";
import type { Scope } from "../config/scope.ts";
import { unitOf } from "../config/unit-names.ts";
import { errnoCode, errnoText, ExitCode, FatalError } from "../contract/errors.ts";
import { isOfOthers } from "../contract/helper-command.ts";
import { lockFile } from "../runtime/platform.ts";
import { takeTurn } from "../setup/alone.ts";
import { Changes } from "../setup/changes.ts";
import { colored } from "../setup/diff.ts";
import { daemonReload, dropInsOf, property, systemctl, typed } from "../setup/host.ts";
import { clearLeftovers } from "../setup/leftovers.ts";
import { isThere } from "../setup/paths.ts";
import { checkAsUnit } from "../units/check-in-unit.ts";
import { textOf } from "../units/unit-file.ts";
import { addHelp, parseAdd } from "./add-options.ts";
import { diffOf, generatorLink, isNothing, notesOf, type Plan, planOf } from "./add-plan.ts";
import { ask } from "./ask.ts";
import { openTerminal } from "./terminal.ts";

/** What main gives to a command. */
export interface Process {
  /** From this call on, Ctrl-C does not end the work half-way. */
  readonly stop: () => AbortSignal;
  /** Format of the lines on standard error. */
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
  if (!options.isDryRun) await begin("add", options.scope, host);
  const plan = await planOf(options);
  try {
    const diff = diffOf(plan);
    out(color ? colored(diff) : diff);
    for (const note of notesOf(plan)) out(`${note}\n`);
    if (isNothing(plan)) out(`${plan.file} says so already: nothing to change\n`);
    if (options.isDryRun) return ExitCode.ok;
    if (isNothing(plan)) {
      await readAgain(plan, out);
      return options.now ? await finish(plan, out) : ExitCode.ok;
    }
    if (!options.yes && !(await ask("add", "Make these changes?"))) {
      out("nothing was changed\n");
      return ExitCode.ok;
    }
    await carryOut(plan, host);
    return await finish(plan, out);
  } finally {
    for (const value of plan.imported?.values.values() ?? []) value.fill(0);
  }
}

/** Waits for others to end, and clears what a killed one left. @throws FatalError where we may not do that. */
export async function begin(command: string, scope: Scope, { err }: Process): Promise<void> {
  mayChange(command, scope);
  await takeTurn(command, scope.lockable, lockFile);
  const { configDirectory, lastingUnits, runtimeUnits } = scope;
  const { back, isReloadDue } = clearLeftovers({
    ...{ configDirectory, lastingUnits, runtimeUnits },
    generators: dirname(generatorLink(scope)),
  });
  for (const path of back) err(`${command}: ${path} is back: somebody stopped the fetcher that was removing it\n`);
  if (isReloadDue) await daemonReload({ command, scope });
}

/** @throws FatalError if the files to change belong to another user. */
function mayChange(command: string, { isUser, configDirectory, runtimeRoot }: Scope): void {
  if (!isUser) {
    if (process.geteuid?.() === 0) return;
    throw new FatalError(
      ExitCode.denied,
      `${command}: only root can change ${configDirectory} and units: use sudo, look first with --dry-run, or --user for a service of your own`,
    );
  }
  // `sudo -E` and `su` keep another user's directories in the environment, and root would leave its own files there.
  const home = visible(command, configDirectory);
  const others = [home, runtimeRoot].find(isOfOthers);
  if (others !== undefined)
    throw new FatalError(
      ExitCode.denied,
      `${command}: ${others} belongs to another user: run it as that user, without sudo or su`,
    );
}

/** @returns what is there of a directory. @throws FatalError where it is another user's. */
function visible(command: string, directory: string): string {
  try {
    return existingAbove(directory);
  } catch (error) {
    if (errnoCode(error) !== "EACCES") throw error;
    throw new FatalError(
      ExitCode.denied,
      `${command}: ${directory} is in a directory of another user: run it as that user, without sudo or su`,
    );
  }
}

function existingAbove(path: string): string {
  return isThere(path) ? path : existingAbove(dirname(path));
}

/** Writes the files, asks the store, and makes systemd generate the units. On an error it undoes all of that. */
async function carryOut(plan: Plan, host: Process): Promise<void> {
  const stop = host.stop();
  const changes = new Changes("add");
  let isReloaded = false;
  try {
    changes.mayAppear(join(plan.caller.scope.configDirectory, plan.options.name));
    writeFiles(plan, changes);
    if (plan.options.check) await checkInside(plan, host, stop);
    if (stop.aborted) throw new FatalError(ExitCode.unavailable, "add: stopped");
    writeWiring(plan, changes);
    isReloaded = true;
    await daemonReload(plan.caller);
    await checkWired(plan);
    changes.keep();
  } catch (error) {
    const failed = changes.undo();
    if (isReloaded) await daemonReload(plan.caller).catch(() => undefined);
    host.err(outcomeOf(failed));
    throw error;
  }
}

/** @param failed paths that could not be restored. */
export function outcomeOf(failed: readonly string[]): string {
  return failed.length === 0
    ? "nothing was changed\n"
    : `could not restore these; look at them: ${failed.join(", ")}\n`;
}

/** Writes what the sidecar reads. */
function writeFiles({ options, file, before, after, secrets }: Plan, changes: Changes): void {
  const home = join(options.scope.configDirectory, options.name);
  for (const [path, value] of secrets) {
    if (path.startsWith(`${home}/`)) changes.makeDirectory(home, 0o700);
    changes.makeDirectory(dirname(path), 0o700);
    changes.write(path, undefined, value, 0o400);
  }
  if (before?.equals(after) !== true) changes.write(file, before, after, 0o644);
}

/** Writes what systemd reads. */
function writeWiring({ swap, generator, caller }: Plan, changes: Changes): void {
  if (swap !== undefined && swap.before !== swap.after)
    changes.write(
      swap.path,
      swap.before === undefined ? undefined : Buffer.from(swap.before),
      Buffer.from(swap.after),
      0o644,
    );
  if (generator === undefined) return;
  // A link that leads nowhere any more.
  const link = generatorLink(caller.scope);
  if (isThere(link)) changes.remove(link);
  changes.link(link, generator);
}

async function checkInside({ made, caller }: Plan, host: Process, stop: AbortSignal): Promise<void> {
  const [sidecar] = made.units;
  if (sidecar === undefined) return;
  const unit = unitOf(made.sidecar);
  const text = `${textOf(sidecar)}\n${dropInsOf(unit, caller.scope)}`;
  const terminal = {
    out: openTerminal().out,
    raw: (said: string) => process.stderr.write(said),
    err: host.err,
  };
  const code = await checkAsUnit({ unit, text }, host.format, terminal, caller.scope, stop);
  if (stop.aborted) throw new FatalError(ExitCode.unavailable, "add: stopped");
  if (code === 0) return;
  const known = Object.values(ExitCode).find((one) => one === code) ?? ExitCode.unavailable;
  throw new FatalError(
    known,
    `add: the check of the store failed (${code}), see above; to continue without it, use --no-check`,
  );
}

/** Somebody may have written the file by hand after systemd last ran its generators. */
async function readAgain(plan: Plan, out: (text: string) => void): Promise<void> {
  if (await isWired(plan)) return;
  await daemonReload(plan.caller);
  await checkWired(plan);
  out(`${typed(plan.caller, ["daemon-reload"])}: done, systemd did not have its units yet\n`);
}

async function isWired({ made, caller }: Plan): Promise<boolean> {
  const unit = unitOf(made.sidecar);
  const isMade = (await property(caller, unit, "LoadState")) === "loaded";
  const wired = await Promise.all(
    made.config.targets.map(async (target) => await property(caller, target, "Requires")),
  );
  return isMade && wired.every((requires) => requires.split(" ").includes(unit));
}

/** @throws FatalError where systemd has not made the units. */
async function checkWired(plan: Plan): Promise<void> {
  if (await isWired(plan)) return;
  const { made, file, caller } = plan;
  const unit = unitOf(made.sidecar);
  if ((await property(caller, unit, "LoadState")) === "masked")
    throw new FatalError(ExitCode.config, `add: ${unit} is masked: run ${typed(caller, ["unmask", unit])} first`);
  throw new FatalError(
    ExitCode.unavailable,
    `add: systemd has not made ${unitOf(made.sidecar)} from ${file}: see journalctl ${caller.scope.isUser ? "--user " : ""}-b | grep fetcher, and ls ${dirname(generatorLink(caller.scope))}`,
  );
}

async function finish(plan: Plan, out: (text: string) => void): Promise<ExitCode> {
  const { options, caller, file, made, service, imported } = plan;
  const unit = unitOf(made.sidecar);
  out(`${file} is in place, and systemd has ${unit}\n`);
  if (options.removeOriginal && imported !== undefined) removeOriginal(imported.file);
  const words = await nextStep(plan, unit);
  if (options.now) {
    await systemctl(caller, ...words);
    out(`${typed(caller, words)}: done\n`);
  } else {
    const state = service.isActive ? `${service.unit} keeps running as before. With its secrets` : "With its secrets";
    out(`${state} it runs after: ${typed(caller, words)}\n`);
  }
  if (imported !== undefined && !options.removeOriginal)
    out(`${imported.file} is no longer in use. When all is well: rm ${imported.file}\n`);
  return ExitCode.ok;
}

function removeOriginal(file: string): void {
  try {
    unlinkSync(file);
  } catch (error) {
    throw new FatalError(
      ExitCode.ioError,
      `add: cannot remove ${file}: ${errnoText(errnoCode(error))}; everything else is done`,
    );
  }
}

/** @returns the words for systemctl that make the service run with what the file says. */
async function nextStep(
  { caller, made, unitsBefore, service }: Plan,
  unit: string,
): Promise<readonly [string, ...string[]]> {
  const state = await property(caller, unit, "ActiveState");
  if (["inactive", "failed", ""].includes(state)) return ["restart", ...made.config.targets];
  const isSame = made.units.every((one) => unitsBefore.get(one.path) === textOf(one));
  const readsFiles = made.config.delivery === "files" || made.config.delivery === "private-tmp";
  // A reload of the sidecar touches no service; a restart takes the service along.
  if (isSame && state === "active" && readsFiles && !made.config.environment && service.isActive)
    return ["reload", unit];
  return ["restart", unit, ...made.config.targets];
}
