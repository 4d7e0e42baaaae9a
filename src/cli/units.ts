/** `fetcher units` prints what the generator makes. A link in a generator directory starts fetcher as the generator. */
import { accessSync, constants, realpathSync, statSync, writeFileSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { ExitCode, FatalError, UsageError } from "../contract/errors.ts";
import { didYouMean } from "../contract/nearest.ts";
import { isCompiled } from "../runtime/platform.ts";
import { type Scope, systemScope, userScope } from "../config/scope.ts";
import { generate, namesIn as filesIn } from "../units/generator.ts";
import { isTakenOnThisHost, type Place, unitsOfFile } from "../units/one-file-units.ts";
import { textOf } from "../units/unit-file.ts";
import { serviceNameOf } from "./service-name.ts";

/**
 * @param words names of files in /etc/fetcher, or with --user in a user's directory; or paths of files that are to go
 *   there, to try them.
 */
export function printUnits(words: readonly string[], out: (text: string) => void): ExitCode {
  const { scope, names } = namesIn(words) ?? {};
  if (scope === undefined || names === undefined)
    throw new UsageError(
      "units: expected the NAME of /etc/fetcher/NAME.json, or the path of a file; --user for units of a user",
    );
  for (const [index, given] of names.entries()) {
    const isPath = given.includes("/");
    const directory = isPath ? dirname(resolve(given)) : scope.configDirectory;
    const name = isPath ? basename(given, ".json") : nameIn(directory, given);
    const place = placeIn(directory, scope);
    const units = unitsOfFile(name, place);
    if (units === undefined)
      throw new FatalError(
        ExitCode.config,
        `${place.directory}/${name}.json has \`output\`, so its units are made by hand; to have them generated, leave it out`,
      );
    const texts = units.map((unit) => `# ${generated(scope)}/${unit.path}\n${textOf(unit)}`);
    out(`${index === 0 ? "" : "\n"}${texts.join("\n")}`);
  }
  return ExitCode.ok;
}

/**
 * Reads the words of a command about services that has no option but `--user`.
 *
 * @returns undefined for another option, or without a name. A name that begins with a `-` comes after `--`.
 */
export function namesIn(
  words: readonly string[],
): { readonly scope: Scope; readonly names: readonly string[] } | undefined {
  const end = words.includes("--") ? words.indexOf("--") : words.length;
  const before = words.slice(0, end).filter((word) => word !== "--user");
  const names = [...before, ...words.slice(end + 1)];
  if (names.length === 0 || before.some((word) => word.startsWith("-"))) return undefined;
  return { scope: words.slice(0, end).includes("--user") ? userScope() : systemScope, names };
}

/** @throws FatalError if no file has that name. */
function nameIn(directory: string, word: string): string {
  const name = serviceNameOf(word);
  const file = join(directory, `${name}.json`);
  // One that we may not see is read, which says so.
  if (!isMissing(file)) return name;
  const known = filesIn(directory, () => undefined);
  throw new FatalError(ExitCode.missing, `units: ${file} does not exist${didYouMean(name, known)}`);
}

function isMissing(file: string): boolean {
  try {
    return statSync(file, { throwIfNoEntry: false }) === undefined;
  } catch {
    return false;
  }
}

/** The directory where generators put their units. */
export function generated({ runtimeRoot }: Scope): string {
  return join(runtimeRoot, "systemd/generator");
}

/** @param words the directories that systemd gives: normal, early, late. @param isUser for a user's manager. */
export function generateUnits(words: readonly string[], isUser: boolean): ExitCode {
  const [normal] = words;
  if (normal === undefined) throw new UsageError("expected the directories that systemd gives a generator");
  // Everybody may read the units.
  process.umask(0o022);
  const scope = isUser ? userScope() : systemScope;
  generate(normal, placeIn(scope.configDirectory, scope), tell);
  return ExitCode.ok;
}

export function placeIn(directory: string, scope: Scope): Place {
  const program = programOf(process.argv[1], process.execPath);
  return { directory, scope, program, isExecutable: isCompiled, isTaken: (unit) => isTakenOnThisHost(unit, scope) };
}

/** The journal does not run yet, but it reads the kernel's log. In a container there is no such log: stderr instead. */
function tell(line: string): void {
  try {
    writeFileSync("/dev/kmsg", `<3>fetcher: ${line}\n`);
  } catch {
    process.stderr.write(`fetcher: ${line}\n`);
  }
}

/**
 * The command line that starts this program again.
 *
 * @param script undefined, or no file, for an executable that has its script in itself.
 */
export function programOf(script: string | undefined, executable: string): readonly string[] {
  let file: string;
  try {
    // Not the link that makes it a generator.
    file = realpathSync(script ?? "");
  } catch {
    return [executable];
  }
  try {
    accessSync(file, constants.X_OK);
    return [file];
  } catch {
    return [executable, file];
  }
}
