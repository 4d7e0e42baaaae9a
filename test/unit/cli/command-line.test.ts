import { describe, expect, test } from "vitest";
import {
  helpText,
  parseCommandLine,
  refuseUnknownCommand,
  shortHelpOf,
  spelledOut,
  takeLogFormat,
} from "../../../src/cli/command-line.ts";
import { FatalError } from "../../../src/contract/errors.ts";

function refusal(...argv: readonly string[]): string {
  try {
    parseCommandLine(argv);
  } catch (error) {
    expect(error).toBeInstanceOf(FatalError);
    expect((error as FatalError).exitCode).toBe(64);
    expect((error as FatalError).message).not.toMatch(/\n/);
    return (error as FatalError).message;
  }
  throw new Error(`accepted: ${argv.join(" ")}`);
}

describe("modes", () => {
  test.each([
    [[], "daemon"],
    [["--once"], "once"],
    [["--check"], "check"],
    [["--check=config"], "check-config"],
    [["--help"], "help"],
    [["-h"], "help"],
    [["--version"], "version"],
    [["--help", "--once", "--check"], "help"],
  ] as const)("%j is %s", (argv, mode) => {
    expect(parseCommandLine(argv).mode).toBe(mode);
  });
  test.each([
    [["--once", "--check"], "give only one of --once, --check, --check=config and --print-schema"],
    [["--check", "--check=config"], "give only one of --once, --check, --check=config and --print-schema"],
    [["--check=conifg"], "--check: expected --check or --check=config; a file is given as --config FILE"],
    [["--output", "--once"], "--output: expected a value after it (see fetcher --help)"],
    [["--once", "--config"], "--config: expected a value after it (see fetcher --help)"],
    [["--config", "a.json", "--config=b.json"], "--config: give it once"],
    [["--backend", "folder", "--backend", "vault"], "--backend: give it once"],
    [["-c", "a.json"], "Unknown option '-c' (see fetcher --help); did you mean \"--config\"?"],
    [["-V"], "Unknown option '-V' (see fetcher --help); did you mean \"--version\"?"],
    [["--dry-run"], "Unknown option '--dry-run' (see fetcher --help); did you mean \"--check\"?"],
    [["--log-level=loud"], "--log-level: expected one of error, warn, notice, info, debug, trace"],
    [["--set", "novalue"], "--set: expected KEY=VALUE"],
    [["--set", "=value"], "--set: expected KEY=VALUE"],
    [["--set", "a..b=value"], "--set: expected KEY=VALUE"],
    [["--output="], "--output: must not be empty"],
    [["--config", ""], "--config: must not be empty"],
    [["--backend", ""], "--backend: must not be empty"],
  ] as const)("refuses %j with a line that says why", (argv, message) => {
    expect(refusal(...argv)).toBe(message);
  });
  test.each([
    [["addd", "web", "token"], '"addd": there is no such command; did you mean "add"? (see --help)'],
    [["statsu", "--log-level", "debug"], '"statsu": there is no such command; did you mean "status"? (see --help)'],
    [[], "expected a command, or --config FILE (see --help)"],
    [["frobnicate"], '"frobnicate": there is no such command (see --help)'],
    [["web.json"], '"web.json": a configuration file is given as --config FILE (see --help)'],
    [["start", "/etc/web"], '"/etc/web": a configuration file is given as --config FILE (see --help)'],
  ])("refuses the unknown command %j", (argv, message) => {
    expect(() => {
      refuseUnknownCommand(parseCommandLine(argv));
    }).toThrow(message);
  });

  test.each([
    [["help"], ["--help"]],
    [
      ["help", "add"],
      ["add", "--help"],
    ],
    [["help", "nonsense"], ["--help"]],
    [["version"], ["--version"]],
    [
      ["--backend", "folder", "help"],
      ["--backend", "folder", "help"],
    ],
  ])("reads %j as %j", (argv, words) => {
    expect(spelledOut(argv)).toEqual(words);
  });

  test("each command has a help", () => {
    for (const command of ["status", "units", "check", "reload", "act"])
      for (const option of ["--help", "-h"])
        expect(shortHelpOf([command, option])).toMatch(new RegExp(`^Usage: fetcher ${command} .+\n\n.+\n`));
    for (const command of ["status", "units", "check"])
      expect(shortHelpOf([command, "--help"])).toContain("\n--user: status, units or check of your own");
    expect(shortHelpOf(["act", "--help"])).not.toContain("--user");
    for (const words of [["add", "--help"], ["run", "--", "ls", "--help"], ["--help"], ["status"]])
      expect(shortHelpOf(words)).toBeUndefined();
  });

  test.each([[["--set", "a=b"]], [["--config", "a.json", "id"]], [["--backend", "folder", "id"]], [["--once", "id"]]])(
    "accepts %j as a store's ids",
    (argv) => {
      expect(() => {
        refuseUnknownCommand(parseCommandLine(argv));
      }).not.toThrow();
    },
  );

  test("names an unknown option, but not its value", () => {
    expect(refusal("--tokken=canary-77")).toBe("Unknown option '--tokken' (see fetcher --help)");
    expect(refusal("--chekc")).toBe("Unknown option '--chekc' (see fetcher --help); did you mean \"--check\"?");
    expect(refusal("--log_level=debug")).toContain('; did you mean "--log-level"?');
    expect(refusal("--config")).toContain("--config");
    expect(refusal("--once=canary-77")).not.toContain("canary-77");
  });
});

test("every word reaches its option", () => {
  const argv = ["--config", "/c.json", "--backend=folder", "--output", "out", "--log-level=debug", "--log-format=json"];
  expect(parseCommandLine([...argv, "db password", "emoji-🔑", "--", "--odd"])).toEqual({
    mode: "daemon",
    configFile: "/c.json",
    backend: "folder",
    set: [],
    output: "out",
    ids: ["db password", "emoji-🔑", "--odd"],
    logLevel: "debug",
  });
});

describe("the log level", () => {
  test.each([
    [[], {}, "info"],
    [[], { FETCHER_LOG_LEVEL: "debug" }, "debug"],
    [[], { FETCHER_LOG_LEVEL: "" }, "info"],
    [["--log-level=warn"], { FETCHER_LOG_LEVEL: "debug" }, "warn"],
  ] as const)("%j, %j: %s", (argv, environment, level) => {
    expect(parseCommandLine(argv, environment).logLevel).toBe(level);
  });
  test("a wrong level in the environment is refused by the name of the variable, without the value", () => {
    expect(() => parseCommandLine([], { FETCHER_LOG_LEVEL: "canary" })).toThrow(
      "FETCHER_LOG_LEVEL: expected one of error, warn, notice, info, debug, trace",
    );
  });
});

describe("the log format, which every command accepts", () => {
  const text = { format: "text" };
  test.each([
    [["--once", "a"], {}, { ...text, words: ["--once", "a"] }],
    [["status", "--log-format", "json", "a"], {}, { format: "json", words: ["status", "a"] }],
    [["--log-format=json", "reload"], {}, { format: "json", words: ["reload"] }],
    [["x"], { FETCHER_LOG_FORMAT: "json" }, { format: "json", words: ["x"] }],
    [["x"], { FETCHER_LOG_FORMAT: "" }, { ...text, words: ["x"] }],
    [["--log-format", "text"], { FETCHER_LOG_FORMAT: "json" }, { ...text, words: [] }],
    [["--log-format=json", "--log-format=text"], {}, { ...text, words: [] }],
    [["--log-format", "pretty"], {}, { ...text, words: [] }],
    [["a", "--", "--log-format", "json"], {}, { ...text, words: ["a", "--", "--log-format", "json"] }],
    [["--log-format-x"], {}, { ...text, words: ["--log-format-x"] }],
  ] as const)("%j, %j", (argv, environment, taken) => {
    expect(takeLogFormat(argv, environment)).toEqual(taken);
  });
  test.each([
    [["--log-format", "xml"], {}, "--log-format: expected text or json"],
    [["--log-format="], {}, "--log-format: expected text or json"],
    [["--log-format"], { FETCHER_LOG_FORMAT: "json" }, "--log-format: expected text or json"],
    [[], { FETCHER_LOG_FORMAT: "canary" }, "FETCHER_LOG_FORMAT: expected text or json"],
  ] as const)("%j, %j is refused, in text", (argv, environment, problem) => {
    expect(takeLogFormat(argv, environment)).toEqual({ words: [], format: "text", problem });
  });
});

test.each([
  ["a=1", ["a"], 1],
  ["a=text", ["a"], "text"],
  ["a=", ["a"], ""],
  ["a=b=c", ["a"], "b=c"],
  ["a.b.c=true", ["a", "b", "c"], true],
  ['a={"b":[null]}', ["a"], { b: [null] }],
  ['a="1"', ["a"], "1"],
  ["__proto__.x=1", ["__proto__", "x"], 1],
])("--set %s", (word, path, value) => {
  expect(parseCommandLine(["--set", word]).set).toEqual([{ path, value }]);
});

test("--help names every option and exit code", () => {
  for (const word of ["--config", "--backend", "--set", "--output", "--once", "--check", "--check=config"])
    expect(helpText()).toContain(word);
  for (const code of [64, 66, 69, 70, 73, 74, 77, 78]) expect(helpText()).toContain(String(code));
  for (const line of helpText().split("\n")) expect(line.length).toBeLessThan(100);
});
