/** What the README says to type works as it is written. */
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { helpText } from "../../src/cli/command-line.ts";
import { ExitCode } from "../../src/contract/errors.ts";
import { blocksOf, blockWith, project } from "../markdown.ts";
import { programCommand } from "../program.ts";

const guide = "docs/how-to/pair-of-units.md";
const [program, ...words] = programCommand();
const shown = [program, ...words].map((word) => `'${word}'`).join(" ");

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "fetcher readme "));
});
afterEach(() => {
  rmSync(directory, { recursive: true });
});

describe("the README", () => {
  test("has a first command that works on one's own folder, and never shows a value", () => {
    const { code } = blockWith("README.md", "sh", "--once");
    const command = code.split("\n").find((line) => line.includes("--once")) ?? "";
    mkdirSync(join(directory, "my-secrets"));
    writeFileSync(join(directory, "my-secrets/db_password"), "canary-7f3a91\n");
    const env = { ...process.env, XDG_RUNTIME_DIR: directory, PWD: directory };
    const result = spawnSync("sh", ["-c", command.replace("node dist/fetcher.js", shown)], { cwd: directory, env });
    expect(String(result.stderr)).toBe("");
    expect(result.status).toBe(0);
    expect(String(result.stdout)).toContain("db_password");
    expect(String(result.stdout)).not.toContain("canary-7f3a91");
    const [published = ""] = readdirSync(directory).filter((name) => name.startsWith("fetcher-"));
    expect(String(result.stdout)).toContain(join(directory, published));
    expect(readFileSync(join(directory, published, "db_password"), "utf8")).toBe("canary-7f3a91\n");
  });

  test("shows what the demo prints", () => {
    const { status, stdout } = spawnSync(process.execPath, [join(project, "scripts/demo.mjs")], { encoding: "utf8" });
    expect(status).toBe(0);
    const [block] = blocksOf("README.md", "text");
    const shown = canonical(block?.code ?? "").trimEnd();
    const printed = canonical(stdout).split("\n");
    const wanted = shown.split("\n");
    expect(printed.filter((line) => wanted.includes(line))).toEqual(expect.arrayContaining(wanted));
    expect(wanted.length).toBeGreaterThan(5);
  });
});

/** Without colours, and what differs from time to time. */
function canonical(text: string): string {
  return text
    .replaceAll(/\u001b\[\d*m/g, "")
    .replaceAll(/fetcher-demo-\w+/g, "fetcher-demo-XXXXXX")
    .replaceAll(/\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:\d\d)/g, "TIME");
}

test("docs/reference/configuration.md: its commands check a file, and write the schema", () => {
  const [check = "", schema = "", ...others] = blocksOf("docs/reference/configuration.md", "sh").map(
    ({ code }) => code,
  );
  expect(others).toEqual([]);
  writeFileSync(
    join(directory, "FILE"),
    JSON.stringify({ backend: "folder", config: { secretsDir: "/s" }, secrets: { a: {} } }),
  );
  const type = (code: string) => {
    const here = code.replace(/^fetcher/, shown).replaceAll("/etc/fetcher", `'${directory}'`);
    return spawnSync("sh", ["-ec", here], { cwd: directory, encoding: "utf8" });
  };
  expect(type(check)).toMatchObject({ status: 0, stderr: "" });
  expect(type(schema)).toMatchObject({ status: 0, stderr: "" });
  expect(JSON.parse(readFileSync(join(directory, "fetcher.schema.json"), "utf8"))).toHaveProperty("properties.secrets");
});

test("the guide to a pair of units shows the example's configuration", () => {
  const example: unknown = JSON.parse(readFileSync(join(project, "examples/systemd/hello.json"), "utf8"));
  expect(blocksOf(guide, "json").map(({ code }) => JSON.parse(code) as unknown)).toContainEqual(example);
});

test("--help names every exit code of the program", () => {
  for (const code of Object.values(ExitCode)) expect(helpText()).toMatch(new RegExp(`\\b${code}\\b`));
});
