/** Blocks that people copy out of the documents work: this tries every block of every page. */
import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { transformSync } from "esbuild";
import { describe, expect, onTestFinished, test } from "vitest";
import { parseAdd, parseRemove } from "../../src/cli/add-options.ts";
import { parseCommandLine } from "../../src/cli/command-line.ts";
import { parseStatus } from "../../src/cli/status.ts";
import { parseRun } from "../../src/cli/run.ts";
import { type Block, blocksOf, markdownFiles, project } from "../markdown.ts";
import { nixEnvironment } from "../nix/programs.ts";
import { programCommand } from "../program.ts";
import { needs } from "../requirements.ts";

const blocks = markdownFiles().flatMap((file) => blocksOf(file));
const of = (...languages: readonly string[]) =>
  blocks.filter(({ language }) => languages.includes(language)).map((block) => [titleOf(block), block] as const);

describe("a configuration", () => {
  test.each(of("json"))("%s", (_, block) => {
    const directory = temporary();
    // The reader's own module, which the page builds.
    for (const { info, code } of blocksOf(block.file, "js"))
      writeFileSync(join(directory, info), code, { flag: "a", mode: 0o644 });
    const config = complete(block);
    // And a template of the page: where it is, is root's.
    for (const [index, template] of Object.values(config.templates ?? {}).entries()) {
      template.template = join(directory, `${index}.mustache`);
      writeFileSync(template.template, blocksOf(block.file, "mustache")[index]?.code ?? "");
    }
    const file = join(directory, "fetcher.json");
    writeFileSync(file, JSON.stringify(config));
    const [program, ...words] = programCommand();
    const args = [...words, "--check=config", "--config", file];
    const { status, stderr } = spawnSync(program, args, { encoding: "utf8" });
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
  });
});

/** What a fragment leaves out, by the page that it stands on. */
const bases: Readonly<Record<string, object>> = {
  folder: { secretsDir: "/etc/secrets" },
  vault: { path: "app", tokenPath: "/etc/secrets/token" },
  aws: { region: "eu-central-1" },
  command: { command: ["pass", "show"] },
};

interface Fragment {
  readonly backend?: string;
  readonly secrets?: object;
  readonly config?: object;
  readonly templates?: Readonly<Record<string, { template: string }>>;
}

/** A block without a `backend` is a fragment, with or without its outer braces. */
function complete({ file, code }: Block): Fragment {
  const given = JSON.parse(/^\s*\{/.test(code) ? code : `{${code}}`) as Fragment;
  if (given.backend !== undefined) return given;
  const backend =
    [basename(file, ".md"), basename(file, "s.md")].find((name) => Object.hasOwn(bases, name)) ?? "folder";
  // Logins say all of it.
  const own = given.config !== undefined && Object.hasOwn(given.config, "auth") ? { path: "app" } : bases[backend];
  return { secrets: { id: {} }, ...given, backend, config: { ...own, ...given.config } };
}

function parseWords([first, ...rest]: readonly string[]): void {
  if (first === "status") parseStatus(rest);
  else if (first === "units" || first === "check") parseCommandLine(rest.filter((word) => word !== "--user"));
  else if (first === "add") parseAdd(rest);
  else if (first === "remove") parseRemove(rest);
  else if (first === "run") parseRun(rest);
  else parseCommandLine([...(first === undefined ? [] : [first]), ...rest]);
}

describe("a command", () => {
  test.each(of("sh", "bash"))("%s", (_, { language, code }) => {
    const { status, stderr } = spawnSync(language, ["-n"], { input: code, encoding: "utf8" });
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    for (const words of commandsOf("fetcher", code))
      expect(() => {
        parseWords(words);
      }, words.join(" ")).not.toThrow();
    for (const words of commandsOf("npx", code)) {
      const named = [
        ...words.filter((word) => word.startsWith("test/")),
        join("test", words[words.indexOf("--project") + 1] ?? ""),
      ];
      for (const path of named) expect(existsSync(join(project, path)), path).toBe(true);
    }
  });
});

/** The words behind each call of `program`, without what a shell would do with them. */
function commandsOf(program: string, code: string): string[][] {
  const lines = code.replaceAll("\\\n", " ").split("\n");
  return lines.flatMap((line) => {
    const [, rest] = new RegExp(`^(?:node dist/${program}\\.js|${program})\\s+(.*)$`).exec(line.trim()) ?? [];
    if (rest === undefined) return [];
    const words = rest.replace(/\s#.*$|\s[<>|&].*$/, "").match(/(?:"[^"]*"|'[^']*'|[^\s"'])+/g) ?? [];
    return [words.map((word) => word.replaceAll(/["']/g, ""))];
  });
}

describe("code", () => {
  test.each(of("js", "ts"))("%s", (_, { language, code, info }) => {
    expect(info, "the name of the file that it is a part of").toMatch(/^[\w-]+\.(mjs|js|ts)$/);
    expect(() => transformSync(code, { loader: language as "js" | "ts" })).not.toThrow();
  });
});

needs("nix").describe("Nix", () => {
  test.each(of("nix"))("%s", (_, { code }) => {
    // An example may be of the middle of a module.
    const input = `{ config, lib, pkgs }: (${code})`;
    const { status, stderr } = spawnSync("nix-instantiate", ["--parse", "-"], {
      input,
      encoding: "utf8",
      env: nixEnvironment(temporary()),
    });
    expect({ status, stderr: status === 0 ? "" : stderr }).toEqual({ status: 0, stderr: "" });
  });
});

needs("systemd-analyze").describe("a part of a unit", () => {
  test.each(of("systemd", "ini"))("%s", (_, { code }) => {
    const without = complaints();
    // Of a Quadlet the sections of Podman's own are for its generator.
    const ours = code.replace(/^\[Container\]\n(?:[^[].*\n)*/m, "");
    const added = complaints(ours).filter((line) => !without.includes(line));
    expect(added).toEqual([]);
  });

  test("fails the check when it is wrong", () => {
    expect(complaints("[Service]\nExecStrat=/bin/true\n")).toContainEqual(expect.stringContaining("ExecStrat"));
  });
});

/** What systemd says of the example units, with a drop-in for each. */
function complaints(dropIn?: string): string[] {
  const directory = temporary();
  cpSync(join(project, "examples/systemd"), directory, { recursive: true });
  const units = ["hello.service", "fetcher@hello.service"];
  for (const unit of units) {
    mkdirSync(join(directory, `${unit}.d`), { recursive: true });
    if (dropIn !== undefined) writeFileSync(join(directory, `${unit}.d`, "zz.conf"), dropIn);
  }
  const env = { ...process.env, SYSTEMD_UNIT_PATH: `${directory}:`, SYSTEMD_LOG_LEVEL: "warning" };
  const { stderr } = spawnSync("systemd-analyze", ["verify", "--man=no", ...units], { encoding: "utf8", env });
  // Whether the program is installed on this machine is not the block's affair.
  const lines = stderr.split("\n").filter((line) => /hello|fetcher/.test(line) && !line.includes("is not executable"));
  return lines.map((line) => line.replaceAll(directory, ""));
}

test.each(of("mermaid"))("a diagram: %s", (_, { code }) => {
  const [kind = "", ...lines] = code.split("\n");
  expect(["sequenceDiagram", "stateDiagram-v2", "flowchart LR", "flowchart TD"]).toContain(kind);
  if (kind !== "sequenceDiagram") return;
  const known = lines.flatMap((line) => /^ *participant (\w+)/.exec(line)?.[1] ?? []);
  const used = lines.flatMap((line) => /^ *(\w+)-?->>(\w+):/.exec(line)?.slice(1) ?? []);
  expect(new Set(used)).toEqual(new Set(known));
});

test("every block names its language, and a test covers it", () => {
  const tried = [
    "json",
    "sh",
    "bash",
    "js",
    "ts",
    "nix",
    "systemd",
    "ini",
    "mermaid",
    "mustache",
    "dockerfile",
    "yaml",
  ];
  // The image and its compose file: run.test.ts. What a program prints: operations.test.ts.
  const others = blocks.filter(({ language }) => language !== "text" && !tried.includes(language));
  expect(others.map(titleOf)).toEqual([]);
});

test("no block escapes these tests by its indentation", () => {
  for (const file of markdownFiles()) {
    const lines = readFileSync(join(project, file), "utf8").split("\n");
    const inFence = new Set(blocksOf(file).flatMap(({ line, code }) => code.split("\n").map((_, at) => line + at)));
    const hidden = lines.flatMap((line, at) => {
      const isCode = line.startsWith("    ") && lines[at - 1] === "" && !inFence.has(at);
      const before = lines.slice(0, at).findLast((other) => other !== "") ?? "";
      return isCode && !/^\s*([-*]|\d+\.) |^\s/.test(before) ? [`${file}:${at + 1}`] : [];
    });
    expect(hidden).toEqual([]);
  }
});

function titleOf({ file, line, heading }: Block): string {
  return `${file}:${line} ${heading}`;
}

function temporary(): string {
  const directory = mkdtempSync(join(tmpdir(), "fetcher-documents-"));
  onTestFinished(() => {
    rmSync(directory, { recursive: true });
  });
  return directory;
}
