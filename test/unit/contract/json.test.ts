/** JSON from a store: numbers as they were written, the rest as JSON.parse() reads it, and limits before memory is taken. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { BackendError } from "../../../src/contract/backend.ts";
import { bytesOf, numberOf, parseJson, parsing, stringifyJson } from "../../../src/contract/json.ts";

test.each([
  "0.10",
  "-0",
  "1E5",
  "1e+05",
  "100000000000000000000001",
  "0.1000000000000000055511151231257827",
  '[1.0,"1.0",{"1.0":1.0}]',
  '{"__proto__":1.10,"constructor":[2.0]}',
])("keeps %s unchanged", (text) => {
  expect(stringifyJson(parseJson(text, "place"))).toBe(text);
});

test("keeps all that JSON.parse() reads, with white space or without", () => {
  fc.assert(
    fc.property(fc.json({ maxDepth: 6 }), fc.integer({ min: 0, max: 3 }), (text, indent) => {
      const value: unknown = JSON.parse(text);
      const given = JSON.stringify(value, undefined, indent);
      expect(stringifyJson(parseJson(given, "place"))).toBe(JSON.stringify(value));
    }),
  );
});

test("refuses what JSON.parse() refuses, and reads equal values", () => {
  const character = fc.constantFrom(...Array.from('{}[]",:\\-+.0123456789eEtruefalsn \u2028x'));
  fc.assert(
    fc.property(fc.string({ unit: character, maxLength: 40 }), (text) => {
      const read = parseJson(text, "place");
      expect(read === undefined ? undefined : JSON.parse(stringifyJson(read))).toEqual(readByJavaScript(text));
    }),
    { numRuns: 2000 },
  );
});

function readByJavaScript(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

test.each([
  ["129 levels", "[".repeat(129) + "]".repeat(129), "JSON of more than 128 levels"],
  ["a million unclosed levels", "[".repeat(1_000_000), "JSON of more than 128 levels"],
  ["levels of objects", '{"a":'.repeat(200), "JSON of more than 128 levels"],
  ["100,001 elements", `[${"0,".repeat(100_001)}0]`, "JSON of more than 100000 members"],
  ["a long number", `[${"1".repeat(1001)}]`, "a number of more than 1000 characters"],
])("%s: refuses it before parsing", (_, text, reason) => {
  expect(() => parseJson(text, "secret/data/app")).toThrow(new BackendError("invalid", `secret/data/app: ${reason}`));
});

test("accepts 128 levels, and brackets inside a string", () => {
  const text = `${"[".repeat(128)}${"]".repeat(128)}`;
  expect(stringifyJson(parseJson(text, "place"))).toBe(text);
  const quoted = JSON.stringify(`\\"${"[".repeat(1000)}`);
  expect(stringifyJson(parseJson(quoted, "place"))).toBe(quoted);
});

test.each([
  ["1.50", 1.5],
  ["2", 2],
  ['"2"', undefined],
  ["null", undefined],
])("reads %s as the number %s", (text, number) => {
  expect(numberOf(parseJson(text, "place"))).toBe(number);
});

test.each(['"\\ud800"', '"x\\udfff"', '"\\ude00\\ud83d"'])("has no bytes for the text %s", (text) => {
  expect(bytesOf(parseJson(text, "place"))).toBeUndefined();
});

test.each(['["\\ud83d"]', '{"\\ude00":1}'])("publishes %s as JSON, which can express it", (text) => {
  expect(bytesOf(parseJson(text, "place"))).toEqual(Buffer.from(text));
});

test("has bytes for a whole pair", () => {
  expect(bytesOf(parseJson('"\\ud83d\\ude00"', "place"))).toEqual(Buffer.from("😀"));
});

const MIB = 1024 * 1024;

test.each([
  ["strings without commas", `{${'""'.repeat(MIB)}${"[".repeat(200)}`],
  ["numbers without commas", `[${"1:".repeat(MIB)}${"[".repeat(200)}`],
  ["a bracket that closes nothing", `{}}${"0,".repeat(100_001)}`],
])("ends where it cannot be JSON any more, and does not look through the rest: %s", (_, text) => {
  // The rest is over a limit.
  expect(parseJson(text, "place")).toBeUndefined();
});

test("steps over white space, and reads what comes after it", () => {
  const blank = " \t\r\n".repeat(MIB);
  expect(parseJson(`${blank}{${blank}"a"${blank}:${blank}[1,${blank}true]}${blank}`, "place")).toEqual({
    a: [1, true],
  });
});

test.each([
  ["white space", " ".repeat(16 * MIB)],
  ["escaped quotes", `"${'\\"'.repeat(8 * MIB)}"`],
  ["backslashes before quotes", `"${`${"\\".repeat(4095)}"`.repeat(4096)}"`],
  ["words", `[${"true ".repeat(3 * MIB)}]`],
])("looks through 16 MiB of %s in many slices: a stop must not wait for all of it", (_, text) => {
  expect([...parsing(text, "place")].length).toBeGreaterThan(100);
});

test.each([1, 4095, 4096, 4097, 12_288, 2 * MIB])("knows where a string of %d escaped backslashes ends", (count) => {
  const text = "\\".repeat(count);
  expect(parseJson(`["${text}${text}",1]`, "place")).toEqual([text, 1]);
  expect(parseJson(`["${text}${text}\\"",1]`, "place")).toEqual([`${text}"`, 1]);
});
