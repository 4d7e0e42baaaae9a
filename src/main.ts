/** The process: command line, signals, exit code. */
import { exitCodeOf, isBackendError } from "./contract/backend.ts";
import { endProcess } from "./runtime/end.ts";
import {
  type CommandLine,
  helpText,
  parseCommandLine,
  refuseUnknownCommand,
  shortHelpOf,
  spelledOut,
  takeLogFormat,
} from "./cli/command-line.ts";
import { systemClock } from "./runtime/clock.ts";
import { resolve } from "node:path";
import { type Config, configOf, loadConfig, type OutputConfig } from "./config/config.ts";
import { RunningFile } from "./config/running-file.ts";
import { type Configuration, configurationOf } from "./engine/configuration.ts";
import type { once, Terminal } from "./cli/debug.ts";
import { ConfigError, ExitCode, FatalError, systemRefusal, UsageError } from "./contract/errors.ts";
import { aborted, waitFor } from "./contract/bounded-wait.ts";
import { beginThreads } from "./contract/file-calls.ts";
import { lineStyle, type Log, openLog } from "./runtime/log.ts";
import { factsFile, type TellFacts, unitOfThisProcess } from "./engine/facts.ts";
import { growLittle, openCollector } from "./runtime/memory.ts";
import { becomeNewProgram, hideFromOthers, lockFile, prepareConnections, prepareFiles } from "./runtime/platform.ts";
import { openReloadDesk } from "./systemd/reload-desk.ts";
import { type Notifier, openNotifier, watchdogPeriod } from "./systemd/notify.ts";
import { Notes } from "./systemd/notes.ts";
import { isTerminal } from "./runtime/standard-error.ts";
import { finishStandardOutput, openStandardOutput } from "./runtime/standard-output.ts";
import { forgetOtherUnit, isStartedBySystemd } from "./systemd/started-by-systemd.ts";
import { Publisher } from "./publish/publisher.ts";
import type { AskAnother } from "./engine/open-targets.ts";
import { Sidecar } from "./engine/sidecar.ts";
import { checkStore, openStore, type Store } from "./engine/store.ts";
import { turn } from "./contract/slices.ts";
import { systemctl } from "./systemd/systemctl.ts";
import { loadTemplates } from "./publish/templates.ts";
import { ValueError } from "./publish/value.ts";

declare const FETCHER_VERSION: string;

const { words, format, problem } = takeLogFormat(process.argv.slice(2), process.env);
/** Until the command line is read. */
let log: Log = openLog("info", lineStyle(format, process.env, false));
let running: Sidecar | undefined;

async function main(given: readonly string[]): Promise<ExitCode> {
  if (problem !== undefined) throw new UsageError(problem);
  const argv = spelledOut(given);
  const help = shortHelpOf(argv);
  if (help !== undefined) openTerminal().out(help);
  const exitCode = help === undefined ? await obey(argv) : ExitCode.ok;
  if (exitCode === ExitCode.ok) await finishStandardOutput();
  return exitCode;
}

async function obey(argv: readonly string[]): Promise<ExitCode> {
  // Nothing that this process makes is for others, until its mode is set.
  const umask = process.umask(0o077);
  if (argv[0] === "run") return await runCommand(argv.slice(1), umask);
  if (argv[0] === "status") return (await import("./cli/status.ts")).showStatus(argv.slice(1), FETCHER_VERSION, log);
  if (argv[0] === "reload") return await reloadDaemon(argv.slice(1));
  forgetOtherUnit(process.env, isTerminal(0));
  if (argv[0] === "units") return (await import("./cli/units.ts")).printUnits(argv.slice(1), openTerminal().out);
  if (argv[0] === "add") return (await import("./cli/add.ts")).add(argv.slice(1), ofThisProcess());
  if (argv[0] === "remove") return (await import("./cli/remove.ts")).remove(argv.slice(1), ofThisProcess());
  if (argv[0] === "check") return await checkInUnits(argv.slice(1));
  prepareConnections();
  prepareFiles();
  const isActing = argv[0] === "act";
  const isLooking = argv[0] === "refresh";
  const commandLine = parseCommandLine(isActing || isLooking ? argv.slice(1) : argv, process.env);
  if (!isActing && !isLooking) refuseUnknownCommand(commandLine);
  log = openLog(commandLine.logLevel, lineStyle(format, process.env, commandLine.mode === "daemon"));
  if (isActing) return await (await import("./cli/act.ts")).act(commandLine, log, stopSignal());
  if (isLooking) return await look(commandLine);
  switch (commandLine.mode) {
    case "help":
      openTerminal().out(helpText());
      return ExitCode.ok;
    case "version":
      openTerminal().out(`fetcher ${FETCHER_VERSION}\n`);
      return ExitCode.ok;
    case "print-schema": {
      const { default: schema } = await import("./cli/fetcher.schema.json", { with: { type: "json" } });
      openTerminal().out(`${JSON.stringify(schema, undefined, 2)}\n`);
      return ExitCode.ok;
    }
    case "check-config":
      await checkConfig(await loadConfig(commandLine));
      openTerminal().out("the configuration is good\n");
      return ExitCode.ok;
    case "once":
    case "check":
      return debug(commandLine, (await import("./cli/debug.ts"))[commandLine.mode]);
    case "daemon":
      return daemon(commandLine);
  }
}

function ofThisProcess() {
  return { stop: () => stopSignal(...ofTerminal), format, err: openTerminal().err };
}

/** `fetcher run`. @param umask that the command gets. @returns the command's exit status. */
async function runCommand(argv: readonly string[], umask: number): Promise<ExitCode> {
  const environment = { ...process.env };
  prepareConnections();
  const { run } = await import("./cli/run.ts");
  const status = await run(argv, {
    umask,
    environment,
    help: () => {
      openTerminal().out(helpText());
    },
    openLog: (level, isDaemon) => (log = openLog(level, lineStyle(format, environment, isDaemon))),
    live: async (config, output, hooks, stop) => {
      const opened = await openInTime(config, output, stop, "alone");
      const parts = { config, ...hooks, log, clock: systemClock, random: Math.random, idle: openCollector() };
      return opened !== undefined && (await new Sidecar({ ...parts, ...opened }).run(stop));
    },
  });
  return status as ExitCode;
}

/** @returns the exit code of the last unit where something is wrong. */
async function checkInUnits(words: readonly string[]): Promise<ExitCode> {
  const { namesIn } = await import("./cli/units.ts");
  const { scope, names } = namesIn(words) ?? {};
  const [{ checkInUnit }, { serviceNameOf }] = await Promise.all([
    import("./units/check-in-unit.ts"),
    import("./cli/service-name.ts"),
  ]);
  if (scope === undefined || names === undefined)
    throw new UsageError("check: expected the NAME of a service with a sidecar; options belong to fetcher --check");
  let worst: number = ExitCode.ok;
  const { out, err } = openTerminal();
  const raw = (text: string) => process.stderr.write(text);
  const stop = stopSignal(...ofTerminal);
  const path = names.find((name) => serviceNameOf(name).includes("/"));
  if (path !== undefined)
    throw new UsageError(
      `check: ${JSON.stringify(path)}: expected the NAME of a service; for a file, --check --config FILE`,
    );
  for (const name of names)
    worst = (await checkInUnit(serviceNameOf(name), format, { out, raw, err }, scope, stop)) || worst;
  return worst as ExitCode;
}

async function reloadDaemon(words: readonly string[]): Promise<ExitCode> {
  const { reload } = await import("./cli/reload.ts");
  return await reload(words, process.env, log.notice);
}

/** Checks what needs no store, output or accounts. @throws ConfigError */
async function checkConfig(config: Config): Promise<void> {
  await checkStore(config);
  await loadTemplates(config);
}

/** Called only where a person asks: each start would otherwise load the modules of Node's streams. */
function openTerminal(): Terminal {
  const { stderr } = process;
  const stdout = openStandardOutput();
  // A closed reader is no reason to end.
  stderr.on("error", () => undefined);
  return {
    out: (text) => stdout.write(text),
    err: format === "json" ? reportLine : (text) => stderr.write(text),
    progress: (text) => {
      if (stderr.isTTY) stderr.write(`\r\x1b[K${text}`);
    },
  };
}

/** A line of a command's report, for machines. */
function reportLine(text: string): void {
  log.warn(text.trimEnd());
}

async function debug(commandLine: CommandLine, command: typeof once): Promise<ExitCode> {
  const config = await loadConfig(commandLine);
  const stop = stopSignal();
  const store = await waitFor(openStore(config, log, Math.random), stop);
  if (typeof store === "symbol") throw new FatalError(ExitCode.unavailable, `${config.backend}: stopped`);
  try {
    return await command(config, store, openTerminal(), stop, commandLine.output !== undefined);
  } finally {
    await store.close();
  }
}

async function look(commandLine: CommandLine): Promise<ExitCode> {
  hideFromOthers();
  const notifier = openNotifier(process.env);
  const { quietOnceStopped, refresh, unlessStopped } = await import("./cli/refresh.ts");
  log = quietOnceStopped(log);
  const work = async () => {
    const ask = await openActions(commandLine.actions);
    const wiring = { notifier, ask, log, clock: systemClock, random: Math.random, systemd: systemctl };
    const open = async (config: Config, output: OutputConfig, stop: AbortSignal) =>
      await openInTime(config, output, stop);
    return await refresh(commandLine, wiring, open, FETCHER_VERSION, stopSignal());
  };
  const watchdog = startWatchdog(notifier);
  try {
    return await toldBy(notifier, async () => await unlessStopped(log, work));
  } finally {
    clearInterval(watchdog);
  }
}

async function daemon(commandLine: CommandLine): Promise<ExitCode> {
  hideFromOthers();
  beginThreads();
  const reloads = takeReloads();
  process.on("SIGUSR2", takeUpgrade);
  const notifier = openNotifier(process.env);
  return await toldBy(notifier, async () => {
    const { configFile } = commandLine;
    const file = configFile === undefined ? undefined : await RunningFile.read(resolve(configFile));
    const config =
      file === undefined
        ? await loadConfig(commandLine)
        : await configOf(file.running.text, file.running.file, commandLine);
    const open = (next: Config, running: Store) => openStore(next, log, Math.random, running);
    const configuration = file && configurationOf(file, commandLine, open);
    return await serve(config, { reloads, configuration, notifier, ask: await openActions(commandLine.actions) });
  });
}

/** Puts the error that ends `work` into STATUS=, too. */
async function toldBy(notifier: Notifier, work: () => Promise<ExitCode>): Promise<ExitCode> {
  try {
    return await work();
  } catch (error) {
    const told = error instanceof FatalError || error instanceof ValueError || isBackendError(error);
    if (told) notifier.status(error.message);
    throw error;
  } finally {
    await notifier.flush();
  }
}

/** Only a sidecar that may not talk to systemd loads this. @throws FatalError 78 where its unit is incomplete. */
async function openActions(directory: string | undefined): Promise<AskAnother | undefined> {
  if (directory === undefined) return undefined;
  const { AskedTargets } = await import("./systemd/asked-targets.ts");
  return AskedTargets.in(directory);
}

/** Without a handler SIGHUP would end the process: one that comes before the sidecar is there waits for it. */
function takeReloads() {
  let isEarly = false;
  let take = () => {
    isEarly = true;
  };
  process.on("SIGHUP", () => {
    take();
  });
  return (reload: () => void) => {
    take = reload;
    if (isEarly) reload();
  };
}

interface Wiring {
  readonly reloads: (take: () => void) => void;
  readonly configuration: Configuration | undefined;
  readonly notifier: Notifier;
  readonly ask: AskAnother | undefined;
}

async function serve(config: Config, wiring: Wiring): Promise<ExitCode> {
  const { output } = config;
  if (output === undefined)
    throw new FatalError(ExitCode.config, "configuration: output: is required (or --output DIR, or --once)");
  refuseAlone(config, wiring);
  growLittle();
  const stop = stopSignal();
  const opened = await openInTime(config, output, stop);
  if (opened === undefined) {
    log.info("stopped");
    return config.resident ? ExitCode.ok : ExitCode.stoppedEarly;
  }
  const { store, publisher } = opened;
  const parts = {
    ...wiring,
    ...{ config, store, publisher, log },
    systemd: systemctl,
    clock: systemClock,
    random: Math.random,
    idle: openCollector(),
    facts: openFacts(),
    version: FETCHER_VERSION,
  };
  const sidecar = new Sidecar(parts);
  running = sidecar;
  const desk = config.resident ? openReloadDesk(process.env["RUNTIME_DIRECTORY"]?.split(":")[0]) : undefined;
  wiring.reloads(() => {
    sidecar.reload(desk?.take());
  });
  const watchdog = startWatchdog(wiring.notifier);
  try {
    const published = await sidecar.run(stop);
    if (config.onDemand && published) await (await import("./cli/refresh.ts")).beginLooks(config, stop);
    if (!config.resident) return published ? ExitCode.ok : ExitCode.stoppedEarly;
    wiring.notifier.stopping();
    // systemd removes the directories of its own units; nothing else would remove these.
    if (!isStartedBySystemd(process.env)) publisher.remove();
    log.info("stopped");
    return ExitCode.ok;
  } finally {
    clearInterval(watchdog);
    publisher.releaseUnused();
  }
}

/** @throws ConfigError where nothing would start the next look. */
function refuseAlone({ onDemand }: Config, { ask }: Wiring): void {
  if (!onDemand || (ask !== undefined && Notes.of(process.env) !== undefined)) return;
  throw new ConfigError("resident", '"on-change" needs the units that fetcher or NixOS generates: see fetcher units');
}

/** SIGUSR2, which a package sends after an upgrade. */
function takeUpgrade(): void {
  log.notice("continuing with the installed program");
  becomeNewProgram();
  log.warn("cannot change to the installed program in this process: restart the unit, which restarts its service too");
}

/** Opens the file of facts only where systemd removes it again. */
function openFacts(): TellFacts | undefined {
  const directory = process.env["RUNTIME_DIRECTORY"]?.split(":")[0];
  if (directory === undefined || directory === "" || !isStartedBySystemd(process.env)) return undefined;
  return factsFile(directory, FETCHER_VERSION, unitOfThisProcess());
}

function startWatchdog(notifier: Notifier): NodeJS.Timeout | undefined {
  const period = watchdogPeriod(process.env);
  if (period === undefined) return undefined;
  return setInterval(() => {
    notifier.watchdog();
  }, period);
}

/**
 * @param others `alone`: no other process knows the output.
 * @returns undefined where `stop` aborts first. @throws FatalError 69 after `startTimeout`.
 */
async function openInTime(config: Config, output: OutputConfig, stop: AbortSignal, others?: "alone") {
  let giveBack: () => void = () => undefined;
  const left = new AbortController();
  // Lets the store go on with what it prepares, while it waits for threads and the network.
  const between = async () => {
    await turn();
    left.signal.throwIfAborted();
  };
  const open = async () => {
    const store = await openStore(config, log, Math.random);
    await between();
    // After the store, which refuses an output among the sources before anything is touched.
    const publisher = await Publisher.open(config, output, log.warn, (made) => (giveBack = made));
    giveBack = () => {
      publisher.releaseUnused();
    };
    await between();
    const lock = others === "alone" ? undefined : await publisher.lock(lockFile);
    if (lock?.unlocked !== undefined) log.warn(`cannot lock the output against a second fetcher: ${lock.unlocked}`);
    return { store, publisher };
  };
  const { startTimeout, backend } = config;
  let opened;
  try {
    opened = await waitFor(open(), stop, startTimeout ?? undefined);
  } catch (error) {
    giveBack();
    throw error;
  }
  if (typeof opened !== "symbol") return opened;
  left.abort();
  giveBack();
  if (opened === aborted) return undefined;
  throw new FatalError(
    ExitCode.unavailable,
    `${backend}: the store or a template does not open (gave up after startTimeout, ${String(startTimeout)} s)`,
  );
}

/**
 * Signals that end a command which a person runs, and must not end it half-way; a closed terminal sends one of them.
 */
const ofTerminal = ["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT"] as const;

function stopSignal(...signals: readonly NodeJS.Signals[]): AbortSignal {
  const stop = new AbortController();
  for (const signal of signals.length === 0 ? (["SIGTERM", "SIGINT"] as const) : signals)
    process.on(signal, () => {
      stop.abort();
    });
  return stop.signal;
}

function explain(error: unknown): ExitCode {
  if (error instanceof FatalError) {
    log.error(error.message);
    return error.exitCode;
  }
  if (error instanceof ValueError) {
    log.error(`configuration: ${error.message}`);
    return ExitCode.config;
  }
  if (isBackendError(error)) {
    log.error(error.message);
    return exitCodeOf[error.kind];
  }
  const refusal = systemRefusal(error);
  if (refusal !== undefined) return explain(refusal);
  // A bug. Its message may hold anything that the program holds, so the log has only its kind and its place.
  const stack = error instanceof Error ? (error.stack ?? "").split("\n").filter((line) => /^ +at /.test(line)) : [];
  const kind = error instanceof Error ? error.constructor.name : typeof error;
  log.error(`a bug in fetcher: ${kind}`, { at: stack.slice(0, 5).map((line) => line.trim()) });
  return ExitCode.bug;
}

/**
 * Something has failed that no code waits for. A failed system call of a library must not end a sidecar that is READY.
 */
function explainLate(error: unknown): void {
  const refusal = running?.isReady === true ? systemRefusal(error) : undefined;
  if (refusal === undefined) endProcess(explain(error));
  else log.error(`${refusal.message}; the sidecar continues`);
}

process.on("uncaughtException", explainLate);
process.on("unhandledRejection", explainLate);

main(words).then(
  (exitCode) => {
    endProcess(exitCode);
  },
  (error: unknown) => {
    endProcess(explain(error));
  },
);
