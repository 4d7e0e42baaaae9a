import { writeFileSync } from "node:fs";
import type { SerializedError } from "vitest";
import type { Reporter, TestModule } from "vitest/node";

/** The results of one file. */
export interface FileReport {
  /** Relative to the project. */
  readonly name: string;
  readonly passed: number;
  readonly skipped: number;
  readonly failures: readonly Failure[];
}

export interface Failure {
  readonly title: string;
  readonly messages: readonly string[];
  /** Whether a test failed; else the failure belongs to several tests, such as a hook. */
  readonly isTest: boolean;
}

export interface Report {
  readonly files: readonly FileReport[];
  /** Errors thrown outside all tests, which fail the run. */
  readonly unhandled: readonly string[];
}

/** Writes a report for a script. vitest's own JSON lacks failures in a hook of a group of tests. */
export default class ReportWriter implements Reporter {
  readonly #file: string;

  constructor({ file }: { readonly file: string }) {
    this.#file = file;
  }

  onTestRunEnd(modules: readonly TestModule[], unhandled: readonly SerializedError[]): void {
    const report: Report = { files: modules.map(reportOf), unhandled: messagesOf(unhandled) };
    writeFileSync(this.#file, JSON.stringify(report));
  }
}

function reportOf(module: TestModule): FileReport {
  const tests = [...module.children.allTests()];
  const failed = tests.filter((test) => test.result().state === "failed");
  const around = [module, ...module.children.allSuites()].filter((suite) => suite.errors().length > 0);
  return {
    name: module.relativeModuleId,
    passed: tests.filter((test) => test.result().state === "passed").length,
    skipped: tests.filter((test) => !["passed", "failed"].includes(test.result().state)).length,
    failures: [
      ...around.map((suite) => ({
        title: suite.type === "module" ? "the file" : suite.fullName,
        messages: messagesOf(suite.errors()),
        isTest: false,
      })),
      ...failed.map((test) => ({
        title: test.fullName,
        messages: messagesOf(test.result().errors ?? []),
        isTest: true,
      })),
      ...silent(module, around.length + failed.length),
    ],
  };
}

/** A file can fail without its own reason. */
function silent(module: TestModule, known: number): Failure[] {
  if (module.state() !== "failed" || known > 0) return [];
  return [{ title: "the file", messages: ["it failed, and nothing says of what"], isTest: false }];
}

function messagesOf(errors: readonly SerializedError[]): string[] {
  return errors.map(({ stack, message }) => stack ?? message);
}
