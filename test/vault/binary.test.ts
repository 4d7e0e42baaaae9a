/** Which server the tests run: without one of these they would all be skipped where a server is there. */
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { beforeEach, expect, onTestFinished, test } from "vitest";
import { temporary } from "../contract/temporary.ts";
import { serverBinary } from "./binary.ts";

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
  for (const directory of ["first", "second", "cache/bao"]) mkdirSync(join(root, directory), { recursive: true });
  process.env["PATH"] = [join(root, "none"), join(root, "first"), "", join(root, "second")].join(delimiter);
  process.env["FETCHER_TEST_CACHE"] = join(root, "cache");
});

function put(name: string, mode = 0o755): string {
  const path = join(root, name);
  writeFileSync(path, "");
  chmodSync(path, mode);
  return path;
}

test("none: the tests are skipped and say so", () => {
  expect(serverBinary()).toBeUndefined();
});

test("the tests' cache, and what is on PATH before it: bao before vault", () => {
  const inCache = put("cache/bao/bao");
  expect(serverBinary()).toBe(inCache);
  const vault = put("first/vault");
  expect(serverBinary()).toBe(vault);
  const bao = put("second/bao");
  expect(serverBinary()).toBe(bao);
});

test("what only has the name is passed over: a directory, a file that nobody may run", () => {
  mkdirSync(join(root, "first/bao"));
  put("second/bao", 0o644);
  const vault = put("second/vault");
  expect(serverBinary()).toBe(vault);
});
