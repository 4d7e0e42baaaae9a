import { readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { BackendError } from "../../../src/contract/backend.ts";
import { FakeClock, FakeStore, missing, refused, settled } from "../fakes.ts";
import { block, freshDirectory, startSidecar } from "./running-sidecar.ts";

describe("READY", () => {
  test("comes only when every required secret is on disk", async () => {
    const store = new FakeStore({ a: "a1", b: refused });
    const { clock, notifier, names, file } = await startSidecar({ store });
    await clock.advance(20);
    expect(notifier.readies).toEqual([]);
    expect(names()).toEqual([]);
    store.put("b", "b1");
    await clock.until(() => notifier.readies.length > 0, 31);
    expect([file("a"), file("b"), file("secrets.env")]).toEqual(["a1", "b1", "a='a1'\nb='b1'\n"]);
  });

  test("says how many, from where, which version and when", async () => {
    const { notifier } = await startSidecar();
    expect(notifier.readies).toEqual([
      expect.stringMatching(/^2 secrets from fake, version 1, checked at [0-9:]{8}(Z|[+-][0-9:]{5})$/),
    ]);
  });

  test("a missing secret ends the start, and nothing is left", async () => {
    const { end, names, notifier, store } = await startSidecar({ store: new FakeStore({ a: "a1", b: missing("b") }) });
    expect(end()).toMatchObject({ exitCode: 66, message: 'fake: secret "b": no b here' });
    expect(notifier.readies).toEqual([]);
    expect(names()).toEqual([]);
    expect(store.closed).toBe(true);
  });

  test("causes no action for the first set", async () => {
    const { clock, systemd, pending } = await startSidecar();
    await clock.advance(600);
    expect(systemd.jobs).toEqual([]);
    expect(pending()).toBeNull();
  });
});

describe("rotation", () => {
  test("is seen by a poll, waits settle, includes others, is published, and only then restarts the target", async () => {
    const store = new FakeStore({ a: "a1", b: "b1" });
    store.watch = undefined;
    const { clock, systemd, file, log, restarts, pending } = await startSidecar({ store });
    let atRestart = "";
    const restart = systemd.restart.bind(systemd);
    systemd.restart = (...args) => {
      atRestart = `${file("a")} ${file("b")} ${String(pending() !== null)}`;
      return restart(...args);
    };
    store.put("a", "a2");
    await clock.until(() => store.fetches.length === 2, 31);
    store.put("b", "b2");
    await clock.advance(5);
    expect(atRestart).toBe("a2 b2 true");
    expect(restarts()).toBe(1);
    expect(log.at("notice")).toEqual(["published 2 changed secrets", "app.service: restart for the new secrets"]);
    expect(pending()).toBeNull();
    await clock.advance(300);
    expect(restarts()).toBe(1);
  });

  test("polls have a jitter of 10 % and a random phase", async () => {
    for (const [random, first, apart] of [
      [0, 0, 27],
      [0.5, 15, 30],
      [0.999, 30, 33],
    ] as const) {
      const { store, clock } = await startSidecar({ random });
      store.hint = () => undefined;
      await clock.advance(0.6);
      const armed = store.fetches.length;
      if (first > 0) {
        await clock.advance(first - 1.6);
        expect(store.fetches).toHaveLength(armed);
      }
      const times: number[] = [];
      while (times.length < 3) {
        const count = store.fetches.length;
        await clock.until(() => store.fetches.length > count);
        times.push(clock.monotonic() / 1e6);
      }
      expect((times[2] ?? 0) - (times[1] ?? 0)).toBeCloseTo(apart, 0);
    }
  });

  test("a new version with identical bytes is not a rotation", async () => {
    const { store, clock, notifier, restarts, log } = await startSidecar();
    store.put("a", "a1");
    await clock.advance(60);
    expect(notifier.last).toContain("version 2");
    expect(restarts()).toBe(0);
    expect(log.at("notice")).toEqual([]);
  });

  test("hints settle into one publish and one action", async () => {
    const { store, clock, log, restarts, file } = await startSidecar();
    await clock.advance(1);
    for (const id of ["a", "b", "a"]) {
      store.put(id, `${id}-new`);
      store.hint();
      await clock.advance(0.1);
    }
    await clock.advance(0.3);
    expect([file("a"), file("b")]).toEqual(["a1", "b1"]);
    await clock.advance(0.1);
    expect([file("a"), file("b")]).toEqual(["a-new", "b-new"]);
    await clock.advance(10);
    expect(log.at("notice")).toEqual(["published 2 changed secrets", "app.service: restart for the new secrets"]);
    expect(restarts()).toBe(1);
  });

  test("without reloadOnChange nothing is requested, published or restarted", async () => {
    const { store, clock, file, systemd } = await startSidecar({ config: { config: {} } });
    store.put("a", "a2");
    await clock.advance(86_400);
    expect(store.fetches).toHaveLength(1);
    expect(store.watches).toBe(0);
    expect(file("a")).toBe("a1");
    expect(systemd.jobs).toEqual([]);
  });

  test("SIGHUP fetches at once, also without reloadOnChange", async () => {
    const { store, clock, file, restarts, sidecar, log } = await startSidecar({ config: { config: {} } });
    sidecar.reload();
    await clock.advance(1);
    expect(log.at("notice")).toEqual(["fetched again: nothing has changed"]);
    store.put("a", "a2");
    sidecar.reload();
    await clock.advance(1);
    expect(file("a")).toBe("a2");
    expect(restarts()).toBe(1);
  });

  test("SIGHUP before READY is not lost, and a failed one does not say that nothing has changed", async () => {
    const store = new FakeStore({ a: "a1", b: refused });
    const { clock, sidecar, log } = await startSidecar({ store, config: { config: {} } });
    sidecar.reload();
    store.put("b", "b1");
    await clock.advance(2);
    expect(log.at("notice")).toContain("fetched again: nothing has changed");
    store.down = refused;
    sidecar.reload();
    await clock.advance(0);
    expect(log.at("notice").at(-1)).toMatch(/^fetched again: nothing new is published: secret "a": connection refused/);
    // And the missing secret arrives as soon as the store answers.
    store.down = undefined;
    store.put("a", "a2");
    await clock.until(() => log.at("notice").includes("published 1 changed secret"), 31);
  });
});

describe("a store that fails after READY", () => {
  test("never looks like a rotation: files and target stay, with one log line for it and one for the recovery", async () => {
    const { store, clock, file, systemd, log, notifier, end } = await startSidecar();
    store.down = refused;
    await clock.advance(3600);
    expect([file("a"), file("b")]).toEqual(["a1", "b1"]);
    expect(systemd.jobs).toEqual([]);
    expect(end()).toBe("runs");
    expect(log.at("warn", "error")).toEqual(["fake: connection refused; the published values stay in use"]);
    expect(log.at("debug").length).toBeGreaterThan(20);
    expect(notifier.last).toMatch(/secret "a": connection refused \(and 1 more\), since [0-9:]{8}(Z|[+-][0-9:]{5})$/);
    store.down = undefined;
    await clock.advance(60);
    expect(log.at("notice")).toEqual(["fake: answers again"]);
    expect(notifier.last).not.toContain("refused");
    expect(systemd.jobs).toEqual([]);
  });

  test("gets requests sooner than an hourly poll, but with growing delays", async () => {
    const store = new FakeStore({ a: "a1", b: "b1" });
    store.pollingInterval = 3600;
    const { clock, sidecar, file } = await startSidecar({ store });
    store.down = refused;
    sidecar.reload();
    await clock.advance(600);
    expect(store.fetches.length).toBeLessThan(60);
    store.down = undefined;
    store.put("a", "a2");
    await clock.until(() => file("a") === "a2", 31);
  });

  test("gets no request for as long as it asks (Retry-After)", async () => {
    const { store, clock, sidecar } = await startSidecar({ config: { config: {} } });
    store.down = new BackendError("unavailable", "throttled", 300);
    sidecar.reload();
    await clock.advance(299);
    expect(store.fetches).toHaveLength(2);
    await clock.advance(60);
    expect(store.fetches).toHaveLength(3);
  });

  test("gets no storm of requests if it refuses: a person must fix it, and polls continue", async () => {
    const { store, clock } = await startSidecar();
    await clock.advance(1);
    const before = store.fetches.length;
    store.down = new BackendError("denied", "permission denied");
    await clock.advance(300);
    expect(store.fetches.length - before).toBeLessThanOrEqual(11);
  });

  test("delays no other secret when one fails", async () => {
    const { store, clock, file, restarts } = await startSidecar();
    store.put("a", new BackendError("denied", "permission denied"));
    store.put("b", "b2");
    await clock.advance(40);
    expect([file("a"), file("b")]).toEqual(["a1", "b2"]);
    expect(restarts()).toBe(1);
  });

  test("keeps the value of a vanished secret, and says so", async () => {
    const { store, clock, file, log, notifier, systemd } = await startSidecar();
    store.put("a", missing("a"));
    await clock.advance(60);
    expect(file("a")).toBe("a1");
    expect(log.at("warn")).toEqual(["fake: no a here; the published values stay in use"]);
    expect(notifier.last).toContain('secret "a": no a here');
    expect(systemd.jobs).toEqual([]);
  });

  test.each(["", "\n", "\r\n", "  \n", "\t"])(
    "keeps the value of a secret that becomes %j, and says so",
    async (nothing) => {
      const { store, clock, file, log, notifier, restarts, sidecar } = await startSidecar();
      store.put("a", nothing);
      store.put("b", "b2");
      await clock.advance(60);
      expect([file("a"), file("b")]).toEqual(["a1", "b2"]);
      expect(log.at("warn")).toEqual(["fake: the place of a is empty; the published values stay in use"]);
      expect(notifier.last).toContain('secret "a": the place of a is empty, since');
      expect(restarts()).toBe(1);
      sidecar.reload();
      await clock.advance(60);
      expect(file("a")).toBe("a1");
      store.put("a", "a2");
      await clock.advance(60);
      expect(file("a")).toBe("a2");
      expect(notifier.last).not.toContain("empty");
    },
  );

  test("accepts an empty value for a secret that may be empty", async () => {
    const config = { secrets: { a: { empty: true }, b: {} } };
    const { store, clock, file, restarts, log } = await startSidecar({ config });
    store.put("a", "");
    await clock.advance(60);
    expect(file("a")).toBe("");
    expect(restarts()).toBe(1);
    expect(log.at("warn")).toEqual([]);
  });

  test("keeps the value of a secret that became empty during its downtime, optional or not", async () => {
    for (const optional of [false, true]) {
      const config = { secrets: { a: { optional }, b: {} } };
      const first = await startSidecar({ config });
      await first.stop();
      first.store.put("a", "");
      const { clock, file, log, notifier, restarts } = await startSidecar({ ...first, config });
      await clock.until(() => notifier.readies.length > 0, 6);
      expect(file("a")).toBe("a1");
      expect(log.at("warn")).toEqual(["fake: the place of a is empty; trying again"]);
      expect(log.at("notice")).toEqual(["the set published before stays in use"]);
      await clock.advance(90);
      expect(file("a")).toBe("a1");
      first.store.put("a", "a2");
      await clock.until(() => file("a") === "a2", 90);
      expect(restarts()).toBe(1);
    }
  });

  test("publishes a secret that is empty at the start with a warning, unless it may be empty", async () => {
    const config = { secrets: { a: {}, b: { empty: true } } };
    const { file, log, store, clock } = await startSidecar({ store: new FakeStore({ a: "", b: "" }), config });
    expect([file("a"), file("b")]).toEqual(["", ""]);
    expect(log.at("warn")).toEqual(["the place of a is empty; published as it is"]);
    store.put("a", "a1");
    await clock.until(() => file("a") === "a1", 40);
  });

  test("falls back to polling when a watch breaks, logs it once, and watches again later", async () => {
    const { store, clock, log, file } = await startSidecar();
    await clock.advance(1);
    store.breakWatch();
    await settled();
    expect(log.at("warn")).toEqual(["fake: cannot watch: inotify is used up; polling continues"]);
    store.put("a", "a2");
    await clock.until(() => file("a") === "a2", 40);
    await clock.advance(60);
    expect(store.watches).toBe(2);
    expect(log.at("notice")).toContain("fake: watches again");
    store.breakWatch();
    await settled();
    expect(log.at("warn")).toHaveLength(2);
  });
});

describe("an output that fails after READY", () => {
  test("keeps the published set, retries with growing delays, and recovers", async () => {
    const { store, clock, directory, file, log, notifier, restarts } = await startSidecar();
    store.put("a", "a2");
    // rename(2) cannot replace it: like a full disk, it stops the publish.
    const unblock = block(join(directory, "secrets.env"));
    await clock.advance(600);
    expect(log.at("error")).toHaveLength(1);
    expect(log.at("error")[0]).toMatch(/^the new secrets are not published: output: .* is a directory: remove it$/);
    expect(notifier.last).toContain("is a directory");
    expect(file("a")).toBe("a1");
    expect(store.fetches.length).toBeLessThan(120);
    expect(readdirSync(directory).filter((name) => /stage|commit/.test(name))).toEqual([]);
    expect(restarts()).toBe(0);
    unblock();
    await clock.until(() => restarts() === 1, 40);
    expect(file("a")).toBe("a2");
    expect(file("secrets.env")).toContain("a2");
    expect(notifier.last).not.toContain("directory");
  });

  test("forgets a change that the store took back", async () => {
    const { store, clock, directory, notifier, systemd } = await startSidecar();
    store.put("a", "a2");
    const unblock = block(join(directory, "secrets.env"));
    await clock.advance(60);
    store.put("a", "a1");
    await clock.advance(60);
    unblock();
    await clock.advance(60);
    expect(notifier.last).not.toContain("not published");
    expect(systemd.jobs).toEqual([]);
  });
});

describe("stop", () => {
  test("ends the sidecar at once, whatever it waits for, and leaves no timer and no open store", async () => {
    for (const when of ["ready", "loading", "settling", "acting"] as const) {
      const store = new FakeStore({ a: "a1", b: when === "loading" ? refused : "b1" });
      const { clock, stop, end, systemd } = await startSidecar({ store });
      await clock.advance(1);
      if (when === "settling" || when === "acting") {
        systemd.jobTime = 600;
        store.put("a", "a2");
        store.hint();
        await clock.advance(when === "settling" ? 0.2 : 2);
      }
      await stop();
      expect(end()).toBe(when === "loading" ? "stopped early" : "stopped");
      expect(clock.sleepers).toBe(0);
      expect(store.closed).toBe(true);
    }
  });

  test("before READY publishes nothing", async () => {
    const { stop, names, notifier } = await startSidecar({ store: new FakeStore({ a: "a1", b: refused }) });
    await stop();
    expect(names()).toEqual([]);
    expect(notifier.readies).toEqual([]);
  });
});

test("no log line, status or error shows a value, whatever happens", async () => {
  const canary = "canary-0f3b";
  const store = new FakeStore({ a: canary, b: `${canary}-b` });
  const directory = join(freshDirectory(), "pub");
  const { clock, sidecar, log, notifier } = await startSidecar({ store, directory, clock: new FakeClock() });
  store.put("a", `${canary}-2`);
  await clock.advance(60);
  store.down = refused;
  sidecar.reload();
  await clock.advance(60);
  store.down = undefined;
  store.put("b", `${canary}\0`);
  await clock.advance(60);
  expect(JSON.stringify([log.lines, notifier.statuses])).not.toContain(canary);
  expect(log.at("warn").join()).toContain("NUL");
});

test("a stop does not wait for a hanging program that cannot be killed", async () => {
  const { clock, store, systemd, stop, end } = await startSidecar();
  let begun = false;
  systemd.restart = () => {
    begun = true;
    return new Promise(() => undefined);
  };
  store.put("a", "a2");
  await clock.until(() => begun, 60);
  await stop();
  expect(end()).toBe("stopped");
  expect(store.closed).toBe(true);
});
