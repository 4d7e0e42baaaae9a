/** Our own code does what `parseArgs()` of Node's library does: that one costs each start of the executable a millisecond. */
import { parseArgs } from "node:util";
import fc from "fast-check";
import { expect, test } from "vitest";
import { parseWords } from "../../../src/cli/parse-words.ts";

const kinds = { config: "text", set: "texts", once: "flag", help: "flag" } as const;

function own(argv: readonly string[]) {
  return parseWords(argv, kinds, { h: "help" });
}

function ofNode(argv: readonly string[]) {
  return parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      config: { type: "string" },
      set: { type: "string", multiple: true },
      once: { type: "boolean" },
      help: { type: "boolean", short: "h" },
    },
  });
}

/** @returns what it gives, or the first sentence of its error. */
function told(
  parse: (argv: readonly string[]) => { readonly values: object; readonly positionals: readonly string[] },
) {
  return (argv: readonly string[]) => {
    try {
      const { values, positionals } = parse(argv);
      return { values: { ...values }, positionals };
    } catch (error) {
      return (error as Error).message.split(/\.(?: |\n)/)[0];
    }
  };
}

const [toldOwn, toldByNode] = [told(own), told(ofNode)];

test("reads each kind of option, several values of one, and words", () => {
  const argv = [
    "x",
    "--config",
    "a",
    "--set",
    "1",
    "--set=2=3",
    "-h",
    "--once",
    "--config=b",
    "-",
    "--",
    "--once",
    "-y",
  ];
  expect(own(argv)).toEqual({
    values: { config: "b", set: ["1", "2=3"], help: true, once: true },
    positionals: ["x", "-", "--once", "-y"],
  });
});

test.each([
  [["--confg", "x"], "Unknown option '--confg'"],
  [["--confg=canary"], "Unknown option '--confg'"],
  [["-hx"], "Unknown option '-x'"],
  [["--toString"], "Unknown option '--toString'"],
  [["--config"], "Option '--config <value>' argument missing"],
  [["--config", "--once"], "Option '--config' argument is ambiguous"],
  [["--once=canary"], "Option '--once' does not take an argument"],
  [["--help="], "Option '-h, --help' does not take an argument"],
])("%j: %s", (argv, message) => {
  expect(toldOwn(argv)).toBe(message);
});

test("any words mean what they mean to parseArgs()", () => {
  const name = fc.constantFrom(...Object.keys(kinds), "confi", "configs", "__proto__", "toString", "-", "é😀");
  const value = fc.constantFrom("", "a", "-", "--", "-h", "--once", "=", "a=b", "a b", "-1");
  const word = fc.oneof(
    value,
    name.map((one) => `--${one}`),
    fc.tuple(name, value).map(([one, given]) => `--${one}=${given}`),
    fc.constantFrom("-h", "-hh", "-hx", "-x", "-h=", "-é😀", "---", "--h", "-config"),
  );
  fc.assert(
    fc.property(fc.array(word, { maxLength: 6 }), (argv) => {
      expect(toldOwn(argv)).toEqual(toldByNode(argv));
    }),
    { numRuns: 5000 },
  );
});
