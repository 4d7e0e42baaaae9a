/** What is wrong, since when, and what of it is news: also for the next process of a sidecar that is not resident. */
import { describe, expect, test } from "vitest";
import { BackendError, type Fetched, type Outcome } from "../../../src/contract/backend.ts";
import {
  causesOf,
  isKnown,
  longestRetryAfter,
  type Problem,
  problemOf,
  Problems,
} from "../../../src/engine/problems.ts";
import { clockTime } from "../../../src/runtime/clock.ts";
import { FakeClock, missing, recordingLog, refused } from "../fakes.ts";

const value: Fetched = { status: "value", value: Buffer.from("x"), version: "1" };
const denied = new BackendError("denied", "permission denied");

function noting() {
  const log = recordingLog();
  const clock = new FakeClock();
  const problems = new Problems({ name: "vault", describe: (id) => `the place of ${id}` }, log, clock);
  const note = (outcomes: Readonly<Record<string, Outcome>>) => {
    problems.note(new Map(Object.entries(outcomes)), "kept");
  };
  return { log, clock, problems, note };
}

describe("an answer", () => {
  const none = { mayAppear: false, retryAfter: undefined, mayHealFor: 0 };

  test.each<[string, Outcome | undefined, Problem | undefined]>([
    ["a value is no problem", value, undefined],
    ["none is one", undefined, { ...none, kind: "invalid", message: "no answer" }],
    ["a missing secret", missing("a"), { ...none, kind: "missing", message: "no a here" }],
    ["one that may come", missing("a", true), { ...none, kind: "missing", message: "no a here", mayAppear: true }],
    [
      "one that may come for a while",
      { status: "missing", where: "no a", mayHealFor: 60 },
      { ...none, kind: "missing", message: "no a", mayHealFor: 60 },
    ],
    ["a refusal", denied, { ...none, kind: "denied", message: "permission denied" }],
    [
      "a store that asks for patience",
      new BackendError("unavailable", "throttled", 17, 60),
      { kind: "unavailable", message: "throttled", mayAppear: false, retryAfter: 17, mayHealFor: 60 },
    ],
  ])("%s", (_, outcome, problem) => {
    expect(problemOf(outcome)).toEqual(problem);
  });

  test.each([-1, 0, NaN, "60", null])("of a third party that may heal for %o seconds is final", (seconds) => {
    const outcome = { status: "missing", where: "no a", mayHealFor: seconds } as unknown as Outcome;
    expect(problemOf(outcome)?.mayHealFor).toBe(0);
  });

  test("keeps us away for as long as the most patient of them asks", () => {
    const asking = (retryAfter?: number) => ({ ...none, kind: "unavailable" as const, message: "", retryAfter });
    expect(longestRetryAfter([])).toBe(0);
    expect(longestRetryAfter([asking(), asking(3), asking(17), asking(5)])).toBe(17);
  });
});

describe("problems that differ only in their place are one", () => {
  const causes = (problems: Readonly<Record<string, string>>, describe = (id: string) => `place/${id}, key ${id}`) =>
    causesOf(
      Object.entries(problems).map(([id, message]) => {
        return [id, { kind: "invalid", message, mayAppear: false, retryAfter: undefined, mayHealFor: 0 }];
      }),
      describe,
    ).map(({ message, ids }) => [message, ids.join()]);

  test("the id, the place that the store names or its beginning, a quoted text, a path", () => {
    expect(causes({ a: "a is bad", b: "b is bad" })).toEqual([["a is bad (and 1 more like it)", "a,b"]]);
    expect(causes({ a: "place/a, key a: bad", b: "place/b, key b: bad" })).toHaveLength(1);
    const boxes: Readonly<Record<string, string>> = { a: "the red box, in the cellar", b: "the box, upstairs" };
    const spoken = (id: string) => boxes[id] ?? "";
    expect(causes({ a: "the red box, in the cellar: bad", b: "the box, upstairs: bad" }, spoken)).toHaveLength(1);
    expect(causes({ a: "the red box: bad", b: "the box: bad" }, spoken)).toHaveLength(1);
    expect(causes({ a: "the red box: bad", b: "the chest: bad" }, spoken)).toHaveLength(2);
    expect(causes({ a: 'no key "one" here', b: 'no key "" here' })).toHaveLength(1);
    expect(causes({ a: "no s3/key/one: bad", b: "no /etc/x: bad", c: "no secret/: bad", d: "no /: bad" })).toHaveLength(
      1,
    );
    expect(causes({ a: "no s3/key at once: bad", b: "no x/key at last: bad" })).toHaveLength(2);
    expect(causes({ a: "one:s3/key: bad", b: "two:s3/key: bad" })).toHaveLength(2);
    expect(causes({ a: 'no key "x" here', b: 'no key "y" here', c: 'no key "z" there' })).toEqual([
      ['no key "x" here (and 1 more like it)', "a,b"],
      ['no key "z" there', "c"],
    ]);
    expect(causes({ a: "cannot read /x/1: bad", b: "cannot read /y/2: bad" })).toHaveLength(1);
    expect(causes({ a: "cannot read /x/1, bad", b: "cannot read /y/2, good" })).toHaveLength(2);
  });

  test("an id within another word is no place", () => {
    expect(causes({ a: "a bad store", b: "a bad store" })).toEqual([["a bad store", "a,b"]]);
    expect(causes({ a: "bad", b: "bbd" })).toHaveLength(2);
    for (const [left, right] of [
      ["x-a", "x-b"],
      ["a-x", "b-x"],
      ["_a", "_b"],
      ["a1", "b1"],
    ])
      expect(causes({ a: left ?? "", b: right ?? "" })).toHaveLength(2);
    expect(causes({ a: "no a", b: "no b" })).toHaveLength(1);
  });

  test("another kind of failure is another problem, and a place without a name is none", () => {
    const problem = (kind: Problem["kind"]): Problem => ({
      ...{ kind, message: "no" },
      ...{ mayAppear: false, retryAfter: undefined, mayHealFor: 0 },
    });
    const two = causesOf(
      [
        ["a", problem("denied")],
        ["b", problem("denied")],
      ],
      () => "",
    );
    expect(two).toEqual([{ ids: ["a", "b"], message: "no" }]);
  });

  test("says one message once, though several have it", () => {
    expect(causes({ a: "x/1 bad", b: "x/1 bad", c: "x/2 bad" })).toEqual([["x/1 bad (and 1 more like it)", "a,b,c"]]);
  });
});

describe("what is known", () => {
  test("is told with the secret, how many more there are, and since when", async () => {
    const { problems, note, clock } = noting();
    expect([problems.summary, problems.since, problems.all]).toEqual([undefined, undefined, []]);
    const begun = clock.now();
    note({ a: refused });
    await clock.advance(60);
    note({ a: new BackendError("unavailable", "timed out"), b: denied });
    expect(problems.summary).toBe(`secret "a": timed out (and 1 more), since ${clockTime(begun)}`);
    expect(problems.since).toEqual(begun);
    note({ b: value });
    expect(problems.summary).toBe(`secret "a": timed out, since ${clockTime(begun)}`);
    note({ a: value });
    expect([problems.summary, problems.since]).toEqual([undefined, undefined]);
  });

  test("began with the oldest of them, in whatever order they came", async () => {
    const { problems, note, clock } = noting();
    note({ b: refused });
    const begun = clock.now();
    await clock.advance(60);
    note({ a: refused });
    expect(problems.since).toEqual(begun);
    problems.recall([{ id: "z", kind: "denied", message: "no", since: "2025-01-01T00:00:00.000Z" }]);
    expect(problems.since).toEqual(new Date("2025-01-01T00:00:00.000Z"));
  });

  test("is over only once, and says which", () => {
    const { log, note } = noting();
    note({ a: refused, b: refused });
    note({ a: value });
    note({ a: value });
    expect(log.lines.filter(({ level }) => level === "notice")).toEqual([
      { level: "notice", message: "vault: answers again", fields: { secrets: ["a"] } },
    ]);
    note({ b: refused });
    expect(log.lines.at(-1)).toEqual({
      level: "debug",
      message: "vault: connection refused; kept",
      fields: { secrets: ["b"] },
    });
  });

  test("names the place as the store of now does, and drops secrets that are no longer wanted", () => {
    const { log, problems, note } = noting();
    note({ a: denied, b: denied });
    problems.take({ name: "folder", describe: (id) => `box ${id}` }, ["b", "c", "d"]);
    expect(problems.all.map(({ id }) => id)).toEqual(["b"]);
    note({ c: new BackendError("invalid", "box c: no text"), d: new BackendError("invalid", "box d: no text") });
    expect(log.lines.slice(1)).toEqual([
      {
        level: "warn",
        message: "folder: box c: no text (and 1 more like it); kept",
        fields: { secrets: ["c", "d"] },
      },
    ]);
  });

  test("goes to the next process, for which it is no news", () => {
    const first = noting();
    first.note({ a: refused, b: denied });
    const known = first.problems.all;
    expect(known).toEqual([
      { id: "a", kind: "unavailable", message: "connection refused", since: first.clock.now().toISOString() },
      { id: "b", kind: "denied", message: "permission denied", since: first.clock.now().toISOString() },
    ]);
    const { log, problems, note, clock } = noting();
    problems.recall(JSON.parse(JSON.stringify(known)) as typeof known);
    expect(problems.all).toEqual(known);
    expect(problems.summary).toBe(`secret "a": connection refused (and 1 more), since ${clockTime(clock.now())}`);
    note({ a: refused, b: value });
    expect([log.at("warn"), log.at("notice")]).toEqual([[], ["vault: answers again"]]);
  });
});

test.each([
  [true, { id: "a", kind: "unavailable", message: "no", since: "2026-01-01T00:00:00.000Z" }],
  [true, { id: "a", kind: "denied", message: "no", since: "2026-01-01T00:00:00.000Z" }],
  [true, { id: "a", kind: "invalid", message: "no", since: "2026-01-01T00:00:00.000Z" }],
  [true, { id: "a", kind: "missing", message: "no", since: "2026-01-01T00:00:00.000Z" }],
  [false, { id: "a", kind: "other", message: "no", since: "2026-01-01T00:00:00.000Z" }],
  [false, { id: 1, kind: "denied", message: "no", since: "2026-01-01T00:00:00.000Z" }],
  [false, { id: "a", kind: "denied", message: null, since: "2026-01-01T00:00:00.000Z" }],
  [false, { id: "a", kind: "denied", message: "no", since: "yesterday" }],
  [false, { id: "a", kind: "denied", message: "no", since: 1_767_225_600_000 }],
  [false, { id: "a", kind: "denied", message: "no" }],
  [false, null],
  [false, "a"],
])("takes over what another process wrote only where it is that: %s for %j", (expected, note) => {
  expect(isKnown(note)).toBe(expected);
});
