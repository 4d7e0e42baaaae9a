/**
 * The backends on plain files, as the executable reads them: what holds for the usual way holds here. If this fails, the
 * executable publishes what no file holds, or hangs on what is no file.
 */
import { expect, test } from "vitest";
import { readAsExecutable } from "../../native-addon.ts";
import { missing, needs } from "../../requirements.ts";

if (missing("gcc") === undefined) {
  const used = readAsExecutable();
  await import("./folder.test.ts");
  await import("../../contract/files.test.ts");
  test("these tests have used it", () => {
    expect(used()).toBeGreaterThan(10);
  });
} else needs("gcc").test("reads as the executable", () => undefined);
