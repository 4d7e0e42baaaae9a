/** What the engine asks the store for again without polls: reloadOnChange is off unless a test says so. */
import { describe, expect, test } from "vitest";
import { BackendError } from "../../../src/contract/backend.ts";
import { until } from "../../contract/until.ts";
import { FakeStore, missing, refused } from "../fakes.ts";
import { startSidecar } from "./running-sidecar.ts";

const config = { config: {} };
const denied = new BackendError("denied", "permission denied");

/** A second life beside what a first one published, with another store. */
async function restarted(store: FakeStore, more: object = {}, first = new FakeStore({ a: "a1", b: "b1" })) {
  const before = await startSidecar({ store: first, config: { ...config, ...more } });
  await before.stop();
  const life = await startSidecar({
    store,
    directory: before.directory,
    clock: before.clock,
    config: { ...config, ...more },
  });
  await life.clock.until(() => life.notifier.readies.length > 0);
  return life;
}

describe("what a start beside a published set could not get", () => {
  test("an optional secret that was never there is had when the store comes back", async () => {
    const secrets = { a: {}, x: { optional: true } };
    const store = new FakeStore({ a: "a1", x: "x1" });
    store.down = refused;
    const life = await restarted(store, { secrets }, new FakeStore({ a: "a1" }));
    await life.clock.advance(100);
    store.down = undefined;
    await life.clock.until(() => life.names().includes("x"), 40);
    expect(life.file("x")).toBe("x1");
    expect(life.notifier.last).toMatch(/^2 secrets from fake, version 1, checked at [^;]*$/);
  });

  test("a secret that the store does not have is not asked for for ever", async () => {
    const secrets = { a: {}, x: { optional: true } };
    const store = new FakeStore({ a: "a1" });
    store.down = refused;
    const life = await restarted(store, { secrets }, new FakeStore({ a: "a1" }));
    store.down = undefined;
    await life.clock.advance(40);
    const { length } = store.fetches;
    await life.clock.advance(3600);
    expect(store.fetches).toHaveLength(length);
  });

  test.each([
    ["refuses it", denied],
    ["has it no more", missing("a")],
    ["has no proper value for it", new BackendError("invalid", "no text")],
  ])("where the store %s, it is asked seldom, until a person has mended that", async (_, answer) => {
    const store = new FakeStore({ a: answer, b: "b1" });
    const life = await restarted(store);
    const { length } = store.fetches;
    await life.clock.advance(600);
    expect(store.fetches.slice(length).every((ids) => ids.join() === "a")).toBe(true);
    expect(store.fetches.length - length).toBeGreaterThan(5);
    expect(store.fetches.length - length).toBeLessThan(15);
    store.put("a", "a2");
    await life.clock.until(() => life.file("a") === "a2", 70);
    expect(life.restarts()).toBe(0);
    const later = store.fetches.length;
    await life.clock.advance(3600);
    expect(store.fetches).toHaveLength(later);
  });

  test("a lease among it is renewed again, however late", async () => {
    const store = new FakeStore({ a: denied, b: "b1" });
    store.leases.set("a", 400);
    const life = await restarted(store);
    await life.clock.advance(1000);
    store.put("a", "lease");
    await life.clock.until(() => life.file("a").startsWith("lease"), 70);
    expect(life.restarts()).toBe(1);
    const published = life.file("a");
    await life.clock.advance(410);
    expect(life.file("a")).not.toBe(published);
  });

  test("a lease that the store offers again is fetched once, because each answer may be another one", async () => {
    const store = new FakeStore({ a: "lease", b: "b1" });
    store.leases.set("a", 4000);
    store.down = refused;
    const life = await restarted(store);
    await life.clock.advance(60);
    store.down = undefined;
    const { length } = store.fetches;
    await life.clock.advance(600);
    expect(store.fetches.slice(length)).toEqual([["a", "b"]]);
    expect(life.file("a")).toMatch(/^lease/);
  });

  test("a lease that verify refuses is not asked for every minute", async () => {
    const store = new FakeStore({ a: "lease", b: "b1" });
    store.leases.set("a", 40_000);
    const life = await restarted(store, { onChange: { verify: { command: ["/no/such/verify"] } } });
    const refusals = () => life.log.at("error").length;
    for (let hour = 0; hour < 3; hour += 1) {
      await life.clock.advance(3600);
      await until(() => refusals() > hour);
    }
    expect(store.fetches.filter((ids) => ids.includes("a")).length).toBeLessThan(8);
    expect(life.file("a")).toBe("a1");
  });

  test("a set that verify refuses is looked at again", async () => {
    const store = new FakeStore({ a: "bad", b: "b1" });
    const verify = { command: ["sh", "-c", 'test "$a" != bad'] };
    const life = await restarted(store, { onChange: { verify } });
    expect(life.file("a")).toBe("a1");
    await life.clock.advance(200);
    store.put("a", "good");
    await life.clock.until(() => life.file("a") === "good", 70);
  });

  test("SIGHUP while the store is away still is acted on when it answers", async () => {
    const store = new FakeStore({ a: "a2", b: "b1" });
    store.down = refused;
    const life = await restarted(store);
    await life.clock.advance(60);
    life.sidecar.reload();
    await life.clock.advance(5);
    store.down = undefined;
    await life.clock.until(() => life.file("a") === "a2", 40);
    await life.clock.advance(30);
    expect(life.restarts()).toBe(1);
  });

  test("SIGHUP meanwhile does not end that", async () => {
    const store = new FakeStore({ a: denied, b: "b1" });
    const life = await restarted(store);
    life.sidecar.reload();
    await life.clock.advance(200);
    store.put("a", "a2");
    await life.clock.until(() => life.file("a") === "a2", 70);
  });
});

describe("after SIGHUP", () => {
  test.each([
    ["has not had yet", false, 1],
    ["has had by a restart of its own", true, 0],
  ])("the service is told of what it %s", async (_, again, restarts) => {
    const store = new FakeStore({ a: refused, b: "b1" });
    const life = await restarted(store);
    store.put("a", "a2");
    await life.clock.until(() => life.file("a") === "a2", 40);
    if (again) {
      await life.clock.advance(20);
      life.systemd.start();
    }
    life.sidecar.reload();
    await life.clock.advance(20);
    expect(life.restarts()).toBe(restarts);
    life.sidecar.reload();
    await life.clock.advance(20);
    expect(life.restarts()).toBe(restarts);
    expect(life.log.at("notice").at(-1)).toBe("fetched again: nothing has changed");
  });

  test("only what the store did not answer for is asked for again: a change of another is not followed", async () => {
    const life = await startSidecar({ config });
    life.store.put("a", refused);
    life.sidecar.reload();
    await life.clock.advance(1);
    const { length } = life.store.fetches;
    life.store.put("b", "b2");
    await life.clock.advance(300);
    expect(life.store.fetches.slice(length).map((ids) => ids.join())).toEqual(expect.arrayContaining(["a"]));
    expect(life.store.fetches.slice(length).flat()).not.toContain("b");
    expect(life.file("b")).toBe("b1");
    life.store.put("a", "a2");
    await life.clock.until(() => life.file("a") === "a2", 40);
    await life.clock.advance(10);
    expect(life.restarts()).toBe(1);
  });
});
