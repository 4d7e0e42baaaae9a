import { expect, test } from "vitest";
import { keyHints, nearest } from "../../../src/contract/nearest.ts";
import { object, parse, settingsObject } from "../../../src/contract/settings.ts";

const known = [
  "secretsDir",
  "reloadOnChange",
  "pollingInterval",
  "tokenPath",
  "kvVersion",
  "mode",
  "env",
  "--once",
  "db",
];

test.each([
  ["secretDir", "secretsDir"],
  ["reloadonchange", "reloadOnChange"],
  ["reload_on_change", "reloadOnChange"],
  ["poolingIntervall", "pollingInterval"],
  ["token", "tokenPath"],
  ["kv-version", "kvVersion"],
  ["mdoe", "mode"],
  ["evn", "env"],
  ["--onec", "--once"],
  ["bd", "db"],
])("corrects %s to %s", (given, meant) => {
  expect(nearest(given, known)).toBe(meant);
});

test.each(["", "x", "da", "bx", "password", "constructor", "Ω", "z".repeat(5000)])(
  "suggests nothing for %j",
  (given) => {
    expect(nearest(given, known)).toBeUndefined();
  },
);

test("every backend's settings include those that all share", () => {
  expect(() => parse(settingsObject({}, {}), { refreshIntervall: 1 }, "config")).toThrow(
    'config.refreshIntervall: unknown option: known here are reloadOnChange, pollingInterval, refreshInterval; did you mean "refreshInterval"?',
  );
  expect(() => parse(object({}), { a: 1 })).toThrow("unknown option: none are known here");
});

test("a key that is not there: names the nearest that no other secret wants, in one line of a bounded length", () => {
  const hints = keyHints(["bd", "user", "usr"]);
  expect(hints("bd", ["db", "user"])).toBe('; did you mean "db"?');
  // `user` is another secret's.
  expect(hints("usr", ["db", "user"])).toBe("");
  expect(keyHints(["a\tb"])("a\tb", ["a\nb"])).toBe('; did you mean "a\\nb"?');
  expect(keyHints(["k"])("k".repeat(101), ["k".repeat(100)])).toBe("");
  expect(keyHints(["token"])("token", [`token${"n".repeat(500)}`])).toBe("");
});

test("a document of many keys, or many keys that are not there, cost no more", () => {
  const many = Array.from({ length: 501 }, (_, index) => `n${index}`);
  expect(keyHints([])("db", [...many, "bd"])).toBe("");
  const hints = keyHints([]);
  const told = Array.from({ length: 5 }, () => hints("bd", ["db"]));
  expect(told.filter((hint) => hint !== "")).toHaveLength(3);
});
