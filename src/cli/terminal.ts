/** Standard output for people: loaded only where a person asks, because Node's streams would be a part of each start. */

export interface Output {
  readonly out: (text: string) => void;
  readonly color: boolean;
  /** undefined: nobody's screen is that wide, or narrow. */
  readonly columns: number | undefined;
}

export function openTerminal(): Output {
  const { stdout } = process;
  // A reader that went away (`fetcher status | head`) is no reason to end.
  stdout.on("error", () => undefined);
  const { NO_COLOR, TERM } = process.env;
  return {
    out: (text) => stdout.write(text),
    // no-color.org: set and not empty.
    color: stdout.isTTY && (NO_COLOR === undefined || NO_COLOR === "") && TERM !== "dumb",
    columns: stdout.isTTY ? stdout.columns : undefined,
  };
}
