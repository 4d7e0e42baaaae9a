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

describe("secrets missing at a start with a published set", () => {
  test("fetches an optional secret that never existed, when the store comes back", async () => {
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

  test("does not ask for ever for a secret that the store does not have", async () => {
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
    ["no longer has it", missing("a")],
    ["has no proper value for it", new BackendError("invalid", "no text")],
  ])("asks rarely when the store %s, until a person has fixed that", async (_, answer) => {
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

  test("renews a lease among them again, however late", async () => {
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

  test("fetches a lease once when the store offers it again, because each answer may be another one", async () => {
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

  test("does not ask every minute for a lease that verify refuses", async () => {
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

  test("asks verify again about a refused set", async () => {
    const store = new FakeStore({ a: "bad", b: "b1" });
    const verify = { command: ["sh", "-c", 'test "$a" != bad'] };
    const life = await restarted(store, { onChange: { verify } });
    expect(life.file("a")).toBe("a1");
    await life.clock.advance(200);
    store.put("a", "good");
    await life.clock.until(() => life.file("a") === "good", 70);
  });

  test("acts on a SIGHUP during an outage when the store answers", async () => {
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

  test("SIGHUP meanwhile does not end the requests", async () => {
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
    ["does not have yet", false, 1],
    ["got by its own restart", true, 0],
  ])("restarts the service only when needed, for a secret that it %s", async (_, again, restarts) => {
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

  test("asks again only for secrets that the store did not answer for, and follows no other change", async () => {
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
