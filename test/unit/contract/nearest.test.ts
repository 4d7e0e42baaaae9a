import { expect, test } from "vitest";
import { nearest } from "../../../src/contract/nearest.ts";
import { object, parse, settingsObject } from "../../../src/contract/settings.ts";

const known = ["secretsDir", "reloadOnChange", "pollingInterval", "tokenPath", "kvVersion", "mode", "env", "--once"];

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
])("corrects %s to %s", (given, meant) => {
  expect(nearest(given, known)).toBe(meant);
});

test.each(["", "x", "password", "constructor", "Ω", "z".repeat(5000)])("suggests nothing for %j", (given) => {
  expect(nearest(given, known)).toBeUndefined();
});

test("every backend's settings include those that all share", () => {
  expect(() => parse(settingsObject({}), { refreshIntervall: 1 }, "config")).toThrow(
    'config.refreshIntervall: unknown option: known here are reloadOnChange, pollingInterval, refreshInterval; did you mean "refreshInterval"?',
  );
  expect(() => parse(object({}), { a: 1 })).toThrow("unknown option: none are known here");
});
