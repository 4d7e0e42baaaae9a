/**
 * Standard output of a command: opened only where a person or a script asks, because each start would have to load
 * Node's streams.
 */
import { errnoCode, errnoText, ExitCode, FatalError } from "../contract/errors.ts";
import { turn } from "../contract/slices.ts";

let isOpen = false;
/** The code of the first write that failed. */
let failure: string | undefined;

export function openStandardOutput(): NodeJS.WriteStream {
  const { stdout } = process;
  if (!isOpen)
    stdout.on("error", (error) => {
      failure ??= errnoCode(error) ?? "failed";
    });
  isOpen = true;
  return stdout;
}

/**
 * Waits until everything is written. A reader that went away (`fetcher status | head`) has what it wants.
 *
 * @throws FatalError 74 where it cannot be written: half of a unit file must not look like a whole one.
 */
export async function finishStandardOutput(): Promise<void> {
  if (!isOpen) return;
  await new Promise<void>((done) => {
    process.stdout.write("", () => {
      done();
    });
  });
  // Node calls the callback before its listeners.
  await turn();
  if (failure === undefined || failure === "EPIPE") return;
  throw new FatalError(ExitCode.ioError, `cannot write to standard output: ${errnoText(failure)}`);
}
