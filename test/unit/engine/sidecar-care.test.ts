/** What a sidecar looks after beside its secrets: links, and the file of its configuration. */
import { mkdirSync, realpathSync, rmdirSync, unlinkSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import type { Configuration } from "../../../src/engine/configuration.ts";
import { refused } from "../fakes.ts";
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

test("looks at its configuration at most once a second, however often the store has news", async () => {
  const { looks, configuration } = slowConfiguration();
  const { clock, store } = await startSidecar({ configuration, config: { onChange: { settle: 0 } } });
  await clock.advance(5);
  looks.at(-1)?.();
  const [looked, asked] = [looks.length, store.fetches.length];
  for (let change = 0; change < 20; change += 1) {
    store.put("a", `a${change}`);
    store.hint();
    await clock.advance(0.1);
    looks.at(-1)?.();
  }
  expect(store.fetches.length - asked).toBeGreaterThanOrEqual(10);
  expect(looks.length - looked).toBeGreaterThanOrEqual(1);
  expect(looks.length - looked).toBeLessThanOrEqual(3);
});

test("runs where nobody asks for its state", async () => {
  const { clock, store, file, end } = await startSidecar({ isUntold: true });
  store.put("a", "a2");
  store.hint();
  await clock.advance(60);
  expect([file("a"), end()]).toEqual(["a2", "runs"]);
});
