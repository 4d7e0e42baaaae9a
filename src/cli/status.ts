/** `fetcher status`: all sidecars of the host at a glance, from their facts and the state of their units. */
import { realpathSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { systemScope, userScope } from "../config/scope.ts";
import { unitOf } from "../config/unit-names.ts";
import { errnoCode, errnoText, ExitCode, FatalError, PublishError, UnfitFile, UsageError } from "../contract/errors.ts";
import type { Log } from "../runtime/log.ts";
import { didYouMean } from "../contract/nearest.ts";
import { factsIn, type SidecarStatus, sidecarsOf } from "./sidecars.ts";
import { serviceNameOf } from "./service-name.ts";
import { metricsText } from "./status-metrics.ts";
import { statusTable } from "./status-table.ts";
import { openTerminal } from "./terminal.ts";

/** Where systemd makes the directories of sidecars; the NixOS module for files uses its own. */
const RUNTIME_DIRECTORIES = ["/run", "/run/secret-files"];

/** @param argv NAME of /etc/fetcher/NAME.json, or of a service or a sidecar; none: all; --user: a user's. @param version ours. @param log for what the list may lack. */
export async function showStatus(argv: readonly string[], version: string, log: Pick<Log, "warn">): Promise<ExitCode> {
  const { names, json, metrics, user } = parseStatus(argv);
  const scope = user ? userScope() : systemScope;
  let unreadable = "";
  const all = await sidecarsOf(scope, factsIn(user ? [scope.runtimeRoot] : RUNTIME_DIRECTORIES), (line) => {
    unreadable = line;
  });
  if (unreadable !== "" && all.length === 0) throw new FatalError(ExitCode.denied, `status: ${unreadable}`);
  const sidecars = names.length === 0 ? all : all.filter((one) => names.some((name) => isCalled(one, name)));
  for (const word of names)
    if (!sidecars.some((one) => isCalled(one, word))) {
      const hint = didYouMean(
        serviceNameOf(word),
        all.map(({ name }) => name),
      );
      if (unreadable !== "") throw new FatalError(ExitCode.denied, `status: ${unreadable}`);
      throw new FatalError(
        ExitCode.missing,
        `status: ${JSON.stringify(word)}: no sidecar or service has this name${hint}`,
      );
    }
  if (unreadable !== "") log.warn(`status: ${unreadable}; sidecars that do not run may be missing here`);
  const { out, color, columns } = openTerminal();
  if (metrics === undefined)
    out(
      json
        ? `${JSON.stringify(sidecars, undefined, 2)}\n`
        : statusTable(sidecars, { now: new Date(), version, color, columns, scope }),
    );
  else if (metrics === "") out(metricsText(sidecars));
  else replaceFile(metrics, metricsText(sidecars));
  return ExitCode.ok;
}

function isCalled({ name, unit, services }: SidecarStatus, word: string): boolean {
  const called = [word, unitOf(word), serviceNameOf(word)];
  return [name, unit, ...services].some((one) => called.includes(one));
}

/** @throws UsageError */
export function parseStatus(argv: readonly string[]) {
  let metrics: string | undefined;
  const args = argv.filter((word) => {
    if (word !== "--metrics" && !word.startsWith("--metrics=")) return true;
    metrics = word.slice("--metrics=".length);
    if (word === "--metrics=") throw new UsageError("status: --metrics: expected --metrics or --metrics=FILE");
    return false;
  });
  try {
    const { values, positionals } = parseArgs({
      args,
      allowPositionals: true,
      options: { json: { type: "boolean" }, user: { type: "boolean" } },
    });
    if (values.json === true && metrics !== undefined)
      throw new UsageError("status: give only one of --json and --metrics");
    return { names: positionals, json: values.json === true, metrics, user: values.user === true };
  } catch (error) {
    if (error instanceof UsageError) throw error;
    throw new UsageError("status: expected [--user] [--json | --metrics | --metrics=FILE] [NAME...]");
  }
}

/**
 * node_exporter reads every *.prom file, and must never read half of one. Its directory may be another user's, who could
 * put a link in the way of a name that is known.
 */
function replaceFile(given: string, text: string): void {
  try {
    const path = placeOf(given);
    const fresh = `${path}.${process.getBuiltinModule("node:crypto").randomBytes(6).toString("hex")}`;
    try {
      writeFileSync(fresh, text, { mode: 0o644, flag: "wx" });
      renameSync(fresh, path);
    } finally {
      rmSync(fresh, { force: true });
    }
  } catch (error) {
    const why = error instanceof UnfitFile ? error.message : errnoText(errnoCode(error));
    throw new PublishError(ExitCode.ioError, `status: cannot write ${given}: ${why}`);
  }
}

/** A link to a file stays one. @throws UnfitFile where a rename would take the place of a device: /dev/null, /dev/stdout. */
function placeOf(path: string): string {
  const there = statSync(path, { throwIfNoEntry: false });
  if (there === undefined) return path;
  if (!there.isFile()) throw new UnfitFile("is not a regular file; --metrics alone prints them");
  return realpathSync(path);
}
