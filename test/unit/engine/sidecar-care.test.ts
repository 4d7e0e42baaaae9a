/** What a sidecar looks after beside its secrets: links, and the file of its configuration. */
import { mkdirSync, realpathSync, rmdirSync, unlinkSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { Configuration } from "../../../src/engine/configuration.ts";
import { FakeStore, refused } from "../fakes.ts";
import { freshDirectory, startSidecar } from "./running-sidecar.ts";

/** Somebody puts a directory in the place of the link of `b`. */
async function withObstructedLink() {
  const parent = freshDirectory();
  const [directory, links] = [join(parent, "pub"), join(parent, "links")];
  const link = join(links, "b");
  const config = { output: { directory, links }, config: { reloadOnChange: false } };
  const life = await startSidecar({ directory, config });
  unlinkSync(link);
  mkdirSync(link);
  return { ...life, link };
}

test("makes a link again soon after nothing is in its place any more, and says until then what is", async () => {
  const { clock, directory, notifier, link } = await withObstructedLink();
  await clock.advance(120);
  expect(notifier.last).toContain(link);
  rmdirSync(link);
  await clock.advance(120);
  expect(realpathSync(link)).toBe(join(directory, "b"));
  expect(notifier.last).not.toContain(link);
});

test("says each of its troubles", async () => {
  const { clock, facts, link, sidecar, store } = await withObstructedLink();
  store.down = refused;
  sidecar.reload();
  await clock.advance(10);
  const told = facts()?.problem ?? "";
  expect(told.split("; ").sort()).toEqual([expect.stringContaining(link), expect.stringContaining("refused")]);
});

/** A file of the configuration whose file system answers when told so. */
function slowConfiguration() {
  const looks: (() => void)[] = [];
  const configuration: Configuration = {
    successor: () => Promise.resolve(undefined),
    difference: async () => {
      await new Promise<void>((answer) => looks.push(answer));
      return undefined;
    },
  };
  return { looks, configuration };
}

test("does not look at its configuration again while a look hangs", async () => {
  const { looks, configuration } = slowConfiguration();
  const { clock, store } = await startSidecar({ configuration });
  await clock.advance(600);
  expect(store.fetches.length).toBeGreaterThan(10);
  expect(looks.length).toBe(1);
  looks[0]?.();
  await clock.advance(600);
  expect(looks.length).toBe(2);
});

test("looks at its configuration at most twice a minute, however often the store has news, and each minute", async () => {
  const { looks, configuration } = slowConfiguration();
  const { clock, store } = await startSidecar({ configuration, config: { onChange: { settle: 0 } } });
  await clock.advance(120);
  const answered = () => {
    looks.at(-1)?.();
  };
  answered();
  const [looked, asked] = [looks.length, store.fetches.length];
  for (let change = 0; change < 120; change += 1) {
    store.put("a", `a${change}`);
    store.hint();
    await clock.advance(1);
    answered();
  }
  expect(store.fetches.length - asked).toBeGreaterThanOrEqual(60);
  expect(looks.length - looked).toBeGreaterThanOrEqual(2);
  expect(looks.length - looked).toBeLessThanOrEqual(5);
});

describe("STATUS", () => {
  const withPolls = async () => {
    const store = new FakeStore({ a: "a1", b: "b1" });
    store.pollingInterval = 5;
    const life = await startSidecar({ store, config: { onChange: { settle: 0 } } });
    await life.clock.advance(60);
    return life;
  };

  test("says no sooner than after half a minute that all is as it was, and says so again and again", async () => {
    const { clock, store, notifier } = await withPolls();
    const [said, asked] = [notifier.statuses.length, store.fetches.length];
    await clock.advance(300);
    expect(store.fetches.length - asked).toBeGreaterThan(50);
    expect(notifier.statuses.length - said).toBeGreaterThanOrEqual(6);
    expect(notifier.statuses.length - said).toBeLessThanOrEqual(10);
    expect(new Set(notifier.statuses.slice(said)).size).toBe(notifier.statuses.length - said);
  });

  test("says at once what is new", async () => {
    const { clock, store, notifier } = await withPolls();
    store.down = refused;
    await clock.until(() => notifier.last.includes("refused"), 6);
    store.down = undefined;
    await clock.until(() => !notifier.last.includes("refused"), 40);
    store.put("a", "a2");
    await clock.until(() => notifier.last.includes("version 2"), 6);
  });
});

test("runs where nobody asks for its state", async () => {
  const { clock, store, file, end } = await startSidecar({ isUntold: true });
  store.put("a", "a2");
  store.hint();
  await clock.advance(60);
  expect([file("a"), end()]).toEqual(["a2", "runs"]);
});
