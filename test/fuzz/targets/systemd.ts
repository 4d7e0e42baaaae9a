import fc from "fast-check";
import { expect } from "vitest";
import { parseShow, parseTimeSpan } from "../../../src/systemd/systemctl.ts";
import { corrupted, text } from "../arbitraries.ts";
import { target } from "../target.ts";

const answer =
  "LoadState=loaded\nActiveState=active\nSubState=running\nType=simple\nRemainAfterExit=no\nCanReload=no\n" +
  "InactiveExitTimestampMonotonic=123\nActiveExitTimestampMonotonic=100\nExecMainStartTimestampMonotonic=456\nStartLimitIntervalUSec=1min 10s\nStartLimitBurst=5\n";
const span = fc.array(fc.oneof(fc.nat().map(String), fc.constantFrom("s", "min", "us", " ", ".", "infinity"), text), {
  maxLength: 9,
});

export const systemctlAnswers = target({
  title: "an answer of systemctl is understood or is none",
  weight: 1,
  input: fc.tuple(
    fc.oneof(corrupted(answer), text),
    span.map((parts) => parts.join("")),
  ),
  check([shown, time]) {
    const state = parseShow(shown);
    if (state !== undefined) expect(typeof state.activeState).toBe("string");
    expect(typeof parseTimeSpan(time)).toBe("number");
  },
});
