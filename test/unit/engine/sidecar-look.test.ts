/** One look at the store, by a process that ends with it: what it publishes, and what it tells the next one. */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { Memory } from "../../../src/engine/look.ts";
import type { TellFacts } from "../../../src/engine/facts.ts";
import { Sidecar } from "../../../src/engine/sidecar.ts";
import { Publisher } from "../../../src/publish/publisher.ts";
import type { AskAnother } from "../../../src/engine/open-targets.ts";
import { configOf } from "../command-line.ts";
import { FakeClock, FakeStore, FakeSystemd, recordingLog, RecordingNotifier, refused } from "../fakes.ts";
import { freshDirectory } from "./running-sidecar.ts";

const nothing: Memory = { problems: [], unpublished: null, refusal: null };

/** A call, because it changes within a look, which the compiler's narrowing does not know. */
const is = (flag: boolean) => flag;

/** Real files, which stay from look to look; the store, the clock and the unit that acts are fakes. */
function looking(more: object = {}) {
  const directory = join(freshDirectory(), "pub");
  const store = new FakeStore({ a: "a1", b: "b1" });
  const clock = new FakeClock();
  const log = recordingLog();
  const notifier = new RecordingNotifier();
  const requests: (readonly string[])[] = [];
  const calls: string[] = [];
  const facts: Parameters<TellFacts>[1][] = [];
  const note = (name: string) => () => void calls.push(name);
  const ask: AskAnother = () => ({
    ...{ none: false, statuses: ["app.service: an action"], counts: { done: 0, failed: 0 } },
    ...{ take: note("take"), remember: note("remember"), resume: note("resume"), forget: note("forget") },
    ...{ markAgain: note("markAgain"), run: () => Promise.resolve(), broken: () => Promise.resolve([]) },
    ...{ isStopping: () => Promise.resolve(false), reviveBoth: () => Promise.resolve({ ok: true, detail: "" }) },
    request: (ids) => requests.push(ids),
  });
  const open = async () => {
    const config = configOf({
      ...{ service: "app.service", resident: "on-change", secrets: { a: {}, b: {} } },
      config: { reloadOnChange: true },
      output: { directory },
      ...more,
      onChange: { settle: 0.5, ...(more as { onChange?: object }).onChange },
    });
    if (config.output === undefined) throw new Error("no output");
    const publisher = await Publisher.open(config, config.output);
    return new Sidecar({
      ...{ config, store, publisher, notifier, log, clock, ask, systemd: new FakeSystemd(clock) },
      ...{ random: () => 0.5, idle: () => undefined, facts: (_, now) => facts.push(now) },
    });
  };
  return {
    ...{ store, clock, log, notifier, requests, calls, directory, open },
    facts: () => facts.at(-1),
    file: (name: string) => readFileSync(join(directory, name), "utf8"),
    look: async (before = nothing, notes?: () => number, stop = new AbortController()) => {
      const sidecar = await open();
      let isOver = false;
      const end = sidecar.look(before, notes, stop.signal).finally(() => (isOver = true));
      // A real verify command takes its time, too.
      while (!is(isOver)) await clock.advance(0.1);
      return { sidecar, memory: await end };
    },
  };
}

test("a look that finds nothing published begins like a start; the next one publishes what has changed", async () => {
  const life = looking();
  const first = await life.look();
  expect([first.memory, life.file("a"), life.store.closed]).toEqual([nothing, "a1", true]);
  expect([first.sidecar.isReady, (await life.open()).isReady]).toEqual([true, false]);
  expect(life.notifier.last).toMatch(/^2 secrets from fake, version 1, checked at [^;]*; app\.service: an action$/);
  expect(life.notifier.readies).toEqual([]);
  // The unit that acts says itself how an action ended.
  expect(life.facts()).toMatchObject({ state: "ready", secrets: 2, problem: null });
  expect(life.requests).toEqual([]);
  life.store.put("a", "a2");
  const second = await life.look();
  expect([second.memory, life.file("a"), life.requests]).toEqual([nothing, "a2", [["a"]]]);
  expect(life.facts()).toMatchObject({ rotations: 1, problem: null });
});

test("notes of changes are waited out: what is written in steps is one publish", async () => {
  const life = looking();
  await life.look();
  let notes = 0;
  life.store.put("a", "half");
  await life.look(nothing, () => {
    notes += 1;
    if (notes < 6) return notes;
    life.store.put("a", "whole");
    return 6;
  });
  expect([life.file("a"), life.requests]).toEqual(["whole", [["a"]]]);
});

test("leaves a set that verify refused to the next look, which neither tries nor logs it again", async () => {
  const notes = freshDirectory();
  const command = ["sh", "-c", 'printf x >> "$1/runs"; test -e "$1/good"', "verify", notes];
  const life = looking({ onChange: { verify: { command } } });
  const runs = () => (existsSync(join(notes, "runs")) ? readFileSync(join(notes, "runs"), "utf8").length : 0);
  await life.look();
  expect(runs()).toBe(0);
  life.store.put("a", "a2");
  const { memory } = await life.look();
  const why = "the new secrets are not published: the verify command exited with 1";
  expect([memory?.unpublished, runs(), life.file("a")]).toEqual([why, 1, "a1"]);
  expect(life.notifier.last).toContain(why);
  writeFileSync(join(notes, "good"), "");
  const again = await life.look(memory);
  expect([again.memory, runs(), life.file("a")]).toEqual([memory, 1, "a1"]);
  expect(life.log.at("error")).toEqual([why]);
  // A silent store says nothing about it.
  life.store.down = refused;
  const silent = await life.look(again.memory);
  expect([silent.memory?.unpublished, silent.memory?.refusal]).toEqual([why, memory?.refusal]);
  life.store.down = undefined;
  expect([(await life.look(silent.memory)).memory, runs(), life.file("a")]).toEqual([memory, 1, "a1"]);
  // Without the memory it would be tried.
  await life.look();
  expect([runs(), life.file("a")]).toEqual([2, "a2"]);
});

test("reports a silent store once, and its end once", async () => {
  const life = looking();
  await life.look();
  life.store.down = refused;
  const { memory } = await life.look();
  expect(memory?.problems.map(({ id, kind }) => [id, kind])).toEqual([
    ["a", "unavailable"],
    ["b", "unavailable"],
  ]);
  const again = await life.look(memory);
  expect(life.log.at("warn")).toHaveLength(1);
  expect(again.memory?.problems).toEqual(memory?.problems);
  life.store.down = undefined;
  expect((await life.look(again.memory)).memory).toEqual(nothing);
  expect(life.log.at("notice")).toEqual(["fake: answers again"]);
});

describe("a stop", () => {
  test("ends a look at once, though the store ignores it, and closes the store", async () => {
    const life = looking();
    await life.look();
    const stop = new AbortController();
    life.store.closed = false;
    life.store.before = () => {
      stop.abort();
      return new Promise(() => undefined);
    };
    expect((await life.look(nothing, undefined, stop)).memory).toBeUndefined();
    expect(life.store.closed).toBe(true);
  });

  test("a stop before the look is no result", async () => {
    const life = looking();
    await life.look();
    const stop = new AbortController();
    stop.abort();
    const { length } = life.notifier.statuses;
    expect((await life.look(nothing, undefined, stop)).memory).toBeUndefined();
    expect(life.notifier.statuses).toHaveLength(length);
  });
});
