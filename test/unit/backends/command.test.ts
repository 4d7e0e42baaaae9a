import { expect, test, vi } from "vitest";
import command from "../../../backends/command.ts";
import * as helper from "../../../src/contract/helper-command.ts";

vi.mock("../../../src/contract/helper-command.ts");

test.each([{ end: "exit", code: 1 } as const, { end: "signal", signal: "SIGSEGV" } as const])(
  "overwrites the output of a program that failed: %j",
  async (end) => {
    const stdout = Buffer.from("half of the secret");
    vi.mocked(helper.runForBytes).mockResolvedValue({ ...end, stdout, stderr: Buffer.alloc(0) });
    const settings = command.parseSettings({ command: ["true"] });
    const opened = await command.open(settings, {} as never);
    const request = { id: "a", source: command.parseSource("a", {}, settings) };
    const outcomes = await opened.fetch([request], new AbortController().signal);
    expect(outcomes.get("a")).toMatchObject({ kind: "unavailable" });
    expect(stdout).toEqual(Buffer.alloc("half of the secret".length));
  },
);

test("a command line in one string is refused with the form that is wanted", () => {
  expect(() => command.parseSettings({ command: "pass show" })).toThrow(
    'command: expected an array of strings: ["program", "argument"]',
  );
});
