/** What a start publishes, and whether a service that runs already hears of it. */
import { describe, expect, test } from "vitest";
import type { Found } from "../../../src/publish/publisher.ts";
import { publishFirst } from "../../../src/engine/first-publish.ts";
import { HeldValues, PUBLISHED_BEFORE } from "../../../src/engine/held-values.ts";
import { configOf } from "../command-line.ts";
import { FakeClock, recordingLog } from "../fakes.ts";

interface Options {
  /** What is held now, with seconds until a lease ends. */
  readonly now?: Readonly<Record<string, string>>;
  readonly leases?: Readonly<Record<string, number>>;
  /** What an earlier life published; undefined: no whole set. */
  readonly before?: Readonly<Record<string, string>> | undefined;
  readonly isTorn?: boolean;
  readonly json?: object;
  /** Files that the templates would make anew. */
  readonly outdated?: readonly string[];
  readonly result?: "published" | "kept" | "failed";
  /** Nothing is configured that would have to hear of it. */
  readonly noTargets?: boolean;
}

const buffers = (values: Readonly<Record<string, string>>) =>
  new Map(Object.entries(values).map(([id, value]) => [id, Buffer.from(value)]));
const follows = { config: { reloadOnChange: true } };

/** The first publish, with what stands around it only noting what it is told. */
async function first({ now = { a: "a1", b: "b1" }, result = "published", ...options }: Options = {}) {
  const config = configOf({ secrets: { a: {}, b: {} }, service: "app.service", ...options.json });
  const clock = new FakeClock();
  const held = new HeldValues(clock);
  for (const [id, value] of Object.entries(now)) {
    const refreshAfter = options.leases?.[id];
    held.set(id, { value: Buffer.from(value), version: "1", ...(refreshAfter === undefined ? {} : { refreshAfter }) });
  }
  const told: string[] = [];
  const log = recordingLog();
  const parts = {
    ...{ config, held, log },
    store: { describe: (id: string) => `the place of ${id}` },
    publisher: { outdated: () => options.outdated ?? [] },
    owed: {
      leaveUntold: () => told.push("hears of it at the next reload"),
      settingsMayDiffer: () => told.push("settings may differ"),
      templatesAre: (what: string, act: boolean) => told.push(`templates ${what}, act ${act}`),
    },
    rotation: {
      publishFirst: (act: boolean, changed: readonly string[] | undefined) => {
        told.push(`publish, act ${act}, changed ${changed === undefined ? "unknown" : `[${changed.join()}]`}`);
        return Promise.resolve(result);
      },
    },
    targets: {
      none: options.noTargets ?? false,
      request: (ids: readonly string[]) => told.push(`action for [${ids.join()}]`),
    },
  } as unknown as Parameters<typeof publishFirst>[0];
  const values = options.before === undefined ? undefined : buffers(options.before);
  const found: Found = { values, isTorn: options.isTorn ?? false, pending: undefined, starts: new Map() };
  const answer = await publishFirst(parts, found, new AbortController().signal);
  return { answer, told, held, log };
}

describe("the first set of all", () => {
  test("is published, and nobody has to hear of it", async () => {
    for (const json of [{}, follows]) {
      const { answer, told } = await first({ json });
      expect([answer, told]).toEqual(["published", ["publish, act false, changed unknown"]]);
    }
  });

  test.each([
    [
      "with reloadOnChange, a service may run with anything",
      follows,
      {},
      ["publish, act true, changed unknown", "action for []"],
    ],
    [
      "without it, the service hears of it at the next reload",
      {},
      {},
      ["publish, act false, changed unknown", "hears of it at the next reload"],
    ],
    ["without a target, nobody does", {}, { noTargets: true }, ["publish, act false, changed unknown"]],
    [
      "with reloadOnChange and no target, nobody does",
      follows,
      { noTargets: true },
      ["publish, act false, changed unknown"],
    ],
  ])("takes the place of a torn one: %s", async (_, json, more, expected) => {
    expect((await first({ json, isTorn: true, ...more })).told).toEqual(expected);
  });
});

describe("after an earlier life", () => {
  const before = { a: "a1", b: "b1" };

  test("the same set is published again, and nobody has to hear of it", async () => {
    expect((await first({ before, json: follows })).told).toEqual(["publish, act false, changed []"]);
    expect((await first({ before })).told).toEqual(["publish, act false, changed []"]);
  });

  test.each([
    ["another value", { a: "a2", b: "b1" }, ["a"]],
    ["a value that is gone", { a: "a1" }, ["b"]],
    ["both", { a: "a2" }, ["a", "b"]],
  ])("the service is told of %s with reloadOnChange, and else at the next reload", async (_, now, ids) => {
    expect((await first({ before, now, json: follows })).told).toEqual([
      `publish, act true, changed [${ids.join()}]`,
      `action for [${ids.join()}]`,
    ]);
    expect((await first({ before, now })).told).toEqual([
      `publish, act false, changed [${ids.join()}]`,
      "hears of it at the next reload",
    ]);
    expect((await first({ before, now, noTargets: true, json: follows })).told).toEqual([
      `publish, act false, changed [${ids.join()}]`,
    ]);
  });

  test("a secret that is new counts as changed, and an optional one that never came does not", async () => {
    const { told } = await first({ before: { a: "a1" }, json: follows });
    expect(told).toEqual(["publish, act true, changed [b]", "action for [b]"]);
    const json = { ...follows, secrets: { a: {}, b: { optional: true } } };
    expect((await first({ before: { a: "a1" }, now: { a: "a1" }, json })).told).toEqual([
      "publish, act false, changed []",
    ]);
  });

  test("the service is told of a new lease whatever reloadOnChange says, because the one before will end", async () => {
    const { told } = await first({ before, now: { a: "a2", b: "b2" }, leases: { a: 600 } });
    expect(told).toEqual(["publish, act true, changed [a,b]", "action for [a]"]);
  });

  test("the service is told of changed templates with reloadOnChange", async () => {
    const outdated = ["app.ini"];
    expect((await first({ before, outdated, json: follows })).told).toEqual([
      "publish, act true, changed []",
      "action for []",
    ]);
    expect((await first({ before, outdated })).told).toEqual(["publish, act false, changed []"]);
    expect((await first({ outdated, json: follows })).told).toEqual(["publish, act false, changed unknown"]);
  });

  test.each(["kept", "failed"] as const)("its set stays, and is held, where the new one is %s", async (result) => {
    const { answer, told, held, log } = await first({ before, now: { a: "", b: "b2" }, result, json: follows });
    expect([answer, told]).toEqual([result, ["publish, act true, changed [a,b]", "settings may differ"]]);
    expect([...held.bytes].map(([id, bytes]) => `${id}=${bytes.toString()}`)).toEqual(["a=a1", "b=b1"]);
    expect(held.get("a")?.version).toBe(PUBLISHED_BEFORE);
    expect(log.lines).toEqual([]);
  });

  test("changed templates are published later where its set stays, and the service is told then", async () => {
    const { told } = await first({ before, outdated: ["app.ini"], result: "failed", json: follows });
    expect(told.slice(1)).toEqual(["settings may differ", "templates changed, act true"]);
    const without = await first({ before, outdated: ["app.ini"], result: "failed", json: follows, noTargets: true });
    expect(without.told.slice(1)).toEqual(["settings may differ", "templates changed, act false"]);
  });
});

describe("without a process that stays", () => {
  const before = { a: "a1", b: "b1" };
  const json = { ...follows, resident: "on-change" };

  test("no action is done: the service starts after it", async () => {
    const { told } = await first({ before, now: { a: "a2", b: "b1" }, isTorn: true, json });
    expect(told[0]).toBe("publish, act false, changed [a]");
    expect(told).not.toContain("action for [a]");
  });

  test.each([
    [false, 'configuration: resident: false leaves no process to renew the lease of secret "b": set it to true'],
    [
      "on-change",
      'configuration: resident: "on-change" leaves no process to renew the lease of secret "b": set it to true',
    ],
  ])("a lease is refused before anything is published: resident %s", async (resident, message) => {
    const more = resident === "on-change" ? { config: { reloadOnChange: true } } : {};
    await expect(first({ leases: { b: 600 }, json: { resident, ...more } })).rejects.toMatchObject({
      exitCode: 78,
      message,
    });
    expect((await first({ json: { resident, ...more } })).answer).toBe("published");
  });
});

test("without a process that stays, a secret that never came is no lease", async () => {
  const json = { secrets: { a: {}, c: { optional: true } }, resident: false };
  expect((await first({ now: { a: "a1" }, json })).answer).toBe("published");
});

test("an empty value is published with a warning, unless it may be empty", async () => {
  const json = { secrets: { a: {}, b: { empty: true }, c: {}, d: { optional: true } } };
  const { log } = await first({ now: { a: "\n", b: "", c: "c1" }, json });
  expect(log.lines).toEqual([
    { level: "warn", message: "the place of a is empty; published as it is", fields: { secrets: ["a"] } },
  ]);
});
