/** Small reads of the kernel's own files. If this fails, names that must not be foreseen repeat, or a reboot goes unnoticed. */
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { readShort } from "../../../src/output/system-calls.ts";
import { randomName } from "../../../src/output/random-name.ts";

test("reads the whole line of a file of the kernel", () => {
  const path = "/proc/sys/kernel/random/boot_id";
  expect(readShort(path)).toBe(readFileSync(path, "utf8"));
  expect(() => readShort("/proc/sys/kernel/no-such-file")).toThrow("ENOENT");
});

test("each random name is another one, of twelve hexadecimal digits", () => {
  const names = new Set(Array.from({ length: 50 }, randomName));
  expect(names.size).toBe(50);
  for (const name of names) expect(name).toMatch(/^[0-9a-f]{12}$/);
});
