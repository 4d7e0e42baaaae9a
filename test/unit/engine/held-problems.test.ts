import { describe, expect, test } from "vitest";
import { BackendError, type Fetched, type Outcome } from "../../../src/contract/backend.ts";
import { HeldValues, valuesIn } from "../../../src/engine/held-values.ts";
import { Problems } from "../../../src/engine/problems.ts";
import { FakeClock, missing, recordingLog, refused } from "../fakes.ts";

const fetched = (text: string, refreshAfter?: number): Fetched => ({
  status: "value",
  value: Buffer.from(text),
  version: "1",
  ...(refreshAfter === undefined ? {} : { refreshAfter }),
});

describe("held values", () => {
  test("overwrites a replaced value, and a fetched one that it does not hold", () => {
    const held = new HeldValues(new FakeClock());
    const [first, equal, second] = [fetched("one"), fetched("one", 60), fetched("two")];
    held.set("a", first);
    const outcomes = new Map([["a", equal]]);
    expect([...held.changesIn(outcomes)]).toEqual([]);
    held.confirm("a", { ...equal, version: "2" });
    held.release(valuesIn(outcomes));
    expect(equal.value.equals(Buffer.alloc(3))).toBe(true);
    expect(held.get("a")).toMatchObject({ value: Buffer.from("one"), version: "2" });
    expect(held.get("a")?.refreshAt).toBeDefined();
    held.set("a", second);
    held.release([["a", second.value]]);
    expect(first.value.equals(Buffer.alloc(3))).toBe(true);
    expect(held.get("a")?.value.toString()).toBe("two");
    held.clear();
    expect(second.value.equals(Buffer.alloc(3))).toBe(true);
    expect(held.size).toBe(0);
  });

  test("finding changes does not change the held values", () => {
    const held = new HeldValues(new FakeClock());
    held.set("a", fetched("one"));
    const outcomes = new Map([["a", { ...fetched("one", 60), version: "2" }]]);
    held.changesIn(outcomes);
    expect(held.get("a")).toMatchObject({ version: "1", refreshAt: undefined });
    expect(outcomes.get("a")?.value.toString()).toBe("one");
  });

  test("a secret that the fetch did not return is not a change", () => {
    const held = new HeldValues(new FakeClock());
    held.set("a", fetched("one"));
    const outcomes = new Map<string, Outcome>([
      ["a", refused],
      ["b", missing("b")],
      ["c", fetched("new")],
    ]);
    expect([...held.changesIn(outcomes).keys()]).toEqual(["c"]);
  });

  test("returns the ends of leases", async () => {
    const clock = new FakeClock();
    const held = new HeldValues(clock);
    const none = new Set<string>();
    held.set("static", fetched("x"));
    expect(held.nextEnd(none)).toBe(Infinity);
    held.set("long", fetched("x", 100));
    held.set("short", fetched("x", 10));
    expect(held.nextEnd(none) - clock.monotonic()).toBe(10e6);
    expect(held.nextEnd(new Set(["short"])) - clock.monotonic()).toBe(100e6);
    await clock.advance(11);
    expect(held.ending(none)).toEqual(["short"]);
    expect(held.ending(new Set(["short"]))).toEqual([]);
  });
});

describe("problems", () => {
  function note() {
    const log = recordingLog();
    const problems = new Problems({ name: "vault", describe: (id) => id }, log, new FakeClock());
    return {
      log,
      problems,
      note: (...outcomes: [string, Outcome][]) => {
        problems.note(new Map(outcomes), "kept");
      },
    };
  }

  test("reports the first failure and each new kind, but no repeats or variations", () => {
    const { log, note: say } = note();
    say(["a", refused]);
    say(["a", new BackendError("unavailable", "timed out")]);
    say(["a", new BackendError("denied", "permission denied")]);
    expect(log.at("warn")).toEqual(["vault: connection refused; kept", "vault: permission denied; kept"]);
    expect(log.at("debug")).toEqual(["vault: timed out; kept"]);
  });

  test("reports an outage of a thousand secrets in one line, and its end in another", () => {
    const { log, problems, note: say } = note();
    const ids = Array.from({ length: 1000 }, (_, index) => `s${index}`);
    say(...ids.map((id): [string, Outcome] => [id, refused]));
    expect(log.lines).toHaveLength(1);
    expect(log.lines[0]?.fields["secrets"]).toHaveLength(1000);
    expect(problems.summary).toMatch(/^secret "s0": connection refused \(and 999 more\), since /);
    say(...ids.map((id): [string, Outcome] => [id, fetched("x")]));
    expect(log.at("notice")).toEqual(["vault: answers again"]);
    expect(problems.summary).toBeUndefined();
  });

  test("reports failures that differ only in their place in one line with all ids, and another cause in its own", () => {
    const { log, note: say } = note();
    say(
      ["a", new BackendError("denied", "secret/data/a: permission denied (status 403)")],
      ["b", new BackendError("denied", "secret/data/b: permission denied (status 403)")],
      ["c", { status: "missing", where: 'no key "c" in secret/data/a' }],
      ["d", { status: "missing", where: 'no key "d" in secret/data/b' }],
      ["e", new BackendError("denied", "e in eu-central-1: access denied")],
      ["f", new BackendError("denied", "f in eu-central-1: access denied")],
      ["g", new BackendError("denied", "f in eu-west-1: access denied")],
    );
    expect(log.lines.map(({ message, fields }) => [message, fields["secrets"]])).toEqual([
      ["vault: secret/data/a: permission denied (status 403) (and 1 more like it); kept", ["a", "b"]],
      ['vault: no key "c" in secret/data/a (and 1 more like it); kept', ["c", "d"]],
      ["vault: e in eu-central-1: access denied (and 1 more like it); kept", ["e", "f"]],
      ["vault: f in eu-west-1: access denied; kept", ["g"]],
    ]);
  });
});
