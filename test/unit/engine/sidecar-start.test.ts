/** What a start leaves for later, and what it says of itself. */
import { join } from "node:path";
import { expect, test } from "vitest";
import { FakeStore, missing, refused } from "../fakes.ts";
import { block, startSidecar } from "./running-sidecar.ts";

/** Nothing but the start's own plan asks the store again. */
const unwatched = { config: { reloadOnChange: false } };

test("asks seldom again for a secret that is gone from the store and stays as an earlier process published it", async () => {
  const first = await startSidecar();
  await first.stop();
  const store = new FakeStore({ a: "a1", b: missing("b") });
  const { clock, notifier } = await startSidecar({ store, directory: first.directory, config: unwatched });
  await clock.until(() => notifier.readies.length > 0, 60);
  const asked = store.fetches.length;
  await clock.advance(30);
  expect(store.fetches.length).toBe(asked);
  await clock.advance(45);
  expect(store.fetches.slice(asked)).toEqual([["b"]]);
});

test("asks for every secret again where the store fails and an earlier process's set stays", async () => {
  const first = await startSidecar();
  await first.stop();
  const store = new FakeStore({ a: "a1", b: "b1" });
  store.down = refused;
  const { clock, notifier, log } = await startSidecar({ store, directory: first.directory, config: unwatched });
  await clock.until(() => notifier.readies.length > 0, 60);
  const asked = store.fetches.length;
  await clock.advance(10);
  expect(store.fetches.slice(asked)[0]).toEqual(["a", "b"]);
  expect(log.lines).toContainEqual({
    level: "notice",
    message: "the set published before stays in use",
    fields: { secrets: ["a", "b"] },
  });
});

test("names only the secrets of an earlier process that it keeps", async () => {
  const first = await startSidecar();
  await first.stop();
  const store = new FakeStore({ a: "a1", b: refused, c: missing("c") });
  const config = { secrets: { a: {}, b: {}, c: { optional: true } } };
  const { clock, notifier, log } = await startSidecar({ store, directory: first.directory, config });
  await clock.until(() => notifier.readies.length > 0, 60);
  const kept = log.lines.filter(({ message }) => message === "the set published before stays in use");
  expect(kept.map(({ fields }) => fields)).toEqual([{ secrets: ["b"] }]);
});

test("says in the log that it is ready, with its version, and in STATUS", async () => {
  const { directory, log, notifier } = await startSidecar({ version: "1.2.3" });
  expect(log.lines).toContainEqual({
    level: "info",
    message: "ready: 2 secrets from fake",
    fields: { directory, notify: "none", version: "1.2.3" },
  });
  expect(notifier.last).toMatch(/; fetcher 1\.2\.3$/);
});

test("says nothing of a version that it does not know", async () => {
  const { directory, log, notifier } = await startSidecar();
  expect(log.lines.find(({ message }) => message.startsWith("ready: "))?.fields).toEqual({ directory, notify: "none" });
  expect(notifier.last).not.toContain("fetcher");
});

test("asks soon again for all that it missed where the store is silent about one and another is gone", async () => {
  const first = await startSidecar();
  await first.stop();
  const store = new FakeStore({ a: refused, b: missing("b") });
  const { clock, notifier } = await startSidecar({ store, directory: first.directory, config: unwatched });
  await clock.until(() => notifier.readies.length > 0, 60);
  const asked = store.fetches.length;
  await clock.advance(10);
  expect(store.fetches.slice(asked)[0]).toEqual(["a", "b"]);
});

test("asks soon again where its first set cannot be written and an earlier process's stays", async () => {
  const first = await startSidecar();
  await first.stop();
  const store = new FakeStore({ a: "a2", b: "b1" });
  let unblock: () => void = () => undefined;
  const { clock, notifier, names } = await startSidecar({
    store,
    directory: first.directory,
    config: unwatched,
    opened: () => {
      unblock = block(join(first.directory, ".fetcher-state"));
    },
  });
  await clock.until(() => notifier.readies.length > 0, 60);
  unblock();
  expect(names()).toContain("a");
  const asked = store.fetches.length;
  await clock.advance(10);
  expect(store.fetches.slice(asked)[0]).toEqual(["a", "b"]);
});

test("names no optional secret as kept that no earlier process had", async () => {
  const first = await startSidecar();
  await first.stop();
  const store = new FakeStore({ a: "a1", b: refused, c: refused });
  const config = { secrets: { a: {}, b: {}, c: { optional: true } } };
  const { clock, notifier, log } = await startSidecar({ store, directory: first.directory, config });
  await clock.until(() => notifier.readies.length > 0, 60);
  const kept = log.lines.filter(({ message }) => message === "the set published before stays in use");
  expect(kept.map(({ fields }) => fields)).toEqual([{ secrets: ["b"] }]);
});

test("says in STATUS at once how an action goes", async () => {
  const store = new FakeStore({ a: "a1", b: "b1" });
  store.pollingInterval = null;
  const { clock, notifier, systemd } = await startSidecar({ store });
  systemd.jobTime = 5;
  systemd.refusals.push({ ok: false, detail: "Job failed" });
  store.put("a", "a2");
  store.hint();
  await clock.until(() => systemd.jobs.length > 0, 10);
  expect(notifier.last).toContain("restart of app.service did not work yet: Job failed");
  await clock.until(() => systemd.jobs.length > 1, 10);
  expect(notifier.last).toContain("restart of app.service is in progress");
  await clock.advance(6);
  expect(notifier.last).not.toContain("restart of");
});
