/** The code that makes a unit, looks for it or removes it must mean the same one. */
import { execFileSync } from "node:child_process";
import { describe, expect, test } from "vitest";
import * as names from "../../../src/config/unit-names.ts";
import { needs } from "../../requirements.ts";

describe("finds a service's name in its sidecar's", () => {
  test.each(["hello", "a-b", "a.b", "hello-secrets", "fetcher", "x_40y"])("%s", (name) => {
    for (const sidecar of [names.sidecarOf(name), names.insteadOf(names.sidecarOf(name)), names.byHandOf(name)])
      expect(names.serviceIn(names.unitOf(sidecar))).toBe(name);
    expect(names.keepsItsName(name)).toBe(true);
  });
});

test("names that differ only in special characters have their own sidecars, whichever name is looked up", () => {
  expect([names.sidecarOf("app@a"), names.otherSidecarOf("app@a")]).toEqual(["app-a-secrets", "app_40a-secrets"]);
  expect(names.otherSidecarOf(String.raw`a\b:c`)).toBe("a_5cb_3ac-secrets");
  expect(names.keepsItsName("app@a")).toBe(false);
  // app-a-secrets may belong to app-a.
  expect(names.sidecarsFor("app@a")[0]).toBe("app_40a-secrets.service");
});

test("looks for the sidecar in every possible place, and once in each", () => {
  expect(names.sidecarsFor("hello")).toEqual([
    "hello-secrets.service",
    "hello-fetcher-secrets.service",
    "fetcher@hello.service",
    "hello.service",
  ]);
});

test("names a sidecar's units and drop-ins", () => {
  expect(names.actOf("hello-secrets")).toBe("hello-secrets-act");
  expect(names.dropInOf("hello.service", "hello-secrets")).toBe("hello.service.d/50-hello-secrets.conf");
  expect(names.byHandPattern).toBe("fetcher@*.service");
});

describe("a name that no service can have", () => {
  test.each<[string, string]>([
    ...["", "a b", "a/b", "@a", "@", "ü", "%n", "a\n"].map((name): [string, string] => [
      name,
      "is not the name of a service",
    ]),
    ["a@", "is a template: each instance has a file of its own"],
    ["a".repeat(246), "has 246 characters: systemd can have drop-ins for 245 at most"],
  ])("%j", (name, problem) => {
    expect(names.problemOf(name)).toContain(problem);
  });
  test.each(["a", "-a", "a@b", "a@b@c", String.raw`a\x2db`, "a:b", "a".repeat(245)])("but accepts %s", (name) => {
    expect(names.problemOf(name)).toBeUndefined();
  });
});

test("the longest names have sidecars with units that systemd can load, and no two share one", () => {
  const sidecars = ["a", "b", "@", ":"].map((end) => names.sidecarOf(`${"n".repeat(200)}@${"n".repeat(43)}${end}`));
  expect(new Set(sidecars).size).toBe(4);
  const units = sidecars.map(names.insteadOf).flatMap(names.unitsOf);
  // "systemd-private-", 32 digits, "-", the unit and "-XXXXXX" are the name of its /tmp.
  expect(Math.max(...units.map((unit) => unit.length))).toBe(255 - 16 - 32 - 1 - 7);
});

needs("systemd-escape").test("reverses systemd-escape", () => {
  for (const text of ["plain", "a-b/c", "grün", "a b@c"]) {
    const escaped = execFileSync("systemd-escape", ["--", text], { encoding: "utf8" }).trim();
    expect(names.unescaped(escaped)).toBe(text);
  }
});
