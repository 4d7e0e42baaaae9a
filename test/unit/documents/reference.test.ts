/**
 * The reference of the configuration comes from the code: every option has its description, and no other is described.
 */
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import * as v from "valibot";
import { describe, expect, test } from "vitest";
import { backendNames } from "../../../backends/index.ts";
import { backendPage } from "../../../scripts/docs/backend-pages.ts";
import { generatedDocuments } from "../../../scripts/docs/generated.ts";
import { manualPages } from "../../../scripts/docs/manual.ts";
import { questions } from "../../../scripts/docs/questions.ts";
import { optionsIn } from "../../../scripts/docs/schema.ts";
import { backendSections, defaultOf, described, programSections } from "../../../scripts/docs/sections.ts";
import { commandTexts, optionTexts, parseCommandLine } from "../../../src/cli/command-line.ts";
import * as config from "../../../src/config/config-schema.ts";
import { ExitCode } from "../../../src/contract/errors.ts";
import { ADOPTION_LIMIT } from "../../../src/engine/first-load.ts";
import { means, option } from "../../../src/contract/option.ts";
import { object, positiveSeconds } from "../../../src/contract/settings.ts";
import { blockWith, project } from "../../markdown.ts";
import { needs } from "../../requirements.ts";

const sections = [...programSections, ...backendSections, ...backendSections.flatMap(({ cases }) => cases)];

describe("the reference describes", () => {
  test.each(sections)("each option with the schema's text: $title", ({ options }) => {
    for (const { path, about } of options) expect(about.text, path).toMatch(/^\S.{8,}[^.\s]$/s);
  });

  test.each(sections)("only the schema's defaults: $title", ({ options }) => {
    for (const { path, about, required, default: value } of options) {
      if (value !== undefined) expect(about.otherwise, path).toBeUndefined();
      // An optional one says what holds without it.
      else if (!required) expect(about.otherwise, path).toBeDefined();
    }
  });

  test("every schema of the configuration", () => {
    const schemas = Object.entries(config).filter(([name]) => name.endsWith("Schema"));
    expect(schemas.length).toBeGreaterThan(4);
    for (const [name, schema] of schemas) expect(described.has(schema), name).toBe(true);
  });

  test("every backend", () => {
    expect(backendSections.map(({ name }) => name).sort()).toEqual([...backendNames].sort());
    for (const { name, about } of backendSections) {
      expect(about.text, name).toMatch(/\.$/);
      expect(about.name, name).toMatch(/^\S.{8,}[^.\s]$/);
    }
  });

  test("every option of a backend once: on the backend's page, or with those that have none", () => {
    for (const { name, options, cases } of backendSections) {
      const page = existsSync(join(project, backendPage(name))) ? backendPage(name) : "docs/reference/configuration.md";
      const rows = readFileSync(join(project, page), "utf8").matchAll(/^\| `([\w.]+)` +\|/gm);
      const told = [...rows].map(([, path = ""]) => path);
      for (const { path } of [options, ...cases.map((login) => login.options)].flat())
        expect(told, `${page}: ${path}`).toContain(path);
      // What a person wrote beside the tables must not repeat one.
      for (const { path } of options)
        expect(
          told.filter((other) => other === path),
          path,
        ).toHaveLength(1);
    }
  });

  test("a schema's objects, with their defaults and required options", () => {
    const other = object({ hidden: v.string() });
    const schema = object({
      a: v.string(),
      b: v.optional(v.nullable(object({ c: positiveSeconds, d: v.optional(v.number(), 3) })), null),
      e: v.nullish(v.string()),
      f: v.nullable(v.string()),
      g: option(v.optional(option(positiveSeconds, means("inside", { since: "1" }))), means("outside")),
      other: v.optional(other),
    });
    expect(optionsIn(schema, "x", new Set([other]))).toEqual([
      { path: "x.a", default: undefined, required: true, about: {} },
      { path: "x.b.c", default: undefined, required: true, about: { unit: "seconds" } },
      { path: "x.b.d", default: 3, required: false, about: {} },
      { path: "x.e", default: undefined, required: false, about: {} },
      { path: "x.f", default: undefined, required: true, about: {} },
      { path: "x.g", default: undefined, required: false, about: { unit: "seconds", text: "outside", since: "1" } },
    ]);
    expect(optionsIn(schema, "", new Set()).map(({ path }) => path)).toContain("other.hidden");
    expect(defaultOf({ path: "x", default: null, required: false, about: {} })).toBe("`null`");
    expect(defaultOf({ path: "x", default: 3, required: false, about: { unit: "seconds" } })).toBe("`3` s");
  });
});

describe("the command line in --help and in the manual", () => {
  test("is accepted, each option with its argument", () => {
    for (const [option] of optionTexts) {
      const words = (option.split(", ").at(-1) ?? "").split(" ");
      const argument = { "--log-level": "debug", "--log-format": "json", "--set": "a=b" }[words[0] ?? ""] ?? "x";
      const given = words.length === 1 ? words : [words[0] ?? "", argument];
      expect(() => parseCommandLine(given), option).not.toThrow();
      // Neither takes it without its argument, nor with one that it does not have.
      const wrong = words.length === 1 ? [`${option.split(", ").at(-1) ?? ""}=x`] : [words[0] ?? ""];
      expect(() => parseCommandLine(wrong), option).toThrow();
    }
  });

  test("includes every option of the parser", () => {
    const source = readFileSync(join(project, "src/cli/command-line.ts"), "utf8");
    const known = [...source.matchAll(/^ +"?([a-z-]+)"?: "(?:texts?|flag)",$/gm)].map(([, name = ""]) => name);
    expect(known.length).toBeGreaterThan(8);
    const told = optionTexts.map(([option]) => /--([a-z=-]+)/.exec(option)?.[1]?.replace("=", "-"));
    expect(told.sort()).toEqual(known.sort());
  });

  test("lists every exit status", () => {
    const page = manualPages("1.2.3").get("fetcher.8") ?? "";
    expect(page).toContain("fetcher 1.2.3");
    for (const code of Object.values(ExitCode)) expect(page).toMatch(new RegExp(`^\\.TP\\n\\\\fB${code}\\\\fR$`, "m"));
  });
});

test("the manual of with-secrets lists its exit statuses, and no others", () => {
  const page = manualPages("1.2.3").get("with-secrets.1") ?? "";
  const script = readFileSync(join(project, "src/service-side/with-secrets.sh"), "utf8");
  const given = [...script.matchAll(/\bfail (\d+) /g)].map(([, status]) => status);
  expect(given.length).toBeGreaterThan(5);
  const told = [...page.matchAll(/^\\fB(\d+)\\fR$/gm)].map(([, status]) => status);
  expect(new Set(told)).toEqual(new Set(given));
});

test("fetcher(8) answers the ten usual questions, with existing commands", () => {
  const page = manualPages("1.2.3").get("fetcher.8") ?? "";
  expect(page.match(/^\.SS ".*\?"$/gm)?.length).toBeGreaterThanOrEqual(10);
  const known = [...commandTexts.map(([words]) => words.split(" ")[1]), "run"];
  for (const [, answer] of questions)
    for (const [, command = ""] of answer.matchAll(/`fetcher ([a-z]+)/g)) expect(known).toContain(command);
});

describe("descriptions of options elsewhere", () => {
  const options = sections.flatMap((section) => section.options);

  test("the guide to one file names only existing options", () => {
    const guide = readFileSync(join(project, "docs/how-to/one-file.md"), "utf8");
    const named = [...guide.matchAll(/^\| `([\w.]+)` /gm)].map(([, name = ""]) => name);
    const known = options.flatMap(({ path }) => [path, path.split(".").slice(0, -1).join(".")]);
    expect(named.length).toBeGreaterThan(6);
    expect(named.filter((name) => !known.includes(name))).toEqual([]);
  });

  test("docs/explanation/rotation.md has the schema's defaults, and the code's limits", () => {
    const page = readFileSync(join(project, "docs/explanation/rotation.md"), "utf8");
    for (const [, name = "", value] of page.matchAll(/^\*\*`(\w+)`\*\* \(([\d.]+)(?: s)?\)/gm))
      expect({ name, value: Number(value) }).toEqual({
        name,
        value: options.find(({ path }) => path === `onChange.${name}`)?.default,
      });
    expect(page.match(/^\*\*`\w+`\*\* \([\d.]+/gm)).toHaveLength(3);
    expect(ADOPTION_LIMIT).toBe(5);
    expect(page).toContain("gives the store five seconds");
  });
});

describe("the generated documents", () => {
  test("are current (npm run docs)", async () => {
    for (const [path, text] of await generatedDocuments(project))
      expect(readFileSync(join(project, path), "utf8"), path).toBe(text);
    // All of the source is read for its messages.
  }, 120_000);

  test("have the example of the guide to a pair of units", () => {
    const page = manualPages("1.2.3").get("fetcher.json.5") ?? "";
    const [, example = ""] = /^\.nf\n(.*)^\.fi/ms.exec(page) ?? [];
    expect(JSON.parse(example.replaceAll("\\-", "-"))).toEqual(
      JSON.parse(blockWith("docs/how-to/pair-of-units.md", "json", "hello.service").code),
    );
  });

  needs("mandoc").test("mandoc reads the manual pages without a warning", () => {
    for (const [name, page] of manualPages("1.2.3")) {
      const { stdout } = spawnSync("mandoc", ["-Tlint"], { input: page, encoding: "utf8" });
      // A release has no date yet.
      expect(
        stdout.split("\n").filter((line) => !/^$|missing date/.test(line)),
        name,
      ).toEqual([]);
    }
  });

  needs("man").test("man shows the manual pages without leftover markup", () => {
    for (const [name, page] of manualPages("1.2.3")) {
      const env = { ...process.env, MANWIDTH: "100", LC_ALL: "C.UTF-8", MAN_KEEP_FORMATTING: "" };
      const options = { encoding: "utf8", env, input: page } as const;
      const { stdout, stderr, status } = spawnSync("man", ["--warnings", "-l", "-"], options);
      expect({ name, status, stderr }).toEqual({ name, status: 0, stderr: "" });
      expect(stdout).toContain("DESCRIPTION");
      expect(stdout).not.toMatch(/\\f|`|\]\(|undefined/);
    }
  });
});
