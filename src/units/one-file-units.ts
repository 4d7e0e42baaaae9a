/** From a file in /etc/fetcher to its units. */
import { isUtf8 } from "node:buffer";
import { existsSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { type Config, parseConfig } from "../config/config.ts";
import { type Scope, systemScope } from "../config/scope.ts";
import { parseOnce, TwiceInJson } from "../config/one-value.ts";
import * as names from "../config/unit-names.ts";
import { errnoCode, errnoText, ExitCode, FatalError, UnfitFile } from "../contract/errors.ts";
import { type RenderOptions, unitsOf } from "./render.ts";
import { readPlainSync } from "../contract/plain-file.ts";
import { isRecord } from "../contract/records.ts";
import { withoutByteOrderMark } from "../contract/text.ts";
import type { UnitFile } from "./unit-file.ts";

export interface Place {
  /** Where NAME.json is read. The units always name the scope's directory. */
  readonly directory: string;
  /** Whose units they are; left out: the system's. */
  readonly scope?: Scope;
  readonly program: readonly string[];
  readonly isExecutable: boolean;
  /** Whether another unit has that name already. */
  readonly isTaken: (unit: string) => boolean;
}

/** NAME-secrets.service may belong to another package (nixpkgs' forgejo has one). */
export function isTakenOnThisHost(unit: string, { unitDirectories } = systemScope): boolean {
  return unitDirectories.some((directory) => isUnit(join(directory, unit)));
}

/** A link to /dev/null and an empty file mask the sidecar (systemctl(1)): it must not run under another name then. */
function isUnit(path: string): boolean {
  try {
    const { size } = statSync(path);
    return size > 0;
  } catch {
    return false;
  }
}

/** @returns undefined where the file is wired by hand. @throws FatalError that names the file. */
export function unitsOfFile(name: string, place: Place): readonly UnitFile[] | undefined {
  const file = join(place.directory, `${name}.json`);
  checkName(name, file);
  return unitsOfJson(
    name,
    naming(file, () => readJson(file)),
    place,
  )?.units;
}

export interface OneFile {
  readonly config: Config;
  /** Without `.service`. */
  readonly sidecar: string;
  readonly units: readonly UnitFile[];
}

/** @param json what is in the file, or is to be. @returns undefined where it is wired by hand. */
export function unitsOfJson(name: string, json: unknown, place: Place): OneFile | undefined {
  // A file with `output` is wired by hand: the rest of it does not matter here.
  if (isRecord(json) && json["output"] !== undefined) return undefined;
  const file = join(place.directory, `${name}.json`);
  const [config, options] = named(
    naming(file, () => configIn(json, name, place)),
    name,
    place,
  );
  const long = config.targets.find((target) => !names.canHaveDropIns(target));
  if (long !== undefined)
    throw new FatalError(ExitCode.config, `${file}: service: ${long} is too long: systemd can have no drop-ins for it`);
  const closed = config.targets.find((target) => !names.canHavePrivateTmp(target));
  if (closed !== undefined && config.delivery === "private-tmp")
    throw new FatalError(
      ExitCode.config,
      `${file}: delivery: ${closed} is too long for PrivateTmp=, as systemd names its directory: use another delivery`,
    );
  return { config, sidecar: options.sidecar, units: unitsOf(config, options) };
}

/**
 * The units of a file that is wrong: the service does not start without its secrets, and the sidecar's journal says why.
 */
export function unitsOfWrongFile(name: string, place: Place): readonly UnitFile[] {
  checkName(name, `${name}.json`);
  return unitsOf(...named(configIn({ secrets: { unknown: {} } }, name, place), name, place));
}

function configIn(json: unknown, name: string, { scope = systemScope }: Place): Config {
  return parseConfig(json, noFlags, scope.configDirectory, name, () => scope);
}

const noFlags = { configFile: undefined, backend: undefined, set: [], output: undefined, ids: [] };

export function checkName(name: string, file: string): void {
  const problem = names.problemOf(name);
  if (problem !== undefined)
    throw new FatalError(ExitCode.config, `configuration: ${file}: ${JSON.stringify(name)} ${problem}`);
}

export function readJson(file: string): unknown {
  let bytes: Buffer;
  try {
    bytes = withoutByteOrderMark(readPlainSync(file));
  } catch (error) {
    if (error instanceof UnfitFile) throw new FatalError(ExitCode.config, error.message);
    throw new FatalError(ExitCode.config, `cannot be read: ${errnoText(errnoCode(error))}`);
  }
  const notJson = `is not JSON: see fetcher --check=config --config ${file}`;
  if (!isUtf8(bytes)) throw new FatalError(ExitCode.config, notJson);
  try {
    return parseOnce(bytes.toString("utf8"));
  } catch (error) {
    if (error instanceof TwiceInJson)
      throw new FatalError(
        ExitCode.config,
        `has ${error.key} twice in one object, at ${error.place}: keep one of them`,
      );
    throw new FatalError(ExitCode.config, notJson);
  }
}

export function naming<T>(file: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof FatalError)) throw error;
    throw new FatalError(error.exitCode, `${file}: ${error.message.replace(/^configuration: /, "")}`);
  }
}

function named(config: Config, name: string, place: Place): readonly [Config, RenderOptions] {
  const { program, isExecutable, scope = systemScope } = place;
  const sidecar = freeSidecar(name, place);
  const output = config.output && { ...config.output, directory: join(scope.runtimeRoot, sidecar, "pub") };
  return [
    { ...config, output },
    { name, sidecar, program, isExecutable, scope },
  ];
}

/** @returns the sidecar's unit of a file. One that is wired by hand uses the template in examples/systemd. */
export function sidecarUnitOf(name: string, place: Pick<Place, "directory" | "isTaken">): string {
  let json: unknown;
  try {
    json = readJson(join(place.directory, `${name}.json`));
  } catch {
    // A wrong file has the usual sidecar.
  }
  const isByHand = isRecord(json) && json["output"] !== undefined;
  return names.unitOf(isByHand ? names.byHandOf(name) : freeSidecar(name, place));
}

function freeSidecar(name: string, place: Pick<Place, "directory" | "isTaken">): string {
  const usual = isAlone(name, place) ? names.sidecarOf(name) : names.otherSidecarOf(name);
  return names.unitsOf(usual).some((unit) => place.isTaken(unit)) ? names.insteadOf(usual) : usual;
}

/** Whether no other file's sidecar would have the same name: only names with special characters can collide. */
function isAlone(name: string, place: Pick<Place, "directory">): boolean {
  if (names.keepsItsName(name)) return true;
  if (!existsSync(place.directory)) return true;
  return readdirSync(place.directory).every((file) => {
    const other = file.replace(/\.json$/, "");
    return other === file || other === name || names.sidecarOf(other) !== names.sidecarOf(name);
  });
}
