/**
 * The whole program under test, on any runtime, with input from others. Whatever a configuration or a Vault says, the
 * program ends by itself with a status that has a meaning, and shows no secret. test/fuzz/ has more of this, within one
 * process.
 */
import * as fs from "node:fs";
import fc from "fast-check";
import { afterAll, expect, test } from "vitest";
import { CANARY, expectFitToSay } from "../fuzz/invariants.ts";
import { type Budget, target } from "../fuzz/target.ts";
import { configurationFile } from "../fuzz/targets/configurations.ts";
import { Answering } from "../fuzz/targets/server.ts";
import { exchange, settings } from "../fuzz/targets/vault.ts";
import { environmentOfExecutable, runsOnNode } from "../program.ts";
import { Place } from "./daemon.ts";

const seconds = process.env["FETCHER_FUZZ_SECONDS"];
const budget: Budget = {
  seed: Number(process.env["FETCHER_FUZZ_SEED"] ?? (seconds === undefined ? 20260101 : Date.now() % 2 ** 31)),
  ...(seconds === undefined ? { runs: 25, seconds: 240 } : { runs: Infinity, seconds: Number(seconds) / 10 }),
};
/** 0, and those of sysexits(3) that the manual has. */
const statuses = [0, 64, 66, 69, 73, 74, 77, 78];

async function run(place: Place, ...args: readonly string[]) {
  const program = place.spawn(args, { env: runsOnNode ? {} : environmentOfExecutable });
  // One that hangs is killed, and has no status.
  const limit = setTimeout(() => {
    program.signal("SIGKILL");
  }, 60_000);
  const { code, signal, stdout, stderr } = await program.exit;
  clearTimeout(limit);
  return { code, signal, said: `${stdout}${stderr}` };
}

function expectGoodEnd({ code, signal, said }: Awaited<ReturnType<typeof run>>): void {
  expect({ signal, said: signal === null ? "" : said }).toEqual({ signal: null, said: "" });
  expect(statuses).toContain(code);
  if (code !== 0) expect(said).not.toBe("");
  for (const line of said.split("\n")) {
    expectFitToSay(line);
    // A stack, of either engine.
    expect(line).not.toMatch(/^\s+at |TypeError|ReferenceError|RangeError|panic|\$bunfs/);
  }
}

test(
  "accepts a configuration file or refuses it in words",
  async () => {
    const place = new Place();
    const file = place.path("arbitrary.json");
    let refused = 0;
    const fuzzed = target({
      title: "a configuration file",
      input: configurationFile,
      async check(bytes) {
        fs.writeFileSync(file, bytes);
        const end = await run(place, "--check=config", "--config", file);
        expectGoodEnd(end);
        if (end.code !== 0) refused += 1;
      },
    });
    const tried = await fuzzed.run(budget);
    expect(tried).toBeGreaterThan(0);
    // Neither all good nor all bad: else nothing would be tried.
    if (tried > 20) expect(refused).toBeGreaterThan(tried / 4);
  },
  Infinity,
);

const server = new Answering();
afterAll(() => {
  server.close();
});

test(
  "whatever a Vault answers: publishes files, or reports an error that shows nothing of the answer",
  async () => {
    const place = new Place();
    const fuzzed = target({
      title: "answers of a Vault",
      input: fc.tuple(exchange, fc.constantFrom("--once", "--check")),
      async check([{ method, kvVersion, written, answers }, flag]) {
        server.answers = answers;
        server.asked = 0;
        const source = written ? { mount: "pki", path: "issue/x", data: { cn: "x" } } : {};
        const file = place.writeConfig({
          ...place.config([]),
          backend: "vault",
          config: settings(await server.url(), method, kvVersion),
          secrets: { a: { source }, b: { source: { ...source, key: "b" } } },
          startTimeout: 3,
        });
        expectGoodEnd(await run(place, flag, "--config", file));
        const said = fs.readdirSync(place.path("."), { recursive: true, withFileTypes: true });
        // In memory, and where its readers are: nowhere else.
        for (const entry of said)
          if (entry.isFile() && !entry.parentPath.startsWith(place.output))
            expect(fs.readFileSync(`${entry.parentPath}/${entry.name}`, "utf8")).not.toContain(`${CANARY} value`);
      },
    });
    expect(await fuzzed.run(budget)).toBeGreaterThan(0);
  },
  Infinity,
);
