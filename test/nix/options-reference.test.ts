/** docs/options.md is what the options say. To write it anew: `npx vitest run --project nix options-reference -u`. */
import { join } from "node:path";
import { expect, test } from "vitest";
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

  test("is current, and every option has a description", async () => {
    const options = evaluation.value(`import (nix + "/options.nix") { inherit lib; }`) as readonly Option[];
    expect(options.length).toBeGreaterThan(60);
    expect(options.filter(({ description }) => description.length < 10)).toEqual([]);
    await expect(reference(options)).toMatchFileSnapshot(join(project, "docs/options.md"));
  });
});

function reference(options: readonly Option[]): string {
  return [
    "# NixOS options",
    "",
    "Made from the modules by `test/nix/options-reference.test.ts`. Durations are seconds. How they fit together is in",
    "[nixos.md](nixos.md).",
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
