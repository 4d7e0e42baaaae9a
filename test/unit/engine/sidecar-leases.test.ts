import { mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { FakeStore, missing, refused } from "../fakes.ts";
import { block, startSidecar } from "./running-sidecar.ts";

/** `a` is a lease of 600 s, fetched again after 400; `b` is static. */
function leasing(): FakeStore {
  const store = new FakeStore({ a: "lease", b: "b1" });
  store.leases.set("a", 400);
  return store;
}

const withoutReload = { config: {} };

describe("a lease", () => {
  test.each([true, false])("is replaced in time, with the action, whatever reloadOnChange says (%s)", async (flag) => {
    const { store, clock, file, restarts } = await startSidecar({
      store: leasing(),
      config: { config: { reloadOnChange: flag } },
    });
    expect(file("a")).toBe("lease-1");
    await clock.advance(399);
    expect(file("a")).toBe("lease-1");
    await clock.advance(5);
    expect(file("a")).not.toBe("lease-1");
    expect(restarts()).toBe(1);
    expect(store.fetches.filter((ids) => ids.join() === "a")).toHaveLength(1);
  });

  test("is not requested again by polls, hints or retries", async () => {
    const { store, clock } = await startSidecar({ store: leasing() });
    await clock.advance(100);
    store.hint();
    await clock.advance(100);
    store.down = refused;
    await clock.advance(100);
    expect(store.fetches.length).toBeGreaterThan(5);
    expect(store.fetches.slice(1).every((ids) => ids.join() === "b")).toBe(true);
  });

  test("causes no extra requests to a store with leases only", async () => {
    const store = leasing();
    store.leases.set("b", 400);
    const { clock } = await startSidecar({ store });
    await clock.advance(300);
    expect(store.fetches).toEqual([["a", "b"]]);
  });

  test.each([
    ["does not answer", () => refused],
    ["no longer has it", () => missing("a")],
  ])("is requested with growing delays if it ends while the store %s, and arrives in the end", async (_, answer) => {
    const { store, clock, file } = await startSidecar({ store: leasing(), config: { config: {} }, random: 0.9 });
    store.put("a", answer());
    await clock.advance(400 + 600);
    expect(store.fetches.length).toBeGreaterThan(10);
    expect(store.fetches.length).toBeLessThan(60);
    expect(file("a")).toBe("lease-1");
    store.put("a", "later");
    await clock.until(() => file("a").startsWith("later"), 31);
  });

  test("is not requested over and over if verify refuses it", async () => {
    const { store, clock, log } = await startSidecar({
      store: leasing(),
      config: { config: {}, onChange: { verify: { command: ["/no/such/verify"] } } },
    });
    await clock.advance(400);
    await clock.until(() => log.at("error").length > 0);
    await clock.advance(0);
    const before = store.fetches.length;
    await clock.advance(55);
    expect(store.fetches).toHaveLength(before);
  });

  test("is requested slowly after a failed publish, and published when the obstacle is gone", async () => {
    const { store, clock, directory, sidecar, file, notifier } = await startSidecar({
      store: leasing(),
      config: { config: {} },
    });
    const unblock = block(join(directory, "a"));
    sidecar.reload();
    await clock.advance(200);
    expect(notifier.last).toContain("are not published");
    expect(store.fetches.length).toBeLessThan(6);
    unblock();
    await clock.advance(70);
    expect(file("a")).not.toBe("lease-1");
    expect(notifier.last).not.toContain("are not published");
  });

  test("ends only after the target has the new one", async () => {
    const { store, clock, systemd } = await startSidecar({ store: leasing() });
    systemd.jobTime = 30;
    await clock.advance(410);
    expect(store.applications).toEqual([]);
    await clock.advance(30);
    expect(store.applications.map((versions) => versions.get("a"))).toEqual(["1"]);
  });
});

test("stays with a oneshot service at work, which is left alone", async () => {
  const { store, clock, systemd, file } = await startSidecar({ store: leasing() });
  const { state } = systemd;
  systemd.state = { ...state, type: "oneshot", activeState: "activating", subState: "start" };
  await clock.advance(500);
  expect(file("a")).not.toBe("lease-1");
  expect(systemd.jobs).toEqual([]);
  expect(store.applications).toEqual([]);
  systemd.state = { ...state, type: "oneshot", activeState: "inactive", subState: "dead" };
  await clock.advance(400);
  expect(store.applications).toHaveLength(1);
});

test.each([
  ["no action", { onChange: { action: "none" } }],
  ["no service", { service: [] }],
])("with %s the sidecar does not know which leases are in use, and lets older ones run out", async (_, config) => {
  const { store, clock, file, pending } = await startSidecar({ store: leasing(), config });
  await clock.advance(1300);
  expect(file("a")).not.toBe("lease-1");
  expect(store.applications).toEqual([]);
  expect(pending()).toBeNull();
});

describe("after an adoption", () => {
  async function adopted(config: Readonly<Record<string, object>>, changes: (store: FakeStore) => void) {
    const first = await startSidecar({ config });
    await first.stop();
    const store = new FakeStore({ a: "a1", b: "b1" });
    store.down = refused;
    const life = await startSidecar({ store, directory: first.directory, clock: first.clock, config });
    await life.clock.until(() => life.notifier.readies.length > 0);
    changes(store);
    return life;
  }

  test("the target can start, and STATUS says that the set is not checked yet", async () => {
    const { notifier, log, file } = await adopted({}, () => undefined);
    expect(notifier.readies).toEqual([
      expect.stringMatching(/^2 secrets from fake, version published before, not checked yet; secret "a": connection/),
    ]);
    expect(log.at("notice")).toEqual(["the set published before stays in use"]);
    expect(file("a")).toBe("a1");
  });

  test.each([
    [true, 1],
    [false, 0],
  ])("the store's set is published when it answers; reloadOnChange %s: %d restarts", async (flag, restarts) => {
    const life = await adopted({ config: { reloadOnChange: flag } }, (store) => {
      store.put("a", "a2");
    });
    await life.clock.advance(60);
    expect(life.file("a")).toBe("a1");
    life.store.down = undefined;
    await life.clock.advance(90);
    expect(life.file("a")).toBe("a2");
    expect(life.restarts()).toBe(restarts);
    expect(life.notifier.last).toMatch(/checked at/);
  });

  test("a lease is tracked again: its successor causes the action without reloadOnChange too", async () => {
    const life = await adopted(withoutReload, (store) => {
      store.leases.set("a", 400);
    });
    life.store.down = undefined;
    await life.clock.advance(60);
    expect(life.file("a")).toMatch(/^a1-/);
    expect(life.restarts()).toBe(1);
  });
});

describe("the mark of a due action", () => {
  /** A life that published a2, and ended before its action was done. */
  async function interrupted() {
    const first = await startSidecar();
    first.systemd.jobTime = 3600;
    first.store.put("a", "a2");
    first.store.hint();
    await first.clock.advance(5);
    expect(first.file("a")).toBe("a2");
    await first.stop();
    expect(first.pending()).not.toBeNull();
    return first;
  }
  const next = (first: Awaited<ReturnType<typeof interrupted>>) =>
    startSidecar({
      store: new FakeStore({ a: "a2", b: "b1" }),
      directory: first.directory,
      clock: first.clock,
    });

  test("does not end a stopping sidecar when it cannot be removed", async () => {
    const first = await interrupted();
    const life = await startSidecar({
      store: new FakeStore({ a: "a2", b: "b1" }),
      directory: first.directory,
      clock: first.clock,
      config: { service: [] },
      // A directory instead of the state: like a full disk, it stops the write.
      opened: () => {
        const state = join(first.directory, ".fetcher-state");
        rmSync(state);
        mkdirSync(state);
      },
    });
    await life.clock.advance(10);
    expect(life.end()).toBe("runs");
    expect(life.log.at("warn").join()).toMatch(/\.fetcher-state/);
  });

  test("holds the observed starts: a second crash does not lose them", async () => {
    const first = await startSidecar();
    const starts = () =>
      (JSON.parse(readFileSync(join(first.directory, ".fetcher-state"), "utf8")) as { starts: object }).starts;
    first.store.put("a", "a2");
    first.store.hint();
    await first.clock.advance(5);
    await first.stop();
    const seen = starts();
    expect(seen).toHaveProperty(["units", "app.service", 0], expect.any(Number));
    const life = await startSidecar({
      store: new FakeStore({ a: "a3", b: "b1" }),
      directory: first.directory,
      clock: first.clock,
      systemd: { answers: false },
    });
    await life.stop();
    expect(life.pending()).not.toBeNull();
    expect(starts()).toEqual(seen);
  });

  test("leads to the action after a crash, even if nothing differs any more", async () => {
    const first = await interrupted();
    const life = await next(first);
    await life.clock.advance(10);
    expect(life.restarts()).toBe(1);
    expect(life.pending()).toBeNull();
  });

  test("is removed without an action when the target has started since", async () => {
    const first = await interrupted();
    await first.clock.advance(10);
    const life = await next(first);
    life.systemd.start();
    const { length } = life.systemd.jobs;
    await life.clock.advance(60);
    expect(life.systemd.jobs.filter(({ what }) => what !== "start").slice(length)).toEqual([]);
    expect(life.pending()).toBeNull();
  });

  test("a rotation during the sidecar's downtime causes the action with reloadOnChange only", async () => {
    for (const flag of [true, false]) {
      const config = { config: { reloadOnChange: flag } };
      const first = await startSidecar({ config });
      await first.stop();
      const store = new FakeStore({ a: "a2", b: "b1" });
      const life = await startSidecar({ store, directory: first.directory, clock: first.clock, config });
      await life.clock.advance(10);
      expect(life.file("a")).toBe("a2");
      expect(life.restarts()).toBe(flag ? 1 : 0);
    }
  });

  test("a restarted sidecar that had to take new leases says that the target's old ones will end", async () => {
    const first = await startSidecar({ store: leasing(), config: withoutReload });
    await first.stop();
    const store = leasing();
    store.put("a", "another lease");
    const life = await startSidecar({ store, directory: first.directory, clock: first.clock, config: withoutReload });
    await life.clock.advance(10);
    expect(life.file("a")).toMatch(/^another lease/);
    expect(life.restarts()).toBe(1);
  });
});
