import { writeFileSync } from "node:fs";
import type { SerializedError } from "vitest";
import type { Reporter, TestModule } from "vitest/node";

/** Of one file. */
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
  /** Whether a test failed; else it is what belongs to several, such as a hook. */
  readonly isTest: boolean;
}

export interface Report {
  readonly files: readonly FileReport[];
  /** What was thrown outside of all tests, which fails the run. */
  readonly unhandled: readonly string[];
}

/** Writes what a script is to read. vitest's own JSON does not have what fails in a hook of a group of tests. */
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

/** A file can have failed without saying of what. */
function silent(module: TestModule, known: number): Failure[] {
  if (module.state() !== "failed" || known > 0) return [];
  return [{ title: "the file", messages: ["it failed, and nothing says of what"], isTest: false }];
}

function messagesOf(errors: readonly SerializedError[]): string[] {
  return errors.map(({ stack, message }) => stack ?? message);
}
