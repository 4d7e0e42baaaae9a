import { expect, test } from "vitest";
import { encoded } from "../../../src/contract/text.ts";

test.each(["", "plain", "naïve 🔑 \u2028", "half a pair: \ud800.", "a\0b", "x".repeat(10_000)])(
  "text %j becomes the bytes that Node makes of it, in memory of their own",
  (text) => {
    const bytes = encoded(text);
    expect(bytes.equals(Buffer.from(text))).toBe(true);
    expect(bytes.buffer.byteLength).toBe(bytes.length);
    expect(encoded(text, "latin1").equals(Buffer.from(text, "latin1"))).toBe(true);
  },
);

test.each([0, 1, 2, 3, 4, 100])("%j bytes come back from base64", (length) => {
  const bytes = Buffer.alloc(length, 0xfb);
  expect(encoded(bytes.toString("base64"), "base64").equals(bytes)).toBe(true);
});
