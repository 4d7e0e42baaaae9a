import type { Reporter, TestCase, TestModule, Vitest } from "vitest/node";

/**
 * Lists the skipped tests with their reasons, before vitest's own counts. It lists a skip without a reason as just
 * that, and FETCHER_TEST_REQUIRE=all makes it fail the run.
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

  /** With `-t`, every test that does not match counts as skipped. */
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
