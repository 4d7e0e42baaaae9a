/** The documents hold together: links lead somewhere, named files exist, and every page is in the index. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { describe, expect, test } from "vitest";
import { ExitCode } from "../../../src/contract/errors.ts";
import { anchorsOf, blockWith, linksOf, markdownFiles, numbered, project, resolveLink } from "../../markdown.ts";

const files = markdownFiles();

describe.each(files)("%s", (file) => {
  const text = readFileSync(join(project, file), "utf8");

  test("has no link to a missing file or heading", () => {
    const broken = linksOf(file)
      .filter(({ target }) => !/^[a-z]+:/.test(target))
      .filter(({ target }) => {
        const { path, anchor } = resolveLink(file, target);
        if (!existsSync(join(project, path))) return true;
        return anchor !== "" && !anchorsOf(path).includes(anchor);
      });
    expect(broken).toEqual([]);
  });

  test("names no missing file of the project", () => {
    // A name may be a pattern: `backends/NAME.ts`, `backends/*`.
    const named = [...text.matchAll(/`((?:src|test|backends|scripts|nix|examples|bench|docs|man)\/[\w./@-]+)`/g)];
    const missing = named.map(([, path = ""]) => path).filter((path) => !/NAME|new-/.test(path));
    expect(missing.filter((path) => !existsSync(join(project, path)))).toEqual([]);
  });

  test("names no missing npm script", () => {
    const { scripts } = JSON.parse(readFileSync(join(project, "package.json"), "utf8")) as { scripts: object };
    const named = [...text.matchAll(/npm run (?:--silent |-s )?([\w:-]+)/g)].map(([, name = ""]) => name);
    expect(named.filter((name) => !Object.hasOwn(scripts, name))).toEqual([]);
  });
});

test("docs/reference/exit-statuses.md has a row for every exit status of the program", () => {
  const rows = readFileSync(join(project, "docs/reference/exit-statuses.md"), "utf8").matchAll(
    /^\| (\d[\d, ]*?) +\|/gm,
  );
  const told = [...rows].flatMap(([, codes = ""]) => codes.split(", ").map(Number));
  expect(told).toEqual(expect.arrayContaining(Object.values(ExitCode)));
});

test("docs/how-to/aws.md: skipping a step leaves no other one without its directory", () => {
  const steps = numbered(blockWith("docs/how-to/aws.md", "sh", "# 1.").code);
  // The directory of units is every machine's.
  const isMade = ([, directory]: RegExpExecArray) => directory !== "/etc/systemd/system";
  const into = steps.map((step) => [...step.matchAll(/(?:^cat >|\/dev\/stdin )(\/\S*)\//gm)].filter(isMade));
  expect(into.map((directories) => directories.length)).toEqual([0, 0, 2, 0, 0, 0, 0]);
  for (const [index, step] of steps.entries())
    for (const [, directory = ""] of into[index] ?? []) expect(step).toMatch(new RegExp(`mkdir -p .*${directory}\\b`));
});

test("docs/how-to/aws.md: installs the emulator and the command line with the same command as .ci/run", () => {
  const [, words = ""] = /^pip install (.*)$/m.exec(blockWith("docs/how-to/aws.md", "sh", "pip install").code) ?? [];
  expect(words).toMatch(/moto.*awscli/);
  expect(readFileSync(join(project, ".ci/run"), "utf8")).toContain(`/pip" install --quiet ${words}\n`);
});

test("the index lists every page of docs/", () => {
  const index = linksOf("docs/README.md").map(({ target }) => target);
  const pages = readdirSync(join(project, "docs"), { recursive: true, encoding: "utf8" }).filter(
    (name) => name.endsWith(".md") && name !== "README.md",
  );
  expect(pages.length).toBeGreaterThan(8);
  expect(pages.filter((page) => !index.includes(page))).toEqual([]);
});

test("the README has at most 90 lines", () => {
  expect(readFileSync(join(project, "README.md"), "utf8").trimEnd().split("\n").length).toBeLessThanOrEqual(90);
});

test("the README links to the index, the configuration, and a newcomer's first questions", () => {
  const targets = linksOf("README.md").map(({ target }) => target);
  for (const page of [
    "docs/README.md",
    "docs/reference/configuration.md",
    "docs/how-to/troubleshooting.md",
    "docs/how-to/nixos.md",
    "CONTRIBUTING.md",
  ])
    expect(targets).toContain(page);
});

test("every test that the threat model names exists", () => {
  const text = readFileSync(join(project, "docs/explanation/threat-model.md"), "utf8");
  const named = [...text.matchAll(/`([a-z0-9]+\/[\w/-]+\.test\.ts)`/g)].map(([, path = ""]) => path);
  expect(named.length).toBeGreaterThan(20);
  expect(named.filter((path) => !existsSync(join(project, "test", path)))).toEqual([]);
});

test("the architecture page lists every folder and every file of the source", () => {
  const text = readFileSync(join(project, "docs/explanation/architecture.md"), "utf8");
  const isNamed = (name: string) => new RegExp(`(^|[^\\w-])${name}([^\\w-]|$)`, "m").test(text);
  const paths = readdirSync(join(project, "src"), { recursive: true, encoding: "utf8" });
  const unnamed = paths.filter((path) => !isNamed(basename(path).replace(/\.\w+$/, "")));
  expect(paths.length).toBeGreaterThan(50);
  expect(unnamed).toEqual([]);
});

test("no file of the source imports another in a circle", () => {
  const imports = new Map<string, readonly string[]>();
  for (const path of ["src", "backends"].flatMap((folder) =>
    readdirSync(join(project, folder), { recursive: true, encoding: "utf8" }).map((name) => join(folder, name)),
  )) {
    if (!path.endsWith(".ts")) continue;
    const text = readFileSync(join(project, path), "utf8");
    const named = [...text.matchAll(/(?:\bfrom|\bimport\() ?"(\.[^"]+\.ts)"/g)].map(([, to = ""]) => to);
    imports.set(
      path,
      named.map((to) => join(dirname(path), to)),
    );
  }
  expect(imports.size).toBeGreaterThan(100);
  const circles: string[][] = [];
  const seen = new Set<string>();
  const follow = (path: string, way: readonly string[]) => {
    const start = way.indexOf(path);
    if (start !== -1) circles.push([...way.slice(start), path]);
    if (seen.has(path)) return;
    seen.add(path);
    for (const next of imports.get(path) ?? []) follow(next, [...way, path]);
  };
  for (const path of imports.keys()) follow(path, []);
  expect(circles).toEqual([]);
});

test("CONTRIBUTING.md lists every layer of tests", () => {
  const text = readFileSync(join(project, "CONTRIBUTING.md"), "utf8");
  const configured = readFileSync(join(project, "vitest.config.ts"), "utf8").matchAll(/name: "([\w-]+)"/g);
  const names = [...configured].map(([, name = ""]) => name);
  expect(names.length).toBeGreaterThan(5);
  for (const name of names) expect(text).toContain(`| \`${name}\``);
});
