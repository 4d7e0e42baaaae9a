/** What is done for services that an action broke, where several are, and what the store is asked meanwhile. */
import { describe, expect, test } from "vitest";
import { type BrokenServiceParts, helpBrokenService, LONGEST_HELP } from "../../../src/engine/broken-service.ts";
import { HeldValues } from "../../../src/engine/held-values.ts";
import type { BrokenTarget } from "../../../src/systemd/targets.ts";
import { configOf } from "../command-line.ts";
import { FakeClock, FakeStore, recordingLog, refused } from "../fakes.ts";

interface Options {
  readonly broken?: readonly Partial<BrokenTarget>[];
  /** Why the last set is not published. */
  readonly unpublished?: string;
  readonly leases?: Readonly<Record<string, number>>;
  /** Secrets that the store never had. */
  readonly optional?: readonly string[];
  readonly revives?: (unit: string) => { readonly ok: boolean; readonly detail: string };
}

/** Holds a1 and b1, which the store has, too. */
function stopped({ broken = [{}], ...options }: Options = {}) {
  const clock = new FakeClock();
  const store = new FakeStore({ a: "a1", b: "b1" });
  const held = new HeldValues(clock);
  for (const id of ["a", "b"]) {
    const refreshAfter = options.leases?.[id];
    const value = Buffer.from(`${id}1`);
    held.set(id, { value, version: "1", ...(refreshAfter === undefined ? {} : { refreshAfter }) });
  }
  const log = recordingLog();
  const statuses: string[] = [];
  const revived: string[] = [];
  const targets = broken.map((one) => ({ unit: "app.service", hasNewer: false, hasJob: false, ...one }));
  const { given } = store;
  const state = { targets, looks: 0 };
  const parts = {
    ...{ store, held, log, clock },
    config: configOf({
      secrets: Object.fromEntries(["a", "b", ...(options.optional ?? [])].map((id) => [id, {}])),
      onChange: { settle: 0.5 },
    }),
    owed: { obstacleOf: (what: string) => (what === "publish" ? options.unpublished : undefined) },
    targets: {
      broken: () => {
        state.looks += 1;
        return Promise.resolve(state.targets);
      },
    },
    systemd: {
      isStopping: () => Promise.resolve(false),
      reviveBoth: (unit: string) => {
        revived.push(unit);
        return Promise.resolve(options.revives?.(unit) ?? { ok: true, detail: "" });
      },
    },
    status: (text: string) => statuses.push(text),
  } as unknown as BrokenServiceParts;
  let ended = false;
  void helpBrokenService(parts).then(() => (ended = true));
  return { clock, store, log, statuses, revived, given, held, state, ended: () => ended };
}

describe("services that an action broke", () => {
  test("are all named, and all started again when newer secrets come", async () => {
    const broken = [{ unit: "app.service" }, { unit: "db.service" }];
    const { clock, store, log, statuses, revived, ended } = stopped({ broken });
    await clock.advance(3.2);
    expect([ended(), revived]).toEqual([false, []]);
    const says = `app.service, db.service failed after the last action; waiting up to ${LONGEST_HELP} s for newer secrets`;
    expect([log.at("warn"), statuses]).toEqual([[says], [says]]);
    store.put("b", "b2");
    await clock.until(ended, 3);
    expect(revived).toEqual(["app.service", "db.service"]);
    expect(log.at("notice")).toEqual([
      "app.service, db.service failed after the last action: started again, newer secrets are there",
    ]);
    expect([log.at("error"), statuses.length]).toEqual([[], 1]);
  });

  test("are started again without newer secrets where only their start limit is in the way, once it is over", async () => {
    const { clock, log, revived, state, ended } = stopped();
    await clock.advance(5);
    expect([ended(), revived]).toEqual([false, []]);
    state.targets = state.targets.map((target) => ({ ...target, isLimitOver: true }));
    await clock.until(ended, 3);
    expect(revived).toEqual(["app.service"]);
    expect(log.at("notice")).toEqual([
      "app.service failed after the last action: started again, its start limit is over",
    ]);
  });

  test("are started again at once where a newer set is published already", async () => {
    const broken = [{ unit: "app.service" }, { unit: "db.service", hasNewer: true }];
    const { clock, store, revived, ended } = stopped({ broken });
    await clock.advance(0);
    expect([ended(), revived, store.fetches]).toEqual([true, ["app.service", "db.service"], []]);
  });

  test("are left alone as soon as somebody starts one of them, though there are newer secrets", async () => {
    const broken = [
      { unit: "app.service", hasNewer: true },
      { unit: "db.service", hasJob: true },
    ];
    const { clock, revived, ended } = stopped({ broken });
    await clock.advance(0);
    expect([ended(), revived]).toEqual([true, []]);
  });

  test("need no more help when they run again", async () => {
    const { clock, store, state, revived, log, ended } = stopped();
    await clock.advance(2.5);
    store.put("a", "a2");
    state.targets = [];
    await clock.advance(1);
    expect([ended(), revived, log.at("notice")]).toEqual([true, [], []]);
  });

  test("get no help from a set that the verify command refuses, nor is anything said", async () => {
    const { clock, store, log, statuses, ended } = stopped({ unpublished: "the verify command exited with 1" });
    await clock.advance(0);
    expect([ended(), store.fetches, log.lines, statuses]).toEqual([true, [], [], []]);
  });

  test("are none at any other stop: nothing is said, and nobody is asked", async () => {
    const { clock, store, log, statuses, ended } = stopped({ broken: [] });
    await clock.advance(0);
    expect([ended(), store.fetches, log.lines, statuses]).toEqual([true, [], [], []]);
  });

  test("that systemd cannot start are named, and the others are started all the same", async () => {
    const broken = [{ unit: "app.service" }, { unit: "db.service" }];
    const revives = (unit: string) => ({ ok: unit === "db.service", detail: "Job failed" });
    const { clock, store, log, revived, ended } = stopped({ broken, revives });
    store.put("a", "a2");
    await clock.until(ended, 3);
    expect(revived).toEqual(["app.service", "db.service"]);
    expect(log.at("error")).toEqual(["app.service cannot be started again: Job failed"]);
  });
});

describe("meanwhile the store", () => {
  test("is asked each second, and no longer than that time", async () => {
    const { clock, store, log, ended } = stopped();
    await clock.advance(0.9);
    expect(store.fetches).toEqual([["a", "b"]]);
    await clock.advance(0.2);
    expect(store.fetches).toHaveLength(2);
    const seconds = 1.1 + (await clock.until(ended, LONGEST_HELP + 2));
    expect(seconds).toBeCloseTo(LONGEST_HELP, 0);
    expect(store.fetches).toHaveLength(LONGEST_HELP + 1);
    expect(log.at("warn").at(-1)).toBe("app.service stays failed: no newer secrets came");
  });

  test("is not asked for a lease: each answer would be another one", async () => {
    const { clock, store, ended } = stopped({ leases: { a: 600 } });
    await clock.until(ended, LONGEST_HELP + 2);
    expect(new Set(store.fetches.flat())).toEqual(new Set(["b"]));
  });

  test("is asked for an optional secret that it never had, too", async () => {
    const { clock, store, revived, ended } = stopped({ optional: ["c"] });
    await clock.advance(2);
    expect(store.fetches[0]).toEqual(["a", "b", "c"]);
    store.put("c", "c1");
    await clock.until(ended, 3);
    expect(revived).toEqual(["app.service"]);
  });

  test("has newer secrets only when they are at rest: half of a pair would break the service again", async () => {
    const { clock, store, revived, ended } = stopped();
    await clock.advance(2.5);
    store.put("a", "a2");
    await clock.advance(0.9);
    store.put("b", "b2");
    await clock.advance(0.5);
    expect([ended(), revived]).toEqual([false, []]);
    await clock.until(ended, 1);
    expect(revived).toEqual(["app.service"]);
  });

  test("may be silent, and answer at last", async () => {
    const { clock, store, revived, ended } = stopped();
    store.down = refused;
    await clock.advance(5);
    store.down = undefined;
    store.put("a", "a2");
    await clock.until(ended, 3);
    expect(revived).toEqual(["app.service"]);
  });

  test("gives nothing that stays in memory: the next life asks again", async () => {
    const { clock, store, given, held, ended } = stopped();
    await clock.advance(2.5);
    store.put("a", "a2");
    await clock.until(ended, 3);
    expect(given.length).toBeGreaterThan(6);
    expect(given.every((bytes) => bytes.equals(Buffer.alloc(2)))).toBe(true);
    expect(held.get("a")?.value.toString()).toBe("a1");
  });
});
