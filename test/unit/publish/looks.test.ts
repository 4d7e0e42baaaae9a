/**
 * Files are made in one piece, which a stop must wait for, and the executable has no compiler for JavaScript: if one of
 * these fails, a large value keeps it deaf for seconds. V8's coverage counts how often each block of the code runs.
 */
import { Session } from "node:inspector/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { encodeEnvFile } from "../../../src/publish/env-file.ts";
import { filtered, refusalOf } from "../../../src/publish/filters.ts";

const session = new Session();

// Once: what has been compiled without it is not counted.
beforeAll(async () => {
  session.connect();
  await session.post("Profiler.enable");
  await session.post("Profiler.startPreciseCoverage", { callCount: true, detailed: true });
});
afterAll(() => {
  session.disconnect();
});

/** @returns how often the block of src/publish ran that ran most, and where it is. */
async function mostRuns(work: () => unknown): Promise<{ readonly count: number; readonly where: string }> {
  // Counts begin anew.
  await session.post("Profiler.takePreciseCoverage");
  work();
  const { result } = await session.post("Profiler.takePreciseCoverage");
  const blocks = result
    .filter(({ url }) => url.includes("/src/publish/"))
    .flatMap(({ url, functions }) =>
      functions.flatMap(({ functionName, ranges }) =>
        ranges.map(({ count }) => ({ count, where: `${functionName} in ${url}` })),
      ),
    );
  expect(blocks).not.toEqual([]);
  return blocks.reduce((most, block) => (block.count > most.count ? block : most));
}

const KIB = 1024;
const repeated = (text: string, bytes: number) => Buffer.from(text.repeat(Math.floor(bytes / Buffer.byteLength(text))));

test.each([
  ["letters", "a"],
  ["U+1F600", "\u{1f600}"],
  ["U+FDC0, which is beside the noncharacters", "\ufdc0"],
])("secrets.env takes large values of %s without a look at each byte", async (_, character) => {
  const value = repeated(character, 120 * KIB);
  const requests = ["a", "b"].map((id) => ({ id, value, env: undefined, restricted: false }));
  const { count, where } = await mostRuns(() => encodeEnvFile(requests));
  expect(count, where).toBeLessThan(value.length / 100);
});

// Of the text of a certificate. The filters that are not here refuse line ends.
test.each(["json", "sh", "url", "dotenv"])(
  "the filter %s does not look at each byte of a large value",
  async (filter) => {
    const value = repeated(`${"A".repeat(64)}\n`, 120 * KIB);
    const { count, where } = await mostRuns(() => {
      expect(refusalOf(filter, value)).toBeUndefined();
      return filtered(filter, value);
    });
    expect(count, where).toBeLessThan(value.length / 16);
  },
);
