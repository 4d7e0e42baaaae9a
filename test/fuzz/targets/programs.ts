import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, expect } from "vitest";
import { configOf } from "../../unit/command-line.ts";
import { text } from "../arbitraries.ts";
import { CANARY } from "../invariants.ts";
import { target } from "../target.ts";
import { fetchAll } from "./store.ts";

const output = fc.oneof(
  fc.uint8Array({ maxLength: 100 }).map((bytes) => Buffer.from(bytes)),
  fc
    .array(fc.oneof(text, fc.constantFrom(CANARY, `error: ${CANARY}`, "plain words", `"${CANARY}",`)), { maxLength: 9 })
    .map((parts) => Buffer.from(parts.join(" "))),
  fc.nat({ max: 300_000 }).map((length) => Buffer.alloc(length, CANARY)),
);

let place: string | undefined;
afterAll(() => {
  if (place !== undefined) rmSync(place, { recursive: true });
});

export const programs = target({
  title: "whatever a program prints and however it ends, its output is the value or one line shows nothing of it",
  weight: 3,
  input: fc.record({
    out: output,
    err: output,
    end: fc.oneof(
      fc.constant("exit 0"),
      fc.nat({ max: 255 }).map((code) => `exit ${code}`),
      fc.constantFrom("kill -9 $$", "kill $$", "kill -STOP $$"),
    ),
    name: fc.oneof(
      fc.constant("/bin/sh"),
      fc.constant("/bin/sh"),
      fc.constant("/bin/sh"),
      text.filter((word) => !word.includes("\0") && word !== ""),
    ),
  }),
  found: [{ out: Buffer.alloc(0), err: Buffer.alloc(0), end: "exit 0", name: "\u0085" }],
  async check({ out, err, end, name }) {
    place ??= mkdtempSync(join(tmpdir(), "fuzz-programs-"));
    writeFileSync(join(place, "out"), out);
    writeFileSync(join(place, "err"), err);
    const command = [name, "-c", `cat ${place}/out; cat ${place}/err >&2; ${end}`];
    const timeout = end.includes("STOP") ? 0.3 : 20;
    const config = configOf({
      backend: "command",
      config: { command, timeout },
      secrets: { a: { source: { args: [] } } },
    });
    const [value] = await fetchAll(config, 1, 60);
    if (name === "/bin/sh" && end === "exit 0") expect(value?.equals(out)).toBe(true);
    else if (name === "/bin/sh") expect(value).toBeUndefined();
  },
});
