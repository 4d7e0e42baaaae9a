/** Which server the tests run: if these failed, all others might be skipped though a server exists. */
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { beforeEach, expect, onTestFinished, test } from "vitest";
import { temporary } from "../contract/temporary.ts";
import { missing } from "../requirements.ts";
import { serverBinary, serversHere } from "./binary.ts";

let root: string;

beforeEach(async () => {
  const { path, dispose } = await temporary();
  root = path;
  const before = { PATH: process.env["PATH"], FETCHER_TEST_CACHE: process.env["FETCHER_TEST_CACHE"] };
  onTestFinished(async () => {
    for (const [name, value] of Object.entries(before))
      if (value === undefined) Reflect.deleteProperty(process.env, name);
      else process.env[name] = value;
    await dispose();
  });
  for (const directory of ["first", "second", "cache/bao", "cache/vault"])
    mkdirSync(join(root, directory), { recursive: true });
  process.env["PATH"] = [join(root, "none"), join(root, "first"), "", join(root, "second")].join(delimiter);
  process.env["FETCHER_TEST_CACHE"] = join(root, "cache");
});

function put(name: string, mode = 0o755): string {
  const path = join(root, name);
  writeFileSync(path, "");
  chmodSync(path, mode);
  return path;
}

test("none: the tests are skipped, with the reason", () => {
  expect(serversHere()).toEqual([]);
  expect(serverBinary()).toBeUndefined();
  expect(missing("vault-server")).toBe("vault-server: neither bao nor vault is installed");
  expect(missing("vault-namespaces")).toBe("vault-namespaces: bao is not installed");
  expect(missing("vault-aws-login")).toMatch(
    "vault-aws-login: vault is not installed; scripts/vault-server.sh builds it",
  );
});

test("takes each product from PATH, otherwise from the tests' cache", () => {
  const inCache = [put("cache/bao/bao"), put("cache/vault/vault")];
  expect([serverBinary("bao"), serverBinary("vault")]).toEqual(inCache);
  const onPath = [put("second/bao"), put("first/vault")];
  expect([serverBinary("bao"), serverBinary("vault")]).toEqual(onPath);
});

test("both: the suites run against each, and tests that need just one take vault", () => {
  const bao = put("second/bao");
  expect(serversHere()).toEqual(["bao"]);
  expect(serverBinary()).toBe(bao);
  const vault = put("cache/vault/vault");
  expect(serversHere()).toEqual(["vault", "bao"]);
  expect(serverBinary()).toBe(vault);
  expect(missing("vault-server", "vault-namespaces")).toBeUndefined();
});

test("one is enough for features of both, and each has features that the other lacks", () => {
  put("first/vault");
  expect(missing("vault-server")).toBeUndefined();
  expect(missing("vault-namespaces")).toBeDefined();
});

test("ignores a directory or a non-executable file of that name", () => {
  mkdirSync(join(root, "first/bao"));
  put("second/bao", 0o644);
  expect(serverBinary("bao")).toBeUndefined();
  expect(serversHere()).toEqual([]);
});
