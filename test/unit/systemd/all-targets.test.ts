/**
 * Several targets of one sidecar, and the mark on disk: a crash must neither lose an action nor cause a useless one.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { Publisher } from "../../../src/publish/publisher.ts";
import type { Systemd } from "../../../src/systemd/systemctl.ts";
import { AllTargets } from "../../../src/systemd/all-targets.ts";
import { configOf } from "../command-line.ts";
import { FakeClock, FakeSystemd, recordingLog, settled } from "../fakes.ts";

const units = ["web.service", "job.service"] as const;

/** A systemd with two units. */
function fakeSystemds(clock: FakeClock) {
  const [web, job] = [new FakeSystemd(clock), new FakeSystemd(clock)];
  const of = (unit: string) => (unit === "web.service" ? web : job);
  const both: Systemd = {
    show: (unit) => of(unit).show(),
    restart: (unit, stop) => of(unit).restart(unit, stop),
    reload: (unit, stop) => of(unit).reload(unit, stop),
    signal: (unit, signal, stop) => of(unit).signal(unit, signal, stop),
    revive: (unit, stop) => of(unit).revive(unit, stop),
    reviveBoth: (unit) => of(unit).reviveBoth(unit),
    isStopping: () => web.isStopping(),
  };
  return { web, job, both };
}

async function targetsOf(onChange: object = {}) {
  const directory = mkdtempSync(join(tmpdir(), "fetcher-targets-"));
  const stop = new AbortController();
  const clock = new FakeClock();
  const { web, job, both } = fakeSystemds(clock);
  const log = recordingLog();
  const configFor = (service: readonly string[], differing: object = {}) =>
    configOf({
      service: [...service],
      secrets: { a: {} },
      output: { directory },
      onChange: { minInterval: 0, ...onChange, ...differing },
    });
  const config = configFor(units);
  if (config.output === undefined) throw new Error("no output");
  const publisher = await Publisher.open(config, config.output);
  publisher.recover();
  publisher.stage(new Map([["a", Buffer.from("1")]]), false).commit();
  let applied = 0;
  let changed = 0;
  const unmarked: boolean[] = [];
  const targets = new AllTargets({
    config,
    publisher,
    systemd: both,
    log,
    clock,
    random: () => 0.5,
    changed: () => {
      changed += 1;
    },
    applied: () => {
      applied += 1;
    },
    unmarked: (is) => unmarked.push(is),
  });
  const running = targets.run(stop.signal);
  onTestFinished(async () => {
    stop.abort();
    await running;
    rmSync(directory, { recursive: true, force: true });
  });
  const state = () =>
    JSON.parse(readFileSync(join(directory, ".fetcher-state"), "utf8")) as {
      pending: { publishedAt: number | null } | null;
      starts: { units: Record<string, number[]> } | null;
    };
  const block = () => {
    rmSync(directory, { recursive: true });
    writeFileSync(directory, "a file where the directory was");
  };
  const unblock = () => {
    rmSync(directory);
  };
  return {
    ...{ targets, clock, web, job, log, publisher, state, block, unblock, unmarked, configFor },
    applied: () => applied,
    changed: () => changed,
  };
}

test("keeps the action due on disk until the last target has had it, and only then ends old leases", async () => {
  const { targets, clock, web, job, state, applied, log } = await targetsOf();
  job.jobTime = 30;
  const publishedAt = clock.monotonic();
  targets.request(["a"]);
  expect(state().pending).toMatchObject({ publishedAt });
  await clock.advance(5);
  expect(web.starts).toHaveLength(1);
  expect(state().pending).toMatchObject({ publishedAt });
  expect(applied()).toBe(0);
  await clock.advance(30);
  expect(job.starts).toHaveLength(1);
  expect(state().pending).toBeNull();
  expect(applied()).toBe(1);
  expect(log.lines).toContainEqual({ level: "debug", message: "asking for the action", fields: { secrets: ["a"] } });
});

test("does not end a lease that one target may still use", async () => {
  const { targets, clock, web, job, state, applied } = await targetsOf();
  job.state = { ...job.state, loaded: false, activeState: "inactive" };
  targets.request(["a"]);
  await clock.advance(5);
  expect(web.starts).toHaveLength(1);
  expect(state().pending).toBeNull();
  expect(applied()).toBe(0);
  expect(targets.statuses).toEqual(["job.service does not exist, so nothing can use the new secrets"]);
});

test("STATUS has a line for each waiting target, and follows each change", async () => {
  const { targets, clock, web, job, changed } = await targetsOf();
  expect(targets.statuses).toEqual([]);
  web.state = { ...web.state, activeState: "activating" };
  job.state = { ...job.state, activeState: "reloading" };
  targets.request(["a"]);
  await clock.advance(1);
  expect(targets.statuses).toEqual([
    "restart of web.service waits: it is activating",
    "restart of job.service waits: it is reloading",
  ]);
  expect(changed()).toBe(2);
});

test("action none notifies no target, and drops a due action", async () => {
  const { targets, clock, web, job, publisher, state } = await targetsOf({ action: "none" });
  expect(targets.none).toBe(true);
  publisher.setPending(1);
  targets.resume({ pending: undefined });
  expect(state().pending).not.toBeNull();
  targets.resume({ pending: { publishedAt: 1 } });
  await clock.advance(5);
  expect(state().pending).toBeNull();
  expect([...web.jobs, ...job.jobs]).toEqual([]);
});

test("acts for an earlier set only on targets that have not started since", async () => {
  const { targets, clock, web, job, state } = await targetsOf();
  expect(targets.none).toBe(false);
  const publishedAt = clock.monotonic();
  await clock.advance(10);
  web.start();
  await clock.advance(10);
  targets.request(["a"], publishedAt);
  expect(state().pending).toMatchObject({ publishedAt });
  await clock.advance(10);
  expect(web.jobs.map(({ what }) => what)).toEqual(["start"]);
  expect(job.jobs.map(({ what }) => what)).toEqual(["restart job.service", "start"]);
});

test("does an action that a crash prevented, unless the target has started since", async () => {
  const { targets, clock, web, job } = await targetsOf();
  const publishedAt = clock.monotonic() - 1e6;
  web.state = { ...web.state, leftInactiveAt: publishedAt + 1 };
  targets.resume({ pending: { publishedAt } });
  await clock.advance(5);
  expect(web.jobs).toEqual([]);
  expect(job.starts).toHaveLength(1);
});

test("does an action of another boot, whose time is unknown", async () => {
  const { targets, clock, web } = await targetsOf();
  targets.resume({ pending: { publishedAt: null } });
  await clock.advance(5);
  expect(web.starts).toHaveLength(1);
});

test("an older due action does not replace the current one", async () => {
  const { targets, clock, web } = await targetsOf();
  await clock.advance(10);
  const earlier = clock.monotonic() - 5e6;
  web.state = { ...web.state, leftInactiveAt: earlier + 1 };
  targets.request(["a"]);
  targets.resume({ pending: { publishedAt: earlier } });
  await clock.advance(5);
  // It started after the earlier set, and before this one.
  expect(web.starts).toHaveLength(1);
});

test("saves each target's starts for the next life, and counts them against its own limit only", async () => {
  const { targets, clock, web, job, state } = await targetsOf();
  const seen = [4, 3, 2, 1].map((second) => clock.monotonic() - second * 1e6);
  const starts = new Map([["job.service", seen]]);
  targets.remember({ starts });
  targets.request(["a"]);
  expect(state().starts?.units).toEqual({ "web.service": [], "job.service": seen });
  await clock.advance(1);
  expect(web.starts).toHaveLength(1);
  expect(job.starts).toHaveLength(0);
  await clock.advance(20);
  expect(job.starts).toHaveLength(1);
});

test("a stopping sidecar learns which target an action broke, and whether newer secrets are there", async () => {
  const { targets, clock, web, job } = await targetsOf();
  const broken = () => targets.broken(new AbortController().signal);
  web.fail();
  expect(await broken(), "it failed without us").toEqual([]);
  web.start();
  await clock.advance(1);
  targets.request(["a"]);
  await clock.advance(5);
  expect([web.starts.length, job.starts.length]).toEqual([2, 1]);
  expect(await broken(), "both run").toEqual([]);
  job.fail();
  expect(await broken()).toEqual([{ unit: "job.service", hasNewer: false, hasJob: false }]);
  job.state = { ...job.state, hasJob: true };
  targets.request(["a"]);
  expect(await broken()).toEqual([{ unit: "job.service", hasNewer: true, hasJob: true }]);
  job.answers = false;
  const unanswered = broken();
  await clock.advance(60);
  expect(await unanswered, "systemd does not answer").toEqual([]);
});

test("reports a mark that it cannot write, and still does the action", async () => {
  const { targets, clock, web, log, block, unmarked, applied } = await targetsOf();
  block();
  targets.request(["a"]);
  await settled();
  expect(log.at("warn")).toEqual([expect.stringMatching(/^output: cannot read .*: not a directory/)]);
  await clock.advance(5);
  expect(web.starts).toHaveLength(1);
  expect(applied()).toBe(1);
  // Nothing is due any more, on disk neither.
  expect(unmarked).toEqual([true, false]);
});

test("writes a mark that it could not write at first, while the action waits", async () => {
  const { targets, clock, web, log, block, unblock, unmarked, state } = await targetsOf();
  web.jobTime = 600;
  block();
  targets.request(["a"]);
  await clock.advance(5);
  targets.markAgain();
  expect(unmarked).toEqual([true]);
  expect(log.at("warn")).toHaveLength(1);
  unblock();
  targets.markAgain();
  expect(unmarked).toEqual([true, false]);
  expect(state().pending).toMatchObject({ publishedAt: clock.monotonic() - 5e6 });
});

test("removes a mark that it could not remove at first", async () => {
  const { targets, clock, web, job, block, unblock, unmarked, state } = await targetsOf();
  for (const target of [web, job]) target.jobTime = 5;
  targets.request(["a"]);
  await clock.advance(1);
  block();
  await clock.advance(10);
  expect(unmarked).toEqual([true]);
  unblock();
  targets.markAgain();
  expect(unmarked).toEqual([true, false]);
  expect(state().pending).toBeNull();
  expect([...web.starts, ...job.starts]).toHaveLength(2);
});

test("a new configuration keeps a target's pace and its due action", async () => {
  const { targets, clock, web, job, configFor } = await targetsOf({ minInterval: 60 });
  targets.request(["a"]);
  await clock.advance(5);
  expect([web.starts.length, job.starts.length]).toEqual([1, 1]);
  targets.request(["a"]);
  await clock.advance(5);
  expect([web.starts.length, job.starts.length], "paced").toEqual([1, 1]);
  targets.take(configFor(units, { minInterval: 30 }));
  await clock.advance(15);
  expect([web.starts.length, job.starts.length], "counted from the last action").toEqual([1, 1]);
  await clock.advance(10);
  expect([web.starts.length, job.starts.length]).toEqual([2, 2]);
});

test("a shorter pace or splay in a new configuration ends the longer wait", async () => {
  const { targets, clock, web, configFor } = await targetsOf({ splay: 3600 });
  targets.request(["a"]);
  await clock.advance(5);
  expect(targets.statuses[0]).toMatch(/\(splay\)$/);
  targets.take(configFor(units, { splay: 0, minInterval: 3600 }));
  await clock.advance(1);
  expect(web.starts).toHaveLength(1);
  targets.request(["a"]);
  await clock.advance(1);
  expect(targets.statuses[0]).toMatch(/\(paced\)$/);
  targets.take(configFor(units, { splay: 0, minInterval: 0 }));
  await clock.advance(1);
  expect(web.starts).toHaveLength(2);
});

test("a new configuration adds targets to later actions, and drops removed ones", async () => {
  const { targets, clock, web, job, configFor } = await targetsOf();
  targets.take(configFor(["web.service"]));
  targets.request(["a"]);
  await clock.advance(5);
  expect([web.starts.length, job.starts.length]).toEqual([1, 0]);
  targets.take(configFor(units));
  targets.request(["a"]);
  await clock.advance(5);
  expect([web.starts.length, job.starts.length]).toEqual([2, 1]);
});

test("drops an action due only to a dropped target, on disk too", async () => {
  const { targets, clock, web, job, configFor, state, applied } = await targetsOf();
  job.state = { ...job.state, activeState: "activating" };
  targets.request(["a"]);
  await clock.advance(5);
  expect(web.starts).toHaveLength(1);
  expect(state().pending).not.toBeNull();
  targets.take(configFor(["web.service"]));
  expect(state().pending).toBeNull();
  expect(applied()).toBe(1);
  job.state = { ...job.state, activeState: "active" };
  await clock.advance(5);
  expect(job.jobs).toEqual([]);
});

test("keeps an action due to another target when one is dropped", async () => {
  const { targets, clock, web, job, configFor, state, applied } = await targetsOf();
  for (const target of [web, job]) target.state = { ...target.state, activeState: "activating" };
  targets.request(["a"]);
  await clock.advance(5);
  targets.take(configFor(["job.service"]));
  expect(state().pending).not.toBeNull();
  expect(applied()).toBe(0);
  // A target that has nothing to be told leaves no trace when it is dropped.
  job.state = { ...job.state, activeState: "active" };
  await clock.advance(5);
  expect(job.starts).toHaveLength(1);
  expect(applied()).toBe(1);
  targets.take(configFor(["web.service"]));
  expect(applied()).toBe(1);
});

test("counts actions over all targets, and separately those that broke one", async () => {
  const { targets, clock, job } = await targetsOf();
  expect(targets.counts).toEqual({ done: 0, failed: 0 });
  targets.request(["a"]);
  await clock.advance(5);
  expect(targets.counts).toEqual({ done: 2, failed: 0 });
  job.jobTime = 1;
  targets.request(["a"]);
  await clock.advance(0.5);
  job.fail();
  await clock.advance(5);
  expect(targets.counts).toEqual({ done: 4, failed: 1 });
});

test("another process continues with what it remembers of each target, by its unit", async () => {
  const first = await targetsOf({ minInterval: 60 });
  first.targets.request(["a"]);
  await first.clock.advance(5);
  const { memories } = first.targets;
  expect([...memories.keys()]).toEqual([...units]);
  const second = await targetsOf({ minInterval: 60 });
  await second.clock.advance(5);
  second.targets.recall(new Map([...memories].filter(([unit]) => unit === "web.service")));
  expect(second.targets.counts).toEqual({ done: 1, failed: 0 });
  second.targets.request(["a"]);
  await second.clock.advance(5);
  expect([second.web.starts.length, second.job.starts.length], "only one of them has had its action").toEqual([0, 1]);
});
