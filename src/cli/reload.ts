/** `fetcher reload`: the ExecReload= of a sidecar's unit. */
import { randomUUID } from "node:crypto";
import { resolve } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import { readText } from "../config/config-file.ts";
import { errnoCode, ExitCode, FatalError, UsageError } from "../contract/errors.ts";
import { openReloadCounter } from "../systemd/reload-desk.ts";

/** Seconds. A store has two minutes to answer, and a verify command its own time. */
const LIMIT = 600;
/** Milliseconds between two looks for the answer. */
const LOOK_AGAIN = 20;

/**
 * Makes the daemon of this unit read its configuration again and fetch, and waits until that is done.
 *
 * @param words what follows `reload`.
 * @param report gets one line for the journal that the daemon does not log itself.
 * @returns how the reload ended. @throws FatalError where the daemon does not answer.
 */
export async function reload(
  words: readonly string[],
  environment: NodeJS.ProcessEnv,
  report: (line: string) => void,
): Promise<ExitCode> {
  const file = fileIn(words);
  const pid = Number(environment["MAINPID"]);
  if (!Number.isSafeInteger(pid) || pid <= 1)
    throw new UsageError(
      "reload: works only as ExecReload= of a sidecar's unit: run systemctl reload NAME-secrets.service",
    );
  const counter = openReloadCounter(environment["RUNTIME_DIRECTORY"]?.split(":")[0] ?? "");
  if (counter === undefined) {
    signal(pid, "SIGHUP");
    report("the running fetcher is another version: it fetches now, but does not take over a changed configuration");
    return ExitCode.ok;
  }
  const id = randomUUID();
  counter.ask(await configurationIn(file), id);
  signal(pid, "SIGHUP");
  const end = Date.now() + LIMIT * 1000;
  for (;;) {
    const isAlive = signal(pid, 0);
    const answer = counter.answerTo(id);
    if (answer !== undefined) return answer;
    if (!isAlive) throw new FatalError(ExitCode.unavailable, "reload: the sidecar ended during the reload");
    if (Date.now() > end)
      throw new FatalError(
        ExitCode.unavailable,
        `reload: no answer within ${LIMIT} s; the sidecar keeps working on it`,
      );
    await delay(LOOK_AGAIN);
  }
}

function fileIn(words: readonly string[]): string {
  try {
    const { values } = parseArgs({ args: [...words], options: { config: { type: "string" } } });
    if (values.config !== undefined && values.config !== "") return resolve(values.config);
  } catch {
    // The same error as for a missing --config.
  }
  throw new UsageError("reload: expected --config FILE, the same as for the daemon");
}

async function configurationIn(file: string) {
  try {
    return { file, text: await readText(file) };
  } catch (error) {
    if (!(error instanceof FatalError)) throw error;
    // The daemon reports this error, and fetches anyway.
    return { exitCode: error.exitCode, message: error.message };
  }
}

/** @returns whether the process is there. */
function signal(pid: number, name: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(pid, name);
  } catch (error) {
    if (errnoCode(error) === "ESRCH") return false;
    throw new FatalError(ExitCode.unavailable, "reload: cannot signal the sidecar");
  }
}
