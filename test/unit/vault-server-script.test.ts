/**
 * scripts/vault-server.sh and consul-template.sh, with a fake Go that imitates what they run of it: a half-finished
 * build must not count.
 */
import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeEach, expect, onTestFinished, test } from "vitest";
import { project } from "../markdown.ts";

let root: string;
const at = (...names: string[]) => join(root, ...names);

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "fetcher vault-"));
  onTestFinished(() => {
    rmSync(root, { recursive: true });
  });
  for (const name of ["vault-server.sh", "consul-template.sh", "go-program.sh"].map((file) => `scripts/${file}`))
    cpSync(join(project, name), at("project", name));
  for (const name of ["test/vault/server", "bench/consul-template"])
    cpSync(join(project, name), at("project", name), { recursive: true });
  for (const name of ["bin", "module/helper/builtinplugins", "module/command", "module/ui"])
    mkdirSync(at(name), { recursive: true });
  writeFileSync(at("module/helper/builtinplugins/registry_min.go"), "Vault's own");
  fakeGo("go1.999.0");
});

/** A fake go, whose build copies the file that replaces Vault's own. */
function fakeGo(version: string, build = 'cat vault/helper/builtinplugins/registry_min.go >"$output"') {
  const script = `#!/bin/sh
previous=
for word; do
  case $previous in
    -o) output=$word ;;
    -gcflags) echo "compiler: $word" ;;
  esac
  previous=$word
done
case "$1 $2" in
  "env GOVERSION") echo ${version} ;;
  "mod download") printf '{\\n\\t"Path": "x",\\n\\t"Dir": "${at("module")}",\\n\\t"Sum": "y"\\n}\\n' ;;
  "mod edit") echo "$4" >>go.mod ;;
  "build -tags") ${build}; chmod +x "$output" ;;
  "build -trimpath") test "$7" = github.com/hashicorp/consul-template && cat go.mod >"$output" && chmod +x "$output" ;;
  *) exit 2 ;;
esac
`;
  writeFileSync(at("bin/go"), script, { mode: 0o755 });
}

function run(name = "vault-server.sh", ...words: string[]) {
  const { status, stdout, stderr } = spawnSync(at("project/scripts", name), words, {
    env: { PATH: `${at("bin")}:${process.env["PATH"] ?? ""}`, FETCHER_TEST_CACHE: at("cache") },
    encoding: "utf8",
  });
  return { status, stdout, stderr };
}

const built = () => readFileSync(at("cache/vault/vault"), "utf8");
const upToDate = { status: 0, stdout: expect.stringContaining("is up to date") as string };

test("builds the server once, with our plugins, and again when its sources change", () => {
  expect(run()).toMatchObject({ status: 0, stderr: "" });
  expect(built()).toContain("credentialBackends");
  expect(readdirSync(at("cache/vault")).sort()).toEqual(["stamp", "vault"]);
  expect(run()).toMatchObject(upToDate);
  for (const name of ["go.mod", "go.sum", "main.go", "_instead/helper/builtinplugins/registry_min.go"]) {
    writeFileSync(at("project/test/vault/server", name), "\n// changed\n", { flag: "a" });
    expect(run().stdout, name).not.toContain("is up to date");
    expect(run(), name).toMatchObject(upToDate);
  }
  expect(built()).toContain("// changed");
});

test("--as-released compiles the server of a comparison like a release, in its own directory", () => {
  expect(run().stdout).toContain("compiler: all=-l -dwarf=false\n");
  expect(run("vault-server.sh", "--as-released").stdout).toContain("compiler: \n");
  expect(readdirSync(at("cache")).sort()).toEqual(["vault", "vault-as-released"]);
  expect(run("vault-server.sh", "--as-released")).toMatchObject(upToDate);
  expect(run("vault-server.sh", "--fast")).toEqual({
    status: 64,
    stdout: "",
    stderr: "usage: vault-server.sh [--as-released]\n",
  });
});

test("keeps the server after a failed build, and tries again on the next run", () => {
  run();
  const before = built();
  writeFileSync(at("project/test/vault/server/go.sum"), "changed\n", { flag: "a" });
  fakeGo("go1.999.0", 'echo half >"$output"; exit 1');
  expect(run().status).toBe(1);
  expect(built()).toBe(before);
  expect(readdirSync(at("cache/vault")).sort()).toEqual(["stamp", "vault"]);
  fakeGo("go1.999.0");
  expect(run().stdout).not.toContain("is up to date");
  expect(run()).toMatchObject(upToDate);
});

test("names a too old Go, and the required version, and downloads nothing", () => {
  fakeGo("go1.19.8");
  const { status, stderr } = run();
  expect(status).toBe(69);
  expect(stderr).toMatch(
    /needs Go 1\.\d+\.\d+ or newer, .* here is go1\.19\.8; install one, or put a vault into PATH\n$/,
  );
  expect(existsSync(at("cache"))).toBe(false);
});

test("builds consul-template once, and again when its sources change", () => {
  const program = at("cache/consul-template/consul-template");
  expect(run("consul-template.sh")).toMatchObject({ status: 0, stderr: "" });
  expect(readFileSync(program, "utf8")).toMatch(/^tool github\.com\/hashicorp\/consul-template$/m);
  expect(run("consul-template.sh")).toMatchObject(upToDate);
  writeFileSync(at("project/bench/consul-template/go.mod"), "\n// changed\n", { flag: "a" });
  expect(run("consul-template.sh").stdout).not.toContain("is up to date");
  expect(readFileSync(program, "utf8")).toContain("// changed");
  fakeGo("go1.19.8");
  writeFileSync(at("project/bench/consul-template/go.sum"), "\n", { flag: "a" });
  expect(run("consul-template.sh")).toMatchObject({
    status: 69,
    stderr: expect.stringContaining("go1.19.8") as string,
  });
});
