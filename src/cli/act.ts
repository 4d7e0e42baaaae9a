/** `fetcher act`: the unit NAME-secrets-act.service runs it. It knows no store and sees no secret. */
import { dirname } from "node:path";
import { loadConfig } from "../config/config.ts";
import { ExitCode, FatalError, UsageError } from "../contract/errors.ts";
import { systemClock } from "../runtime/clock.ts";
import type { Log } from "../runtime/log.ts";
import { Acting } from "../systemd/acting.ts";
import { ActionDesk } from "../systemd/action-desk.ts";
import { systemctlFor } from "../systemd/systemctl.ts";
import type { CommandLine } from "./command-line.ts";

export async function act(commandLine: CommandLine, log: Log, stop: AbortSignal): Promise<ExitCode> {
  const { actions, configFile, mode } = commandLine;
  if (mode !== "daemon" || actions === undefined || configFile === undefined)
    throw new UsageError("act: expected --config FILE and --actions DIR, as in the unit that acts");
  const desk = new ActionDesk(actions);
  try {
    const config = await loadConfig(commandLine);
    const ours = config.output === undefined ? actions : dirname(config.output.directory);
    const parts = { config, desk, systemd: systemctlFor(ours), log, clock: systemClock, random: Math.random };
    const isClear = await new Acting(parts).run(stop);
    if (!isClear) throw new FatalError(ExitCode.ioError, `act: cannot empty the inbox in ${actions}`);
    return ExitCode.ok;
  } catch (error) {
    // The sidecar shows this in its STATUS. The actions stay due until the error is fixed.
    if (error instanceof FatalError) {
      const statuses = [`no action is done: ${error.message}`];
      const seen = Math.max(desk.report.seen, desk.requests(systemClock.monotonic())?.set ?? 0);
      desk.write({ ...desk.report, seen, statuses });
    }
    throw error;
  }
}
