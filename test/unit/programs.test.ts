/** Which programs the tests find: one that this user cannot run must give a skip with its name, not a failure. */
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { afterEach, expect, test, vi } from "vitest";
import { programPath } from "../programs.ts";
import { freshDirectory } from "./engine/running-sidecar.ts";

afterEach(() => {
  vi.unstubAllEnvs();
});

test("finds the first executable file on the path", () => {
  const [first, second] = [freshDirectory(), freshDirectory()];
  vi.stubEnv("PATH", [first, second].join(delimiter));
  const put = (name: string, text: string, mode = 0o755) => {
    writeFileSync(join(first, name), text);
    chmodSync(join(first, name), mode);
  };
  const there = "#!/bin/sh\n";
  expect(programPath("fetcher-test-none")).toBeUndefined();
  put("a", there);
  expect(programPath("a")).toBe(join(first, "a"));
  put("b", there, 0o644);
  put("c", `#!${join(first, "no-interpreter")} -E\n`);
  put("d", "#! /bin/sh -e\n");
  put("e", "");
  mkdirSync(join(first, "f"));
  const found = ["b", "c", "d", "e", "f"].map((name) => programPath(name)?.slice(first.length + 1));
  expect(found).toEqual([undefined, undefined, "d", "e", undefined]);
  writeFileSync(join(second, "b"), there, { mode: 0o755 });
  expect(programPath("b")).toBe(join(second, "b"));
});
