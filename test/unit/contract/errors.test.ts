import { expect, test } from "vitest";
import { BackendError } from "../../../src/contract/backend.ts";
import { LONGEST_MESSAGE, shortened } from "../../../src/contract/errors.ts";

test("what a store chose makes no line without an end", () => {
  const { message } = new BackendError("unavailable", `the server said ${"x".repeat(1_000_000)}`);
  expect(message.length).toBe(LONGEST_MESSAGE + 1);
  expect(message).toMatch(/^the server said x+…$/);
});

test("a text is cut between characters", () => {
  expect(shortened("ab\u{1f600}c", 3)).toBe("ab…");
  expect(shortened("ab\u{1f600}", 4)).toBe("ab\u{1f600}");
});
