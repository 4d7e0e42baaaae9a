/**
 * What .ci/run says in the end: a run that fails without a message, or passes because a report is missing, proves
 * nothing.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { project } from "../markdown.ts";
import type { FileReport, Report } from "../report.ts";

const broken = { title: "it holds", messages: ["Error: it does not"], isTest: true };

function file(name: string, ...failures: FileReport["failures"]): FileReport {
  return { name, passed: 2, skipped: 1, failures };
}

function directory(reports: Record<string, Report>): string {
  const path = mkdtempSync(join(tmpdir(), "fetcher-reports-"));
  onTestFinished(() => {
    rmSync(path, { recursive: true });
  });
  for (const [name, report] of Object.entries(reports))
    writeFileSync(join(path, `${name}.json`), JSON.stringify(report));
  return path;
}

function reports(...args: readonly string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [join(project, ".ci/reports.mjs"), ...args], {
    encoding: "utf8",
    env: { ...process.env, WITHOUT: "without tpm2: there is none\n" },
  });
  expect(stderr).toBe("");
  return { status, lines: stdout.trimEnd().split("\n") };
}

test("counts all phases together", () => {
  const place = directory({
    first: { files: [file("test/unit/a.test.ts")], unhandled: [] },
    second: { files: [file("test/unit/a.test.ts"), file("test/unit/b.test.ts")], unhandled: [] },
  });
  expect(reports("sum", place, "first", "second")).toEqual({
    status: 0,
    lines: ["without tpm2: there is none", "6 passed, 0 failed, 3 skipped"],
  });
});

test("reports a first failure, and counts the first result when it ran again", () => {
  const place = directory({
    first: { files: [file("test/unit/a.test.ts", broken)], unhandled: [] },
    "first.again": { files: [file("test/unit/a.test.ts")], unhandled: [] },
  });
  const { status, lines } = reports("sum", place, "first");
  expect(lines).toContain("FAILED AT FIRST test/unit/a.test.ts: it holds");
  expect({ status, last: lines.at(-1) }).toEqual({ status: 0, last: "2 passed, 0 failed, 1 skipped" });
});

test("fails the run for a failure, in a test or outside of all", () => {
  const place = directory({
    first: { files: [file("test/unit/a.test.ts", broken)], unhandled: ["Error: thrown later"] },
  });
  const { status, lines } = reports("sum", place, "first");
  expect(lines).toContain("FAILED test/unit/a.test.ts: it holds");
  expect(lines).toContain("FAILED outside of all tests: Error: thrown later");
  expect({ status, last: lines.at(-1) }).toEqual({ status: 1, last: "2 passed, 2 failed, 1 skipped" });
});

test("fails the run for a phase that ended without a report, and lists the others", () => {
  const place = directory({ second: { files: [file("test/unit/a.test.ts")], unhandled: [] } });
  expect(reports("to-repeat", join(place, "first.json"))).toEqual({ status: 1, lines: [""] });
  const { status, lines } = reports("sum", place, "first", "second");
  expect(lines).toContain('FAILED the phase "first": it was ended before it could report');
  expect({ status, last: lines.at(-1) }).toEqual({ status: 1, last: "2 passed, 1 failed, 1 skipped" });
});

test("does not repeat a random test, because another run would be another test", () => {
  const unhandled: readonly string[] = [];
  const once = directory({ first: { files: [file("test/unit/a.test.ts", broken), file("b")], unhandled } });
  expect(reports("to-repeat", join(once, "first.json"))).toEqual({ status: 0, lines: ["test/unit/a.test.ts"] });
  const files = ["soak/soak", "fuzz/fuzz", "unit/a"].map((name) => file(`test/${name}.test.ts`, broken));
  const random = directory({ first: { files, unhandled } });
  expect(reports("to-repeat", join(random, "first.json"))).toEqual({ status: 1, lines: ["test/unit/a.test.ts"] });
});
