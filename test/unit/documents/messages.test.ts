/**
 * docs/reference/messages.md has each line that the program can log: a person who searches for one finds cause and
 * cure.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import texts from "../../../src/runtime/message-texts.json" with { type: "json" };
import { codeOf } from "../../../src/runtime/message-codes.ts";
import { messagesIn, messagesOf } from "../../../scripts/docs/message-templates.ts";
import { particular } from "../../../scripts/docs/message-texts.ts";
import { blocksOf, project } from "../../markdown.ts";

const messages = messagesIn(project);
const page = readFileSync(join(project, "docs/reference/messages.md"), "utf8");
const listed = page.split("\n").flatMap((line) => {
  const [, , text, code, cause, cure] = /^\| (`+) ?(.*?) ?\1 +\| (.*?) +\| (.*?) +\| (.*?) +\|$/.exec(line) ?? [];
  return text === undefined ? [] : [{ text: text.replaceAll("\\|", "|"), code: code?.trim() ?? "", cause, cure }];
});

test("each message of the source has a row with a cause and a remedy (npm run docs)", () => {
  const rows = new Set(listed.map(({ text }) => text));
  expect(messages.length).toBeGreaterThan(250);
  expect(messages.filter(({ text }) => !rows.has(text))).toEqual([]);
  expect(listed.filter(({ cause, cure }) => cause?.trim() === "" || cure?.trim() === "")).toEqual([]);
});

test("each message about a problem has its own code, and the program knows it", () => {
  const coded = listed.filter(({ code }) => code !== "");
  expect(coded.map(({ text }) => text).sort()).toEqual([...texts].sort());
  expect(coded.filter(({ text, code }) => codeOf(text) !== code)).toEqual([]);
  expect(new Set(coded.map(({ code }) => code)).size).toBe(coded.length);
  const scripts = messages.filter(({ file }) => file.endsWith(".sh")).map(({ text }) => text);
  expect(scripts.length).toBeGreaterThan(2);
  const troubled = messages.filter(({ kind }) => ["error", "warn", "config", "unavailable"].includes(kind));
  const missing = troubled.filter(({ text }) => !texts.includes(text) && !scripts.includes(text));
  expect(missing).toEqual([]);
});

test("each error and warning of the log has its own cause and remedy", () => {
  const logged = messages.filter(({ kind }) => kind === "error" || kind === "warn").map(({ text }) => text);
  expect(logged.length).toBeGreaterThan(10);
  expect(logged.filter((text) => !Object.hasOwn(particular, text))).toEqual([]);
});

test("the messages of the two service-side scripts are complete", () => {
  for (const text of [
    "replace_secrets: … cannot be read by this user",
    "/tmp is not private, so /tmp/secrets.env could be anybody's: set PrivateTmp=true in the unit, and no '+' before the command",
  ])
    expect(messages.map((message) => message.text)).toContain(text);
});

test("no cause belongs to a removed message", () => {
  const texts = messages.map(({ text }) => text);
  expect(Object.keys(particular).filter((text) => !texts.includes(text))).toEqual([]);
});

test("finds messages of errors, of the log, and of schemas", () => {
  const source = `
    throw new BackendError("denied", \`\${path}: permission \${isGone ? "gone" : "denied"}\`);
    throw new FatalError(ExitCode.config, late ? "one thing" : "another thing");
    this.#log.warn(\`no \${what} is \` + \`there\`, { secrets });
    context.log("notice", "logged in again");
    v.regex(/x/, "expected an x here");
    return ["denied", status === 1 ? "one" + " word" : "another word"];
    const table = { ECONNREFUSED: ["unavailable", "nobody listens"], where: \`no file \${path}\` };
    super("unavailable", "reset by them");
    new Map([["not", "said at all"]]);
    function fail(why) {
      const problem = \`said in two steps: \${why}\`;
      if (isNew) this.#log.error(problem);
    }`;
  expect(messagesOf("src/x.ts", source).map(({ kind, text }) => [kind, text])).toEqual([
    ["denied", "…: permission …"],
    ["config", "one thing"],
    ["config", "another thing"],
    ["warn", "no … is there"],
    ["notice", "logged in again"],
    ["config", "expected an x here"],
    ["denied", "one word"],
    ["denied", "another word"],
    ["unavailable", "nobody listens"],
    ["missing", "no file …"],
    ["unavailable", "reset by them"],
    ["error", "said in two steps: …"],
  ]);
});

test("an error or warning that the page of troubles quotes leads to a row", () => {
  const quoted = blocksOf("docs/how-to/troubleshooting.md", "text").flatMap(({ code }) => code.split("\n"));
  for (const part of ["is a directory: remove it", "stays failed: no newer secrets came", "answers again"]) {
    expect(
      quoted.some((line) => line.includes(part)),
      part,
    ).toBe(true);
    expect(page).toContain(part);
  }
});
