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
    expect([owed.areTemplatesUnread, owed.files, owed.refused, owed.tell()]).toEqual([
      false,
      undefined,
      undefined,
      undefined,
    ]);
    // Where nothing waits to be published, a publish of what is held is all.
    owed.obstruct("publish", "the disk is full");
    owed.filesPublished();
    expect(owed.obstacles).toEqual([]);
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
    expect([owed.isRefused("one"), owed.isRefused("two"), owed.refused]).toEqual([true, false, "one"]);
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

describe("an obstacle", () => {
  test("is news once, and again when it changes or comes back; its end is none", () => {
    const { owed } = owing();
    expect(owed.obstruct("publish", undefined)).toBe(false);
    expect(owed.obstruct("publish", "the disk is full")).toBe(true);
    expect(owed.obstruct("publish", "the disk is full")).toBe(false);
    expect(owed.obstruct("publish", "verify exited with 1")).toBe(true);
    expect(owed.obstacleOf("publish")).toBe("verify exited with 1");
    expect(owed.obstruct("publish", undefined)).toBe(false);
    expect([owed.obstacleOf("publish"), owed.obstacles]).toEqual([undefined, []]);
    expect(owed.obstruct("publish", "verify exited with 1")).toBe(true);
  });

  test("is told in the order of what it blocks, whichever came first", () => {
    const { owed } = owing();
    for (const what of ["configuration", "templates", "care", "mend", "publish"] as const) owed.obstruct(what, what);
    expect(owed.obstacles).toEqual(["publish", "mend", "care", "templates", "configuration"]);
  });

  test("to anything but a repair is no reason to look", () => {
    const { owed } = owing();
    for (const what of ["configuration", "templates", "care", "publish"] as const) owed.obstruct(what, what);
    expect(owed.seconds).toBe(Infinity);
  });
});

describe("looks", () => {
  test("come each minute from the first thing to look at, not from the last", async () => {
    const { clock, owed } = owing();
    expect([...owed.looks()]).toEqual([]);
    owed.look("care", true);
    await clock.advance(40);
    owed.look("configuration", true);
    expect(owed.seconds).toBe(20);
    await clock.advance(20);
    expect([...owed.looks()]).toEqual(["care", "configuration"]);
    // Once: what is found then does not come at once again.
    expect([...owed.looks()]).toEqual([]);
    owed.look("care", false);
    expect(owed.seconds).toBe(60);
    owed.look("configuration", false);
    expect(owed.seconds).toBe(Infinity);
    await clock.advance(600);
    expect([...owed.looks()]).toEqual([]);
  });
});

describe("after another configuration", () => {
  test("what was owed to the files and secrets of the earlier one is owed no longer", () => {
    const { held, owed, settle } = owing();
    owed.obstruct("publish", "the disk is full");
    owed.obstruct("templates", "line 1: no such secret");
    owed.templatesAre("changed", true);
    owed.templatesUnread(true);
    owed.refuse("one");
    settle({ a: value("a1"), b: value("b1") }, "failed");
    owed.secretsAre(["b", "c"], new Set(), ["c"]);
    expect([owed.files, owed.areTemplatesUnread, owed.refused]).toEqual([undefined, false, undefined]);
    // The publish of b still is, and only that.
    expect(owed.obstacles).toEqual(["the disk is full"]);
    const outcomes = new Map([["b", value("b0")]]);
    owed.settle({ outcomes, changes: held.changesIn(outcomes), result: "unchanged" });
    expect(owed.obstacles).toEqual([]);
  });

  test("the target does not know a new secret until its first value is published", () => {
    const { owed, settle } = owing();
    owed.secretsAre(["a", "b", "c", "d"], new Set(), ["c", "d"]);
    expect(["a", "c", "d"].map((id) => owed.isAdded(id))).toEqual([false, true, true]);
    settle({ c: value("c1") }, "failed");
    settle({ c: value("c1") }, "refused");
    expect(owed.isAdded("c")).toBe(true);
    settle({ c: value("c1") }, "published");
    expect(["c", "d"].map((id) => owed.isAdded(id))).toEqual([false, true]);
    owed.secretsAre(["a", "b", "d"], new Set(), []);
    expect(owed.isAdded("d")).toBe(true);
    // It is new again where it comes back, and then not because it was new before.
    owed.secretsAre(["a"], new Set(), []);
    owed.secretsAre(["a", "d"], new Set(), []);
    expect(owed.isAdded("d")).toBe(false);
  });

  test("what no set could take of a secret that is gone is not asked for", () => {
    const { owed, settle } = owing();
    settle({ a: value("a1") }, "refused");
    owed.secretsAre(["b"], new Set(), []);
    settle({ b: value("b1") }, "published");
    owed.secretsAre(["a", "b"], new Set(), []);
    expect([owed.seconds, owed.due(undefined)]).toEqual([Infinity, undefined]);
  });
});

describe("a value that no set could take", () => {
  test.each(["refused", "part"] as const)("is asked for when another set is published (%s)", async (how) => {
    const { clock, held, owed, settle } = owing();
    if (how === "refused") settle({ a: value("a1") }, "refused");
    else {
      // One of two did not fit: the other is published alone.
      const outcomes = new Map([
        ["a", value("a1")],
        ["b", value("b1")],
      ]);
      owed.settle({ outcomes, changes: held.changesIn(outcomes), result: new Set(["b"]) });
    }
    await clock.advance(600);
    expect(owed.due(undefined)).toBeUndefined();
    settle({ b: value("b2") }, "published");
    expect([owed.seconds, owed.due(undefined)]).toEqual([0, ["a"]]);
  });

  test("is not asked for where the store had it or had taken it back since", () => {
    const taken = owing();
    taken.settle({ a: value("a1") }, "refused");
    taken.settle({ a: value("a0") }, "unchanged");
    taken.settle({ b: value("b1") }, "published");
    expect(taken.owed.seconds).toBe(Infinity);
    const published = owing();
    published.settle({ a: value("a1") }, "refused");
    published.settle({ a: value("a1") }, "published");
    published.settle({ b: value("b1") }, "published");
    expect(published.owed.seconds).toBe(Infinity);
  });

  test("is not asked for before: not when the disk fails, nor when nothing has changed", () => {
    const { owed, settle } = owing();
    settle({ a: value("a1") }, "refused");
    settle({}, "unchanged");
    expect(owed.seconds).toBe(Infinity);
    settle({ b: value("b1") }, "failed");
    expect(owed.seconds).toBeGreaterThan(0);
  });
});

describe("a publish", () => {
  test("that fails again and again waits longer each time, and begins anew after one that works", async () => {
    const { clock, owed, settle } = owing();
    const failing = async () => {
      const pauses = [];
      for (let round = 0; round < 4; round += 1) {
        settle({}, "failed");
        pauses.push(owed.seconds);
        await clock.advance(owed.seconds);
      }
      return pauses;
    };
    const first = await failing();
    expect(first).toEqual([...first].sort((a, b) => a - b));
    expect(first.at(-1)).toBeGreaterThan((first[0] ?? 0) * 4);
    settle({}, "unchanged");
    expect(owed.seconds).toBe(Infinity);
    expect(await failing()).toEqual(first);
  });

  test("that is half done is due at its moment, and not before, without a question to the store", async () => {
    const { clock, owed } = owing();
    owed.publishSoon();
    await clock.advance(owed.seconds - 0.001);
    expect(owed.due(undefined)).toBeUndefined();
    await clock.advance(0.001);
    expect([owed.seconds, owed.due(undefined)]).toEqual([0, []]);
  });

  test("of what is held leaves the newest values owed, and what keeps them from the files", () => {
    const { owed, settle } = owing();
    owed.obstruct("publish", "verify exited with 1");
    settle({ a: value("a1") }, "refused");
    owed.refuse("one");
    owed.settingsMayDiffer();
    owed.templatesAre("changed", true);
    owed.filesPublished();
    expect([owed.files, owed.obstacles, owed.isRefused("one")]).toEqual([undefined, ["verify exited with 1"], true]);
    owed.published();
    expect([owed.obstacles, owed.refused]).toEqual([[], undefined]);
  });

  test("of all that is held settles what was owed to the files", () => {
    const { owed } = owing();
    owed.settingsMayDiffer();
    owed.obstruct("publish", "the disk is full");
    owed.settle({ outcomes: new Map(), changes: new Map(), result: new Set() });
    expect([owed.files, owed.obstacles]).toEqual([undefined, []]);
  });

  test("that is half done waits a moment even the first time, and as long as after any other failure then", async () => {
    const { clock, owed, settle } = owing();
    const half = owing().owed;
    half.publishSoon();
    settle({}, "failed");
    expect(half.seconds).toBe(owed.seconds);
    await clock.advance(owed.seconds);
    settle({}, "failed");
    half.publishSoon();
    expect(half.seconds).toBe(owed.seconds);
  });

  test("that is refused, or fails, leaves all owed", () => {
    for (const result of ["refused", "failed"] as const) {
      const { owed, settle } = owing();
      owed.settingsMayDiffer();
      owed.obstruct("publish", "no");
      settle({}, result);
      expect([owed.files, owed.obstacles]).toEqual([{ what: "changed settings", act: false }, ["no"]]);
    }
  });

  test("stays owed where the store does not give the value, or still has another one", () => {
    for (const answer of [refused, missing("a"), value("a1")]) {
      const { owed, settle, held } = owing();
      settle({ a: value("a1") }, "failed");
      owed.obstruct("publish", "the disk is full");
      const outcomes = new Map([["a", answer]]);
      owed.settle({ outcomes, changes: held.changesIn(outcomes), result: "unchanged" });
      expect(owed.obstacles).toEqual(["the disk is full"]);
    }
  });
});

test("remembers when a set was published that the target has not heard of, until it is told", async () => {
  const { clock, owed } = owing();
  expect(owed.tell()).toBeUndefined();
  const then = clock.monotonic();
  owed.leaveUntold();
  await clock.advance(60);
  expect([owed.tell(), owed.tell()]).toEqual([then, undefined]);
});

test("owes a comparison of all bytes until it is done", () => {
  const { owed } = owing();
  expect(owed.areBytesUncompared).toBe(false);
  owed.compareBytes(true);
  expect(owed.areBytesUncompared).toBe(true);
  owed.compareBytes(false);
  expect(owed.areBytesUncompared).toBe(false);
});
