/** The one line that an operator sees in `systemctl status`. */
import { describe, expect, test } from "vitest";
import { counted, statusText } from "../../../src/engine/status.ts";
import { clockTime } from "../../../src/runtime/clock.ts";

const at = new Date("2026-01-01T12:00:00Z");
const text = (versions: Readonly<Record<string, string>>, more: readonly (string | undefined)[] = [], date?: Date) =>
  statusText("vault", new Map(Object.entries(versions)), date, more);

describe("STATUS", () => {
  test("says how many secrets there are, from where, and when the store was last asked for them", () => {
    expect(text({})).toBe("0 secrets from vault, not checked yet");
    expect(text({ a: "3" })).toBe("1 secret from vault, version 3, not checked yet");
    expect(text({ a: "3", b: "4" }, [], at)).toBe(`2 secrets from vault, checked at ${clockTime(at)}`);
  });

  test("has the version only where it is that of all, and short enough not to hide what is wrong", () => {
    expect(text({ a: "3", b: "3" })).toBe("2 secrets from vault, version 3, not checked yet");
    expect(text({ a: "3", b: "4" })).not.toContain("version");
    expect(text({ a: "v".repeat(40) })).toContain(`version ${"v".repeat(40)},`);
    expect(text({ a: "v".repeat(41) })).toBe("1 secret from vault, not checked yet");
  });

  test("ends with all that is wrong or under way, in that order", () => {
    expect(text({ a: "3" }, [undefined, "the disk is full", undefined, "restart of app.service is in progress"])).toBe(
      "1 secret from vault, version 3, not checked yet; the disk is full; restart of app.service is in progress",
    );
  });
});

test("one is not many", () => {
  expect([0, 1, 2].map((number) => counted(number, "secret"))).toEqual(["0 secrets", "1 secret", "2 secrets"]);
});
