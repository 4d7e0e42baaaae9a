import { describe, expect, test } from "vitest";
import { parseRun, variablesIn } from "../../../src/cli/run.ts";
import { encodeEnvFile } from "../../../src/publish/env-file.ts";

describe("fetcher run", () => {
  test("takes options and ids before --, and the command as it is behind it", () => {
    const { commandLine, watch, command } = parseRun([
      ...["--watch", "--backend", "folder", "--set", "a=b", "id", "--"],
      ...["sh", "-c", "x", "--", "--watch", "--once"],
    ]);
    expect(commandLine).toMatchObject({ mode: "daemon", backend: "folder", ids: ["id"] });
    expect({ watch, command }).toEqual({ watch: true, command: ["sh", "-c", "x", "--", "--watch", "--once"] });
    expect(parseRun(["--", "x", "--watch"]).watch).toBe(false);
    expect(parseRun(["--help"]).commandLine.mode).toBe("help");
  });

  test.each([
    [["id"], "run: expected -- and a command after it: fetcher run ... -- COMMAND [ARG...]"],
    [["id", "sh", "-c", "x"], "run: expected -- and a command after it: fetcher run ... -- COMMAND [ARG...]"],
    [["id", "--"], "run: expected -- and a command after it: fetcher run ... -- COMMAND [ARG...]"],
    [["--once", "--", "x"], "run: takes neither --once nor --check nor --print-schema"],
    [["--check=config", "--", "x"], "run: takes neither --once nor --check nor --print-schema"],
    [["--output", "x", "--", "x"], "run: makes its own directory: leave out --output; $SECRETS_DIRECTORY names it"],
  ])("%j is refused: %s", (words, message) => {
    expect(() => parseRun(words)).toThrow(message);
  });

  test("a command gets every value of secrets.env unchanged", () => {
    const values = {
      plain: "x",
      empty: "",
      quotes: `'"'"'it's'`,
      lines: "a\nb='c'\n\nd",
      shell: '$(x) `y` "z" \\ # = %',
      unicode: "ü\u{1f511}\u2028\u001b",
    };
    const requests = Object.entries(values).map(([id, value]) => ({
      id,
      value: Buffer.from(value),
      env: undefined,
      restricted: false,
    }));
    expect(variablesIn(encodeEnvFile(requests).content.toString("utf8"))).toEqual(values);
  });
});
