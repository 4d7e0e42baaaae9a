import fc from "fast-check";
import { expect, test } from "vitest";
import { MAX_VARIABLE_BYTES } from "../../src/publish/env-file.ts";
import { filtered } from "../../src/publish/filters.ts";
import {
  expectedValue,
  fileOf,
  longValue,
  misread,
  parseEnvironment,
  refused,
  secretValue,
  shortReport,
} from "../properties/secret-values.ts";
import { onEachGuest } from "./guests.ts";

onEachGuest("secrets.env as EnvironmentFile= of systemd", (guest) => {
  const path = "/run/env-file-test/secrets.env";
  const read = async (content: Buffer): Promise<{ code: number | null; seen: Map<string, Buffer> }> => {
    await guest.write(path, content);
    const unit = await guest.runUnit(["/usr/bin/env", "-0"], [`EnvironmentFile=${path}`], { check: false });
    return { code: unit.code, seen: parseEnvironment(Buffer.from(unit.stdout)) };
  };

  test("gives a service the exact bytes of 10,000 values", async () => {
    const systemdsOwn = [...(await read(Buffer.alloc(0))).seen.keys()];
    expect(systemdsOwn).toContain("INVOCATION_ID");
    let compared = 0;
    const batch = fc.tuple(
      fc.array(secretValue, { minLength: 700, maxLength: 800 }),
      fc.array(longValue, { maxLength: 2 }),
    );
    await fc.assert(
      fc.asyncProperty(batch, async ([values, long]) => {
        const { file, promised } = fileOf([...values, ...long]);
        const { code, seen } = await read(file.content);
        expect(code).toBe(0);
        expect(misread(promised, seen, systemdsOwn)).toEqual([]);
        compared += promised.size;
      }),
      { numRuns: 20, endOnFailure: true, reporter: shortReport },
    );
    expect(compared).toBeGreaterThanOrEqual(10_000);
  });

  test("gives a service the exact bytes of 800 values from a template's sh filter, line ends too", async () => {
    const values = fc
      .sample(secretValue, { numRuns: 800, seed: 15 })
      .filter((value) => expectedValue(value) !== undefined);
    expect(values.length).toBeGreaterThan(400);
    const lines = values.map((value, index) => [Buffer.from(`V${index}=`), filtered("sh", value), Buffer.from("\n")]);
    const { code, seen } = await read(Buffer.concat(lines.flat()));
    expect(code).toBe(0);
    const wrong = values.filter((value, index) => seen.get(`V${index}`)?.equals(value) !== true);
    expect(wrong.map((value) => value.toString("hex"))).toEqual([]);
  });

  test("leaves out only values that would cost the service its whole file", async () => {
    const withValue = (value: Buffer): Buffer =>
      Buffer.concat([Buffer.from("BEFORE='1'\nBAD='"), value, Buffer.from("'\nAFTER='2'\n")]);
    const good = await read(withValue(Buffer.from("\uFDCF\uFDF0\uFFFD\uFEFF\u{10FFFD}\x01\x7F\u0080")));
    expect(good.code).toBe(0);
    expect(good.seen.get("AFTER")?.toString()).toBe("2");
    for (const value of refused) {
      const { code, seen } = await read(withValue(value));
      if (value.includes(0)) {
        expect(seen.has("AFTER"), "systemd ends reading at a NUL byte").toBe(false);
        continue;
      }
      expect({ value: value.toString("hex"), started: code === 0, variables: seen.size }).toEqual({
        value: value.toString("hex"),
        started: false,
        variables: 0,
      });
    }
  });

  test("starts a service with the longest allowed variable, and not with one byte more", async () => {
    const longest = Buffer.alloc(MAX_VARIABLE_BYTES - "V0=".length, "x");
    const { file } = fileOf([longest]);
    expect((await read(file.content)).seen.get("V0")?.equals(longest)).toBe(true);
    expect((await read(Buffer.concat([Buffer.from("V0='x"), longest, Buffer.from("'\n")]))).code).not.toBe(0);
  });

  test("avoids the shell's usual '\\'' in the file, because systemd misreads it", async () => {
    const { seen } = await read(Buffer.from("V0='a'\\''b c'\n"));
    expect(seen.get("V0")?.toString()).not.toBe("a'b c");
  });
});
