import fc from "fast-check";
import { expect } from "vitest";
import { parseCommandLine } from "../../../src/cli/command-line.ts";
import { parseConfig } from "../../../src/config/config.ts";
import { UsageError } from "../../../src/contract/errors.ts";
import { secretText, text } from "../arbitraries.ts";
import { expectConfigError, expectOurs } from "../invariants.ts";
import { target } from "../target.ts";

const options = ["config", "backend", "set", "output", "once", "check", "log-level", "log-format", "help", "version"];
const word = fc.oneof(
  fc.constantFrom(...options).map((option) => `--${option}`),
  fc.tuple(fc.constantFrom(...options, "nothing"), text).map(([option, value]) => `--${option}=${value}`),
  fc.constantFrom("-", "-h", "-c", "--check=config", "--check=", "--no-once", "info", "json", "folder", "/x"),
  fc.tuple(text, secretText).map(([key, value]) => `--set=${key.replaceAll("=", "")}=${value}`),
  text,
);

export const commandLines = target({
  title: "a command line is understood, or one line says what is wrong with it",
  weight: 2,
  // After "--" all words are ids, which are shown.
  input: fc.array(word, { maxLength: 8 }).filter((argv) => !argv.includes("--")),
  // The parser's own message has three lines.
  found: [["--config", "--config"]],
  check(argv) {
    let line;
    try {
      line = parseCommandLine(argv);
    } catch (error) {
      expectOurs(error);
      expect(error).toBeInstanceOf(UsageError);
      return;
    }
    try {
      parseConfig({ backend: "folder", output: { directory: "/x" }, secrets: { a: {} } }, line, "/");
    } catch (error) {
      expectConfigError(error, ["config", "secrets", "backend", "output"]);
    }
  },
});
