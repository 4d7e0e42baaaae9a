import type { Reporter, TestCase, TestModule, Vitest } from "vitest/node";

/**
 * Lists what was skipped and why, before vitest's own counts. A skip without a reason is listed as just that, and with
 * FETCHER_TEST_REQUIRE=all it fails the run.
 */
export default class SkipReporter implements Reporter {
  #vitest: Vitest | undefined;

  onInit(vitest: Vitest): void {
    this.#vitest = vitest;
  }

  onTestRunEnd(modules: readonly TestModule[]): void {
    const byReason = new Map<string, TestCase[]>();
    for (const module of modules) {
      for (const test of module.children.allTests("skipped")) {
        const reason = test.meta().missing ?? (this.#filtered() ? undefined : noReason);
        if (reason === undefined) continue;
        byReason.set(reason, [...(byReason.get(reason) ?? []), test]);
      }
    }
    const lines = [...byReason].flatMap(([reason, tests]) => [
      `\n ${tests.length} skipped, ${reason}`,
      ...perSuite(tests).map((line) => `   ${line}`),
    ]);
    if (byReason.has(noReason) && process.env["FETCHER_TEST_REQUIRE"]?.startsWith("all") === true) process.exitCode = 1;
    if (lines.length > 0) this.#vitest?.logger.log(lines.join("\n"));
  }

  /** With `-t`, whatever does not match counts as skipped. */
  #filtered(): boolean {
    return this.#vitest?.config.testNamePattern !== undefined;
  }
}

const noReason = "no reason is given";

/** `test/e2e/x.test.ts > lifecycle on trixie: 31 tests`, or the test itself where it stands alone. */
function perSuite(tests: readonly TestCase[]): string[] {
  const counts = new Map<string, number>();
  for (const test of tests) {
    const titles = test.fullName.split(" > ");
    const name = `${test.module.relativeModuleId} > ${titles[0] ?? ""}`;
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  return [...counts].map(([name, count]) => (count === 1 ? name : `${name}: ${count} tests`));
}
