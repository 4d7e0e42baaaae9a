/** The sidecars of a host, and the state of each. */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import type { Scope } from "../config/scope.ts";
import { actOf, byHandPattern, refreshOf, serviceIn, sidecarsFor, unitOf } from "../config/unit-names.ts";
import { ExitCode, FatalError } from "../contract/errors.ts";
import { LONG_LIST, runCommand } from "../contract/helper-command.ts";
import { type Facts, readFacts } from "../engine/facts.ts";
import { systemClock } from "../runtime/clock.ts";
import { reasonOf } from "../setup/host.ts";
import { ActionDesk } from "../systemd/action-desk.ts";
import { countsIn, lateIn } from "../systemd/asked-targets.ts";
import { namesIn } from "../units/generator.ts";
import { isTakenOnThisHost, sidecarUnitOf } from "../units/one-file-units.ts";
import { exitText, obstacleOf, type Unit } from "./exit-text.ts";

/** `trouble`: it runs, and something is wrong or in progress. `stopped`: no unit needs it. */
export type SidecarState = "ok" | "trouble" | "starting" | "failed" | "stopped";

export interface SidecarStatus {
  /** NAME of /etc/fetcher/NAME.json, or of its unit. */
  readonly name: string;
  readonly unit: string;
  readonly services: readonly string[];
  readonly state: SidecarState;
  /** What is wrong, in words; null: nothing. */
  readonly problem: string | null;
  /** null: it has written none, or we may not read them. */
  readonly facts: Facts | null;
}

/** @param parents directories of runtime directories. @returns the facts of every sidecar that has any, by its unit. */
export function factsIn(parents: readonly string[]): ReadonlyMap<string, Facts> {
  const found = new Map<string, Facts>();
  for (const parent of parents)
    for (const name of directoriesIn(parent)) {
      const facts = readFacts(join(parent, name));
      if (facts !== undefined) found.set(facts.unit ?? unitOf(name), withActions(facts, join(parent, name)));
    }
  return found;
}

/** The facts of a sidecar that is not resident are as old as its last look. The acting unit continues after that. */
function withActions(facts: Facts, directory: string): Facts {
  if (!existsSync(refreshOf(directory))) return facts;
  const desk = new ActionDesk(actOf(directory));
  const now = systemClock.monotonic();
  const { report } = desk;
  const { done, failed } = countsIn(report);
  const late = lateIn(actOf(directory), desk.requests(now) ?? {}, report, now);
  const problem = [facts.problem ?? [], report.statuses, late ?? []].flat().join("; ");
  return { ...facts, actions: done, actionsFailed: failed, problem: problem === "" ? null : problem };
}

function directoriesIn(parent: string): readonly string[] {
  try {
    return readdirSync(parent, { withFileTypes: true }).flatMap((entry) => (entry.isDirectory() ? [entry.name] : []));
  } catch {
    return [];
  }
}

/** Seconds that systemd has to answer. */
const PATIENCE = 15;

/**
 * @param report gets one line where the directory of the configurations cannot be read.
 * @throws FatalError 69 where systemd does not answer.
 */
export async function sidecarsOf(
  scope: Scope,
  facts: ReadonlyMap<string, Facts>,
  report: (line: string) => void,
): Promise<readonly SidecarStatus[]> {
  const directory = scope.configDirectory;
  const place = { directory, isTaken: (unit: string) => isTakenOnThisHost(unit, scope) };
  const usual = new Map(namesIn(directory, report).map((name) => [sidecarUnitOf(name, place), name]));
  const names = [...new Set([...usual.keys(), ...facts.keys(), ...(await instances(scope))])];
  const { files, units } = await withOthers(usual, await show(names, scope), scope);
  return [...new Set([...files.keys(), ...names.filter((unit) => !usual.has(unit))])]
    .flatMap((unit) => {
      const known = facts.get(unit);
      const systemd = units.get(unit);
      // A file without units is not a sidecar yet, but the list shows that its units are missing.
      if (known === undefined && systemd?.["LoadState"] === "not-found" && !files.has(unit)) return [];
      return [statusOf(unit, files.get(unit), known, systemd, scope.runtimeRoot)];
    })
    .sort((a, b) => byNumber(a.name, b.name) || (a.name < b.name ? -1 : 1));
}

/**
 * An administrator may have written or copied a sidecar's units, whose names are then another's.
 *
 * @param usual a file's NAME, by the unit that the generator or the template would give it. @param found of those units.
 * @returns the same, with the unit that reads the file in place of a unit that does not exist.
 */
async function withOthers(
  usual: ReadonlyMap<string, string>,
  found: ReadonlyMap<string, Unit>,
  scope: Scope,
): Promise<{ readonly files: ReadonlyMap<string, string>; readonly units: ReadonlyMap<string, Unit> }> {
  const lost = [...usual].filter(([unit]) => found.get(unit)?.["LoadState"] === "not-found");
  const candidates = await show([...new Set(lost.flatMap(([, name]) => sidecarsFor(name)))], scope);
  const others = new Map(
    lost.flatMap(([unit, name]) => {
      const reads = `--config ${join(scope.configDirectory, `${name}.json`)} `;
      const other = sidecarsFor(name).find((one) => candidates.get(one)?.["ExecStart"]?.includes(reads) === true);
      return other === undefined ? [] : [[unit, other] as const];
    }),
  );
  const files = new Map([...usual].map(([unit, name]) => [others.get(unit) ?? unit, name]));
  return { files, units: new Map([...found, ...[...candidates].filter(([unit]) => files.has(unit))]) };
}

/** app9 before app10. */
export function byNumber(a: string, b: string): number {
  return a.localeCompare(b, "en", { numeric: true });
}

/** Instances of the template for units that are wired by hand. */
async function instances({ systemctl, environment }: Scope): Promise<readonly string[]> {
  const command = [...systemctl, "list-units", "--all", "--plain", "--no-legend", byHandPattern] as const;
  const result = await runCommand(command, { timeout: PATIENCE, most: LONG_LIST, environment });
  return result.end === "exit"
    ? [...result.stdout.matchAll(/^(fetcher@\S+\.service)\s/gm)].map(([, unit = ""]) => unit)
    : [];
}

/** @throws FatalError where systemd does not answer: the facts alone do not tell whether a sidecar runs. */
async function show(units: readonly string[], { systemctl, environment }: Scope): Promise<ReadonlyMap<string, Unit>> {
  if (units.length === 0) return new Map();
  const properties =
    "Id,LoadState,ActiveState,SubState,Result,ExecMainStatus,StatusText,Before,AssertResult,ConditionResult,RuntimeDirectory,ExecStart";
  const command = [...systemctl, "show", `--property=${properties}`, "--", ...units] as const;
  const result = await runCommand(command, { timeout: PATIENCE, most: LONG_LIST, environment });
  if (result.end !== "exit" || result.code !== 0)
    throw new FatalError(ExitCode.unavailable, `status: systemd does not answer: ${reasonOf(result)}`);
  const blocks = result.stdout.split("\n\n").map((block): Unit => {
    return Object.fromEntries([...block.matchAll(/^(\w+)=(.*)$/gm)].map(([, key = "", value = ""]) => [key, value]));
  });
  return new Map(blocks.flatMap((block) => (block["Id"] === undefined ? [] : [[block["Id"], block] as const])));
}

function statusOf(
  unit: string,
  file: string | undefined,
  facts: Facts | undefined,
  systemd: Unit | undefined,
  runtimeRoot: string,
): SidecarStatus {
  const name = file ?? serviceIn(unit);
  const [state, problem] = judge(facts, systemd, { runtimeRoot });
  return { name, unit, services: facts?.services ?? [unitOf(name)], state, problem, facts: facts ?? null };
}

/** systemd 255+ starts programs through this one. In 255 to 257 it misreads a `\\` in a directory's name. */
const EXECUTOR = "/usr/lib/systemd/systemd-executor";

/** systemd knows whether a sidecar runs; the facts of one that does not run may be old. */
export function judge(
  facts: Facts | undefined,
  systemd: Unit | undefined,
  { hasExecutor = existsSync(EXECUTOR), runtimeRoot = "/run" } = {},
): readonly [SidecarState, string | null] {
  if (systemd === undefined) return judgeRunning(facts);
  const said = systemd["StatusText"];
  const words = said === undefined || said === "" ? (facts?.problem ?? null) : said;
  if (systemd["LoadState"] === "masked" && ["inactive", "failed"].includes(systemd["ActiveState"] ?? ""))
    return ["stopped", "its unit is masked, so its service cannot start: run systemctl unmask"];
  switch (systemd["ActiveState"] ?? "") {
    case "failed":
      return ["failed", [exitText(systemd, runtimeRoot), words].filter((text) => text !== null).join(": ")];
    case "inactive":
    case "deactivating":
      if (isRefused(systemd, hasExecutor)) return ["failed", REFUSED];
      if (systemd["AssertResult"] === "no" || systemd["ConditionResult"] === "no") {
        const obstacle = obstacleOf(systemd, runtimeRoot);
        if (obstacle !== undefined) return ["failed", obstacle];
      }
      return systemd["LoadState"] === "not-found"
        ? ["stopped", "has no unit: run systemctl daemon-reload, or look for a wrong file in the journal"]
        : ["stopped", null];
    case "activating":
      // Between two runs, the end of the last one is the reason. systemd 254+: auto-restart-queued, too.
      return [
        "starting",
        systemd["SubState"]?.startsWith("auto-restart") === true ? exitText(systemd, runtimeRoot) : words,
      ];
    default:
      return judgeRunning(facts);
  }
}

/** examples/systemd/fetcher@.service refuses to start then, and systemd does not remember that. */
function isRefused(systemd: Unit, hasExecutor: boolean): boolean {
  return hasExecutor && /^fetcher@.*\\/.test(systemd["Id"] ?? "") && systemd["AssertResult"] !== "yes";
}

const REFUSED =
  "its name has a `\\`, which systemd 255 to 257 cannot have in the template: leave `output` out of its file, so that its units are generated";

function judgeRunning(facts: Facts | undefined): readonly [SidecarState, string | null] {
  if (facts === undefined) return ["ok", null];
  if (facts.state === "starting") return ["starting", facts.problem];
  return facts.problem === null ? ["ok", null] : ["trouble", facts.problem];
}
