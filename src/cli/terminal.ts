/** Standard output for people: loaded only where a person asks, because Node's streams would be a part of each start. */
import { allowsColor } from "../runtime/log.ts";
import { openStandardOutput } from "../runtime/standard-output.ts";

export interface Output {
  readonly out: (text: string) => void;
  readonly color: boolean;
  /** undefined: nobody's screen is that wide, or narrow. */
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
