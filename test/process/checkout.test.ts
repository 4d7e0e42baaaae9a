/**
 * A checkout whose path has a space, a `%` that looks like an escape, and one that does not. People who clone into such
 * a folder can build, start and test there, and nothing that exists is installed or built again.
 */
import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { project } from "../markdown.ts";

let place: string;
let checkout: string;
let npmRan: string;

beforeAll(() => {
  place = mkdtempSync(join(tmpdir(), "fetcher-checkout-"));
  checkout = join(place, "a b%20c 5%");
  mkdirSync(checkout);
  const parts = ["src", "backends", "scripts", "test/literal-paths.mjs"];
  const files = ["package.json", "package-lock.json", "tsconfig.json", "vitest.config.ts", "test/skip-reporter.ts"];
  for (const part of [...parts, ...files].filter((name) => existsSync(join(project, name))))
    cpSync(join(project, part), join(checkout, part), { recursive: true });
  cpSync(join(project, "node_modules"), join(checkout, "node_modules"), { recursive: true, verbatimSymlinks: true });
  // A stand-in for npm, as it is offline: it notes that it ran, and fails.
  npmRan = join(place, "npm-ran");
  mkdirSync(join(place, "bin"));
  writeFileSync(join(place, "bin/npm"), `#!/bin/sh\n: >'${npmRan}'\nexit 1\n`, { mode: 0o755 });
}, 300_000);

afterAll(() => {
  rmSync(place, { recursive: true, force: true });
});

test("is set up once, without npm, and again when part of the build changes", () => {
  expect(run("scripts/setup.mjs")).toMatchObject({ status: 0, stdout: "building dist/fetcher.js ...\n", stderr: "" });
  expect(existsSync(npmRan)).toBe(false);
  expect(run("dist/fetcher.js", "--version")).toMatchObject({ status: 0, stderr: "" });
  expect(run("scripts/setup.mjs")).toMatchObject({ status: 0, stdout: "" });

  for (const changed of ["scripts/bundle-options.mjs", "src/engine"]) {
    const later = statSync(join(checkout, "dist/fetcher.js")).mtimeMs / 1000 + 1;
    utimesSync(join(checkout, changed), later, later);
    expect(run("scripts/setup.mjs"), changed).toMatchObject({ status: 0, stdout: "building dist/fetcher.js ...\n" });
    const earlier = later - 3600;
    utimesSync(join(checkout, changed), earlier, earlier);
  }
}, 300_000);

test("runs its demo with npm start", () => {
  const { status, stdout } = run("scripts/demo.mjs");
  expect(stdout).toContain("nothing is left");
  expect(status).toBe(0);
});

test("runs tests that import packages", () => {
  const file = "test/unit/settings-in-a-path.test.ts";
  const text = `import { expect, test } from "vitest";
    import * as v from "valibot";
    import { build } from "esbuild";
    test("packages", () => { expect([v.parse(v.string(), "x"), typeof build]).toEqual(["x", "function"]); });
    test("umask", () => { expect(process.umask()).toBe(0o022); });`;
  mkdirSync(join(checkout, "test/unit"));
  writeFileSync(join(checkout, file), text);
  const command = `umask 0002; exec '${process.execPath}' node_modules/vitest/vitest.mjs run --project unit ${file}`;
  const { status, stdout, stderr } = spawnSync("sh", ["-c", command], { ...options(), encoding: "utf8" });
  expect({ status, stdout, stderr }).toMatchObject({
    status: 0,
    stdout: expect.stringContaining("2 passed") as string,
  });
});

test("asks npm for a missing package, and reports npm's failure", () => {
  rmSync(join(checkout, "node_modules/valibot"), { recursive: true });
  const { status, stderr } = run("scripts/setup.mjs");
  expect(status).toBe(1);
  expect(stderr).toMatch(/^npm ci [^\n]*package-lock\.json[^\n]*\n$/);
  expect(existsSync(npmRan)).toBe(true);
});

function run(script: string, ...args: string[]) {
  return spawnSync(process.execPath, [join(checkout, script), ...args], { ...options(), encoding: "utf8" });
}

function options() {
  const env: NodeJS.ProcessEnv = { ...process.env, NO_COLOR: "1" };
  // This run's own.
  for (const name of Object.keys(env).filter((name) => /^(VITEST|FETCHER|FORCE_COLOR)/.test(name)))
    Reflect.deleteProperty(env, name);
  env["PATH"] = `${join(place, "bin")}${delimiter}${env["PATH"] ?? ""}`;
  return { cwd: checkout, env };
}
