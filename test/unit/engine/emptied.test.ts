/** What counts as empty: a failed writer's leftover, and not somebody's value. */
import { expect, test } from "vitest";
import { isEmpty } from "../../../src/engine/emptied.ts";

test.each([
  ["no byte", 0, true],
  ["a page of line ends", 4096, true],
  ["16 MiB of line ends, which would take seconds to look through", 16 * 1024 * 1024, false],
])("%s", (_, length, empty) => {
  expect(isEmpty(Buffer.alloc(length, "\n"))).toBe(empty);
});
