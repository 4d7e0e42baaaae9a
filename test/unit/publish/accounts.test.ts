/**
 * If we cannot give a file away, the error names the option: it must not be a system call that fails in the middle of a
 * publish.
 */
import { expect, test } from "vitest";
import { canGiveTo } from "../../../src/publish/accounts.ts";

const status = (capabilities: string) => `Name:\tfetcher\nCapEff:\t${capabilities}\nCapBnd:\t000001ffffffffff\n`;
const other = 4_000_000_000;

test.each([
  ["with all capabilities", "000001ffffffffff", true],
  ["with CAP_CHOWN alone", "0000000000000001", true],
  ["with CAP_DAC_READ_SEARCH alone", "0000000000000004", false],
  ["with none", "0000000000000000", false],
])("%s: can give a file to another user and group: %s is %s", (_, capabilities, can) => {
  expect(canGiveTo("passwd", other, status(capabilities))).toBe(can);
  expect(canGiveTo("group", other, status(capabilities))).toBe(can);
});

test("a process without capabilities can give files to itself and its own groups", () => {
  const none = status("0000000000000000");
  expect(canGiveTo("passwd", process.geteuid?.() ?? -1, none)).toBe(true);
  for (const group of [process.getegid?.() ?? -1, ...(process.getgroups?.() ?? [])])
    expect(canGiveTo("group", group, none)).toBe(true);
});
