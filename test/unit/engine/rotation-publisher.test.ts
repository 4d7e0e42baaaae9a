/** Whether a set is published, and what is kept of a set that is not: the real publisher and a real verify command. */
import { closeSync, copyFileSync, existsSync, openSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { Fetched } from "../../../src/contract/backend.ts";
import { HeldValues } from "../../../src/engine/held-values.ts";
import { Owed } from "../../../src/engine/owed.ts";
import { isRefusal, RotationPublisher } from "../../../src/engine/rotation.ts";
import { Publisher } from "../../../src/publish/publisher.ts";
import { configOf } from "../command-line.ts";
import { FakeClock, recordingLog, refused } from "../fakes.ts";
import { block, freshDirectory } from "./running-sidecar.ts";

const never = new AbortController().signal;
const WHY = "the new secrets are not published: the verify command exited with 1";
/** sh: takes a set as soon as there is a file `good`. */
const STRICT = 'printf x >> "$1/runs"; test -e "$1/good"';

interface Options {
  readonly script?: string;
  readonly notes?: string;
  readonly config?: object;
}

async function rotating({ script, notes = freshDirectory(), config: more }: Options = {}) {
  const directory = join(freshDirectory(), "pub");
  const verify = script === undefined ? null : { command: ["sh", "-c", script, "verify", notes], timeout: 30 };
  const config = configOf({ secrets: { a: {}, b: {} }, output: { directory }, onChange: { verify }, ...more });
  if (config.output === undefined) throw new Error("no output");
  const clock = new FakeClock();
  const held = new HeldValues(clock);
  const log = recordingLog();
  const owed = new Owed(["a", "b"], held, clock, () => 0.5);
  const publisher = await Publisher.open(config, config.output);
  const rotation = new RotationPublisher(config.onChange.verify, publisher, held, owed, log);
  /** As if these had been fetched. */
  const hold = (values: Readonly<Record<string, string>>) => {
    for (const [id, value] of Object.entries(values)) held.set(id, fetched(value));
  };
  const publish = (values: Readonly<Record<string, string>>, again = false) =>
    rotation.publish(new Map(Object.entries(values).map(([id, value]) => [id, fetched(value)])), false, again, never);
  return {
    ...{ directory, notes, config, held, owed, log, publisher, rotation, hold, publish },
    runs: () => (existsSync(join(notes, "runs")) ? readFileSync(join(notes, "runs"), "utf8").length : 0),
    allow: () => {
      writeFileSync(join(notes, "good"), "");
    },
    text: (name: string) => readFileSync(join(directory, name), "utf8"),
  };
}

const fetched = (text: string): Fetched => ({ status: "value", value: Buffer.from(text), version: "1" });

/** A round in which the store gives neither. */
const silence = {
  outcomes: new Map([
    ["a", refused],
    ["b", refused],
  ]),
  changes: new Map(),
  result: "unchanged",
} as const;

describe("a refused set", () => {
  test("stays refused while the store is silent", async () => {
    const life = await rotating({ script: STRICT });
    await life.publish({ a: "a2", b: "b1" });
    const { refusal } = life.rotation;
    life.owed.settle(silence);
    expect([life.owed.obstacles, life.rotation.refusal]).toEqual([[WHY], refusal]);
  });

  test("is none where the command cannot be run for now: it is tried again, and leaves no file", async () => {
    const program = join(freshDirectory(), "verify");
    copyFileSync("/bin/true", program);
    const life = await rotating();
    life.rotation.take({ command: [program], timeout: 5 });
    // Linux runs no program that somebody is writing.
    const file = openSync(program, "r+");
    expect(await life.publish({ a: "a1", b: "b1" })).toBe("failed");
    closeSync(file);
    expect([readdirSync(life.directory), life.rotation.refusal]).toEqual([[], undefined]);
    expect(life.owed.obstacles.join()).toContain("cannot run the verify command");
    expect(await life.publish({ a: "a1", b: "b1" })).toEqual(new Set(["a", "b"]));
  });

  test("is not verified again, not even by another process; another set is", async () => {
    const first = await rotating({ script: STRICT });
    first.hold({ a: "a1", b: "b1" });
    expect(first.rotation.refusal).toBeUndefined();
    expect([await first.publish({ a: "a2" }), await first.publish({ a: "a2" }), first.runs()]).toEqual([
      ...["refused", "refused"],
      1,
    ]);
    const refusal: unknown = JSON.parse(JSON.stringify(first.rotation.refusal));
    if (!isRefusal(refusal)) throw new Error("no refusal");
    const { notes } = first;
    const next = await rotating({ script: STRICT, notes });
    next.hold({ a: "a1", b: "b1" });
    next.rotation.recall(refusal, WHY);
    expect(next.owed.obstacles).toEqual([WHY]);
    next.allow();
    expect([await next.publish({ a: "a2" }), next.runs()]).toEqual(["refused", 1]);
    expect(next.rotation.refusal).toEqual(refusal);
    expect([await next.publish({ a: "a3" }), next.runs()]).toEqual([new Set(["a"]), 2]);
    expect([next.rotation.refusal, next.owed.obstacles]).toEqual([undefined, []]);
  });

  test("has a digest that reveals nothing: two processes have two digests of it", async () => {
    const digests = [];
    for (const life of [await rotating({ script: "exit 1" }), await rotating({ script: "exit 1" })]) {
      await life.publish({ a: "a2", b: "b1" });
      digests.push(life.rotation.refusal?.digest);
    }
    expect(new Set(digests).size).toBe(2);
    expect(digests.join()).not.toMatch(/undefined|a2/);
  });

  test.each([
    ["the bytes of one secret go to another", { a: "xy", b: "z" }, { a: "x", b: "yz" }],
    ["two secrets change places", { a: "x", b: "y" }, { a: "y", b: "x" }],
  ])("differs from a set in which %s", async (_, before, after) => {
    const life = await rotating({ script: STRICT });
    expect(await life.publish(before)).toBe("refused");
    life.allow();
    expect(await life.publish(after)).toEqual(new Set(["a", "b"]));
    expect(life.runs()).toBe(2);
  });

  test("is verified again on request", async () => {
    const life = await rotating({ script: STRICT });
    expect(await life.publish({ a: "a2", b: "b1" })).toBe("refused");
    life.allow();
    expect(await life.publish({ a: "a2", b: "b1" }, true)).toEqual(new Set(["a", "b"]));
  });

  test("is logged each time, and leaves no file", async () => {
    const life = await rotating({ script: "exit 1" });
    await life.publish({ a: "a2", b: "b1" });
    await life.publish({ a: "a3", b: "b1" });
    expect(life.log.at("error")).toEqual([WHY, WHY]);
    expect(readdirSync(life.directory)).toEqual([]);
    expect(life.held.size).toBe(0);
  });

  test("a set is published after a reload has removed the command that refused it", async () => {
    const life = await rotating({ script: "exit 1" });
    await life.publish({ a: "a2", b: "b1" });
    life.rotation.take(null);
    expect(await life.publish({ a: "a3", b: "b1" })).toEqual(new Set(["a", "b"]));
    life.rotation.take({ command: ["false"], timeout: 5 });
    expect(await life.publish({ a: "a4" })).toBe("refused");
  });

  test.each([
    [{ key: "k", digest: "d" }, true],
    [{ key: "k" }, false],
    [{ digest: "d" }, false],
    [{ key: 1, digest: "d" }, false],
    [{ key: "k", digest: 1 }, false],
    [null, false],
    ["kd", false],
  ])("in a state file that others may have written is checked: %j", (value, isOne) => {
    expect(isRefusal(value)).toBe(isOne);
  });
});

test("does nothing without an earlier process's report", async () => {
  const life = await rotating();
  life.owed.obstruct("publish", "of long ago");
  life.rotation.recall(null, null);
  expect([life.owed.obstacles, life.rotation.refusal]).toEqual([[], undefined]);
});

describe("a first set", () => {
  test("a set that cannot be written ends the start, unless an earlier one exists", async () => {
    const life = await rotating();
    life.hold({ a: "a1", b: "b1" });
    await life.rotation.publishFirst(false, undefined, never);
    const unblock = block(join(life.directory, "secrets.env"));
    life.hold({ a: "a2" });
    await expect(life.rotation.publishFirst(false, undefined, never)).rejects.toThrow("is a directory");
    expect([life.log.at("error"), life.owed.obstacles]).toEqual([[], []]);
    expect(await life.rotation.publishFirst(false, ["a"], never)).toBe("failed");
    expect(life.owed.obstacles.join()).toContain("is a directory");
    unblock();
    expect(await life.rotation.publishFirst(false, ["a"], never)).toBe("published");
    expect(life.text("a")).toBe("a2");
  });

  test.each([
    ["where nothing is published", undefined],
    ["that is published already", []],
  ])("%s is not verified", async (_, changed) => {
    const life = await rotating({ script: STRICT });
    life.hold({ a: "a1", b: "b1" });
    expect(await life.rotation.publishFirst(false, changed, never)).toBe("published");
    expect([life.runs(), life.text("a")]).toEqual([0, "a1"]);
  });

  test("a refused set leaves the earlier one, and the next process knows it; an accepted one is published", async () => {
    const life = await rotating({ script: STRICT });
    life.hold({ a: "a1", b: "b1" });
    await life.rotation.publishFirst(false, undefined, never);
    life.hold({ a: "a2" });
    expect(await life.rotation.publishFirst(false, ["a"], never)).toBe("kept");
    expect([life.runs(), life.text("a"), life.log.at("error"), life.owed.obstacles]).toEqual([1, "a1", [WHY], [WHY]]);
    expect(life.rotation.refusal).toBeDefined();
    life.allow();
    expect(await life.rotation.publishFirst(false, ["a"], never)).toBe("published");
    expect([life.runs(), life.text("a")]).toEqual([2, "a2"]);
  });

  test("marks its action only if the target must hear of it", async () => {
    for (const act of [true, false]) {
      const life = await rotating();
      life.hold({ a: "a1", b: "b1" });
      await life.rotation.publishFirst(act, undefined, never);
      expect(life.text(".fetcher-state").includes('"pending":null')).toBe(!act);
    }
  });

  test("a stop during verify leaves nothing, and logs nothing", async () => {
    const life = await rotating({ script: "sleep 600" });
    life.hold({ a: "a1", b: "b1" });
    const stop = new AbortController();
    const first = life.rotation.publishFirst(false, ["a"], stop.signal);
    const second = life.rotation.publish(new Map([["a", fetched("a2")]]), false, false, stop.signal);
    stop.abort();
    expect([await first, await second]).toEqual(["failed", "failed"]);
    expect([life.log.lines, life.owed.obstacles, life.rotation.refusal]).toEqual([[], [], undefined]);
    expect(readdirSync(life.directory)).toEqual([]);
  });
});

describe("a value that does not fit its destination", () => {
  const secrets = { a: { env: "A" }, b: {} };

  test("holds back only its own secret, which stays unpublished", async () => {
    const life = await rotating({ config: { secrets } });
    life.hold({ a: "a1", b: "b1" });
    expect(await life.publish({ a: "\0", b: "b2" })).toEqual(new Set(["b"]));
    expect([life.text("b"), life.held.get("a")?.value.toString()]).toEqual(["b2", "a1"]);
    expect(life.owed.obstacles).toEqual([
      'the new secrets are not published: secret "a": a variable cannot hold its NUL bytes',
    ]);
    life.owed.settle(silence);
    expect(life.owed.obstacles).toHaveLength(1);
    expect(await life.publish({ a: "\0" })).toBe("refused");
    expect(await life.publish({ a: "\0" })).toBe("refused");
    expect(life.log.at("error")).toHaveLength(2);
  });

  test("does not hide why the others cannot be published either", async () => {
    const life = await rotating({ config: { secrets } });
    life.hold({ a: "a1", b: "b1" });
    await life.rotation.publishFirst(false, undefined, never);
    block(join(life.directory, "secrets.env"));
    expect(await life.publish({ a: "\0", b: "b2" })).toBe("failed");
    expect(life.owed.obstacles.join()).toContain("is a directory");
  });

  test("a set with an unchanged value that does not fit is refused, once", async () => {
    const template = join(freshDirectory(), "t.mustache");
    writeFileSync(template, "{{b}}");
    const life = await rotating({ config: { templates: { t: { template } } } });
    life.hold({ a: "a1", b: "\0" });
    expect(await life.publish({ a: "a2" })).toBe("refused");
    expect(life.owed.obstacles.join()).toContain('secret "b"');
    expect(await life.publish({ a: "a2" })).toBe("refused");
    expect(life.log.at("error")).toHaveLength(1);
  });
});

test("a bug in a publish does not count as a failed disk", async () => {
  const life = await rotating();
  life.hold({ a: "a1", b: "b1" });
  // A fake of a fault in the program itself.
  life.publisher.stage = () => {
    throw new TypeError("bug");
  };
  await expect(life.publish({ a: "a2" })).rejects.toThrow(TypeError);
  await expect(life.rotation.publishFirst(false, ["a"], never)).rejects.toThrow(TypeError);
});

describe("a secret published without its variable, or not at all,", () => {
  test("is reported once for each reason, with all secrets that share it", async () => {
    const life = await rotating({ config: { secrets: { a: {}, b: {}, c: {}, d: {} } } });
    const told = () => life.log.lines.filter(({ level }) => level === "warn");
    life.hold({ a: "\0", b: "\0", c: "c1", d: "\uFFFE" });
    await life.rotation.publishFirst(false, undefined, never);
    const nul = "a variable cannot hold its NUL bytes";
    const noncharacter = "systemd refuses the Unicode noncharacter in it";
    expect(told().map(({ message, fields }) => [message, fields["secrets"]])).toEqual([
      [`secret "a" is in its file only, not in secrets.env (and 1 more): ${nul}`, ["a", "b"]],
      [`secret "d" is in its file only, not in secrets.env: ${noncharacter}`, ["d"]],
    ]);
    await life.publish({ c: "c2" });
    expect(told()).toHaveLength(2);
    await life.publish({ a: "\uFFFE", c: "\0" });
    expect(
      told()
        .slice(2)
        .map(({ message }) => message),
    ).toEqual([
      `secret "a" is in its file only, not in secrets.env: ${noncharacter}`,
      `secret "c" is in its file only, not in secrets.env: ${nul}`,
    ]);
  });

  test("a key of `all` with an impossible file name is reported once", async () => {
    const life = await rotating({ config: { secrets: { a: { all: true }, b: {} } } });
    life.hold({ a: '{"x/y":"1","ok":"2"}', b: "b1" });
    await life.rotation.publishFirst(false, undefined, never);
    await life.publish({ b: "b2" });
    const problem = /^key "x\/y" cannot be published: its name /;
    expect(life.log.at("warn")).toEqual([expect.stringMatching(problem)]);
    await life.publish({ a: '{"b":"1","x/y":"1"}' });
    expect(life.log.at("warn")).toEqual([
      expect.stringMatching(problem),
      'key "b" cannot be published: another file has that name',
    ]);
  });

  test("keys that a store invents are one line, and are forgotten with the set that has them", async () => {
    const life = await rotating({ config: { secrets: { a: { all: true }, b: {} } } });
    life.hold({ a: "{}", b: "b1" });
    await life.rotation.publishFirst(false, undefined, never);
    const strange = JSON.stringify(Object.fromEntries(Array.from({ length: 900 }, (_, index) => [`x/${index}`, "1"])));
    const line = 'key "x/0" cannot be published (and 899 more): its name must not contain a slash';
    await life.publish({ a: strange });
    expect(life.log.at("warn")).toEqual([line]);
    await life.publish({ a: "{}" });
    await life.publish({ a: strange });
    expect(life.log.at("warn")).toEqual([line, line]);
  });
});
