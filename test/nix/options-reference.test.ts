/**
 * docs/reference/options.md says what the options say. To write it again:
 * `npx vitest run --project nix options-reference -u`.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, expect, test } from "vitest";
import { needs } from "../requirements.ts";
import { Evaluation, project } from "./evaluation.ts";

interface Option {
  readonly name: string;
  readonly type: string;
  readonly description: string;
  readonly default: string | null;
  readonly example: string | null;
  readonly readOnly: boolean;
}

needs("nix", "nixpkgs-lib").describe("the option reference", () => {
  const evaluation = new Evaluation();
  let options: readonly Option[] = [];
  beforeAll(() => {
    options = evaluation.value(`import (nix + "/options.nix") { inherit lib; }`) as readonly Option[];
  });

  test("is current, and every option has a description", async () => {
    expect(options.length).toBeGreaterThan(60);
    expect(options.filter(({ description }) => description.length < 10)).toEqual([]);
    await expect(reference(options)).toMatchFileSnapshot(join(project, "docs/reference/options.md"));
  });

  /** Written by hand a second time, it would tell an operator of NixOS something else than one of another system. */
  test.each([
    ["program.onChange.settings", "onChange."],
    ["program.onChange.settings.verify.settings", "onChange.verify."],
    ["program", ""],
    ["secret", "secrets.<name>."],
    ["template", "templates.<name>."],
  ])("describes %s in the program's own words", (path, prefix) => {
    const said = new Map(options.map(({ name, description }) => [name, description]));
    const settings = Object.entries(sectionAt(path)).filter(
      ([key, { type }]) => type !== "section" && key !== "template",
    );
    expect(settings.length).toBeGreaterThan(1);
    for (const [key, { description }] of settings)
      expect(said.get(`secretsStore.services.<name>.${prefix}${key}`), key).toContain(description);
  });
});

interface Said {
  readonly type: string;
  readonly description: string;
}

function sectionAt(path: string): Readonly<Record<string, Said>> {
  const table: unknown = JSON.parse(readFileSync(join(project, "nix/lib/options.json"), "utf8"));
  return path.split(".").reduce((at, key) => (at as Record<string, unknown>)[key], table) as Record<string, Said>;
}

function reference(options: readonly Option[]): string {
  return [
    "# NixOS options",
    "",
    "Made from the modules by `test/nix/options-reference.test.ts`. Durations are in seconds.",
    "[Secrets for a service on NixOS](../how-to/nixos.md) shows how they fit together.",
    ...options.flatMap(entry),
    "",
  ].join("\n");
}

function entry(option: Option): string[] {
  return [
    "",
    `## \`${option.name}\``,
    "",
    option.description,
    "",
    `- Type: ${option.type}${option.readOnly ? " (read only)" : ""}`,
    ...said("Default", option.default),
    ...said("Example", option.example),
  ];
}

function said(what: string, value: string | null): string[] {
  if (value === null) return [];
  if (!value.includes("\n")) return [`- ${what}: \`${value}\``];
  return [`- ${what}:`, "", "  ```nix", ...value.split("\n").map((line) => `  ${line}`.trimEnd()), "  ```"];
}
