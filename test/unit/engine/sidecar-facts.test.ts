import { expect, test } from "vitest";
import { FakeStore, refused } from "../fakes.ts";
import { startSidecar } from "./running-sidecar.ts";

const troubled = { state: "ready", secrets: 2, failingSince: expect.any(String) as string };

test("show the published secrets, when the store answered, and the next request", async () => {
  const { clock, store, facts } = await startSidecar();
  expect(facts()).toMatchObject({
    ...{ state: "ready", secrets: 2, checkedAt: clock.now().toISOString(), failingSince: null, problem: null },
    ...{ leaseEndsAt: null, rotations: 0, actions: 0, publishedAt: clock.now().toISOString() },
  });
  store.put("a", "a2");
  await clock.advance(40);
  expect(facts()).toMatchObject({ rotations: 1, actions: 1, actionsFailed: 0, problem: null });
  const next = Date.parse(facts()?.nextLookAt ?? "");
  expect(next).toBeGreaterThan(clock.now().getTime());
  expect(next).toBeLessThanOrEqual(clock.now().getTime() + 33_000);
});

test("show a failing store with its beginning, and its end", async () => {
  const { clock, store, facts } = await startSidecar();
  store.down = refused;
  await clock.advance(40);
  expect(facts()).toMatchObject(troubled);
  const since = facts()?.failingSince;
  await clock.advance(400);
  expect(facts()?.failingSince).toBe(since);
  store.down = undefined;
  await clock.advance(100);
  expect(facts()).toMatchObject({ failingSince: null, problem: null });
});

test("show the end of the first lease", async () => {
  const store = new FakeStore({ a: "lease", b: "b1" });
  store.leases.set("a", 400);
  const { clock, facts } = await startSidecar({ store });
  expect(facts()?.leaseEndsAt).toBe(new Date(clock.now().getTime() + 400_000).toISOString());
});

test("show what a waiting start waits for", async () => {
  const store = new FakeStore({ a: "a1", b: "b1" });
  store.down = refused;
  const { facts } = await startSidecar({ store });
  expect(facts()).toMatchObject({ state: "starting", secrets: 0, nextLookAt: null, publishedAt: null });
  expect(facts()?.problem).toMatch(/^waiting for fake/);
});
