import { expect, test } from "vitest";
import { BackendError } from "../../../src/contract/backend.ts";
import { LONGEST_MESSAGE, shortened } from "../../../src/contract/errors.ts";

test("limits the length of a store's text", () => {
  const { message } = new BackendError("unavailable", `the server said ${"x".repeat(1_000_000)}`);
  expect(message.length).toBe(LONGEST_MESSAGE + 1);
  expect(message).toMatch(/^the server said x+…$/);
});

test("cuts a text between characters", () => {
  expect(shortened("ab\u{1f600}c", 3)).toBe("ab…");
  expect(shortened("ab\u{1f600}", 4)).toBe("ab\u{1f600}");
});
