/**
 * Values that are written in steps are one rotation: otherwise a service restarts with half of it, and may not survive
 * that.
 */
import { describe, expect, test } from "vitest";
import { fetchSettled } from "../../../src/engine/fetch.ts";
import { HeldValues } from "../../../src/engine/held-values.ts";
import { configOf } from "../command-line.ts";
import { FakeClock, FakeStore } from "../fakes.ts";
import { startSidecar } from "./running-sidecar.ts";

/** A store whose files say how old they are. */
function aged(secrets: Readonly<Record<string, string>>) {
  const clock = new FakeClock();
  const store = new FakeStore(secrets);
  const written = new Map<string, number>();
  store.age = (id) => {
    const at = written.get(id);
    return at === undefined ? 1000 : (clock.monotonic() - at) / 1e6;
  };
  const write = (id: string, value: string) => {
    store.put(id, value);
    written.set(id, clock.monotonic());
  };
  return { clock, store, write };
}

describe("with a watch", () => {
  test("several steps within settle are one publish and one action", async () => {
    const { store, clock, file, log, restarts } = await startSidecar();
    await clock.advance(1);
    for (let step = 1; step <= 15; step += 1) {
      store.put("a", `step ${step}`);
      store.hint();
      await clock.advance(0.4);
    }
    expect(file("a")).toBe("a1");
    await clock.advance(5);
    expect(file("a")).toBe("step 15");
    expect(log.at("notice")).toEqual(["published 1 changed secret", "app.service: restart for the new secrets"]);
    expect(restarts()).toBe(1);
  });

  test("endless changes are published after 15 times settle", async () => {
    const { store, clock, file } = await startSidecar();
    await clock.advance(1);
    store.put("b", "b2");
    const seconds = async () => {
      const begun = clock.monotonic();
      while (file("b") !== "b2") {
        store.hint();
        await clock.advance(0.25);
      }
      return (clock.monotonic() - begun) / 1e6;
    };
    expect(await seconds()).toBeCloseTo(15 * 0.5, 0);
  });

  test("looks again at a file younger than settle, even without a hint for its last step", async () => {
    const { clock, store, write } = aged({ a: "a1", b: "b1" });
    const { file, log } = await startSidecar({ clock, store });
    await clock.advance(1);
    write("a", "half");
    store.hint();
    await clock.advance(0.4);
    write("a", "whole");
    await clock.advance(0.2);
    expect(file("a")).toBe("a1");
    await clock.until(() => file("a") === "whole", 1);
    expect(log.at("notice")).toContain("published 1 changed secret");
    expect(log.at("notice").filter((line) => line.startsWith("published"))).toHaveLength(1);
  });
});

test("a look waits for a file written in place, although systemd reports only its end", async () => {
  const { clock, store, write } = aged({ a: "a1", b: "b1" });
  const config = configOf({
    resident: "on-change",
    secrets: { a: {} },
    onChange: { settle: 0.5 },
    config: { reloadOnChange: true },
  });
  write("a", "step 0");
  const held = new HeldValues(clock);
  let found: string | undefined;
  const answer = fetchSettled({ config, store, held, clock }, ["a"], true, new AbortController().signal).then(
    ({ changes }) => {
      found = changes.get("a")?.value.toString();
    },
  );
  for (let step = 1; step <= 8; step += 1) {
    await clock.advance(0.4);
    expect(found).toBeUndefined();
    write("a", `step ${step}`);
  }
  await clock.advance(1);
  await answer;
  expect(found).toBe("step 8");
});

test("a poll that finds a change asks until the answer stays the same for settle seconds", async () => {
  const store = new FakeStore({ a: "a1", b: "b1" });
  store.watch = undefined;
  const { clock, file, log } = await startSidecar({ store });
  store.put("a", "cert 2");
  await clock.until(() => store.fetches.length === 2, 31);
  await clock.advance(0.4);
  store.put("b", "key 2");
  await clock.advance(0.4);
  store.put("a", "cert 2 and chain");
  await clock.advance(0.3);
  expect([file("a"), file("b")]).toEqual(["a1", "b1"]);
  await clock.advance(2);
  expect([file("a"), file("b")]).toEqual(["cert 2 and chain", "key 2"]);
  expect(log.at("notice").filter((line) => line.startsWith("published"))).toEqual(["published 2 changed secrets"]);
});

describe("a start", () => {
  test("waits for a file still being written: without reloadOnChange, half of it would stay", async () => {
    const { clock, store, write } = aged({ a: "a1", b: "b1" });
    write("a", "hal");
    const { notifier, file } = await startSidecar({ clock, store, config: { config: {}, onChange: { settle: 2 } } });
    for (const text of ["half", "half of", "half of it"]) {
      await clock.advance(1);
      write("a", text);
    }
    expect(notifier.readies).toEqual([]);
    expect(notifier.last).toBe("waiting for fake: the place of a is still being written");
    await clock.until(() => notifier.readies.length > 0, 3);
    expect(file("a")).toBe("half of it");
  });

  test("does not wait for a long `settle`: a file untouched for 2 s is whole", async () => {
    const { clock, store, write } = aged({ a: "a1", b: "b1" });
    write("a", "a2");
    const { notifier } = await startSidecar({ clock, store, config: { onChange: { settle: 600 } } });
    await clock.until(() => notifier.readies.length > 0, 2.1);
  });

  test("does not wait for ever for a file written without end", async () => {
    const { clock, store, write } = aged({ a: "a1", b: "b1" });
    const { notifier } = await startSidecar({
      clock,
      store,
      config: { config: {} },
      opened: () => {
        write("a", "0");
      },
    });
    for (let at = 0; notifier.readies.length === 0 && at < 100; at += 1) {
      write("a", String(at));
      await clock.advance(0.1);
    }
    expect(notifier.readies).toHaveLength(1);
  });

  test("with an earlier set uses the earlier value after five seconds for a file still being written", async () => {
    const { clock, store, write } = aged({ a: "a1", b: "b1" });
    const config = { onChange: { settle: 2 } };
    const first = await startSidecar({ clock, store, config });
    await first.stop();
    write("a", "part 0");
    let at = 1;
    const { notifier, file } = await startSidecar({ clock, store, config, directory: first.directory });
    while (notifier.readies.length === 0 && at < 100) {
      write("a", `part ${at++}`);
      store.hint();
      await clock.advance(0.1);
    }
    expect(file("a")).toBe("a1");
    expect(notifier.last).toContain("the place of a is still being written");
    await clock.until(() => file("a") === `part ${at - 1}`, 40);
  });
});
