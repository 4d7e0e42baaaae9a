import { expect, test } from "vitest";
import { openLog } from "../../../src/runtime/log.ts";
import { codeIn, codeOf } from "../../../src/runtime/message-codes.ts";

test("a code depends only on the words", () => {
  expect(codeOf("a")).toBe(codeOf("a"));
  expect(codeOf("a")).not.toBe(codeOf("b"));
  expect(codeOf("…: no such file")).toMatch(/^F-[0-9A-HJKMNP-TV-Z]{5}$/);
});

test("a line composed of several messages has the code of the one with the most fixed words", () => {
  const cause = "https://vault.example.com:8200: the server is sealed or under maintenance (status 503)";
  const code = codeIn(cause);
  expect(code).toBeDefined();
  expect(codeIn(`token: vault: ${cause}`)).toBe(code);
  expect(codeIn("hello")).toBeUndefined();
  expect(codeIn("")).toBeUndefined();
});

test("a code depends on the order of the fixed words", () => {
  expect(codeIn("the command line is wrong: a bug in")).not.toBe(codeOf("a bug in fetcher: …"));
  expect(codeIn("a bug in fetcher: TypeError")).toBe(codeOf("a bug in fetcher: …"));
});

test("warnings and errors in the journal end in their code, other lines do not", () => {
  const lines: string[] = [];
  const log = openLog("debug", { format: "text", priority: true }, (line) => lines.push(line));
  const message = "a bug in fetcher: TypeError";
  log.error(message);
  log.warn(message, { secrets: ["a", "b"] });
  log.notice(message);
  log.warn("of no known words");
  const code = codeOf("a bug in fetcher: …");
  expect(lines).toEqual([
    `<3>${message} [${code}]\n`,
    `<4>${message} (a, b) [${code}]\n`,
    `<5>${message}\n`,
    "<4>of no known words\n",
  ]);
});

test("lines in a terminal have no code", () => {
  const lines: string[] = [];
  openLog("info", { format: "text" }, (line) => lines.push(line)).error("a bug in fetcher: TypeError");
  expect(lines).toEqual(["error: a bug in fetcher: TypeError\n"]);
});

test("JSON lines have it in a field", () => {
  const lines: string[] = [];
  const log = openLog("info", { format: "json" }, (line) => lines.push(line));
  log.error("a bug in fetcher: TypeError");
  log.info("a bug in fetcher: TypeError");
  expect(lines.map((line) => (JSON.parse(line) as { code?: string }).code)).toEqual([
    codeOf("a bug in fetcher: …"),
    undefined,
  ]);
});
