/** Takes over a file of variables: its values become secrets in the folder, and the service reads those instead. */
import { isUtf8 } from "node:buffer";
import { basename, join, resolve } from "node:path";
import { nameProblem } from "../config/env-names.ts";
import { ExitCode, FatalError, unreadable } from "../contract/errors.ts";
import { readPlainSync } from "../contract/plain-file.ts";
import { runCommand } from "../contract/helper-command.ts";
import { variablesIn } from "./environment-file.ts";
import type { Scope } from "../config/scope.ts";
import type { Service } from "./host.ts";
import { contentOf, resolvedPath } from "./paths.ts";

export interface Import {
  /** Absolute, as the service names it. */
  readonly file: string;
  /** Variable → its value. The caller owns the bytes. */
  readonly values: ReadonlyMap<string, Buffer>;
  /** For the person who reads the plan. */
  readonly notes: readonly string[];
}

/** @param given the path that was typed. @throws FatalError that shows no value. */
export async function readImport(given: string, service: Service): Promise<Import> {
  const file = fileOf(given, service);
  let bytes: Buffer;
  try {
    bytes = readPlainSync(file);
  } catch (error) {
    throw unreadable(`add: cannot read ${file}`, error);
  }
  try {
    // systemd does not read any of such a file.
    if (bytes.includes(0)) throw wrong(file, "has a NUL byte, and systemd does not read it");
    const { values, ignored } = variablesIn(bytes, await joinsComments());
    checkVariables(file, values);
    const endings = [...values].filter(([, value]) => value.at(-1) === 0x0a).map(([name]) => name);
    return {
      file,
      values,
      notes: [
        ...(ignored.length === 0
          ? []
          : [`${file}: systemd ignores line ${ignored.join(", ")}, which sets no variable, and so does fetcher`]),
        ...(endings.length === 0 ? [] : [`the newline at the end of ${endings.join(", ")} is not in the variable`]),
      ],
    };
  } finally {
    bytes.fill(0);
  }
}

function checkVariables(file: string, values: ReadonlyMap<string, Buffer>): void {
  if (values.size === 0) throw wrong(file, "sets no variable");
  for (const [name, value] of values) {
    if (!isUtf8(value)) throw wrong(file, `the value of ${name} is not UTF-8, and systemd does not read the file`);
    const problem = nameProblem(name);
    if (problem !== undefined) throw wrong(file, `${problem}, or keep it in a file of its own`);
  }
}

function wrong(file: string, why: string): FatalError {
  return new FatalError(ExitCode.config, `add: ${file}: ${why}`);
}

/** @returns the path that the service names, which may lead to the given file through links. */
function fileOf(given: string, { unit, environmentFiles }: Service): string {
  const wanted = resolve(given);
  const files = environmentFiles.map((file) => file.replace(/^-/, ""));
  const found =
    files.find((file) => file === wanted) ?? files.find((file) => resolvedPath(file) === resolvedPath(wanted));
  if (found !== undefined) return found;
  const has = files.length === 0 ? "it has none" : `it has ${files.join(", ")}`;
  throw new FatalError(ExitCode.config, `add: ${unit} has no EnvironmentFile=${wanted}: ${has}`);
}

async function joinsComments(): Promise<boolean> {
  const said = await runCommand(["systemctl", "--version"]);
  return Number(/\d+/.exec(said.end === "exit" ? said.stdout : "")?.[0] ?? NaN) < 254;
}

/** The secrets that do not exist yet. @throws FatalError for one with another value. */
export function secretsToWrite({ file, values }: Import, folder: string): ReadonlyMap<string, Buffer> {
  const fresh = new Map<string, Buffer>();
  for (const [name, value] of values) {
    const path = join(folder, name);
    const there = contentOf(path);
    if (there === undefined) fresh.set(path, value);
    else if (!there.equals(value))
      throw new FatalError(
        ExitCode.cannotCreate,
        `add: ${path} already exists with another value than in ${file}: remove one of them`,
      );
  }
  return fresh;
}

const SWAP = /^z{2,}-fetcher-import\.conf$/;

/** @returns the drop-in of an earlier import. */
export function swapOf({ dropIns }: Service): string | undefined {
  return dropIns.find((path) => SWAP.test(basename(path)));
}

/** @returns the files that the drop-in replaces. */
export function replacedIn(swap: string): readonly string[] {
  return [...swap.matchAll(/^# In place of (\/.*)$/gm)].map(([, path = ""]) => path);
}

/** @returns a path whose name sorts after all drop-ins, so that it resets what they set. */
export function pathOfSwap(service: Service, { lastingUnits }: Scope): string {
  const others = service.dropIns.map((path) => basename(path)).filter((name) => !SWAP.test(name));
  let name = "zz-fetcher-import.conf";
  while (others.some((other) => other > name)) name = `z${name}`;
  return join(lastingUnits, `${service.unit}.d`, name);
}

/**
 * The drop-in that makes a service read the variables of its secrets in place of `file`: a later EnvironmentFile=
 * still wins over them.
 *
 * @param variables secrets.env.
 * @param before the text of a drop-in that is there already.
 */
export function swapText(
  { name, scope }: { readonly name: string; readonly scope: Pick<Scope, "isUser"> },
  file: string,
  variables: string,
  { environmentFiles }: Service,
  before = "",
): string {
  const files = environmentFiles
    .filter((one) => one !== variables)
    .map((one) => (one.replace(/^-/, "") === file ? variables : one));
  const replaced = [...new Set([...replacedIn(before), file])];
  const named = scope.isUser ? `--user ${name}` : name;
  return [
    `# Made by fetcher add ${named} --import, removed by fetcher remove ${named}. All that the service had, in its order:`,
    "# an EnvironmentFile= that is added elsewhere has to be added here.",
    ...replaced.map((path) => `# In place of ${path}`),
    "[Service]",
    "EnvironmentFile=",
    ...files.map((path) => `EnvironmentFile=${path.replaceAll("%", "%%")}`),
    "",
  ].join("\n");
}
