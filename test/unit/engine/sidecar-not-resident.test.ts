/** "resident": false: the life of a sidecar ends with its first publish. */
import { expect, test } from "vitest";
import { FakeStore, refused } from "../fakes.ts";
import { startSidecar } from "./running-sidecar.ts";

const config = { resident: false, config: {} };

test("publishes, says READY and ends: no watch, no poll, no open store, no timer; its files stay", async () => {
  const { store, clock, end, file, notifier } = await startSidecar({ config });
  expect(end()).toBe("stopped");
  expect(notifier.readies).toEqual([expect.stringMatching(/^2 secrets from fake/)]);
  expect([file("a"), file("secrets.env")]).toEqual(["a1", "a='a1'\nb='b1'\n"]);
  expect([store.watches, store.fetches.length, store.closed, clock.sleepers]).toEqual([0, 1, true, 0]);
});

test("waits for a silent store as every sidecar does", async () => {
  const store = new FakeStore({ a: "a1", b: refused });
  const { clock, end, notifier } = await startSidecar({ store, config });
  await clock.advance(20);
  expect(end()).toBe("runs");
  expect(notifier.last).toMatch(/^waiting for fake: connection refused/);
  store.put("b", "b1");
  await clock.until(() => end() !== "runs", 31);
  expect(end()).toBe("stopped");
});

test("a stop while it waits is a failure: the target must not start without its secrets", async () => {
  const { stop, end, names } = await startSidecar({ store: new FakeStore({ a: "a1", b: refused }), config });
  await stop();
  expect(end()).toBe("stopped early");
  expect(names()).toEqual([]);
});

test("adopts the set that a restart left, and does no action: the target starts after it", async () => {
  const first = await startSidecar({ config });
  const store = new FakeStore({ a: "a2", b: refused });
  const life = await startSidecar({ store, directory: first.directory, clock: first.clock, config });
  await life.clock.until(() => life.end() !== "runs", 6);
  expect(life.end()).toBe("stopped");
  expect([life.file("a"), life.file("b")]).toEqual(["a2", "b1"]);
  expect(life.systemd.jobs).toEqual([]);
});

test("drops an action that was due when a resident sidecar died", async () => {
  const first = await startSidecar();
  first.systemd.jobTime = 3600;
  first.store.put("a", "a2");
  first.store.hint();
  await first.clock.advance(5);
  await first.stop();
  expect(first.pending()).not.toBeNull();
  const store = new FakeStore({ a: "a2", b: "b1" });
  const life = await startSidecar({ store, directory: first.directory, clock: first.clock, config });
  expect(life.pending()).toBeNull();
  expect(life.systemd.jobs).toEqual([]);
});

test("refuses a lease before it publishes it, because nothing would renew it", async () => {
  const store = new FakeStore({ a: "a1", b: "b1" });
  store.leases.set("b", 600);
  const { end, names } = await startSidecar({ store, config });
  expect(end()).toMatchObject({
    exitCode: 78,
    message: 'configuration: resident: false leaves no process to renew the lease of secret "b": set it to true',
  });
  expect(names()).toEqual([]);
});
