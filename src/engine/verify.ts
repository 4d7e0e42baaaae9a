/** Asks the operator's command whether a new set is good, before any reader can see the set. */
import type { VerifyConfig } from "../config/config.ts";
import { errnoText, ExitCode, FatalError } from "../contract/errors.ts";
import { runCommand } from "../contract/helper-command.ts";
import type { StagedSet } from "../publish/publisher.ts";

/** Errors that say nothing about a set: for now no program can start, or the command's file is being written. */
const PASSING = ["EAGAIN", "ENOMEM", "EMFILE", "ENFILE", "ETXTBSY", "EIO"];

/**
 * Runs the command with $SECRETS_DIRECTORY and the variables of secrets.env. Drops its output: it may print secrets.
 *
 * @param values id → bytes of the staged set.
 * @returns why the set is refused; undefined: it is good.
 * @throws FatalError where the command cannot be run for now.
 */
export async function verify(
  { command, timeout }: VerifyConfig,
  staged: StagedSet,
  values: ReadonlyMap<string, Buffer>,
  signal: AbortSignal,
): Promise<string | undefined> {
  const variables = [...(staged.env?.names ?? [])].map(([id, name]) => [
    name,
    (values.get(id)?.toString("utf8") ?? "").replace(/\n+$/, ""),
  ]);
  const environment = {
    ...(Object.fromEntries(variables) as Record<string, string>),
    SECRETS_DIRECTORY: staged.directory,
  };
  const result = await runCommand(command, { timeout, environment, signal, output: "drop" });
  switch (result.end) {
    case "exit":
      return result.code === 0 ? undefined : `the verify command exited with ${result.code}`;
    case "signal":
      return `the verify command was killed by ${result.signal}`;
    case "timeout":
      return `the verify command took longer than ${timeout} s`;
    case "not-started": {
      const why = `cannot run the verify command: ${errnoText(result.reason)}`;
      if (PASSING.includes(result.reason)) throw new FatalError(ExitCode.ioError, why);
      return why;
    }
  }
}
