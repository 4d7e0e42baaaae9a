/**
 * Runs `fetcher --check` in a temporary unit with the settings of a sidecar's unit: it sees and reaches the same.
 * The sidecar's unit itself stays untouched.
 */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { errnoCode, errnoText, ExitCode, FatalError } from "../contract/errors.ts";
import { type CommandOptions, runCommand } from "../contract/helper-command.ts";
import { type Scope, systemScope } from "../config/scope.ts";
import { didYouMean } from "../contract/nearest.ts";
import { sidecarsFor, unescaped, unitOf, withoutSuffix } from "../config/unit-names.ts";
import { namesIn } from "./generator.ts";

/** Settings that are about the life of the daemon, or would make the check share a directory with it. */
const NOT_OF_A_CHECK =
  /^(Type|Exec\w+|Restart\w*|RestartPreventExitStatus|RestartForceExitStatus|SuccessExitStatus|RemainAfterExit|RuntimeDirectory\w*|Timeout\w+|WatchdogSec|NotifyAccess|Standard\w+|PIDFile|GuessMainPID|FileDescriptorStore\w*|OOMPolicy|StartLimit\w+|Slice|Delegate|BusName|Sockets|PermissionsStartOnly|KillMode|SendSIGHUP|KillSignal)$/;

type Setting = readonly [name: string, value: string];

/**
 * @param name of a service, or of a sidecar's unit.
 * @param format of its lines on standard error, which `raw` gets.
 * @returns the exit status of `fetcher --check` there, which prints to our own terminal.
 * @throws FatalError without such a unit, or without systemd.
 */
export async function checkInUnit(
  name: string,
  format: string,
  terminal: CheckTerminal,
  scope = systemScope,
  stop?: AbortSignal,
): Promise<number> {
  const code = await checkAsUnit(await unitFor(name, scope), format, terminal, scope, stop);
  if (stop?.aborted === true) throw new FatalError(ExitCode.unavailable, "check: stopped");
  return code;
}

type CheckTerminal = Readonly<Record<"out" | "raw" | "err", (text: string) => void>>;

/**
 * Like `checkInUnit`, for a unit that systemd need not know yet.
 *
 * @param unit its name, and the text of it and its drop-ins.
 * @param stop ends it early.
 */
export async function checkAsUnit(
  { unit, text }: { readonly unit: string; readonly text: string },
  format: string,
  { out: show, raw, err: say }: CheckTerminal,
  scope = systemScope,
  stop?: AbortSignal,
): Promise<number> {
  const settings = settingsIn(text, unit, scope);
  const command = commandIn(settings);
  if (command === undefined)
    throw new FatalError(ExitCode.config, `check: ${unit} has no ExecStart= that runs fetcher with --config`);
  const directories = settings
    .filter(([key]) => key === "RuntimeDirectory")
    .flatMap(([, value]) => value.split(/\s+/).map((directory) => `${scope.runtimeRoot}/${directory}`));
  const kept = settings
    .filter(([key]) => !NOT_OF_A_CHECK.test(key))
    // Without a daemon the directory may be missing, and a check writes nothing.
    .filter(([key, value]) => !/^Bind(?:ReadOnly)?Paths$/.test(key) || !directories.includes(value));
  const { code, out, err } = await runIn(kept, `${command} --check --log-format ${format}`, scope, stop);
  show(out);
  raw(err);
  if (code >= 200 && code < 250)
    say(`check: systemd cannot make the sandbox of ${unit} (status ${code}): see journalctl -b\n`);
  return code;
}

/** Writes a unit file, as systemd-run(1) refuses settings that an older systemd ignores in a unit file. */
async function runIn(settings: readonly Setting[], command: string, scope: Scope, stop: AbortSignal | undefined) {
  const { isUser, runtimeRoot } = scope;
  const name = unitOf(`fetcher-check-${process.pid}`);
  const directory = `${runtimeRoot}/systemd/${isUser ? "user" : "system"}`;
  const file = `${directory}/${name}`;
  await clearLeftovers(scope, directory);
  const outputs = makeOutputs(runtimeRoot, isUser);
  const lines: readonly Setting[] = [
    ["Type", "oneshot"],
    ["ExecStart", command],
    ["StandardOutput", `file:${outputs}/out`],
    ["StandardError", `file:${outputs}/err`],
    ...settings,
  ];
  try {
    mkdirSync(directory, { recursive: true });
    writeFileSync(file, `[Service]\n${lines.map(([key, value]) => `${key}=${value}\n`).join("")}`);
    const started = await ask(scope, ["--no-ask-password", "start", name], stop && { signal: stop });
    if (stop?.aborted === true) await ask(scope, ["stop", name]);
    const shown = await ask(scope, ["show", "--property=ExecMainStatus", "--value", name]);
    const status = Number(shown.end === "exit" ? shown.stdout : NaN);
    const failed = started.end !== "exit" || started.code !== 0;
    const code = failed ? status || ExitCode.unavailable : ExitCode.ok;
    return { code, out: textIn(`${outputs}/out`), err: textIn(`${outputs}/err`) };
  } catch (error) {
    throw cannotMake(file, error, isUser);
  } finally {
    rmSync(file, { force: true });
    rmSync(outputs, { recursive: true, force: true });
    await ask(scope, ["reset-failed", name]);
  }
}

function makeOutputs(directory: string, isUser: boolean): string {
  try {
    return mkdtempSync(`${directory}/fetcher-check-${process.pid}-`);
  } catch (error) {
    throw cannotMake(`${directory}/fetcher-check-*`, error, isUser);
  }
}

/** Removes what killed checks left: their units may still run, or systemd may remember them as failed. */
async function clearLeftovers(scope: Scope, units: string): Promise<void> {
  for (const directory of [units, scope.runtimeRoot])
    for (const name of staleIn(directory)) {
      if (directory === units) await ask(scope, ["stop", name], { timeout: 30 });
      try {
        rmSync(`${directory}/${name}`, { recursive: true, force: true });
      } catch {
        // If the directory is not writable, `runIn` reports that.
      }
      if (directory === units) await ask(scope, ["reset-failed", name], { timeout: 30 });
    }
}

function staleIn(directory: string): readonly string[] {
  try {
    return readdirSync(directory).filter((name) => {
      const [, pid] = /^fetcher-check-(\d+)(?:-\w+|\.service)$/.exec(name) ?? [];
      return pid !== undefined && !existsSync(`/proc/${pid}`);
    });
  } catch {
    return [];
  }
}

function cannotMake(path: string, error: unknown, isUser: boolean): FatalError {
  const why = isUser ? "a user's manager has to run" : "only root can, and --user is for the units of a user";
  return new FatalError(ExitCode.denied, `check: cannot make ${path}: ${errnoText(errnoCode(error))}: ${why}`);
}

function ask({ systemctl, environment }: Scope, words: readonly string[], options: CommandOptions = {}) {
  return runCommand([...systemctl, ...words], { environment, ...options });
}

/** @returns "" where systemd did not get far enough to make the file. */
function textIn(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return "";
  }
}

async function unitFor(name: string, scope: Scope): Promise<{ readonly unit: string; readonly text: string }> {
  const candidates = sidecarsFor(name);
  for (const unit of candidates) {
    const shown = await ask(scope, ["cat", "--no-pager", "--", unit], { timeout: 30 });
    if (shown.end === "not-started") throw new FatalError(ExitCode.unavailable, "check: cannot run systemctl");
    if (shown.end === "exit" && shown.code === 0 && shown.stdout.includes("fetcher"))
      return { unit, text: shown.stdout };
  }
  const tried = candidates.slice(0, -1).map(withoutSuffix).join(", ");
  const hint = didYouMean(
    name,
    namesIn(scope.configDirectory, () => undefined),
  );
  throw new FatalError(
    ExitCode.missing,
    `check: no unit of a sidecar for ${JSON.stringify(name)}: looked for ${tried}${hint}`,
  );
}

/** The lines of [Service] of a unit and its drop-ins, in order: an empty value cancels what came before. */
export function settingsIn(text: string, unit: string, scope = systemScope): readonly Setting[] {
  let isService = false;
  const settings: Setting[] = [];
  for (const line of text.replaceAll(/\\\n/g, " ").split("\n")) {
    const [, section] = /^\[(.*)\]\s*$/.exec(line) ?? [];
    if (section !== undefined) isService = section === "Service";
    // The next file begins with its path as a comment.
    const [, key, value] = isService ? (/^\s*([A-Za-z]+)\s*=\s*(.*?)\s*$/.exec(line) ?? []) : [];
    if (key !== undefined && value !== undefined) settings.push([key, expanded(value, unit, scope)]);
  }
  return settings;
}

/** Expands the specifiers of systemd.unit(5) that stand for names and places. Others stay as they are. */
function expanded(value: string, unit: string, { isUser, runtimeRoot }: Scope): string {
  const name = withoutSuffix(unit);
  const at = name.indexOf("@");
  const [prefix, instance] = at < 0 ? [name, ""] : [name.slice(0, at), name.slice(at + 1)];
  const meanings: Readonly<Record<string, string>> = {
    n: unit,
    N: name,
    p: prefix,
    P: unescaped(prefix),
    i: instance,
    I: unescaped(instance),
    j: prefix.slice(prefix.lastIndexOf("-") + 1),
    f: `/${unescaped(instance === "" ? prefix : instance)}`,
    t: runtimeRoot,
    // A user's places depend on her environment, which only the manager has.
    ...(isUser ? {} : { E: "/etc", S: "/var/lib", C: "/var/cache", L: "/var/log" }),
    T: "/tmp",
    V: "/var/tmp",
  };
  return value.replaceAll(/%([%A-Za-z])/g, (found, letter: string) => {
    const meaning = Object.hasOwn(meanings, letter) ? meanings[letter] : undefined;
    return meaning?.replaceAll("%", "%%") ?? found;
  });
}

/** @returns the last ExecStart= that counts. */
function commandIn(settings: readonly Setting[]): string | undefined {
  const line = settings.filter(([key, value]) => key === "ExecStart" && value !== "").at(-1)?.[1];
  return line !== undefined && /\s"?--config[=\s]/.test(line) ? line : undefined;
}
