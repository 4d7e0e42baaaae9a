/** One round by itself: the store and the targets are fakes, the publisher and its files are real. */
import { chmodSync, existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { BackendError } from "../../../src/contract/backend.ts";
import { FatalError } from "../../../src/contract/errors.ts";
import type { PublishResult, Request } from "../../../src/engine/ask-times.ts";
import { Cycle } from "../../../src/engine/cycle.ts";
import { HeldValues } from "../../../src/engine/held-values.ts";
import { Owed } from "../../../src/engine/owed.ts";
import { Problems } from "../../../src/engine/problems.ts";
import { RotationPublisher } from "../../../src/engine/rotation.ts";
import { Publisher } from "../../../src/publish/publisher.ts";
import { ValueError } from "../../../src/publish/value.ts";
import type { Targets } from "../../../src/systemd/targets.ts";
import { configOf } from "../command-line.ts";
import { FakeClock, FakeStore, missing, recordingLog, refused } from "../fakes.ts";
import { FailingDisk } from "./failing-disk.ts";
import { block, freshDirectory } from "./running-sidecar.ts";

interface Options {
  readonly reloadOnChange?: boolean;
  /** There is nobody to tell. */
  readonly none?: boolean;
  readonly template?: string;
  readonly settle?: number;
  readonly verify?: readonly string[];
}

/** `a` and `b` are published. */
async function cycling({ reloadOnChange = true, none = false, template, settle = 0, verify }: Options = {}) {
  const directory = join(freshDirectory(), "pub");
  const templateFile = join(freshDirectory(), "t.mustache");
  if (template !== undefined) writeFileSync(templateFile, template);
  const config = configOf({
    secrets: { a: {}, b: {} },
    config: { reloadOnChange },
    onChange: { settle, verify: verify === undefined ? null : { command: verify } },
    output: { directory },
    ...(template === undefined ? {} : { templates: { t: { template: templateFile } } }),
  });
  if (config.output === undefined) throw new Error("no output");
  const clock = new FakeClock();
  const store = new FakeStore({ a: "a1", b: "b1" });
  const held = new HeldValues(clock);
  const log = recordingLog();
  const owed = new Owed(["a", "b"], held, clock, () => 0.5);
  const publisher = await Publisher.open(config, config.output);
  const problems = new Problems(store, log, clock);
  const told: { readonly ids: readonly string[]; readonly at: number | undefined }[] = [];
  const targets = { none, request: (ids: readonly string[], at?: number) => told.push({ ids, at }) };
  const counts = { checked: 0, published: 0 };
  const cycle = new Cycle({
    ...{ config, store, publisher, held, problems, owed, log, clock },
    rotation: new RotationPublisher(config.onChange.verify, publisher, held, owed, log),
    targets: targets as unknown as Targets,
    checked: () => (counts.checked += 1),
    published: () => (counts.published += 1),
  });
  for (const id of ["a", "b"]) held.set(id, { value: Buffer.from(`${id}1`), version: "0" });
  publisher.stage(held.bytes, false).commit();
  publisher.repair(held.bytes, false, false);
  const stop = new AbortController();
  return {
    ...{ clock, store, held, owed, log, publisher, problems, told, counts, stop, cycle, directory },
    run: async (
      request?: Request,
      ids: readonly string[] = ["a", "b"],
      isTaken = false,
    ): Promise<PublishResult | undefined> =>
      (await (isTaken ? cycle.run(ids, request, stop.signal, true) : cycle.run(ids, request, stop.signal)))?.result,
    file: (name: string) => readFileSync(join(directory, name), "utf8"),
    path: (name: string) => join(directory, name),
    writeTemplate: (text: string) => {
      writeFileSync(templateFile, text);
    },
    last: () => log.lines.at(-1)?.message,
  };
}

describe("a notification of the target", () => {
  test("names a changed secret by its id", async () => {
    const { store, run, told, counts, log } = await cycling();
    expect(await run()).toBe("unchanged");
    expect([told, counts]).toEqual([[], { checked: 1, published: 0 }]);
    store.put("a", "a2");
    expect(await run()).toEqual(new Set(["a"]));
    expect([told, counts]).toEqual([[{ ids: ["a"], at: undefined }], { checked: 2, published: 1 }]);
    expect(log.lines.map(({ message, fields }) => [message, fields["secrets"]])).toEqual([
      ["published 1 changed secret", ["a"]],
    ]);
  });

  test.each([
    ["that only the start wanted, without reloadOnChange", false, undefined, true, false],
    ["on request, without reloadOnChange", false, undefined, false, true],
    ["that only the start wanted, with reloadOnChange", true, undefined, true, true],
    ["of a lease, in any case", false, 600, true, true],
  ])("for a change %s", async (_, reloadOnChange, lease, isQuiet, isTold) => {
    const { store, run, told, owed } = await cycling({ reloadOnChange });
    if (isQuiet) owed.missedByStart(["a"], true);
    if (lease !== undefined) store.leases.set("a", lease);
    store.put("a", "a2");
    await run();
    expect(told).toHaveLength(isTold ? 1 : 0);
    // What it has not heard of is told at the next reload, once.
    expect(await run("reload", ["b"])).toBe("unchanged");
    await run("reload", ["b"]);
    expect(told).toHaveLength(1);
  });

  test("leaves out a secret that a reload has just added, now and later", async () => {
    const { store, run, told, owed } = await cycling();
    owed.secretsAre(["a", "b"], new Set(), ["a"]);
    store.put("a", "a2");
    await run();
    await run("reload", ["b"]);
    expect(told).toEqual([]);
    store.put("a", "a3");
    await run();
    expect(told).toHaveLength(1);
  });

  test("leaves out a reload that takes another configuration over, now and later", async () => {
    const { store, run, told, owed, log } = await cycling({ reloadOnChange: false });
    owed.missedByStart(["a"], true);
    store.put("a", "a2");
    await run("reload", ["a", "b"], true);
    expect(log.at("notice")).toEqual(["published 1 changed secret"]);
    expect(await run("reload", ["b"], true)).toBe("unchanged");
    await run("reload", ["b"]);
    expect(told).toEqual([]);
    expect(log.at("notice").slice(1)).toEqual(["fetched again: nothing has changed"]);
  });

  test("is skipped without a target", async () => {
    const { store, run, told, path } = await cycling({ none: true, template: "{{a}}" });
    store.put("a", "a2");
    await run();
    expect(readFileSync(path(".fetcher-state"), "utf8")).toContain('"pending":null');
    rmSync(path("b"));
    writeFileSync(path("b"), "other");
    await run();
    await run("reload");
    expect(told).toEqual([]);
  });

  test("covers a set that it may have missed, with the moment of its publish", async () => {
    const { clock, run, told, owed, log } = await cycling();
    owed.leaveUntold();
    const at = clock.monotonic();
    await clock.advance(100);
    await run();
    expect(told).toEqual([]);
    await run("reload");
    expect(told).toEqual([{ ids: [], at }]);
    expect(log.at("notice")).toEqual([
      "fetched again: nothing has changed, but the service may still run with older secrets",
    ]);
  });

  test("covers a partial publish, even if the store has taken it back", async () => {
    const { store, run, told, directory, file, log, publisher } = await cycling({ reloadOnChange: false });
    const disk = new FailingDisk(directory);
    store.put("a", "a2");
    store.put("b", "b2");
    // Its stage with four files, the rename that decides, those of the state and of the first file.
    disk.fail(7);
    expect(await run()).toBe("failed");
    expect([publisher.halfDone, told, file("b")]).toEqual([true, [], "b1"]);
    disk.heal();
    for (const id of ["a", "b"]) store.put(id, `${id}1`);
    await run();
    expect([file("a"), file("b"), told]).toEqual(["a1", "b1", [{ ids: [], at: undefined }]]);
    expect(log.at("notice")).toEqual(["published what was half done"]);
  });

  test("leaves out files of other settings, which are published", async () => {
    const { run, told, owed, log, counts } = await cycling();
    owed.settingsMayDiffer();
    expect(await run(undefined, [])).toEqual(new Set());
    expect([told, log.at("notice"), counts]).toEqual([
      [],
      ["published changed settings"],
      { checked: 0, published: 1 },
    ]);
    await run("reload", ["b"]);
    expect(told).toEqual([]);
  });
});

describe("the store's answer", () => {
  test("counts as a check if it covers all secrets, including a missing one", async () => {
    const { store, run, counts } = await cycling();
    store.put("a", missing("a"));
    await run();
    expect(counts.checked).toBe(1);
    store.put("b", refused);
    await run();
    store.put("b", new BackendError("denied", "no"));
    await run();
    await run(undefined, []);
    expect(counts.checked).toBe(1);
  });

  test("identical bytes update their version, and other bytes only after the publish", async () => {
    const { store, run, held, directory } = await cycling();
    store.put("a", "a1");
    store.put("b", "b2");
    const unblock = block(join(directory, "b"));
    expect(await run()).toBe("failed");
    expect([held.get("a")?.version, held.get("b")?.version, held.get("b")?.value.toString()]).toEqual(["3", "0", "b1"]);
    unblock();
    await run();
    expect(held.get("b")).toMatchObject({ version: "3", value: Buffer.from("b2") });
  });

  test("is overwritten if it is not held, also at a stop", async () => {
    const { store, run, stop, held } = await cycling();
    const { given } = store;
    store.put("a", "a2");
    await run();
    const texts = () => given.map((value) => value.toString());
    expect(texts()).toEqual(["a2", "\0\0"]);
    store.put("b", "b2");
    store.before = () => {
      stop.abort();
      return Promise.resolve();
    };
    expect(await run()).toBeUndefined();
    expect(texts()).toEqual(["a2", "\0\0", "\0\0", "\0\0"]);
    expect(held.get("b")?.value.toString()).toBe("b1");
  });

  test("a failure is logged, with the consequence for the secret", async () => {
    const { store, run, log } = await cycling();
    store.put("a", refused);
    await run();
    expect(log.at("warn")).toEqual(["fake: connection refused; the published values stay in use"]);
  });

  test("a reload that changes nothing says why, first for the publish, then the store, then the rest", async () => {
    const { run, owed, store, last } = await cycling();
    await run("reload");
    expect(last()).toBe("fetched again: nothing has changed");
    await run();
    await run("hint");
    expect(last()).toBe("fetched again: nothing has changed");
    const why = async (ids: readonly string[] = []) => {
      await run("reload", ids);
      return /nothing new is published: (.*)$/.exec(last() ?? "")?.[1];
    };
    owed.obstruct("care", "a link");
    expect(await why()).toBe("a link");
    store.put("a", refused);
    expect(await why(["a"])).toMatch(/^secret "a": connection refused, since/);
    owed.toPublish(["b"]);
    owed.obstruct("publish", "the disk");
    expect(await why()).toBe("the disk");
  });
});

describe("a repair", () => {
  test("restores altered files and notifies the target, and restores removed ones without", async () => {
    const { run, told, path, file, log, owed } = await cycling();
    rmSync(path("a"));
    await run();
    expect([file("a"), told]).toEqual(["a1", []]);
    chmodSync(path("b"), 0o600);
    writeFileSync(path("b"), "xx");
    owed.leaveUntold();
    await run();
    expect([file("b"), told]).toEqual(["b1", [{ ids: [], at: undefined }]]);
    expect(log.lines.map(({ level, message, fields }) => [level, message, fields["files"]])).toEqual([
      ["warn", "restored published files that somebody removed or altered", ["a"]],
      ["warn", "restored published files that somebody removed or altered", ["b"]],
    ]);
    // By that it has heard of all.
    await run("reload");
    expect(told).toHaveLength(1);
    await run();
    expect(log.at("warn")).toHaveLength(2);
  });

  test("waits for a due publish of other files", async () => {
    const { cycle, path, owed } = await cycling();
    rmSync(path("a"));
    owed.settingsMayDiffer();
    cycle.mend();
    expect(existsSync(path("a"))).toBe(false);
    owed.published();
    cycle.mend();
    expect(existsSync(path("a"))).toBe(true);
  });

  test("a failed repair is logged once, and tried again; after a failed publish it is not logged too", async () => {
    const { cycle, path, owed, log, store, run } = await cycling();
    const unblock = block(path("a"));
    cycle.mend();
    cycle.mend();
    const what = /^removed or altered files are not restored: .* is a directory: remove it$/;
    expect([log.at("error"), owed.obstacles]).toEqual([[expect.stringMatching(what)], [expect.stringMatching(what)]]);
    expect(owed.seconds).toBe(60);
    store.put("a", "a2");
    expect(await run()).toBe("failed");
    expect(owed.obstacles).toEqual([expect.stringMatching(/^the new secrets are not published: /)]);
    unblock();
    store.put("a", "a1");
    rmSync(path("a"));
    await run();
    expect([owed.obstacles, owed.seconds, existsSync(path("a"))]).toEqual([[], Infinity, true]);
  });

  test("a repair that fails half-way is published again soon", async () => {
    const { cycle, path, owed, directory } = await cycling();
    for (const name of ["a", "b"]) rmSync(path(name));
    // Its stage with three files, the rename that decides, those of the state and of the first file.
    new FailingDisk(directory).fail(7);
    cycle.mend();
    expect(existsSync(path("a"))).not.toBe(existsSync(path("b")));
    expect(owed.seconds).toBeLessThan(5);
  });

  test("compares all bytes only on request, until that is done", async () => {
    const { run, owed, directory, path } = await cycling();
    await run();
    expect(owed.areBytesUncompared).toBe(false);
    const disk = new FailingDisk(directory);
    rmSync(path("a"));
    disk.fail(0);
    await run("reload");
    expect(owed.areBytesUncompared).toBe(true);
    disk.heal();
    await run();
    expect([owed.areBytesUncompared, existsSync(path("a"))]).toEqual([false, true]);
  });

  test("does not hide a bug", async () => {
    const { cycle, publisher } = await cycling();
    // A fake of a fault in the program itself.
    publisher.repair = () => {
      throw new TypeError("bug");
    };
    expect(() => {
      cycle.mend();
    }).toThrow(TypeError);
  });
});

describe("templates", () => {
  test("are read at a reload, and make other files from the same values: the target is notified", async () => {
    const { run, writeTemplate, file, told, log } = await cycling({ template: "old {{a}}" });
    writeTemplate("new {{a}}");
    for (const request of [undefined, "hint"] as const) await run(request);
    expect(file("t")).toBe("old a1");
    await run("reload");
    expect([file("t"), told, log.at("notice")]).toEqual([
      "new a1",
      [{ ids: [], at: undefined }],
      ["published changed templates"],
    ]);
    await run("reload");
    expect([told.length, log.at("notice").at(-1)]).toEqual([1, "fetched again: nothing has changed"]);
  });

  test("are already read by a reload that takes another configuration over", async () => {
    const { run, writeTemplate, file } = await cycling({ template: "old {{a}}" });
    writeTemplate("new {{a}}");
    await run("reload", ["a", "b"], true);
    expect(file("t")).toBe("old a1");
  });

  test("wrong templates keep their earlier version: a person must fix them, and reload", async () => {
    const { run, writeTemplate, file, owed, log, store } = await cycling({ template: "old {{a}}" });
    writeTemplate("{{unknown}}");
    await run("reload");
    const what = /^configuration: templates\.t\.template.*; the templates read before stay in use$/;
    expect(log.at("error")).toEqual([expect.stringMatching(what)]);
    expect(owed.obstacles).toEqual([expect.stringMatching(what)]);
    expect(log.at("notice")).toEqual([
      expect.stringMatching(/^fetched again: nothing new is published: configuration: /),
    ]);
    writeTemplate("new {{a}}");
    store.put("a", "a2");
    await run();
    expect(file("t")).toBe("old a2");
    await run("reload");
    expect([file("t"), owed.obstacles]).toEqual(["new a2", []]);
  });

  test("a template that cannot carry a value is read again with the next ones, and logged once", async () => {
    const { run, writeTemplate, file, owed, log, store } = await cycling({ template: "old {{a}}" });
    writeTemplate("{{a}} {{b}}");
    store.put("b", "\0");
    await run("reload");
    await run();
    expect([log.at("error"), file("t")]).toEqual([
      [expect.stringMatching(/; the templates read before stay in use$/)],
      "old a1",
    ]);
    store.put("b", "b2");
    await run();
    expect([file("t"), owed.obstacles]).toEqual(["a1 b2", []]);
  });

  test("a template that cannot be read now is read again without a reload", async () => {
    const { run, writeTemplate, file, publisher } = await cycling({ template: "old {{a}}" });
    writeTemplate("new {{a}}");
    const reloadTemplates = publisher.reloadTemplates.bind(publisher);
    // A fake of a file system that fails.
    publisher.reloadTemplates = () => Promise.reject(new FatalError(74, "i/o error"));
    await run("reload");
    publisher.reloadTemplates = reloadTemplates;
    await run();
    expect(file("t")).toBe("new a1");
  });

  test("a read that a stop interrupts is no error, but a bug is one", async () => {
    const { run, publisher, stop, log, owed } = await cycling({ template: "{{a}}" });
    publisher.reloadTemplates = () => Promise.reject(new TypeError("bug"));
    await expect(run("reload")).rejects.toThrow(TypeError);
    publisher.reloadTemplates = () => {
      stop.abort();
      return Promise.reject(new ValueError("a", "is no text"));
    };
    expect([await run("reload"), log.lines, owed.obstacles]).toEqual([undefined, [], []]);
  });

  test("templates are published again when their files cannot be compared", async () => {
    const { run, publisher, log } = await cycling({ template: "{{a}}" });
    publisher.outdated = () => {
      throw new FatalError(74, "output: cannot read t: i/o error");
    };
    expect(await run("reload")).toEqual(new Set());
    expect(log.at("error", "notice")).toEqual(["output: cannot read t: i/o error", "published changed templates"]);
    publisher.outdated = () => {
      throw new TypeError("bug");
    };
    await expect(run("reload")).rejects.toThrow(TypeError);
  });
});

test("a stop during the publish leaves damaged files to the next start", async () => {
  const { run, stop, path, publisher, store } = await cycling();
  rmSync(path("b"));
  const stage = publisher.stage.bind(publisher);
  publisher.stage = (...args) => {
    stop.abort();
    return stage(...args);
  };
  const repairs: unknown[] = [];
  publisher.repair = (...args) => {
    repairs.push(args);
    return new Map();
  };
  store.put("a", "a2");
  expect(await run()).toEqual(new Set(["a"]));
  expect(repairs).toEqual([]);
});

describe("a round", () => {
  test.each([
    ["of a poll asks again until the change has been at rest", undefined, 2],
    ["of a hint came after a rest", "hint", 1],
    ["of a reload waits for nothing", "reload", 1],
  ] as const)("%s", async (_, request, fetches) => {
    const { store, clock, run, file } = await cycling({ settle: 1 });
    store.put("a", "a2");
    const end = run(request);
    await clock.advance(5);
    expect([await end, store.fetches.length, file("a")]).toEqual([new Set(["a"]), fetches, "a2"]);
  });

  test("a round that a stop cuts short reports no outage", async () => {
    const { store, run, stop, log, problems } = await cycling();
    store.before = () => {
      store.down = refused;
      stop.abort();
      return Promise.resolve();
    };
    expect([await run(), log.lines, problems.summary]).toEqual([undefined, [], undefined]);
  });

  test("verifies a refused set again only at a reload", async () => {
    const runs = join(freshDirectory(), "runs");
    const { store, run } = await cycling({ verify: ["sh", "-c", 'printf x >> "$0"; exit 1', runs] });
    store.put("a", "a2");
    const counts = [];
    for (const request of [undefined, "hint", "reload", undefined] as const) {
      expect(await run(request)).toBe("refused");
      counts.push(readFileSync(runs, "utf8").length);
    }
    expect(counts).toEqual([1, 1, 2, 2]);
  });

  test.each([true, false])("marks the action that is due, unless there is no target (%s)", async (none) => {
    const { store, run, path, publisher } = await cycling({ none });
    const repairs: unknown[] = [];
    const repair = publisher.repair.bind(publisher);
    publisher.repair = (values, whole, act) => {
      repairs.push([whole, act]);
      return repair(values, whole, act);
    };
    store.put("a", "a2");
    await run();
    expect(readFileSync(path(".fetcher-state"), "utf8").includes('"pending":null')).toBe(none);
    // Only a reload compares all bytes.
    await run("reload");
    expect(repairs).toEqual([
      [false, !none],
      [true, !none],
    ]);
  });
});

test("damage that is mended at the second try is no obstacle any more", async () => {
  const { cycle, path, owed, file } = await cycling();
  const unblock = block(path("a"));
  cycle.mend();
  expect(owed.obstacles).toHaveLength(1);
  unblock();
  rmSync(path("a"));
  cycle.mend();
  expect([owed.obstacles, owed.seconds, file("a")]).toEqual([[], Infinity, "a1"]);
});

describe("a reload of templates", () => {
  test("the next round after a reload that went well reads no templates", async () => {
    const { run, writeTemplate, file } = await cycling({ template: "old {{a}}" });
    writeTemplate("new {{a}}");
    await run("reload");
    writeTemplate("newer {{a}}");
    await run();
    expect(file("t")).toBe("new a1");
  });

  test("says each time what is wrong, because somebody asked", async () => {
    const { run, writeTemplate, log } = await cycling({ template: "old {{a}}" });
    writeTemplate("{{unknown}}");
    await run("reload");
    await run("reload");
    expect(log.at("error")).toHaveLength(2);
  });
});
