/** SIGKILL at random moments of publishing. What a target reads afterwards is its old set or its new one. */
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { type Daemon, eventually, Place } from "./daemon.ts";
import { fakeSystemctl } from "./fake-systemctl.ts";
import { Generations } from "./generations.ts";

/** Milliseconds. */
const MINUTES = 60_000;

/** 500 in all; on a disk each file is synced, which takes its time. */
describe.each([
  ["in memory", "/dev/shm", 350],
  ["on disk", fs.realpathSync(tmpdir()), 150],
])("%s", (_, parent, kills) => {
  test(
    `${kills} kills: no name is ever missing or torn, and the next start has one whole set again`,
    async () => {
      const place = new Place(parent);
      const store = new Generations(place);
      const windows = await measure(place, store);
      const seen = { stage: 0, commit: 0, old: 0, new: 0, mixed: 0 };
      let daemon = await started(place, store);
      // Chance decides how many hit the stage: more are made until these are enough.
      for (let kill = 1; kill <= kills || (seen.stage <= kills / 25 && kill <= 2 * kills); kill += 1) {
        const before = store.lookAtRest();
        if (Math.random() < 0.2) daemon = await killedAtStart(place, store, daemon, windows);
        else await killedAtRotation(place, store, daemon, windows);

        const { generations, interrupted } = store.look();
        const kinds = new Set(generations.values());
        if (kinds.size > 1) seen.mixed += 1;
        seen[interrupted ?? (kinds.has(before) ? "old" : "new")] += 1;

        if (Math.random() < 0.3) {
          // The store is away: the old set or the new one, but all of it.
          store.loseAll();
          daemon = await place.start(store.config).ready();
          store.confirmed = store.lookAtRest();
          store.next();
          await daemon.end("SIGKILL");
        }
        daemon = await started(place, store);
      }
      console.log(`${parent}: what ${kills} kills left: ${JSON.stringify(seen)}`);
      // Else the kills missed what they were meant for, and this test says nothing.
      expect(seen.stage).toBeGreaterThan(kills / 25);
      expect(seen.commit).toBeGreaterThan(0);
    },
    10 * MINUTES,
  );
});

test(
  "60 kills between a change and the end of its action: the target always gets the last set in the end",
  async () => {
    const place = new Place("/dev/shm");
    const store = new Generations(place);
    const systemctl = fakeSystemctl(place, join(place.output, "a"));
    const config = { ...store.config, service: "target.service" };
    const lastRead = () => systemctl.calls().at(-1)?.split(" -> ")[1];
    const start = () => place.start(config, systemctl).ready();
    let daemon = await start();
    const begun = performance.now();
    store.next();
    daemon.signal("SIGHUP");
    await daemon.says(/restart done/);
    const window = performance.now() - begun;
    for (let kill = 1; kill <= 60; kill += 1) {
      store.next();
      daemon.signal("SIGHUP");
      await killAfter(daemon, Math.random() * window);
      daemon = await start();
      expect(store.lookAtRest()).toBe(store.newest);
      await eventually(`the action for generation ${store.newest}`, () => lastRead() === store.sample(store.newest));
    }
  },
  10 * MINUTES,
);

interface Windows {
  /** Milliseconds from exec to READY, from SIGHUP to the first sign of a publish, and from that to its end. */
  readonly start: number;
  readonly fetch: number;
  readonly publish: number;
}

/** How long things take here, so that kills can be spread over them. */
async function measure(place: Place, store: Generations): Promise<Windows> {
  const begun = performance.now();
  const daemon = await started(place, store);
  const start = performance.now() - begun;
  const fetches: number[] = [];
  const publishes: number[] = [];
  for (let round = 0; round < 15; round += 1) {
    const hungUp = performance.now();
    const sign = firstSign(place, () => daemon);
    await rotated(store, daemon);
    publishes.push(performance.now() - (await sign));
    fetches.push((await sign) - hungUp);
  }
  await daemon.end("SIGKILL");
  return { start, fetch: median(fetches), publish: median(publishes) };
}

async function started(place: Place, store: Generations): Promise<Daemon> {
  const daemon = await place.start(store.config).ready();
  expect(store.lookAtRest()).toBe(store.newest);
  store.confirmed = store.newest;
  return daemon;
}

/** Some rotations go well, the last one is cut off: anywhere from the signal on, or in the midst of its publish. */
async function killedAtRotation(place: Place, store: Generations, daemon: Daemon, windows: Windows): Promise<void> {
  for (let well = Math.floor(Math.random() * 3); well > 0; well -= 1) await rotated(store, daemon);
  const choice = Math.random();
  if (choice < 0.2) {
    store.next();
    daemon.signal("SIGHUP");
    await killAfter(daemon, Math.random() * 1.2 * (windows.fetch + windows.publish));
    return;
  }
  // Half of them wait for the short time in which files are renamed.
  const half = choice < 0.6;
  // Before the change: the daemon's own watch may be quicker than the signal.
  const sign = firstSign(place, () => daemon, half ? ".fetcher-commit-" : "");
  store.next();
  daemon.signal("SIGHUP");
  await sign;
  await killAfter(daemon, Math.random() * windows.publish * (half ? 0.1 : 1));
}

/** One rotation that goes well. */
async function rotated(store: Generations, daemon: Daemon): Promise<void> {
  const lines = daemon.lines.length;
  store.next();
  daemon.signal("SIGHUP");
  await daemon.says(/^published/, lines);
  store.confirmed = store.newest;
}

/** A start that mends and publishes is cut off itself. */
async function killedAtStart(place: Place, store: Generations, last: Daemon, windows: Windows): Promise<Daemon> {
  await last.end("SIGKILL");
  store.next();
  const given: { daemon?: Daemon } = {};
  // Before the start: on a busy machine the executable may have published by the time that this process continues.
  const sign = Math.random() < 0.5 ? firstSign(place, () => given.daemon) : undefined;
  const daemon = (given.daemon = place.start(store.config));
  if (sign !== undefined) await sign;
  else await new Promise((resolve) => setTimeout(resolve, (0.5 + Math.random() * 0.4) * windows.start));
  await killAfter(daemon, Math.random() * windows.publish);
  return daemon;
}

/**
 * Resolves when something appears in the output: a stage is made first.
 *
 * @param process what it says is in the error. @param prefix of its name.
 * @returns when, as performance.now().
 */
function firstSign(place: Place, process: () => Daemon | undefined, prefix = ""): Promise<number> {
  return new Promise((resolve, reject) => {
    const watcher = fs.watch(place.output, (_, name) => {
      if (name?.startsWith(prefix) === false) return;
      clearTimeout(limit);
      watcher.close();
      resolve(performance.now());
    });
    const limit = setTimeout(() => {
      watcher.close();
      const said = process()?.stderr.split("\n").slice(-20).join("\n");
      reject(
        new Error(`nothing that begins with "${prefix}" appeared in the output; the process said:\n${said ?? ""}`),
      );
    }, MINUTES);
  });
}

/** Timers are too coarse for a commit of some renames. */
async function killAfter(daemon: Daemon, milliseconds: number): Promise<void> {
  for (const end = performance.now() + milliseconds; performance.now() < end;);
  await daemon.end("SIGKILL");
}

function median(numbers: readonly number[]): number {
  return numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? 0;
}
