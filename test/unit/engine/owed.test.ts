import { describe, expect, test } from "vitest";
import { BackendError, type Outcome } from "../../../src/contract/backend.ts";
import type { PublishResult } from "../../../src/engine/ask-times.ts";
import { HeldValues } from "../../../src/engine/held-values.ts";
import { Owed } from "../../../src/engine/owed.ts";
import { FakeClock, missing, refused } from "../fakes.ts";

function owing() {
  const clock = new FakeClock();
  const held = new HeldValues(clock);
  const owed = new Owed(["a", "b"], held, clock, () => 0.5);
  for (const id of ["a", "b"]) held.set(id, { value: Buffer.from(`${id}0`), version: "0" });
  /** A round: the store's answer for each id, and the result. */
  const settle = (
    answers: Readonly<Record<string, Outcome>>,
    publish: Exclude<PublishResult, object> | "published",
  ) => {
    const outcomes = new Map(Object.entries(answers));
    const changes = held.changesIn(outcomes);
    owed.toPublish([...changes.keys()]);
    if (publish === "published") for (const [id, fetched] of changes) held.set(id, fetched);
    owed.settle({ outcomes, changes, result: publish === "published" ? new Set(changes.keys()) : publish });
  };
  return { clock, held, owed, settle };
}
const value = (text: string, refreshAfter?: number): Outcome => ({
  status: "value",
  value: Buffer.from(text),
  version: text,
  ...(refreshAfter === undefined ? {} : { refreshAfter }),
});
const denied = new BackendError("denied", "permission denied");

describe("the list of owed work", () => {
  test("is empty at first, and wakes nothing", () => {
    const { owed } = owing();
    expect(owed.seconds).toBe(Infinity);
    expect(owed.due(undefined)).toBeUndefined();
  });

  test("asks a silent store for each secret that it did not answer, with growing pauses", async () => {
    const { clock, owed, settle } = owing();
    settle({ a: refused, b: value("b0") }, "unchanged");
    const pauses = [];
    for (let round = 0; round < 5; round += 1) {
      pauses.push(owed.seconds);
      await clock.advance(owed.seconds);
      expect(owed.due(undefined)).toEqual(["a"]);
      settle({ a: refused }, "unchanged");
    }
    expect(pauses).toEqual([...pauses].sort((a, b) => a - b));
    expect(pauses.at(-1)).toBeGreaterThan((pauses[0] ?? 0) * 10);
    settle({ a: value("a1") }, "published");
    expect(owed.seconds).toBe(Infinity);
  });

  test("retries a partial publish with growing pauses until it is whole", async () => {
    const { clock, owed, settle } = owing();
    const pauses = [];
    for (let round = 0; round < 6; round += 1) {
      owed.publishSoon();
      pauses.push(owed.seconds);
      await clock.advance(owed.seconds);
    }
    expect(pauses).toEqual([...pauses].sort((a, b) => a - b));
    expect(pauses[0]).toBeGreaterThan(0.1);
    expect(pauses.at(-1)).toBeGreaterThan((pauses[0] ?? 0) * 10);
    expect(pauses.at(-1)).toBeLessThan(31);
    settle({}, "unchanged");
    expect(owed.seconds).toBe(Infinity);
  });

  test("covers changed settings and templates: only templates notify the target, and one publish settles both", () => {
    const { owed } = owing();
    expect(owed.files).toBeUndefined();
    owed.settingsMayDiffer();
    expect(owed.files).toEqual({ what: "changed settings", act: false });
    owed.templatesAre("changed", true);
    expect(owed.files).toEqual({ what: "changed templates", act: true });
    owed.templatesAre("published", true);
    expect(owed.files).toEqual({ what: "changed settings", act: false });
    owed.published();
    expect(owed.files).toBeUndefined();
    owed.templatesUnread(true);
    expect(owed.areTemplatesUnread).toBe(true);
    owed.templatesUnread(false);
    expect(owed.areTemplatesUnread).toBe(false);
  });

  test("is empty after verify refused a set, until something is published", () => {
    const { owed } = owing();
    owed.refuse("one");
    expect([owed.isRefused("one"), owed.isRefused("two")]).toEqual([true, false]);
    owed.published();
    expect(owed.isRefused("one")).toBe(false);
  });

  test.each([
    ["refuses it", denied],
    ["no longer has it", missing("a")],
  ])("is empty when the store %s: a person must fix that, and reload", (_, answer) => {
    const { owed, settle } = owing();
    settle({ a: answer }, "unchanged");
    expect(owed.seconds).toBe(Infinity);
  });

  test("holds the value and the publish after a disk failure", async () => {
    const { clock, owed, settle } = owing();
    settle({ a: value("a1") }, "failed");
    await clock.advance(owed.seconds);
    expect(owed.due(undefined)).toEqual(["a"]);
    settle({ a: value("a1") }, "published");
    expect(owed.seconds).toBe(Infinity);
  });

  test("holds only the publish after a disk failure without a changed value", async () => {
    const { clock, owed, settle } = owing();
    owed.templatesAre("changed", true);
    settle({}, "failed");
    expect(owed.files).toEqual({ what: "changed templates", act: true });
    await clock.advance(owed.seconds);
    expect(owed.due(undefined)).toEqual([]);
    owed.published();
    settle({}, "published");
    expect([owed.seconds, owed.files]).toEqual([Infinity, undefined]);
  });

  test("does not ask sooner than the store allows, even for polls and hints", async () => {
    const { clock, owed, settle } = owing();
    owed.poll(30);
    settle({ a: new BackendError("unavailable", "throttled", 300), b: value("b0") }, "unchanged");
    await clock.advance(299);
    expect(owed.due(undefined)).toEqual(["b"]);
    expect(owed.due("hint")).toEqual(["b"]);
    await clock.advance(10);
    expect(owed.due("hint")).toEqual(["a", "b"]);
  });

  test("asks rarely for an unpublished new lease, because each answer is another lease", async () => {
    const { clock, owed, settle } = owing();
    owed.poll(30);
    settle({ a: value("a1", 4000) }, "failed");
    for (const polls of [1, 2]) {
      await clock.advance(polls === 1 ? 29 : 25);
      expect(owed.due("hint")).toEqual(["b"]);
    }
    await clock.advance(10);
    expect(owed.due("hint")).toEqual(["a", "b"]);
  });

  test("replaces an ending lease in time, and repeats a failed attempt later", async () => {
    const { clock, owed, settle } = owing();
    settle({ a: value("a1", 400) }, "published");
    expect(owed.seconds).toBe(400);
    await clock.advance(400);
    expect(owed.due(undefined)).toEqual(["a"]);
    settle({ a: denied }, "unchanged");
    expect(owed.seconds).toBeGreaterThan(0);
    await clock.advance(owed.seconds);
    expect(owed.due(undefined)).toEqual(["a"]);
    settle({ a: value("a2", 400) }, "refused");
    expect(owed.seconds).toBeGreaterThan(50);
  });

  test("drops a change that the store has taken back", () => {
    const { owed, settle } = owing();
    owed.obstruct("publish", "the disk is full");
    settle({ a: value("a1") }, "failed");
    settle({ a: value("a0") }, "unchanged");
    expect([owed.seconds, owed.obstacles]).toEqual([Infinity, []]);
  });

  test("keeps a change that the last fetch did not ask for", () => {
    const { owed, settle } = owing();
    owed.obstruct("publish", "the disk is full");
    settle({ a: value("a1") }, "failed");
    owed.settle({ outcomes: new Map([["b", value("b0")]]), changes: new Map(), result: "unchanged" });
    expect(owed.obstacles).toEqual(["the disk is full"]);
    expect(owed.seconds).toBeLessThan(30);
  });

  test("checks an obstacle every minute", async () => {
    const { clock, owed } = owing();
    expect(owed.obstruct("mend", "no space")).toBe(true);
    expect(owed.obstruct("mend", "no space")).toBe(false);
    owed.look("mark", true);
    expect(owed.seconds).toBe(60);
    expect([...owed.looks()]).toEqual([]);
    await clock.advance(60);
    expect([...owed.looks()]).toEqual(["mend", "mark"]);
    expect(owed.seconds).toBe(60);
    owed.obstruct("mend", undefined);
    owed.look("mark", false);
    expect(owed.seconds).toBe(Infinity);
  });
});

test("no longer treats a request left over from the start as quiet after a reload", () => {
  const { owed } = owing();
  owed.missedByStart(["a"], true);
  expect([owed.isQuiet("a"), owed.isQuiet("b")]).toEqual([true, false]);
  expect(owed.due("reload")).toEqual(["a", "b"]);
  expect(owed.isQuiet("a")).toBe(false);
});
