/** --once and --check, which an operator runs in a terminal. Tables show everything but values. */
import { ENV_FILE } from "../config/config-schema.ts";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Fetched, Outcome } from "../contract/backend.ts";
import type { Config, OutputConfig, TemplateConfig } from "../config/config.ts";
import { errnoCode, errnoText, ExitCode, PublishError } from "../contract/errors.ts";
import { runtimeDirectories } from "../contract/helper-command.ts";
import { hasByteOrderMark } from "../contract/text.ts";
import { keepEmptied } from "../engine/emptied.ts";
import { fatal } from "../engine/first-load.ts";
import { PUBLISHED_BEFORE } from "../engine/held-values.ts";
import { causesOf, type Problem, problemOf } from "../engine/problems.ts";
import { type Found, Publisher } from "../publish/publisher.ts";
import { SetLayout } from "../publish/layout.ts";
import { lockFile } from "../runtime/platform.ts";
import type { Store } from "../engine/store.ts";
import { ValueError } from "../publish/value.ts";

export interface Terminal {
  readonly out: (text: string) => void;
  readonly err: (text: string) => void;
  /** Shows the current step; "" clears it. Does nothing if standard error is not a terminal. */
  readonly progress: (text: string) => void;
}

/** Seconds that a store has to answer while a person waits. */
const PATIENCE = 30;

/**
 * Fetches and publishes once, in `--output` or a fresh directory: never in the configured one, where a sidecar may be at
 * work. The files stay.
 *
 * @returns the exit code: 0, or that of the worst failure, and then nothing is published. An optional secret is a failure
 *   only where the store does not answer.
 */
export async function once(
  config: Config,
  store: Store,
  terminal: Terminal,
  stop: AbortSignal,
  outputGiven: boolean,
): Promise<ExitCode> {
  const outcomes = await fetchAll(config, store, terminal, stop);
  const { values, exitCode } = judge(config, store, outcomes, terminal);
  if (exitCode !== ExitCode.ok) {
    terminal.err("nothing was published\n");
    return exitCode;
  }
  const output = outputGiven && config.output !== undefined ? config.output : freshOutput(config.output?.envFile);
  const publisher = await Publisher.open({ ...config, output }, output, (problem) => {
    terminal.err(`${problem}\n`);
  });
  const lock = await publisher.lock(lockFile);
  for (const [id, kept] of keptBefore(config, store, outcomes, publisher.recover(), terminal)) values.set(id, kept);
  const bytes = new Map([...values].map(([id, { value }]) => [id, value]));
  const staged = publisher.stage(bytes, false);
  staged.commit();
  const rows = rowsOf(config, store, outcomes, values, (id) => [
    publisher.fileOf(id) ?? "-",
    staged.env?.names.get(id) ?? "-",
  ]);
  const paths = new Map(config.templates.map(({ file, path }) => [file, path]));
  const rendered = publisher.render(bytes).map(({ name, content }) => {
    return ["-", name, "-", String(content.length), "-", `template ${paths.get(name) ?? ""}`];
  });
  terminal.out(table(["ID", "FILE", "VARIABLE", "BYTES", "VERSION", "FROM"], [...rows, ...rendered]));
  for (const [name, why] of staged.refused)
    terminal.err(`${printable(`key ${JSON.stringify(name)} cannot be published: ${why}`)}\n`);
  const leftOut = [...(staged.env?.leftOut ?? [])];
  for (const why of new Set(leftOut.map(([, reason]) => reason))) {
    const ids = leftOut.filter(([, reason]) => reason === why).map(([id]) => id);
    terminal.err(`${listed(ids)} ${ids.length === 1 ? "is" : "are"} not in ${output.envFile ?? ENV_FILE}: ${why}\n`);
  }
  lock.remove();
  terminal.out(`\nThe files stay in ${output.directory} until you remove them.\n`);
  return ExitCode.ok;
}

/** @param placeOf the file and the variable of a secret. */
function rowsOf(
  config: Config,
  store: Store,
  outcomes: ReadonlyMap<string, Outcome>,
  values: ReadonlyMap<string, Fetched>,
  placeOf: (id: string) => readonly [file: string, variable: string],
): readonly (readonly string[])[] {
  return config.secrets.map(({ id }) => {
    const fetched = values.get(id);
    if (fetched !== undefined)
      return [id, ...placeOf(id), String(fetched.value.length), fetched.version, store.describe(id)];
    const kind = problemOf(outcomes.get(id))?.kind ?? "missing";
    return [id, "-", "-", "-", `${kind} (optional)`, store.describe(id)];
  });
}

/** As in the daemon: a published value goes only if the store says that it is gone. */
function keptBefore(
  config: Config,
  store: Store,
  outcomes: ReadonlyMap<string, Outcome>,
  { values: before }: Found,
  terminal: Terminal,
): ReadonlyMap<string, Fetched> {
  const judged = keepEmptied({ config, store }, outcomes, (id) => before?.get(id));
  const kept = new Map<string, Fetched>();
  for (const { id } of config.secrets) {
    const value = before?.get(id);
    const problem = problemOf(judged.get(id));
    if (value === undefined || problem === undefined || (problem.kind === "missing" && !problem.mayAppear)) continue;
    kept.set(id, { status: "value", value, version: PUBLISHED_BEFORE });
    if (problemOf(outcomes.get(id)) === undefined)
      terminal.err(`secret ${JSON.stringify(id)}: ${problem.message}; the published values stay in use\n`);
  }
  return kept;
}

/**
 * Shows whether each secret is there and whether each template can be rendered. Writes nothing.
 *
 * @returns the exit code, as `once` does.
 */
export async function check(config: Config, store: Store, terminal: Terminal, stop: AbortSignal): Promise<ExitCode> {
  // 0444: a check writes no files, so none can be open to others.
  const layout = await SetLayout.of(config, 0o444);
  const outcomes = await fetchAll(config, store, terminal, stop);
  const rows = config.secrets.map(({ id, optional }) => {
    const outcome = outcomes.get(id);
    const problem = problemOf(outcome);
    if (problem !== undefined)
      return [id, problem.kind + (optional ? " (optional)" : ""), "-", "-", store.describe(id)];
    const { value, version } = outcome as Fetched;
    return [id, "there", String(value.length), version, store.describe(id)];
  });
  const problems: string[] = [];
  const rendered = config.templates.map((template) => {
    const [state, bytes] = rendering(layout, template, config, outcomes, problems);
    return [template.file, state, bytes, "-", `template ${template.path}`];
  });
  terminal.out(table(["ID", "STATE", "BYTES", "VERSION", "FROM"], [...rows, ...rendered]));
  const { exitCode } = judge(config, store, outcomes, terminal);
  for (const problem of problems) terminal.err(`${problem}\n`);
  return problems.length > 0 ? ExitCode.config : exitCode;
}

/** @returns the template's state and its size. */
function rendering(
  layout: SetLayout,
  template: TemplateConfig,
  { secrets }: Config,
  outcomes: ReadonlyMap<string, Outcome>,
  problems: string[],
): readonly [string, string] {
  const values = new Map<string, Buffer>();
  for (const { id, optional } of secrets) {
    const outcome = outcomes.get(id);
    if (problemOf(outcome) === undefined) values.set(id, (outcome as Fetched).value);
    else if (!optional) return ["waits for secrets", "-"];
  }
  try {
    return ["can be rendered", String(layout.renderOne(template, values)?.content.length)];
  } catch (error) {
    if (!(error instanceof ValueError)) throw error;
    problems.push(error.message);
    return ["cannot be rendered", "-"];
  }
}

async function fetchAll(config: Config, store: Store, terminal: Terminal, stop: AbortSignal) {
  const count = config.secrets.length;
  terminal.progress(`asking ${store.name} for ${count} ${count === 1 ? "secret" : "secrets"} ...`);
  const ids = config.secrets.map(({ id }) => id);
  const outcomes = await store.fetch(ids, stop, PATIENCE);
  terminal.progress("");
  return outcomes;
}

/** From the least to the most serious: the exit code shows the most serious problem. */
const severity: readonly Problem["kind"][] = ["unavailable", "missing", "denied", "invalid"];

function judge(config: Config, store: Store, outcomes: ReadonlyMap<string, Outcome>, terminal: Terminal) {
  const values = new Map<string, Fetched>();
  const told: [string, Problem][] = [];
  let worst: { id: string; problem: Problem } | undefined;
  for (const { id, optional } of config.secrets) {
    const outcome = outcomes.get(id);
    const problem = problemOf(outcome);
    if (problem === undefined) {
      values.set(id, outcome as Fetched);
      continue;
    }
    // As at the start of the daemon: a store that does not answer may still have the secret.
    const dispensable = optional && problem.kind !== "unavailable";
    if (!dispensable || problem.kind !== "missing") told.push([id, problem]);
    if (dispensable) continue;
    if (worst === undefined || severity.indexOf(problem.kind) > severity.indexOf(worst.problem.kind))
      worst = { id, problem };
  }
  const marked = [...values].filter(([, { value }]) => hasByteOrderMark(value)).map(([id]) => id);
  if (marked.length > 0)
    terminal.err(
      `${printable(listed(marked))}: begins with a byte order mark, which no editor shows: it is published too\n`,
    );
  for (const { ids, message } of causesOf(told, (id) => store.describe(id)))
    terminal.err(`${store.name}: ${printable(`${listed(ids)}: ${message}`)}\n`);
  const exitCode = worst === undefined ? ExitCode.ok : fatal(store.name, worst.id, worst.problem).exitCode;
  return { values, exitCode };
}

/** The most ids that a line names: the table has them all. */
const MOST_NAMED = 8;

/** `secret "a"`, `secrets "a", "b" and 3 more`. */
function listed(ids: readonly string[]): string {
  const named = ids.slice(0, MOST_NAMED).map((id) => JSON.stringify(id));
  const more = ids.length - named.length;
  return `secret${ids.length === 1 ? "" : "s"} ${named.join(", ")}${more === 0 ? "" : ` and ${more} more`}`;
}

function freshOutput(envFile: string | null = ENV_FILE): OutputConfig {
  const [parent = tmpdir()] = runtimeDirectories({ XDG_RUNTIME_DIR: process.env["XDG_RUNTIME_DIR"] });
  try {
    const directory = mkdtempSync(join(parent, "fetcher-"));
    return { directory, links: null, linksTo: directory, envFile };
  } catch (error) {
    const why = `output: cannot make a directory in ${parent}: ${errnoText(errnoCode(error))} (or --output DIR)`;
    throw new PublishError(ExitCode.cannotCreate, why);
  }
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const all = [head, ...rows].map((row) => row.map(printable));
  const widths = head.map((_, column) => Math.max(...all.map((row) => row[column]?.length ?? 0)));
  return all
    .map(
      (row) =>
        `${row
          .map((cell, column) => cell.padEnd(widths[column] ?? 0))
          .join("  ")
          .trimEnd()}\n`,
    )
    .join("");
}

/** An id or a path may hold control characters that a terminal obeys. */
function printable(text: string): string {
  return text.replaceAll(/[\p{Cc}\p{Bidi_Control}\u2028\u2029]/gu, "?");
}
