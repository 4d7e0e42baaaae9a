/**
 * systemd.generator(7): makes the units of every file in /etc/fetcher at boot and at `systemctl daemon-reload`. It runs
 * before there is a journal, and must not wait or ask anyone.
 */
import { mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { errnoCode, errnoText, FatalError } from "../contract/errors.ts";
import { type Place, unitsOfFile, unitsOfWrongFile } from "./one-file-units.ts";
import { textOf, type UnitFile } from "./unit-file.ts";

/**
 * @param directory where the units go: the first that systemd names (units of the administrator win over it).
 * @param report gets one line about a wrong file; the other files still get their units.
 */
export function generate(directory: string, place: Place, report: (line: string) => void): void {
  for (const name of namesIn(place.directory, report)) {
    try {
      write(directory, unitsFor(name, place, report) ?? []);
    } catch (error) {
      report(`${name}: cannot write the units: ${errnoText(errnoCode(error))}`);
    }
  }
}

function unitsFor(name: string, place: Place, report: (line: string) => void): readonly UnitFile[] | undefined {
  try {
    return unitsOfFile(name, place);
  } catch (error) {
    report(error instanceof FatalError ? error.message : `${name}: a bug in fetcher`);
    try {
      return unitsOfWrongFile(name, place);
    } catch {
      return undefined;
    }
  }
}

/** NAME of each NAME.json. */
export function namesIn(directory: string, report: (line: string) => void): readonly string[] {
  try {
    return readdirSync(directory)
      .filter((file) => file.endsWith(".json") && !file.startsWith("."))
      .map((file) => file.slice(0, -".json".length))
      .sort();
  } catch (error) {
    const code = errnoCode(error);
    if (code !== "ENOENT") report(`cannot read ${directory}: ${errnoText(code)}`);
    return [];
  }
}

function write(directory: string, units: readonly UnitFile[]): void {
  for (const unit of units) {
    const path = join(directory, unit.path);
    mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
    writeFileSync(path, textOf(unit), { mode: 0o644 });
  }
}
