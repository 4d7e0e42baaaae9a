/** What the README says to type works as it is written. */
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { helpText } from "../../src/cli.ts";
import { ExitCode } from "../../src/errors.ts";
import { blocks, documentation } from "../markdown.ts";

const root = join(import.meta.dirname, "../..");
const readme = documentation("README.md");
const program = join(root, "dist/fetcher.js");

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "fetcher-readme-"));
});
afterEach(() => {
  rmSync(directory, { recursive: true });
});

describe("the README", () => {
  test("has a first command that works on one's own folder, and never shows a value", () => {
    const [command = ""] = blocks(readme, "sh").filter((block) => block.includes("--once"));
    mkdirSync(join(directory, "my-secrets"));
    writeFileSync(join(directory, "my-secrets/db_password"), "canary-7f3a91\n");
    const env = { ...process.env, XDG_RUNTIME_DIR: directory, PWD: directory };
    const result = spawnSync("sh", ["-c", command.replace("dist/fetcher.js", program)], { cwd: directory, env });
    expect(String(result.stderr)).toBe("");
    expect(result.status).toBe(0);
    expect(String(result.stdout)).toContain("db_password");
    expect(String(result.stdout)).not.toContain("canary-7f3a91");
    const [published = ""] = readdirSync(directory).filter((name) => name.startsWith("fetcher-"));
    expect(String(result.stdout)).toContain(join(directory, published));
    expect(readFileSync(join(directory, published, "db_password"), "utf8")).toBe("canary-7f3a91\n");
  });

  test("has configurations that the program accepts", () => {
    const configurations = blocks(readme, "json");
    expect(configurations.length).toBeGreaterThan(0);
    for (const configuration of configurations) {
      const file = join(directory, "fetcher.json");
      writeFileSync(file, configuration);
      const result = spawnSync(process.execPath, [program, "--check=config", "--config", file]);
      expect(String(result.stderr)).toBe("");
      expect(result.status).toBe(0);
    }
  });

  test("has the configuration that stands in the example", () => {
    const example: unknown = JSON.parse(readFileSync(join(root, "examples/systemd/hello.json"), "utf8"));
    expect(blocks(readme, "json").map((text) => JSON.parse(text) as unknown)).toContainEqual(example);
  });

  test("and --help name every exit code that the program has", () => {
    for (const code of Object.values(ExitCode)) {
      expect(readme).toMatch(new RegExp(`^\\| ${code}\\b|, ${code} +\\|`, "m"));
      expect(helpText).toMatch(new RegExp(`\\b${code}\\b`));
    }
  });
});
