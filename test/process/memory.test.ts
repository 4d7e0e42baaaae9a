/**
 * The memory that a sidecar takes, seen from outside. If these fail, each sidecar of a host grows for as long as it
 * runs, though it holds only a few secrets.
 */
import { build } from "esbuild";
import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { environmentOfExecutable, runsOnNode } from "../program.ts";
import { eventually, Place } from "./daemon.ts";

/** Code that the engine compiles as it runs is memory that comes and stays. */
const asInTheUnit = environmentOfExecutable;

const loud = 'head -c 20000000 /dev/zero; echo x >>"$1"';

test("leaves nothing in memory of a program that prints more than a secret may have, however often", async () => {
  const place = new Place();
  const runs = place.path("runs");
  place.put({ token: "good" });
  fs.writeFileSync(place.path("program"), `if test -e "$1"; then ${loud}; else cat "$2/token"; fi`);
  const command = ["sh", place.path("program"), runs, place.store];
  const daemon = await place
    .start(
      place.config(["token"], {
        backend: "command",
        config: { command, secretsDir: undefined, pollingInterval: 0.05 },
      }),
      { env: asInTheUnit },
    )
    .ready();
  const before = privateMemory(daemon.pid);
  for (let outage = 1; outage <= 8; outage++) {
    const from = daemon.lines.length;
    fs.writeFileSync(runs, "");
    await daemon.says(/printed more than 16 MiB/, from);
    fs.rmSync(runs);
    await daemon.says(/answers again/, from);
  }
  // Of 8 times 16 MiB. The executable's engine keeps the last of them (docs/explanation/runtimes.md).
  expect(privateMemory(daemon.pid) - before).toBeLessThan(runsOnNode ? 8 : 24);
});

test("leaves nothing in memory after hundreds of rotations", async () => {
  const place = new Place();
  const [backend, count] = [place.path("changing.mjs"), place.path("count")];
  fs.writeFileSync(count, "0");
  fs.writeFileSync(
    backend,
    `import fs from "node:fs";
let count = 0;
export default {
  name: "changing",
  defaultPollingInterval: 600,
  parseSettings: () => ({}),
  parseSource: (id) => ({ id }),
  describe: ({ id }) => id,
  open: async () => ({
    async watch(requests, hint, signal) {
      for (; !signal.aborted; await new Promise((done) => setTimeout(done, 2))) hint();
    },
    async fetch(requests) {
      fs.writeFileSync(${JSON.stringify(count)}, String(++count));
      return new Map(requests.map(({ id }) => [id, { status: "value", value: Buffer.from("value " + count), version: "1" }]));
    },
  }),
};
`,
  );
  const config = { secretsDir: undefined };
  const onChange = { action: "none", settle: 0 };
  const daemon = place.start(place.config(["token"], { backend, config, onChange }), {
    args: ["--log-level", "error"],
    env: asInTheUnit,
  });
  const rotations = async (least: number) => {
    // However slow the machine is, as long as there are more.
    for (let more = 100; more <= least; more += 100)
      await eventually(`${more} rotations`, () => Number(fs.readFileSync(count, "utf8")) >= more);
    return privateMemory(daemon.pid);
  };
  const before = await rotations(200);
  const after = await rotations(1500);
  expect(after - before).toBeLessThan(3);
}, 300_000);

/**
 * The collector alone, with a clock of its own, and the heap alone: what a process has grows a little whatever it does. In
 * so small a heap V8 collects nothing by itself.
 */
const collector = `import { openCollector } from "./memory.ts";
let now = 0;
performance.now = () => now;
process.memoryUsage.rss = () => 0;
const collectIfWorthIt = openCollector();
const garbage = (bytes) => new WeakRef(new Uint8Array(bytes).fill(1));
const keptAfter = async (bytes, milliseconds) => {
  const old = garbage(bytes);
  now += milliseconds;
  await new Promise((done) => setTimeout(done, 1));
  collectIfWorthIt();
  return old.deref() !== undefined;
};
collectIfWorthIt();
const kept = [];
for (const [bytes, milliseconds] of JSON.parse(process.argv[2])) kept.push(await keptAfter(bytes, milliseconds));
console.log(JSON.stringify(kept));
`;

test("collects much unused memory at once, a little within about a minute", async () => {
  const place = new Place();
  const script = place.path("collector.mjs");
  await build({
    stdin: { contents: collector, resolveDir: join(import.meta.dirname, "../../src/runtime"), loader: "ts" },
    outfile: script,
    bundle: true,
    format: "esm",
    platform: "node",
  });
  const [much, some, minute] = [600 * 1024, 200 * 1024, 60_000];
  const kept = (...steps: readonly (readonly [bytes: number, milliseconds: number])[]): unknown =>
    JSON.parse(execFileSync(process.execPath, [script, JSON.stringify(steps)], { encoding: "utf8" }));
  expect(kept([much, 1])).toEqual([false]);
  expect(kept([some, 1], [some, minute + 1])).toEqual([true, false]);
});

/** MiB that no other process shares. */
function privateMemory(pid: number): number {
  const rollup = fs.readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
  const sizes = Array.from(rollup.matchAll(/^Private_(?:Clean|Dirty): +(\d+)/gm), ([, size]) => Number(size));
  return sizes.reduce((sum, size) => sum + size, 0) / 1024;
}
