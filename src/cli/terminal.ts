/** Standard output for people. Only commands for people load it, as Node's streams would make every start slower. */
import { allowsColor } from "../runtime/log.ts";
import { openStandardOutput } from "../runtime/standard-output.ts";

export interface Output {
  readonly out: (text: string) => void;
  readonly color: boolean;
  /** undefined: standard output is not a terminal. */
  readonly columns: number | undefined;
}

export function openTerminal(): Output {
  const stdout = openStandardOutput();
  return {
    out: (text) => stdout.write(text),
    color: stdout.isTTY && allowsColor(process.env),
    columns: stdout.isTTY ? stdout.columns : undefined,
  };
}
