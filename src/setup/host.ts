/** What the commands that set a service up ask of systemd, and have it do. */
import { accessSync, constants, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { ExitCode, FatalError } from "../contract/errors.ts";
import { type CommandResult, runCommand } from "../contract/helper-command.ts";
import { didYouMean } from "../contract/nearest.ts";
import { resolvedPath } from "./changes.ts";

/** A service as systemd has it now. */
export interface Service {
  readonly unit: string;
  readonly isActive: boolean;
  readonly canReload: boolean;
  /** Whom it runs as; undefined: root. */
  readonly user: string | undefined;
  /** Its files have changed since systemd read them. */
  readonly isOld: boolean;
  /** Of EnvironmentFile=, in their order: a `-` before one that may be missing. */
  readonly environmentFiles: readonly string[];
  readonly dropIns: readonly string[];
}

/** Seconds that systemd has for an answer, and for reading all units again. */
const PATIENCE = 90;

/** @param command for messages: `add`. @throws FatalError where there is no such service, or no systemd. */
export async function serviceCalled(unit: string, command: string): Promise<Service> {
  const properties = "LoadState,ActiveState,CanReload,User,NeedDaemonReload,EnvironmentFiles,DropInPaths";
  const shown = await runCommand(["systemctl", "show", `--property=${properties}`, "--", unit], { timeout: PATIENCE });
  if (shown.end !== "exit" || shown.code !== 0)
    throw new FatalError(ExitCode.unavailable, `${command}: systemd does not answer: ${reasonOf(shown)}`);
  const all = (key: string) =>
    [...shown.stdout.matchAll(new RegExp(`^${key}=(.*)$`, "gm"))].map(([, value = ""]) => value);
  const [[state = ""], [user = ""]] = [all("LoadState"), all("User")];
  if (state !== "loaded") throw await notLoaded(unit, state, command);
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
  };
}

async function notLoaded(unit: string, state: string, command: string): Promise<FatalError> {
  if (state !== "not-found")
    return new FatalError(ExitCode.config, `${command}: ${unit} is ${state}: see systemctl status ${unit}`);
  const list = await runCommand(["systemctl", "list-unit-files", "--type=service", "--no-legend", "--plain"]);
  const known =
    list.end === "exit" ? [...list.stdout.matchAll(/^(\S+)\.service\s/gm)].map(([, name = ""]) => name) : [];
  const hint = didYouMean(unit.replace(/\.service$/, ""), known);
  return new FatalError(ExitCode.missing, `${command}: systemd knows no ${unit}${hint}`);
}

/** Has systemd read its units again. Nothing starts or stops by that. @throws FatalError */
export async function daemonReload(command: string): Promise<void> {
  await systemctl(command, "daemon-reload");
}

/** @throws FatalError with what systemctl says. */
export async function systemctl(command: string, ...words: readonly string[]): Promise<void> {
  const result = await runCommand(["systemctl", "--no-ask-password", ...words]);
  if (result.end === "exit" && result.code === 0) return;
  throw new FatalError(ExitCode.unavailable, `${command}: systemctl ${words.join(" ")}: ${reasonOf(result)}`);
}

/** @returns "" where systemd does not say. */
export async function property(unit: string, name: string): Promise<string> {
  const shown = await runCommand(["systemctl", "show", `--property=${name}`, "--value", "--", unit], {
    timeout: PATIENCE,
  });
  return shown.end === "exit" ? shown.stdout.trim() : "";
}

/** Other units that have `file` as EnvironmentFile=. */
export async function readersOf(file: string, unit: string): Promise<readonly string[]> {
  const shown = await runCommand(["systemctl", "show", "--property=Id,EnvironmentFiles", "--", "*.service"]);
  const blocks = shown.end === "exit" ? shown.stdout.split("\n\n") : [];
  return blocks
    .filter((block) => block.includes(`EnvironmentFiles=${file} (`))
    .flatMap((block) => /^Id=(.*)$/m.exec(block)?.[1] ?? [])
    .filter((id) => id !== unit);
}

function reasonOf(result: CommandResult): string {
  if (result.end === "not-started") return "systemctl cannot be run";
  if (result.end === "timeout") return "no answer in time";
  const [first = ""] = result.stderr.trim().split("\n");
  return first === "" ? "it failed" : first;
}

/** Where systemd looks for its generators. */
const GENERATORS = ["/run", "/etc", "/usr/local/lib", "/usr/lib", "/lib"].map((root) =>
  join(root, "systemd/system-generators"),
);

/**
 * Whether systemd runs fetcher as a generator, this one or another. A link to a program that is gone counts for nothing, and a
 * file hides those of its name in later directories.
 *
 * @returns `masked`: somebody has hidden it by a link to /dev/null.
 */
export function generatorState(program: string): "runs" | "missing" | "masked" {
  const seen = new Set<string>();
  let state: "missing" | "masked" = "missing";
  for (const directory of GENERATORS)
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

export function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function namesIn(directory: string): readonly string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

/** What the administrator adds to a unit that need not be there yet: the text of its drop-ins, in their order. */
export function dropInsOf(unit: string): string {
  const found = new Map<string, string>();
  for (const root of ["/usr/lib", "/run", "/etc"]) {
    const directory = join(root, "systemd/system", `${unit}.d`);
    for (const name of namesIn(directory)) if (name.endsWith(".conf")) found.set(name, join(directory, name));
  }
  return [...found.keys()]
    .sort()
    .map((name) => `${readFileSync(found.get(name) ?? "", "utf8")}\n`)
    .join("");
}
